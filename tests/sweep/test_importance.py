"""Oracle: shares of the variance in closed form, of a function that is a sum over its axes."""

import sys

import numpy as np
import pytest
from refusals import refused

from jaxnn.sweep.importance import fanova

rng = np.random.default_rng(0)
N = 200
RATE = 10 ** rng.uniform(-4, 0, N)
WIDTH = rng.integers(1, 9, N)
RULE = rng.choice(["a", "b"], N)
HPARAMS = {
    "rate": RATE.tolist(),
    "width": WIDTH.tolist(),
    "rule": RULE.tolist(),
    "idle": rng.uniform(size=N).tolist(),
    "constant": [1] * N,
    "conditional": [None] * 9 + ["x", "y", "z"] + ["x"] * (N - 12),
}
VALUES = 3 * np.log10(RATE) + WIDTH + 2.0 * (RULE == "a")


def test_shares_are_those_of_a_sum():
    """Closed form: variances 9·4²/12, (8² - 1)/12 and 2²/4; a forest, which favours
    the strongest, is within 0.12 of them."""
    values = VALUES.copy()
    values[7] = np.nan
    got = fanova(HPARAMS, values.tolist())
    parts = {"rate": 9 * 16 / 12, "width": 63 / 12, "rule": 1.0, "idle": 0.0}
    assert list(got)[:2] == ["rate", "width"]
    assert set(got) == set(parts)
    assert sum(got.values()) == pytest.approx(1)
    for name, part in parts.items():
        assert got[name] == pytest.approx(part / sum(parts.values()), abs=0.12)


BAD = {
    "constant": ([1.0] * N, HPARAMS, "two different finite numbers"),
    "NaN": ([np.nan] * (N - 1) + [1.0], HPARAMS, "two different finite numbers"),
    "no axis": (VALUES.tolist(), {"x": [1] * N}, "axis of different values"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message."""
    values, hparams, message = BAD[case]
    refused(lambda: fanova(hparams, values), ValueError, message, "sweep.importance")


def test_without_optuna_the_extra_is_named(monkeypatch):
    """L12."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"jaxnn-functional\[tables\]"):
        fanova(HPARAMS, VALUES.tolist())
