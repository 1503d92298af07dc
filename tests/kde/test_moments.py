"""Oracles: NumPy over all pairs; the memory that XLA says a program takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.kde import moments

rng = np.random.default_rng(0)


@pytest.mark.parametrize(("d", "n"), [(3, 45), (9, 600)], ids=["by differences", "by product"])
def test_sums_are_those_of_all_pairs(d, n):
    """More points than a step of the fold and no multiple of one."""
    x, y, a = rng.normal(size=(n, d)), rng.normal(size=(7, d)), rng.normal(size=n)
    inverse = rng.uniform(0.5, 2, n)
    gap = x[None] - y[:, None]
    half = np.sum(gap**2, axis=2) / 2
    powers = np.exp(a - a.max() - half)
    total, first = moments.slope_sums(*map(jnp.asarray, (y, x, a)))
    np.testing.assert_allclose(total, powers.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(first, np.einsum("mn,mnd->md", powers, gap), rtol=1e-9, atol=1e-12)
    curved, top = moments.curved_sum(*map(jnp.asarray, (y, x, a, inverse)))
    terms = np.exp(a[None] - half * inverse) * (1 + d / 2 - half * inverse)
    scale = np.exp(a[None] - half * inverse).sum(axis=1).max()
    np.testing.assert_allclose(curved * np.exp(top), terms.sum(axis=1), atol=1e-12 * scale)


def test_nothing_of_the_size_of_all_pairs_is_kept():
    """Forwards and backwards: less than a twentieth of n x m numbers."""
    n = 6000
    x = jax.ShapeDtypeStruct((n, 1), jnp.float32)
    a = jax.ShapeDtypeStruct((n,), jnp.float32)
    slopes = lambda y, x, a: jnp.sum(moments.slope_sums(y, x, a)[1])
    curves = lambda y, x, a: jnp.sum(moments.curved_sum(y, x, a)[0])
    for function in (slopes, curves):
        compiled = jax.jit(jax.grad(function, argnums=(0, 1, 2))).lower(x, x, a).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < 4 * n * n / 20
