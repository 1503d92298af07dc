"""Oracle: NumPy's quantiles of the members."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxnn.plot import curves

STEPS = np.arange(1, 8)
VALUES = np.random.default_rng(0).uniform(1, 2, (9, 7))


def draw(values, **options):
    return curves.learning_curves(Figure().subplots(), STEPS, values, **options)


def test_median_band_and_best():
    ax = draw(VALUES, label="wide", best=4, band=(0.25, 0.75), log_y=True)
    middle, best = ax.lines
    np.testing.assert_allclose(middle.get_ydata(), np.median(VALUES, axis=0))
    np.testing.assert_array_equal(best.get_ydata(), VALUES[4])
    (band,) = ax.collections
    y = band.get_paths()[0].vertices[:, 1]
    low, high = np.quantile(VALUES, [0.25, 0.75], axis=0)
    assert (y.min(), y.max()) == pytest.approx((low.min(), high.max()))
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["wide", "wide, best"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "log")


def test_members_that_diverged_are_passed_over():
    values = VALUES.copy()
    values[2, 3:] = np.nan
    values[5, 4] = np.inf
    values[:, 6] = np.nan  # nobody got there
    (middle,) = draw(values).lines
    np.testing.assert_array_equal(middle.get_xdata(), STEPS[:6])
    finite = np.where(np.isfinite(values), values, np.nan)[:, :6]
    np.testing.assert_allclose(middle.get_ydata(), np.nanmedian(finite, axis=0))


def test_one_curve_has_no_band_and_no_legend():
    ax = draw(VALUES[0], log_x=True)
    assert len(ax.lines) == 1
    assert len(ax.collections) == 0
    assert ax.get_legend() is None
    assert ax.get_xscale() == "log"


def test_steps_and_values_must_agree():
    with pytest.raises(ValueError, match=r"values must have shape \(any, 7\), got \(9, 6\)"):
        draw(VALUES[:, :6])


def test_jax_arrays_and_lists_are_welcome():
    (line,) = curves.learning_curves(Figure().subplots(), jnp.arange(3), [1, 2, 3]).lines
    (same,) = curves.learning_curves(Figure().subplots(), [0, 1, 2], jnp.array([1.0, 2, 3])).lines
    np.testing.assert_array_equal(line.get_ydata(), same.get_ydata())


def test_a_fan_has_a_band_for_each_pair_of_quantiles():
    values = VALUES.copy()
    values[0, 5:] = np.nan
    ax = curves.fan(Figure().subplots(), STEPS, values, label="nets", best=3, log_y=True)
    middle, best = ax.lines
    np.testing.assert_allclose(middle.get_ydata(), np.nanmedian(values, axis=0))
    np.testing.assert_array_equal(best.get_ydata(), values[3])
    assert len(ax.collections) == len(curves.FAN)
    for band, ends in zip(ax.collections, curves.FAN, strict=True):
        y = band.get_paths()[0].vertices[:, 1]
        low, high = np.nanquantile(values, ends, axis=0)
        assert (y.min(), y.max()) == pytest.approx((low.min(), high.max()))
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["nets median", "5 to 95 %", "best"]
    assert ax.get_yscale() == "log"
    with pytest.raises(ValueError, match=r"values must have shape \(any, 7\), got \(7,\)"):
        curves.fan(Figure().subplots(), STEPS, VALUES[0])
