"""Oracle: where each member must cross each axis, worked out by hand."""

import numpy as np
import pytest
from matplotlib.colors import same_color, to_hex

from jaxnn.plot import parallel, style

rng = np.random.default_rng(0)
M = 40
HPARAMS = {
    "rate": 10 ** rng.uniform(-3, -1, M),
    "width": rng.choice([8, 16, 32], M),
    "rule": rng.choice(["adam", "sgd"], M),
    "keep_prob": rng.uniform(0.5, 1.0, M),
}
VALUE = rng.uniform(size=M)
VALUE[3], VALUE[4] = np.nan, np.inf
LOW, HIGH = parallel.INSIDE


def draw(**options):
    return parallel.parallel(HPARAMS, VALUE, label="loss", log=["rate"], **options).axes[0]


def crossing(ax):
    """Lines over all axes, by what they are: heights of each member."""
    return [line for line in ax.lines if len(line.get_xdata()) == len(HPARAMS)]


@pytest.mark.parametrize("better", ["max", "min"])
def test_members_cross_the_axes_at_their_values(better):
    """Oracle: the logarithm, the place among few values, and the linear scale."""
    ax = draw(better=better)
    lines = crossing(ax)
    assert len(lines) == M - 2 + 2  # those that failed are left out; the best twice more
    finite = np.where(np.isfinite(VALUE), VALUE, -np.inf if better == "max" else np.inf)
    best = int(np.argmax(finite) if better == "max" else np.argmin(finite))
    heights = lines[-1].get_ydata()
    assert same_color(lines[-1].get_color(), style.VERMILION)
    span = HIGH - LOW
    rate = LOW + span * (np.log10(HPARAMS["rate"][best]) + 3) / 2
    keep = LOW + span * (HPARAMS["keep_prob"][best] - 0.5) / 0.5
    np.testing.assert_allclose(heights[[0, 3]], [rate, keep], rtol=1e-9)
    width = LOW + span * [8, 16, 32].index(HPARAMS["width"][best]) / 2
    rule = LOW + span * ["adam", "sgd"].index(HPARAMS["rule"][best])
    np.testing.assert_allclose(heights[[1, 2]], [width, rule], atol=0.07)
    assert min(line.get_ydata().min() for line in lines) >= 0
    assert max(line.get_ydata().max() for line in lines) <= 1


def test_axes_say_their_names_and_values():
    ax = draw()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["rate", "width", "rule", "keep prob"]
    words = {text.get_text(): text.get_position() for text in ax.texts}
    assert {"$10^{-3}$", "$10^{-1}$", "8", "32", "adam", "0.5", "1"} <= set(words)
    np.testing.assert_allclose(words["$10^{-2}$"][1], (LOW + HIGH) / 2)
    (entry,) = ax.get_legend().get_texts()
    assert entry.get_text() == f"best: {np.max(VALUE[np.isfinite(VALUE)]):.3g}"


def test_the_share_of_the_best_is_coloured():
    """Oracle: counting; grey ones are none of the best."""
    lines = crossing(draw(share=0.25))
    grey = [line for line in lines if to_hex(line.get_color()) == "#b5b5b5"]
    assert len(grey) == M - 2 - round(0.25 * (M - 2))
    order = np.argsort(np.where(np.isfinite(VALUE), VALUE, -1))[2:]
    expected = LOW + (HIGH - LOW) * (np.log10(HPARAMS["rate"][order[: len(grey)]]) + 3) / 2
    np.testing.assert_allclose(sorted(line.get_ydata()[0] for line in grey), np.sort(expected))


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"a must have shape \(2,\), got \(3,\)"):
        parallel.parallel({"a": [1, 2, 3]}, [1.0, 2.0], label="")
    with pytest.raises(ValueError, match="a must be positive to be drawn log"):
        parallel.parallel({"a": np.arange(20)}, np.arange(20), label="", log=["a"])
    with pytest.raises(ValueError, match="finite entry"):
        parallel.parallel({"a": [1, 2]}, [np.nan, np.nan], label="")


def test_one_value_is_one_place():
    ax = parallel.parallel({"a": [7, 7, 7]}, [1.0, 2.0, 3.0], label="").axes[0]
    assert ax.texts[0].get_position()[1] == 0.5
