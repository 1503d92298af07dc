"""Regions of highest density: of a normal in closed form, and by sorting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnn import kde

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2))
W = RNG.uniform(0.5, 1.5, 40)
MODEL = kde.fit(jnp.asarray(X), bandwidth=0.5, sample_weight=jnp.asarray(W))


@pytest.mark.parametrize("mass", [0.1, 0.5, 0.95, 1.0])
def test_the_points_inside_hold_the_mass_and_no_fewer_do(mass):
    """Brute force: without its lowest point the region holds less than the mass."""
    level = kde.density_level(MODEL, mass)
    inside = np.asarray(kde.in_region(MODEL, level, MODEL.points))
    heights = np.asarray(kde.log_prob(MODEL, MODEL.points))
    share = W / W.sum()
    assert share[inside].sum() >= mass - 1e-12
    lowest = np.argmin(np.where(inside, heights, np.inf))
    assert share[inside].sum() - share[lowest] < mass


def test_the_level_of_a_normal_by_draws():
    """Closed form: p at the radius that holds the mass, in a 5-standard-error band of the mass."""
    draws = 20_000
    one = kde.fit(jnp.zeros((1, 2)), bandwidth=1.0)
    level = kde.density_level(one, 0.9, jax.random.key(0), draws=draws)
    radius = np.sqrt(-2 * (float(level) + np.log(2 * np.pi)))
    band = 5 * np.sqrt(0.9 * 0.1 / draws)
    assert abs(stats.chi2(2).cdf(radius**2) - 0.9) < band


def test_bad_input(unchecked_types):
    with pytest.raises(ValueError, match=r"density_level: mass must be in \(0, 1\], got 0.0"):
        kde.density_level(MODEL, 0.0)
    with pytest.raises(TypeError, match="density_level: key must be a PRNG key"):
        kde.density_level(MODEL, 0.5, 3)
    with pytest.raises(ValueError, match="density_level: draws must be at least 1"):
        kde.density_level(MODEL, 0.5, jax.random.key(0), draws=0)
    with pytest.raises(ValueError, match="in_region: x must have shape"):
        kde.in_region(MODEL, 0.0, jnp.ones((3, 5)))
    with pytest.raises(TypeError, match="in_region: model must be a KDE"):
        kde.in_region(X, 0.0, jnp.ones((3, 2)))
