"""The improved Sheather-Jones rule against the published algorithm, written out in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from experiments import datasets
from jaxnn import kde

RNG = np.random.default_rng(0)
ERUPTIONS = np.asarray(datasets.faithful()[:, :1], float)
DATA = {
    "normal": RNG.normal(size=(272, 1)),
    "far clusters": np.concatenate([RNG.normal(size=(136, 1)), 30 + RNG.normal(size=(136, 1))]),
    "skew": RNG.exponential(size=(272, 1)),
}


def published(x: np.ndarray) -> float:
    """Algorithm 1 with cosine coefficients of the points themselves, without bins."""
    n, span = len(x), np.ptp(x)
    u = 0.25 + (x - x.min()) / (2 * span)
    k = np.arange(1, 1000)
    energies = np.mean(np.cos(np.pi * k[:, None] * u[None]), axis=1) ** 2

    def norm(s, t):
        return (
            2
            * np.pi ** (2 * s)
            * np.sum(k ** (2.0 * s) * energies * np.exp(-((k * np.pi) ** 2) * t))
        )

    def gap(t):
        f = norm(7, t)
        for s in range(6, 1, -1):
            odd = np.prod(np.arange(1, 2 * s, 2)) / np.sqrt(2 * np.pi)
            constant = (1 + 0.5 ** (s + 0.5)) / 3
            f = norm(s, (2 * constant * odd / (n * f)) ** (2 / (3 + 2 * s)))
        return t - (2 * n * np.sqrt(np.pi) * f) ** -0.4

    grid = np.geomspace(1e-6, 0.1, 200)
    signs = np.array([gap(t) > 0 for t in grid])
    last = np.flatnonzero(signs[1:] & ~signs[:-1])[-1]
    return 2 * span * np.sqrt(brentq(gap, grid[last], grid[last + 1], xtol=1e-16))


@pytest.mark.parametrize("name", DATA)
def test_equals_the_published_algorithm(name):
    """The 4,096 bins cost a thousandth."""
    found = kde.improved_sheather_jones(jnp.asarray(DATA[name]))
    assert bool(found.found[0])
    assert float(found.bandwidth[0]) == pytest.approx(published(DATA[name][:, 0]), rel=1e-3)


def test_rounded_data_fall_back_and_say_so():
    """E14, Old Faithful in seconds: this rule alone is KDEpy's 0.041 min."""
    with pytest.warns(UserWarning, match=r"kde.improved_sheather_jones: .*rounded.*fell back"):
        found = kde.improved_sheather_jones(jnp.asarray(ERUPTIONS))
    assert not bool(found.found[0])
    assert float(found.bandwidth[0]) == float(kde.sheather_jones(jnp.asarray(ERUPTIONS))[0])
    with pytest.warns(UserWarning, match="fell back"):
        model = kde.fit(jnp.asarray(ERUPTIONS), bandwidth="improved_sheather_jones")
    assert float(model.bandwidth[0]) == pytest.approx(0.13968, abs=5e-6)


def test_without_a_fixed_point_it_falls_back_and_says_so():
    """E15: three rows, none repeated (the others have weight zero)."""
    x = np.zeros((272, 1))
    x[:3, 0] = 0, 1, 3
    w = jnp.zeros(272).at[:3].set(1.0)
    with pytest.warns(UserWarning, match="no fixed point was found; fell back to kde.sheather_j"):
        found = kde.improved_sheather_jones(jnp.asarray(x), w)
    assert not bool(found.found[0])
    assert float(found.bandwidth[0]) == float(kde.sheather_jones(jnp.asarray(x), w)[0])


def test_weight_zero_is_absence_also_from_the_count_of_repeats():
    x = np.array(DATA["normal"])
    x[:40] = x[40]
    found = kde.improved_sheather_jones(jnp.asarray(x), jnp.ones(272).at[:40].set(0.0))
    assert bool(found.found[0])
    assert float(found.bandwidth[0]) == pytest.approx(published(x[40:, 0]), rel=1e-3)
