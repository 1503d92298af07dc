"""Oracles: SciPy's Sobol sequence and discrepancy, and the definitions of nets and hypercubes."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from jaxnn.sweep import designs

KEYS = list(jax.random.split(jax.random.key(0), 64))


def test_the_sequence_is_that_of_joe_and_kuo():
    """Oracle: scipy.stats.qmc.Sobol, all 64 dimensions, digit by digit."""
    assert designs.MOST_AXES == 64
    expected = qmc.Sobol(64, scramble=False, bits=32).random(1024)
    got = np.asarray(designs.sobol(None, 1024, 64))
    np.testing.assert_array_equal(np.floor(got * 2.0**32), expected * 2.0**32)


def test_scrambled_points_remain_a_net():
    """Invariant: elementary boxes hold as many points as those of the plain sequence do."""
    plain, scrambled = (np.asarray(designs.sobol(keys, 64, 4)) for keys in (None, KEYS[:4]))
    assert not np.any(np.isin(plain, scrambled))
    for i, j, a in ((0, 1, 3), (1, 2, 2), (0, 3, 4), (2, 3, 1)):
        bins = lambda p, i=i, j=j, a=a: np.histogram2d(
            p[:, i], p[:, j], bins=(2**a, 2 ** (6 - a)), range=[[0, 1], [0, 1]]
        )[0]
        np.testing.assert_array_equal(np.sort(bins(plain), axis=None),
                                      np.sort(bins(scrambled), axis=None))  # fmt: skip
    assert np.all(np.histogram(scrambled[:, 2], bins=64, range=(0, 1))[0] == 1)


def test_scrambled_points_are_uniform_over_keys():
    """Statistics: the first point and the product of two coordinates; 5 standard errors."""
    keys = jax.random.split(jax.random.key(1), (2000, 2))
    u = np.asarray(jax.vmap(lambda k: designs.sobol(list(k), 3, 2))(keys))
    assert np.all(np.abs(u.mean(0) - 0.5) < 5 / np.sqrt(12 * 2000))
    assert np.all(np.abs(np.mean(u[..., 0] * u[..., 1], 0) - 0.25) < 5 * 0.22 / np.sqrt(2000))
    assert np.all(np.abs(np.mean(u[:, 1] * u[:, 2], 0) - 0.25) < 5 * 0.22 / np.sqrt(2000) + 0.1)


def test_even_designs_fill_the_cube_better_than_chance():
    """Oracle: scipy's centred discrepancy; SciPy's own Sobol points and hypercubes lie as low."""
    chance = qmc.discrepancy(np.random.default_rng(0).uniform(size=(256, 6)))
    sobol = qmc.discrepancy(np.asarray(designs.sobol(KEYS[:6], 256, 6)))
    peers = [qmc.discrepancy(qmc.Sobol(6, rng=seed).random(256)) for seed in range(20)]
    assert sobol < max(peers) < chance / 5
    cube = qmc.discrepancy(np.asarray(designs.latin_hypercube(KEYS[:6], 256, 6)))
    assert cube < max(
        qmc.discrepancy(qmc.LatinHypercube(6, rng=seed).random(256)) for seed in range(20)
    )


def test_a_longer_sequence_begins_with_the_shorter():
    """Invariant: points are added, never moved."""
    np.testing.assert_array_equal(
        designs.sobol(KEYS[:3], 100, 3)[:37], designs.sobol(KEYS[:3], 37, 3)
    )


def test_in_float32_no_point_reaches_the_ends():
    """Invariant: quantiles of 0 and 1 may be infinite."""
    top = jnp.array([[0, 2**32 - 1]], jnp.uint32)
    with jax.enable_x64(False):
        u = designs._unit(top)
        assert u.dtype == jnp.float32
        assert 0 < float(u[0, 0]) < float(u[0, 1]) < 1
        cells = designs.latin_hypercube(KEYS[:2], 4096, 2)
    assert 0 < float(jnp.min(cells)) < float(jnp.max(cells)) < 1
