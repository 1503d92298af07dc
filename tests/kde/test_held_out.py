"""Held-out sums against loops over groups, forwards and backwards."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import linalg
from jaxnn.kde import KERNELS, held_out
from jaxnn.kde.kernels import product

RNG = np.random.default_rng(0)
N = 37
X, W = RNG.normal(size=(N, 2)), RNG.dirichlet(np.ones(N))
SCALES = np.array([0.2, 1.0, 5.0])
GROUPS = {"one": np.arange(N), "blocks": np.arange(N) // 8}


def naive(kernel, points, log_weights, scales, groups):
    """A table of all pairs for each scale; nothing tiled."""
    others = groups[:, None] != groups[None, :]

    def one(scale):
        exponents = kernel.exponents(points / scale, points / scale) + log_weights[:, None]
        return jax.nn.logsumexp(jnp.where(others, exponents, -jnp.inf), axis=0)

    return jnp.stack([one(scale) for scale in scales])


@pytest.mark.parametrize(
    ("kernel", "groups"),
    [(KERNELS["gaussian"], "blocks"), (product(KERNELS["student_t"]), "one")],
    ids=["gaussian", "product"],
)
def test_equals_the_untiled_formula_with_its_derivatives(kernel, groups, monkeypatch):
    monkeypatch.setattr(held_out, "UNROLL", 7)
    monkeypatch.setattr(linalg, "TILE", {"cpu": 1})
    arguments = jnp.asarray(X), jnp.log(jnp.asarray(W)), jnp.asarray(SCALES)
    results = []
    for f in (held_out.held_out_sum, naive):
        g = functools.partial(f, kernel, groups=jnp.asarray(GROUPS[groups]))

        def total(*a, g=g):
            sums = g(*a)
            return jnp.sum(jnp.sin(sums)), sums

        gradient = jax.grad(total, argnums=(0, 1, 2), has_aux=True)
        results.append(jax.jit(gradient)(*arguments))
    got, expected = map(jax.tree.leaves, results)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_the_own_term_is_masked_and_not_subtracted():
    """One far point: subtracting its own term would leave rounding, or -inf."""
    points = jnp.asarray([[0.0], [1.0], [60.0]])
    weights = jnp.full(3, 1 / 3)
    got = held_out.held_out_log_prob(
        KERNELS["gaussian"], points, weights, jnp.ones(1), jnp.arange(3)
    )
    expected = np.log(np.exp(-0.5 * 59.0**2 + 59**2 / 2) / 2) - 59**2 / 2
    expected -= 0.5 * np.log(2 * np.pi)
    assert float(got[0, 2]) == pytest.approx(expected, rel=1e-14)


def test_weight_zero_is_absent_from_densities_and_mean():
    weights = np.append(W, 0.0)
    points = jnp.asarray(np.concatenate([X, [[1e4, 1e4]]]))
    f = jax.jit(lambda w, x: held_out.mean_over(w, held_out.held_out_log_prob(
        KERNELS["gaussian"], x, w, jnp.asarray(SCALES), jnp.arange(x.shape[0]))))  # fmt: skip
    np.testing.assert_allclose(
        f(jnp.asarray(weights), points), f(jnp.asarray(W), jnp.asarray(X)), rtol=1e-12
    )
    assert jnp.all(jnp.isfinite(jax.jacobian(f)(jnp.asarray(weights), points)))


def test_memory_does_not_grow_with_the_table():
    """64 bandwidths of 5,000 points: one table of float32 is 100 MB, the tables 6.4 GB."""
    n = 5000
    points = jax.ShapeDtypeStruct((n, 8), jnp.float32)
    flat = jax.ShapeDtypeStruct((n,), jnp.float32)
    scales = jax.ShapeDtypeStruct((64,), jnp.float32)
    names = jax.ShapeDtypeStruct((n,), jnp.int32)
    f = functools.partial(held_out.held_out_sum, KERNELS["gaussian"])
    memory = jax.jit(f).lower(points, flat, scales, names).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 20e6
