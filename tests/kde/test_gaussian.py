"""Gaussian sums against SciPy's logsumexp in float64: near, far, masked, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from jaxnn import linalg
from jaxnn.kde import gaussian
from jaxnn.kde.gaussian import log_gaussian_sum

RNG = np.random.default_rng(0)
N, M = 40, 131
X = {d: RNG.normal(size=(N, d)) for d in (2, 12)}
Q = {d: np.concatenate([RNG.normal(size=(M - 2, d)), np.full((2, d), 40.0)]) for d in X}
LW = np.log(RNG.dirichlet(np.ones(N)))


def brute_force(queries, points, log_weights, own=None):
    r2 = np.sum((queries[:, None] - points[None]) ** 2, axis=2, dtype=np.float64)
    exponents = log_weights[None] - r2 / 2
    if own is not None:
        exponents[np.arange(len(own)), own] = -np.inf
    return logsumexp(exponents, axis=1)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(gaussian, "SOFTMAX", 16)
    monkeypatch.setitem(linalg.TILE, "cpu", 1)  # the least tile, of 128 queries


@pytest.mark.parametrize("d", X)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 2e-5)])
def test_equals_scipy_near_and_far(d, dtype, rtol):
    """The last two queries lie 3,000 nats out, in a tile of their own and of others."""
    queries, points, log_weights = (np.asarray(a, dtype) for a in (Q[d], X[d], LW))
    got = jax.jit(log_gaussian_sum)(*map(jnp.asarray, (queries, points, log_weights)))
    expected = brute_force(*(a.astype(float) for a in (queries, points, log_weights)))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("d", X)
def test_leaves_out_a_query_s_own_point(d):
    """Also where the other kernels are far away: the term is masked, not subtracted."""
    points, own = X[d] * np.where(np.arange(N) < 5, 1e3, 1.0)[:, None], np.arange(N)
    got = log_gaussian_sum(*map(jnp.asarray, (points, points, LW)), own=jnp.asarray(own))
    np.testing.assert_allclose(got, brute_force(points, points, LW, own), rtol=1e-12)


def test_float32_rows_far_apart_use_differences():
    """A product would lose all digits of distances 10 among rows 4,096 bandwidths long."""
    corner = np.where(np.arange(N) % 2, 2.0**12, -(2.0**12))[:, None]
    points = (np.round(X[12] * 16) / 16 + corner).astype(np.float32)
    got = log_gaussian_sum(*(jnp.asarray(a, "float32") for a in (points, points, LW)))
    expected = brute_force(points.astype(float), points.astype(float), LW)
    np.testing.assert_allclose(got, expected, atol=5e-3)


def test_points_without_weight_and_nan():
    queries, points = jnp.asarray(Q[2]), jnp.asarray(X[2])
    some = jnp.where(jnp.arange(N) < 3, jnp.asarray(LW), -jnp.inf)
    got = log_gaussian_sum(queries, points, some)
    np.testing.assert_allclose(got, brute_force(Q[2], X[2][:3], LW[:3]), rtol=1e-12)
    assert jnp.all(jnp.isneginf(log_gaussian_sum(queries, points, some - jnp.inf)))
    got = log_gaussian_sum(queries.at[0].set(jnp.nan), points, some)
    assert jnp.array_equal(jnp.isnan(got), jnp.arange(M) == 0)


@pytest.mark.parametrize("d", X)
def test_derivatives_equal_those_of_the_untiled_formula(d):
    """First by forward and reverse mode, second by forward over reverse."""

    def naive(queries, points, log_weights):
        r2 = jnp.sum((queries[:, None] - points[None]) ** 2, axis=2)
        return jax.nn.logsumexp(log_weights[None] - r2 / 2, axis=1)

    arguments = tuple(jnp.asarray(a) for a in (Q[d], X[d], LW))
    tangents = tuple(jnp.asarray(RNG.normal(size=a.shape)) for a in arguments)
    results = []
    for f in (log_gaussian_sum, naive):
        gradient = jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a))), argnums=(0, 1, 2))
        both = lambda *a, f=f, gradient=gradient: (f(*a), gradient(*a))
        results.append(jax.jit(lambda a, t, both=both: jax.jvp(both, a, t))(arguments, tangents))
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-8)


def test_vmap_repeats_a_pass_for_the_members_that_need_it():
    points = jnp.asarray(X[2])
    scales = jnp.asarray([1.0, 30.0])  # the second lies thousands of nats apart
    queries = jnp.asarray(Q[2][:9])
    f = lambda s: log_gaussian_sum(queries * s, points * s, jnp.asarray(LW))
    got = jax.vmap(f)(scales)
    for row, s in zip(got, (1.0, 30.0), strict=True):
        np.testing.assert_allclose(row, brute_force(Q[2][:9] * s, X[2] * s, LW), rtol=1e-12)
