"""Leave-one-out sums against a loop over the points left out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from jaxnn import kde, linalg
from jaxnn.kde import KERNELS
from jaxnn.kde.leave_one_out import leave_one_out_sum

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 2))
LW = np.log(RNG.dirichlet(np.ones(50)))
SCALES = np.array([0.05, 0.4, 3.0])


def naive(points, log_weights, kernel, scales):
    r2 = jnp.sum((points[:, None, :] - points[None, :, :]) ** 2, axis=2)
    masked = jnp.where(jnp.eye(len(points), dtype=bool), -jnp.inf, log_weights[None, :])
    terms = [kernel.log_profile(r2 / s**2) + masked for s in scales]
    return jnp.stack([jax.nn.logsumexp(t, axis=1) for t in terms])


@pytest.mark.parametrize("name", ["gaussian", "epanechnikov", "exponential"])
def test_equals_a_loop_over_the_points_left_out(name):
    kernel = KERNELS[name]
    got = leave_one_out_sum(jnp.asarray(X), jnp.asarray(LW), kernel, jnp.asarray(SCALES))
    for b, s in enumerate(SCALES):
        for i in (0, 7, 49):
            others = np.delete(np.arange(50), i)
            r2 = np.sum((X[others] - X[i]) ** 2, axis=1) / s**2
            expected = logsumexp(LW[others] + np.asarray(kernel.log_profile(jnp.asarray(r2))))
            np.testing.assert_allclose(got[b, i], expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["gaussian", "exponential"])
def test_derivatives_equal_those_of_the_untiled_formula(name):
    arguments = (jnp.asarray(X), jnp.asarray(LW), jnp.asarray(SCALES))
    total = lambda f: lambda x, w, s: jnp.sum(jnp.sin(f(x, w, KERNELS[name], s)))
    gradients = [
        jax.jit(jax.grad(total(f), (0, 1, 2)))(*arguments) for f in (leave_one_out_sum, naive)
    ]
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def test_exact_where_weights_differ_by_more_than_the_range(monkeypatch):
    """The nearest point may weigh nothing: then the peak is elsewhere."""
    monkeypatch.setitem(linalg.TILE, "cpu", 1)
    log_weights = LW.copy()
    log_weights[::2] = -2500.0
    got = leave_one_out_sum(
        jnp.asarray(X),
        jnp.asarray(log_weights),
        KERNELS["gaussian"],
        jnp.asarray([0.003, 0.02, 0.3]),
    )
    for row, s in zip(got, (0.003, 0.02, 0.3), strict=True):
        r2 = np.sum((X[:, None] - X[None]) ** 2, axis=2) / s**2
        exponents = log_weights[None] - r2 / 2
        np.fill_diagonal(exponents, -np.inf)
        np.testing.assert_allclose(row, logsumexp(exponents, axis=1), rtol=1e-12)


def test_the_gradient_keeps_nothing_for_all_pairs():
    """Neither distances nor the mask of who leaves out whom: a byte a pair would be n² bytes."""
    n, d = 20_000, 2
    like = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    f = jax.jit(jax.grad(lambda h, x: kde.leave_one_out(x, h[None, :])[0]))
    memory = f.lower(like((d,)), like((n, d))).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 60 * n * d * 4
