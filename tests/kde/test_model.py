"""The density against scikit-learn, SciPy, loops, grids and mixtures; then its rules of JAX."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.stats import gaussian_kde
from sklearn.neighbors import KernelDensity

from jaxnn import gmm, kde

# One without an end and one with; `test_kernels` runs over the whole table.
KERNELS = pytest.mark.parametrize("kernel", ["gaussian", "biweight"])
PEERS = ("gaussian", "tophat", "epanechnikov", "exponential", "linear", "cosine")
RNG = np.random.default_rng(0)
N, M = 60, 40
X = {d: RNG.normal(size=(N, d)) for d in (1, 2, 3, 5, 12)}
Q = {d: RNG.normal(size=(M, d)) for d in X}
W = RNG.uniform(size=N)


PEERED = [("gaussian", 1), ("gaussian", 12), *[(k, 3) for k in PEERS]]


@pytest.mark.parametrize(("kernel", "d"), PEERED)
def test_equals_scikit_learn(kernel, d):
    """Oracle: `KernelDensity` without its tree, with weights, near and far."""
    h = 0.7 * math.sqrt(d)
    queries = np.concatenate([Q[d], Q[d] * 10])
    # One leaf, since the bounds of the tree's nodes are not exact for compact kernels.
    peer = KernelDensity(bandwidth=h, kernel=kernel, leaf_size=N + 1, rtol=0, atol=0)
    expected = peer.fit(X[d], sample_weight=W).score_samples(queries)
    model = kde.fit(jnp.asarray(X[d]), bandwidth=h, kernel=kernel, sample_weight=jnp.asarray(W))
    got = kde.log_prob(model, jnp.asarray(queries))
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    assert kde.KERNELS[kernel].compact == bool(jnp.any(jnp.isneginf(got)))


@pytest.mark.parametrize("d", [1, 5])
@pytest.mark.parametrize("weights", [None, W], ids=["equal", "weighted"])
def test_equals_scipy(d, weights):
    """SciPy's bandwidth is a matrix in proportion to the covariance of correlated data."""
    x = X[d] @ (np.eye(d) + np.tril(np.ones((d, d)))) + 5.0
    given = None if weights is None else jnp.asarray(weights)
    peer = gaussian_kde(x.T, bw_method="scott", weights=weights)
    model = kde.fit(jnp.asarray(x), bandwidth=peer.covariance, sample_weight=given)
    got = kde.log_prob(model, jnp.asarray(Q[d]))
    np.testing.assert_allclose(got, peer.logpdf(Q[d].T), rtol=1e-12, atol=1e-12)


def test_the_product_form_equals_a_loop_over_features():
    h = np.array([0.9, 1.1, 2.0])
    model = kde.fit(jnp.asarray(X[3]), bandwidth=h, kernel="triweight", form="product")
    u2 = ((Q[3][:, None] - X[3][None]) / h) ** 2
    factors = 35 / 32 * np.where(u2 < 1, 1 - u2, 0.0) ** 3 / h
    with np.errstate(divide="ignore"):
        expected = np.log(np.prod(factors, axis=2).mean(axis=1))
    np.testing.assert_allclose(kde.log_prob(model, jnp.asarray(Q[3])), expected, atol=1e-12)
    draws = np.asarray(kde.sample(jax.random.key(0), model, 20_000))
    variance = X[3].var(axis=0) + h**2 / 9
    error = np.std((draws - X[3].mean(axis=0)) ** 2, axis=0) / np.sqrt(20_000)
    found = np.mean((draws - X[3].mean(axis=0)) ** 2, axis=0)
    assert np.all(np.abs(found - variance) < 5 * error)


@KERNELS
def test_equals_all_pairs_with_one_bandwidth_per_feature(kernel):
    h = np.array([0.5, 1.0, 2.0])
    model = kde.fit(jnp.asarray(X[3]), bandwidth=jnp.asarray(h), kernel=kernel)
    shape = model.kernel
    r2 = np.sum(((Q[3][:, None] - X[3][None]) / h) ** 2, axis=2)
    with np.errstate(divide="ignore"):
        expected = np.log(np.mean(np.exp(shape.log_profile(jnp.asarray(r2))), axis=1))
    expected = expected - shape.log_norm(3) - np.log(np.prod(h))
    np.testing.assert_allclose(kde.log_prob(model, jnp.asarray(Q[3])), expected, atol=1e-12)


@pytest.mark.parametrize(("kernel", "d"), [("exponential", 1), ("gaussian", 2), ("biweight", 3)])
def test_integrates_to_one(kernel, d):
    """Oracle: the midpoint rule on a box around two points, with unequal bandwidths.

    A division by h instead of the product of the bandwidths would give 0.3 to 0.02 here.
    """
    h = np.array([0.3, 0.2, 0.25])[:d]
    reach = {"gaussian": 6.0, "exponential": 16.0}.get(kernel, 1.0)
    nodes = {1: 4000, 2: 400, 3: 96}[d]
    axes = [np.linspace(-reach * s, 0.1 + reach * s, nodes + 1) for s in h]
    volume = np.prod([axis[1] - axis[0] for axis in axes])
    middles = np.meshgrid(*[(axis[1:] + axis[:-1]) / 2 for axis in axes])
    grid = jnp.asarray(np.stack([axis.ravel() for axis in middles], axis=1))
    points = jnp.asarray([[0.0] * d, [0.1] * d])
    model = kde.fit(points, bandwidth=jnp.asarray(h), kernel=kernel)
    mass = float(jnp.sum(jnp.exp(kde.log_prob(model, grid)))) * volume
    assert mass == pytest.approx(1, abs=3e-3)


@pytest.mark.parametrize(
    "h",
    [0.4, np.array([0.4, 2.0]), np.array([[0.4, 0.3], [0.3, 2.0]])],
    ids=["one", "per feature", "matrix"],
)
def test_a_gaussian_kernel_density_is_a_mixture(h):
    model = kde.fit(jnp.asarray(X[2]), bandwidth=h, sample_weight=jnp.asarray(W))
    mixture = kde.as_mixture(model)
    got = gmm.log_prob(mixture, jnp.asarray(Q[2]))
    np.testing.assert_allclose(got, kde.log_prob(model, jnp.asarray(Q[2])), rtol=1e-12)
    batch = jax.vmap(lambda s: kde.as_mixture(model._replace(bandwidth=s * model.bandwidth)))(
        jnp.ones(3)
    )
    assert batch.means.shape == (3, N, 2)


@KERNELS
def test_weights_are_repetitions_and_zero_is_absence(kernel):
    x, w = jnp.asarray(X[2][:6]), np.array([2, 0, 1, 3, 0, 1])
    fit = functools.partial(kde.fit, bandwidth=1.5, kernel=kernel)
    weighted = fit(x, sample_weight=jnp.asarray(w, float))
    repeated = fit(jnp.repeat(x, w, axis=0))
    q = jnp.asarray(Q[2])
    np.testing.assert_allclose(kde.log_prob(weighted, q), kde.log_prob(repeated, q), rtol=1e-12)
    chosen = kde.sample(jax.random.key(0), weighted._replace(bandwidth=jnp.array(1e-9)), 500)
    gaps = jnp.min(jnp.sum((chosen[:, None] - x[None]) ** 2, axis=2), axis=0)
    assert jnp.array_equal(gaps < 1e-10, w > 0)


@pytest.mark.parametrize(
    ("kernel", "d"),
    [*[(k, 2) for k in ("gaussian", "biweight", "exponential", "student_t")], ("gaussian", 12)],
)
def test_far_away_is_finite_or_exactly_empty(kernel, d):
    """B14, B15: to the last decades of float32, never NaN; E30: exact at an isolated point."""
    x = jnp.asarray(X[d], jnp.float32)
    model = kde.fit(x, bandwidth=jnp.float32(0.5), kernel=kernel)
    far = jnp.asarray([[1e3], [1e8], [-1e20], [3e38]], jnp.float32) * jnp.ones((1, d), jnp.float32)
    total = jax.jit(jax.value_and_grad(lambda x: jnp.sum(kde.log_prob(model, x))))
    value, slope = total(far)
    assert jnp.isneginf(value) if model.kernel.compact else jnp.isfinite(value)
    assert jnp.all(jnp.isfinite(slope))
    if model.kernel.compact:
        assert jnp.all(slope == 0)
    isolated = kde.fit(x[:2] * 1e4, bandwidth=jnp.float32(1e-3), kernel=kernel)
    expected = -math.log(2) - model.kernel.log_norm(d) - d * math.log(1e-3)
    np.testing.assert_allclose(kde.log_prob(isolated, x[:2] * 1e4)[0], expected, rtol=1e-5)


def test_float32_far_from_the_origin():
    """B10, oracle: the same float32 numbers evaluated in float64."""
    x = jnp.asarray(X[2] + 1e5, jnp.float32)
    q = jnp.asarray(Q[2] + 1e5, jnp.float32)
    low = kde.log_prob(kde.fit(x), q)
    high = kde.log_prob(kde.fit(x.astype(float)), q.astype(float))
    np.testing.assert_allclose(low, high, atol=1e-4)


@KERNELS
def test_sample_has_the_moments_of_the_density(kernel):
    """Oracle: mean of the points; their covariance plus h² times the variance of the kernel."""
    n, h = 40_000, np.array([0.5, 2.0])
    model = kde.fit(jnp.asarray(X[2]), bandwidth=h, kernel=kernel, sample_weight=jnp.asarray(W))
    draws = np.asarray(kde.sample(jax.random.key(1), model, n))
    w = W / W.sum()
    mean = w @ X[2]
    cov = (X[2] - mean).T @ (w[:, None] * (X[2] - mean))
    cov = cov + np.diag(h**2) * model.kernel.variance(2)
    centred = draws - mean
    second = centred[:, :, None] * centred[:, None, :]
    assert np.all(np.abs(centred.mean(axis=0)) < 5 * draws.std(axis=0) / math.sqrt(n))
    assert np.all(np.abs(second.mean(axis=0) - cov) < 5 * second.std(axis=0) / math.sqrt(n))


@pytest.mark.parametrize("kernel", ["gaussian", "biweight", "exponential"])
def test_gradient_is_that_of_differences(kernel):
    """For queries, points, bandwidths and weights, with every query inside a support."""
    q, x, w = jnp.asarray(Q[2][:7] * 0.2), jnp.asarray(X[2][:9] * 0.2), jnp.asarray(W[:9])

    @jax.jit
    def f(q, x, h, w):
        model = kde.fit(x, bandwidth=h, kernel=kernel, sample_weight=w)
        return kde.log_prob(model, q)

    check_grads(f, (q, x, jnp.array([2.0, 3.0]), w), order=1, atol=1e-6, rtol=1e-6)
    gradients = jax.jit(jax.grad(lambda *a: jnp.sum(f(*a)), argnums=(0, 1, 2, 3)))
    # Queries on top of points, and a weight of zero.
    for g in gradients(x[:7], x, jnp.array([2.0, 2.0]), w.at[3].set(0.0)):
        assert jnp.all(jnp.isfinite(g))


def test_vmap_is_a_loop():
    """Over bandwidths, data sets and weights; under jit; the kernel travels inside the model."""
    q, key = jnp.asarray(Q[2]), jax.random.key(0)
    batch = (jnp.asarray(RNG.normal(size=(3, 20, 2))), jnp.asarray([0.1, 0.5, 2.0]),
             jnp.asarray(RNG.uniform(size=(3, 20))))  # fmt: skip
    fit = lambda x, h, w: kde.fit(x, bandwidth=h, kernel="linear", sample_weight=w)
    models = jax.jit(jax.vmap(fit))(*batch)
    got = jax.vmap(kde.log_prob, in_axes=(0, None))(models, q)
    draws = jax.vmap(lambda model: kde.sample(key, model, 4))(models)
    for i, row in enumerate(zip(*batch, strict=True)):
        model = fit(*row)
        np.testing.assert_allclose(got[i], kde.log_prob(model, q), rtol=1e-12)
        np.testing.assert_allclose(draws[i], kde.sample(key, model, 4))


def test_jit_is_eager_also_with_closed_over_data():
    x, q = jnp.asarray(X[2]), jnp.asarray(Q[2])
    density = lambda h: kde.log_prob(kde.fit(x, bandwidth=h, kernel="cosine"), q)
    np.testing.assert_allclose(jax.jit(density)(1.5), density(1.5), rtol=1e-12)


def test_another_bandwidth_does_not_recompile():
    x, q = jnp.asarray(X[2]), jnp.asarray(Q[2])
    for h in (0.5, 0.25):
        model = kde.fit(x, bandwidth=h)
        kde.log_prob(model, q), kde.sample(jax.random.key(0), model, 5)
    with jax.no_tracing():
        model = kde.fit(x, bandwidth=0.7)
        kde.log_prob(model, q), kde.sample(jax.random.key(1), model, 5)


def test_nan_under_a_trace_stays_visible():
    model = kde.fit(jnp.asarray(X[2]), kernel="tophat")
    got = jax.jit(kde.log_prob)(model, jnp.asarray([[0.0, jnp.nan], [0.0, 0.0]]))
    assert jnp.array_equal(jnp.isnan(got), jnp.array([True, False]))


@KERNELS
def test_float32_stays_float32(kernel):
    x = jnp.asarray(X[2], jnp.float32)
    for h in ("scott", 0.5, jnp.array([0.5, 0.5])):
        model = kde.fit(x, bandwidth=h, kernel=kernel, sample_weight=jnp.asarray(W))
        leaves = jax.tree.leaves(model)
        outputs = [kde.log_prob(model, x[:3]), kde.sample(jax.random.PRNGKey(0), model, 3)]
        assert {a.dtype for a in [*leaves, *outputs]} == {jnp.dtype(jnp.float32)}
    assert kde.log_prob(model, jnp.asarray(Q[2])).dtype == jnp.float64


@pytest.mark.parametrize("d", [2, 16])
def test_memory_does_not_grow_with_n_times_m(d):
    """E22: a 50,000 × 50,000 table of float32 is 10 GB; the programs need a few times n d.

    Sampling must not compare all draws with all points either.
    """
    n = 50_000
    rows = jax.ShapeDtypeStruct((n, d), jnp.float32)
    flat = jax.ShapeDtypeStruct((n,), jnp.float32)
    model = kde.KDE(rows, jax.ShapeDtypeStruct((), jnp.float32), flat, kde.KERNELS["gaussian"])

    def gradient(model, x):
        return jax.grad(lambda *a: jnp.sum(kde.log_prob(*a)), argnums=(0, 1))(model, x)

    draw = lambda model, key: kde.sample(key, model, n)
    key = jax.eval_shape(lambda: jax.random.key(0))
    budget = {kde.log_prob: (rows, 20 * n * d * 4), gradient: (rows, 40 * n * d * 4)}
    budget[draw] = (key, 20 * n * d * 4)
    for f, (argument, bytes_) in budget.items():
        memory = jax.jit(f).lower(model, argument).compile().memory_analysis()
        assert memory.temp_size_in_bytes < bytes_
