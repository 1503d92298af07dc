"""The improved Sheather-Jones rule against the published algorithm, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from experiments import datasets
from jaxnn import kde

RNG = np.random.default_rng(0)
ERUPTIONS = np.asarray(datasets.faithful()[:, :1], float)
DATA = {
    "normal": RNG.normal(size=(100, 1)),
    "far clusters": np.concatenate([RNG.normal(size=(50, 1)), 30 + RNG.normal(size=(50, 1))]),
    "skew": RNG.exponential(size=(100, 1)),
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
    """The 4,096 bins cost a thousandth; float32 as much."""
    found = kde.improved_sheather_jones(jnp.asarray(DATA[name]))
    assert bool(found.found[0])
    assert float(found.bandwidth[0]) == pytest.approx(published(DATA[name][:, 0]), rel=1e-3)


def test_float32_equals_float64():
    single = kde.improved_sheather_jones(jnp.asarray(DATA["skew"], jnp.float32)).bandwidth
    double = kde.improved_sheather_jones(jnp.asarray(DATA["skew"])).bandwidth
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, double, rtol=1e-3)


def test_rounded_data_fall_back_and_say_so():
    """Old Faithful in seconds: this rule alone gives KDEpy 0.041 minutes, Sheather-Jones 0.140."""
    with pytest.warns(UserWarning, match=r"kde.improved_sheather_jones: .*rounded.*fell back"):
        found = kde.improved_sheather_jones(jnp.asarray(ERUPTIONS))
    assert not bool(found.found[0])
    assert float(found.bandwidth[0]) == float(kde.sheather_jones(jnp.asarray(ERUPTIONS))[0])
    with pytest.warns(UserWarning, match="fell back"):
        model = kde.fit(jnp.asarray(ERUPTIONS), bandwidth="improved_sheather_jones")
    assert float(model.bandwidth[0]) == pytest.approx(0.13968, abs=5e-6)
    quiet = jax.jit(kde.improved_sheather_jones)(jnp.asarray(ERUPTIONS))  # a flag, no warning
    assert not bool(quiet.found[0])


def test_features_and_weights_are_taken_apart():
    """Each feature by itself; a row of weight zero is absent, also from the count of repeats."""
    x = np.concatenate([DATA["normal"], 1e6 * DATA["skew"]], axis=1)
    alone = [kde.improved_sheather_jones(jnp.asarray(x[:, [j]])).bandwidth[0] for j in (0, 1)]
    padded = np.concatenate([x, np.repeat(x[:1], 40, axis=0)])
    w = np.concatenate([np.ones(100), np.zeros(40)])
    found = kde.improved_sheather_jones(jnp.asarray(padded), jnp.asarray(w))
    assert jnp.all(found.found)
    np.testing.assert_allclose(found.bandwidth, alone, rtol=1e-6)
