"""The spread of weighted data against NumPy on repeated rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.kde.spread import middle_half, spread

RNG = np.random.default_rng(0)
X = RNG.normal(size=(21, 2)) * np.array([1.0, 1e6]) + 1e3


def test_equals_numpy_in_units_of_the_range():
    found = spread("f", jnp.asarray(X), None)
    np.testing.assert_allclose(found.span, np.ptp(X, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.span * found.sigma, X.std(axis=0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(found.span[None] * found.z, X - X.mean(axis=0), rtol=1e-9, atol=1e-9)
    assert float(found.size) == pytest.approx(21)
    weighted = spread("f", jnp.asarray(X), jnp.asarray([1e300] * 2 + [3e300] + [0.0] * 18))
    assert float(weighted.size) == pytest.approx(25 / 11)
    assert jnp.all(weighted.z[3:] == 0)


def test_interquartile_range_equals_numpy_and_skips_weight_zero():
    iqr = jax.jit(middle_half)
    z = X[:, 0]
    expected = np.subtract(*np.percentile(z, [75, 25]))
    assert float(iqr(jnp.asarray(z), jnp.full(21, 1 / 21))) == pytest.approx(expected)
    # Weight zero is absence, wherever the row stands; few rows of much weight have no spread.
    w = np.where(np.arange(21) % 4 == 0, 0.0, 1.0)
    kept = np.subtract(*np.percentile(z[w > 0], [75, 25]))
    assert float(iqr(jnp.asarray(z), jnp.asarray(w / w.sum()))) == pytest.approx(kept)
    heavy = np.where(np.arange(21) == 5, 1.0, 0.0)
    assert float(iqr(jnp.asarray(z), jnp.asarray(heavy))) == 0
