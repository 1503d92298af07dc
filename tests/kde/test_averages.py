"""The fold of averages against all pairs at once in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import kde
from jaxnn.kde import averages

RNG = np.random.default_rng(0)
N, M, D = 600, 20, 2  # more points than one tile holds
X, Q = RNG.normal(size=(N, D)), RNG.normal(size=(M, D))
V = RNG.normal(size=(N, 3))
W, F = RNG.uniform(0.5, 1.5, N), RNG.uniform(0.5, 2.0, N)
H = np.array([[0.5, 0.2], [0.2, 0.7]])


def softmax_by_pairs(queries):
    """P of a Gaussian with a matrix, weights and factors, (m, n)."""
    away = queries[:, None, :] - X[None, :, :]
    square = np.einsum("mna,ab,mnb->mn", away, np.linalg.inv(H), away)
    log = np.log(W)[None] - D * np.log(F)[None] - square / (2 * F**2)[None]
    p = np.exp(log - log.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


MODEL = kde.fit(jnp.asarray(X), bandwidth=jnp.asarray(H), sample_weight=W, factors=jnp.asarray(F))


@jax.jit
def averaged(model, q, v):
    units, _ = averages.in_units(model, q)
    return averages.means(model.kernel, units, v, jnp.zeros(3))[0]


@pytest.mark.parametrize("far", [1.0, 30.0])
def test_means_equal_all_pairs(far):
    """Oracle: NumPy, with matrix, weights and factors, near and far."""
    got = averaged(MODEL, jnp.asarray(far * Q), jnp.asarray(V))
    np.testing.assert_allclose(got, softmax_by_pairs(far * Q) @ V, rtol=1e-9, atol=1e-11)


def test_a_gradient_equals_that_of_all_pairs():
    """Oracle: autodiff through all pairs."""

    def dense(q, x):
        away = q[:, None, :] - x[None, :, :]
        square = jnp.einsum("mna,ab,mnb->mn", away, jnp.linalg.inv(H), away)
        log = jnp.log(W)[None] - D * jnp.log(F)[None] - square / (2 * F**2)[None]
        return jnp.sum(jnp.sin(jax.nn.softmax(log, axis=1) @ V))

    ours = lambda q, x: jnp.sum(jnp.sin(averaged(MODEL._replace(points=x), q, jnp.asarray(V))))
    args = (jnp.asarray(Q), jnp.asarray(X))
    for got, want in zip(
        jax.jit(jax.grad(ours, (0, 1)))(*args), jax.jit(jax.grad(dense, (0, 1)))(*args), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_memory_is_that_of_tiles():
    """Invariant: the compiled gradient of 20k by 20k holds far less than a matrix of pairs."""
    n = 20_000
    model = kde.fit(jnp.zeros((n, D)), bandwidth=1.0)

    def f(q):
        units, _ = averages.in_units(model, q)
        return jnp.sum(averages.means(model.kernel, units, jnp.ones((n, 1)), jnp.zeros(1))[0])

    memory = jax.jit(jax.grad(f)).lower(jnp.zeros((n, D))).compile().memory_analysis()
    assert memory.temp_size_in_bytes < n * n / 40  # a matrix of pairs takes 8 n²
