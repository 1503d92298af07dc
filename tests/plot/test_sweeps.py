"""Oracle: the best cell and member, placed by hand."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxnn.plot import sweeps

RATES, WIDTHS = [1e-4, 1e-2, 1.0], ["narrow", "wide"]
VALUE = np.array([[0.5, 0.91, np.nan], [0.1, 0.7, np.inf]])  # (width, rate)


@pytest.mark.parametrize(("better", "place"), [("max", (1, 0)), ("min", (0, 1))])
def test_heatmap_frames_the_best_cell(better, place):
    figure = Figure()
    ax = sweeps.heatmap(
        figure.subplots(),
        RATES,
        WIDTHS,
        VALUE,
        x_label="rate",
        y_label="width",
        label="accuracy",
        better=better,
    )
    (frame,) = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert frame.get_xy() == (place[0] - 0.5, place[1] - 0.5)
    (note,) = ax.texts
    assert note.get_position() == place
    assert note.get_text() == f"{VALUE[place[1], place[0]]:.3g}"
    (picture,) = ax.images
    np.testing.assert_array_equal(picture.get_array().mask, ~np.isfinite(VALUE))
    assert picture.origin == "lower"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0.0001", "0.01", "1"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == WIDTHS
    bar = next(other for other in figure.axes if other is not ax)
    assert (ax.get_xlabel(), ax.get_ylabel(), bar.get_ylabel()) == ("rate", "width", "accuracy")


def test_heatmap_refuses_a_transposed_value():
    with pytest.raises(ValueError, match=r"value must have shape \(2, 3\), got \(3, 2\)"):
        sweeps.heatmap(
            Figure().subplots(), RATES, WIDTHS, VALUE.T, x_label="", y_label="", label=""
        )


def test_best_index_needs_a_finite_entry():
    with pytest.raises(ValueError, match="finite entry"):
        sweeps.best_index([np.nan, np.inf], "max")


def test_slices_show_each_hyperparameter_and_star_the_best():
    value = np.array([0.2, np.nan, 0.9, 0.4])
    hparams = {
        "learning_rate": [1e-3, 1e-2, 1e-1, 1.0],
        "activation": ["relu", "relu", "tanh", "relu"],
        "decay": [0.0, 0.1, 0.2, 0.3],
        "width": [8, 16, 32, 64],
    }
    figure = sweeps.slices(hparams, value, label="accuracy")
    names = [ax.get_xlabel() for ax in figure.axes]
    assert names == ["learning rate", "activation", "decay", "width"]  # two by two, none empty
    for ax, place in zip(figure.axes, (2, 1, 2, 2), strict=True):
        members, star = ax.collections
        assert len(members.get_offsets()) == 3  # the failed member is left out
        np.testing.assert_allclose(star.get_offsets()[0], (place, 0.9))
    words = [tick.get_text() for tick in figure.axes[1].get_xticklabels()]
    assert words == ["relu", "tanh"]
    # Strewn about their place, and never as far as the next one.
    x = np.asarray(figure.axes[3].collections[0].get_offsets())[:, 0]
    np.testing.assert_allclose(x, [0, 2, 3], atol=0.2)
    assert figure.axes[0].get_ylabel() == "accuracy"


def test_slices_of_many_values_are_drawn_where_they_are():
    rate = np.geomspace(1e-4, 1, 20)
    (ax,) = sweeps.slices({"rate": rate}, rate, label="loss", log=["rate"], better="min").axes
    assert ax.get_xscale() == "log"
    np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 0], rate)
    assert ax.collections[1].get_offsets()[0, 0] == pytest.approx(1e-4)


def test_slices_star_the_member_they_are_told():
    (ax,) = sweeps.slices({"a": [1.0, 2.0, 3.0]}, [5.0, 5.0, 1.0], label="", best=1).axes
    np.testing.assert_allclose(ax.collections[1].get_offsets()[0], (1, 5.0))


def test_slices_leave_no_empty_panel():
    columns = {name: [1.0, 2.0] for name in "abcde"}
    figure = sweeps.slices(columns, [1.0, 2.0], label="loss", better="min")
    assert len(figure.axes) == 5
    assert figure.axes[0].collections[1].get_offsets()[0, 0] == 0  # the lower of the two


def test_slices_refuse_columns_of_another_length():
    with pytest.raises(ValueError, match=r"rate must have shape \(2,\), got \(3,\)"):
        sweeps.slices({"rate": [1.0, 2.0, 3.0]}, [1.0, 2.0], label="loss")
