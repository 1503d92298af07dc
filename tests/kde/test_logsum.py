"""The fold over points against SciPy's logsumexp and an O(nm) loop, forwards and backwards."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from jaxnn import linalg
from jaxnn.kde import KERNELS, LogSum, kernels, logsum

RNG = np.random.default_rng(0)


def test_add_and_merge_equal_logsumexp_in_any_order():
    terms = RNG.normal(size=(12, 5)) * 300 + np.array([0, 2000, -2000, 0, 0])
    terms[3:9, 3] = -np.inf
    terms[:, 4] = -np.inf
    expected = logsumexp(terms, axis=0)
    terms = jnp.asarray(terms)
    empty = LogSum.empty((5,), terms.dtype)
    a, b, c = (empty.add(part) for part in (terms[:3], terms[3:9], terms[9:]))
    for sums in (
        empty.add(terms),
        a.merge(b).merge(c),
        c.merge(a.merge(b)),
        empty.merge(b).add(terms[:3]).merge(c).merge(empty),
    ):
        np.testing.assert_allclose(sums.value(), expected, rtol=1e-13)
    assert expected[4] == -np.inf


def test_gradients_of_the_pair_are_the_softmax():
    """Also with terms of -inf, and with nothing but terms of -inf (gradient zero, not NaN)."""
    terms = jnp.asarray([[0.3, -jnp.inf], [-jnp.inf, -jnp.inf], [1.0, -jnp.inf], [2.0, -jnp.inf]])

    def total(terms):
        empty = LogSum.empty((2,), terms.dtype)
        return jnp.sum(empty.add(terms[:2]).merge(empty.add(terms[2:])).value()[:1])

    np.testing.assert_allclose(jax.grad(total)(terms)[:, 0], jax.nn.softmax(terms[:, 0]))
    assert jnp.all(jnp.isfinite(jax.grad(total)(terms)))


def brute_force(kernel, queries, points, log_weights):
    rows = []
    for query in queries:
        r2 = np.sum((query - points) ** 2, axis=1)
        with np.errstate(divide="ignore"):
            profile = np.exp(np.asarray(kernel.log_profile(jnp.asarray(r2))))
            rows.append(np.log(np.sum(np.exp(log_weights) * profile)))
    return np.array(rows)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (6, 7), (7, 300), (50, 129)])
@pytest.mark.parametrize("name", ["gaussian", "linear"])
def test_equals_a_loop_for_whole_and_ragged_tiles(name, n, m, monkeypatch):
    monkeypatch.setattr(logsum, "UNROLL", 7)
    monkeypatch.setitem(linalg.TILE, "cpu", 1)  # the least tile, of 128 queries
    queries, points = RNG.normal(size=(m, 2)), RNG.normal(size=(n, 2))
    log_weights = np.log(RNG.dirichlet(np.ones(n)))
    got = logsum.log_kernel_sum(
        KERNELS[name], jnp.asarray(queries), jnp.asarray(points), jnp.asarray(log_weights)
    )
    expected = brute_force(KERNELS[name], queries, points, log_weights)
    np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize(("name", "form"), [("gaussian", "radial"), ("logistic", "product")])
def test_factors_on_the_squared_distances_equal_a_loop(name, form):
    """Of a kernel that has a faster sum without them, and of one for each feature."""
    queries, points = RNG.normal(size=(20, 2)), RNG.normal(size=(30, 2))
    log_weights, factors = np.log(RNG.dirichlet(np.ones(30))), RNG.uniform(0.3, 3.0, 30)
    kernel = KERNELS[name] if form == "radial" else kernels.product(KERNELS[name])
    got = jax.jit(functools.partial(logsum.log_kernel_sum, kernel))(
        *map(jnp.asarray, (queries, points, log_weights, factors))
    )
    squares = (queries[:, None] - points[None]) ** 2 * factors[None, :, None]
    if form == "radial":
        squares = np.sum(squares, axis=2, keepdims=True)
    exponents = np.sum(np.asarray(KERNELS[name].log_profile(jnp.asarray(squares))), axis=2)
    np.testing.assert_allclose(got, logsumexp(exponents + log_weights[None], axis=1), rtol=1e-12)


def naive(kernel, queries, points, log_weights, inverse_squares=None):
    r2 = jnp.sum((queries[:, None, :] - points[None, :, :]) ** 2, axis=2)
    if inverse_squares is not None:
        r2 = r2 * inverse_squares[None, :]
    return jax.nn.logsumexp(kernel.log_profile(r2) + log_weights[None, :], axis=1)


@pytest.mark.parametrize("name", ["gaussian", "epanechnikov"])
def test_derivatives_equal_those_of_the_untiled_formula(name, monkeypatch):
    """First by forward and reverse mode, second by forward over reverse, with ragged tiles.

    The kernel with a support with a factor on the squared distances from each point.
    """
    monkeypatch.setitem(linalg.TILE, "cpu", 1)
    arguments = (
        jnp.asarray(RNG.uniform(size=(130, 2)) * 0.4),
        jnp.asarray(RNG.uniform(size=(45, 2)) * 0.4),
        jnp.asarray(np.log(RNG.dirichlet(np.ones(45)))),
    )
    if name == "epanechnikov":
        arguments = (*arguments, jnp.asarray(RNG.uniform(0.5, 2.0, 45)))
    tangents = tuple(jnp.asarray(RNG.normal(size=a.shape)) for a in arguments)
    monkeypatch.setattr(logsum, "UNROLL", 7)
    results = []
    for f in (logsum.log_kernel_sum, naive):
        g = functools.partial(f, KERNELS[name])
        numbers = tuple(range(len(arguments)))
        gradient = jax.grad(lambda *a, g=g: jnp.sum(jnp.sin(g(*a))), argnums=numbers)
        both = lambda *a, g=g, gradient=gradient: (g(*a), gradient(*a))
        results.append(jax.jit(lambda a, t, both=both: jax.jvp(both, a, t))(arguments, tangents))
    got, expected = map(jax.tree.leaves, results)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)
