"""Low rank plus diagonal against dense matrices, and against what maximises a likelihood."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis

from jaxnn import gmm
from jaxnn.gmm.family import Covariances, Whitened

K, D, Q, N = 3, 5, 2, 60
KINDS = {"diag": (K, D), "tied": (1, D), "spherical": (K, 1)}
rng = np.random.default_rng(0)
X = rng.normal(size=(N, Q)) @ rng.normal(size=(Q, D)) + 0.7 * rng.normal(size=(N, D))
MEANS = rng.normal(size=(K, D))
OWNER = np.arange(N) % K
RESP = rng.dirichlet(np.ones(K), N).T
LOADINGS = rng.normal(size=(K, D, Q))
KEY = jax.random.key(0)


def example(noise: str, strength: float = 1.0) -> gmm.Factors:
    scale = rng.uniform(0.5, 1.5, KINDS[noise])
    return gmm.Factors(jnp.asarray(strength * LOADINGS), jnp.asarray(scale))


def dense(cov: gmm.Factors) -> np.ndarray:
    loadings, noise = np.asarray(cov.loadings), np.broadcast_to(cov.noise, (K, D))
    return loadings @ loadings.transpose(0, 2, 1) + np.square(noise)[:, :, None] * np.eye(D)


@pytest.fixture(params=KINDS)
def noise(request):
    return request.param


class Use(NamedTuple):
    """All that a family does, in one compiled call."""

    log_density: jax.Array
    back: jax.Array
    units: jax.Array
    covariances: jax.Array
    new: gmm.Factors


@jax.jit
def use(
    cov: gmm.Factors, means: jax.Array, x: jax.Array, alive: jax.Array, ridge: jax.Array
) -> Use:
    y = cov.whitener(means)(x)
    resp = jnp.asarray(RESP, x.dtype) * alive[:, None]
    counts = jnp.where(alive, jnp.sum(resp, axis=1), 1.0)
    shift = jnp.einsum("kdc,kc->kd", y, resp) / counts[:, None]
    own = y[OWNER, :, np.arange(N)]
    units = jnp.tile(jnp.eye(D, dtype=x.dtype), (K, 1))
    return Use(
        log_density=-0.5 * jnp.sum(y * y, axis=1) - cov.log_det(means)[:, None],
        back=cov.colour(jnp.asarray(OWNER), own),
        units=cov.colour(jnp.repeat(jnp.arange(K), D), units).reshape(K, D, D),
        covariances=cov.covariances(means),
        new=cov.update(Whitened(cov.second(y, resp), counts, shift, alive), ridge),
    )


ALL = np.ones(K, bool)
RIDGE = np.linspace(0.01, 0.05, D)


def scipy_density(cov: gmm.Factors, means: np.ndarray, x: np.ndarray) -> np.ndarray:
    each = [multivariate_normal(means[k], dense(cov)[k]).logpdf(x) for k in range(K)]
    return np.stack(each) + D / 2 * np.log(2 * np.pi)


@pytest.mark.parametrize("strength", [0.0, 1.0, 1e4])
def test_density_is_that_of_the_dense_matrices(noise, strength):
    """Oracle: SciPy; without factors, with some, and with factors that dwarf the noise.

    S undoes the whitening, and S Sᵀ = Σ for the columns that S makes of unit vectors.
    """
    cov = example(noise, strength)
    assert isinstance(cov, Covariances)
    got = use(cov, MEANS, X, ALL, RIDGE)
    digits = 1e-5 if strength > 10 else 1e-10
    np.testing.assert_allclose(got.covariances, dense(cov), rtol=1e-12)
    np.testing.assert_allclose(got.log_density, scipy_density(cov, MEANS, X), rtol=digits)
    np.testing.assert_allclose(got.back + MEANS[OWNER], X, atol=digits)
    roots = np.asarray(got.units).transpose(0, 2, 1)
    np.testing.assert_allclose(roots @ roots.transpose(0, 2, 1), dense(cov), rtol=1e-9)


def textbook(cov: gmm.Factors, noise: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ghahramani and Hinton (1996), eqs. 9 and 10, about given means, with dense matrices."""
    loadings, sigma = np.asarray(cov.loadings), dense(cov)
    counts = RESP.sum(1)
    centred = x[None] - (RESP @ x / counts[:, None])[:, None]
    scatter = np.einsum("kn,kni,knj->kij", RESP, centred, centred) / counts[:, None, None]
    scatter = scatter + np.diag(RIDGE)
    beta = loadings.transpose(0, 2, 1) @ np.linalg.inv(sigma)
    cross = scatter @ beta.transpose(0, 2, 1)
    inner = np.eye(Q) - beta @ loadings + beta @ cross
    new = cross @ np.linalg.inv(inner)
    variances = np.diagonal(scatter - new @ cross.transpose(0, 2, 1), axis1=1, axis2=2)
    if noise == "tied":
        variances = counts[None] @ variances / counts.sum()
    if noise == "spherical":
        variances = variances.mean(axis=1, keepdims=True)
    return new, variances


def test_update_is_the_textbook_step(noise):
    """Oracle: the published equations in NumPy, on covariances plus the ridge."""
    cov = example(noise)
    new = use(cov, MEANS, X, ALL, RIDGE).new
    loadings, variances = textbook(cov, noise, X)
    np.testing.assert_allclose(new.loadings, loadings, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(np.square(new.noise), variances, rtol=1e-9)


def test_a_dead_component_keeps_what_it_had(noise):
    cov = example(noise)
    new = use(cov, MEANS, X, np.array([True, False, True]), RIDGE).new
    assert all(np.isfinite(leaf).all() for leaf in new)
    np.testing.assert_array_equal(new.loadings[1], cov.loadings[1])
    if noise != "tied":
        np.testing.assert_array_equal(new.noise[1], cov.noise[1])
    assert not np.any(np.isclose(new.loadings[0], cov.loadings[0]))


def one(noise: str) -> gmm.GMM:
    """A start for a single component."""
    cov = gmm.Factors(jnp.asarray(LOADINGS[:1]), jnp.ones((1, KINDS[noise][1])))
    return gmm.GMM(jnp.zeros(1), jnp.zeros((1, D)), cov)


@pytest.mark.parametrize("noise", ["diag", "spherical"])
def test_no_noise_falls_below_the_ridge(noise):
    """Heywood's case: a feature that one factor explains wholly keeps the ridge as its noise."""
    rows = np.random.default_rng(0).normal(size=(N, D))
    rows[:, 1] = 2 * rows[:, 0]
    fit = gmm.fit(one(noise), rows, ridge=1e-3, tol=0.0, max_steps=1500)
    least = np.min(np.square(fit.mixture.cov.noise))
    assert np.isfinite(fit.log_lik)
    floor = 1e-3 * rows.var(axis=0)
    if noise == "spherical":
        assert least >= floor.mean()
    else:
        np.testing.assert_allclose(np.square(fit.mixture.cov.noise[0, :2]), floor[:2], rtol=0.5)
        assert np.all(np.square(fit.mixture.cov.noise[0]) >= floor * (1 - 1e-12))


def test_number_of_parameters_is_the_dimension(noise):
    """Oracle: the rank of the Jacobian of the dense covariances at a random place."""
    shape = KINDS[noise]
    size = K * D * Q

    def sigma(theta: np.ndarray) -> np.ndarray:
        return dense(gmm.Factors(theta[:size].reshape(K, D, Q), theta[size:].reshape(shape)))

    theta = rng.normal(size=size + np.prod(shape))
    steps = 1e-5 * np.eye(len(theta))
    jacobian = np.array([(sigma(theta + h) - sigma(theta - h)).ravel() for h in steps])
    assert example(noise).n_parameters(K, D) == np.linalg.matrix_rank(jacobian, tol=1e-8)


def test_never_lowers_the_likelihood():
    """EM's own theorem, without ridge."""
    mixture = gmm.GMM(jnp.log(jnp.ones(K) / K), jnp.asarray(MEANS), example("tied"))

    def advance(mixture: gmm.GMM, _: None) -> tuple[gmm.GMM, jax.Array]:
        total = gmm.e_step(mixture, X)
        return gmm.m_step(mixture, total), total.log_lik

    path = np.asarray(jax.lax.scan(advance, mixture, length=60)[1])
    assert np.all(np.diff(path) > -1e-9)
    assert path[-1] > path[0] + 1


def test_one_component_is_factor_analysis():
    """Oracle: the likelihood that scikit-learn's FactorAnalysis reaches."""
    oracle = FactorAnalysis(Q, tol=1e-9, max_iter=5000, svd_method="lapack").fit(X)
    fit = gmm.fit(one("diag"), X, ridge=0.0, tol=1e-13, max_steps=20_000)
    np.testing.assert_allclose(fit.log_lik, oracle.score(X), atol=1e-7)
    noise = np.square(fit.mixture.cov.noise[0])
    np.testing.assert_allclose(noise, oracle.noise_variance_, rtol=1e-2)


def test_one_spherical_component_is_probabilistic_pca():
    """Oracle: the maximum in closed form (Tipping and Bishop, 1999, eqs. 7 and 8)."""
    values, vectors = np.linalg.eigh(np.cov(X.T, bias=True))
    noise = values[:-Q].mean()
    best = -0.5 * (D * np.log(2 * np.pi) + np.log(values[-Q:]).sum() + (D - Q) * np.log(noise) + D)
    fit = gmm.fit(one("spherical"), X, ridge=0.0, tol=1e-13, max_steps=20_000)
    np.testing.assert_allclose(fit.log_lik, best, atol=1e-9)
    np.testing.assert_allclose(np.square(fit.mixture.cov.noise), [[noise]], rtol=1e-5)
    loadings = np.asarray(fit.mixture.cov.loadings[0])
    top = vectors[:, -Q:] * np.sqrt(values[-Q:] - noise)
    np.testing.assert_allclose(loadings @ loadings.T, top @ top.T, atol=1e-4)


def test_nothing_of_features_by_features_is_formed():
    """No array of the traced fit, start or sample has two axes as long as a row."""
    n, d = 300, 1999
    x = jax.ShapeDtypeStruct((n, d), jnp.float32)
    run = lambda x: gmm.fit(gmm.init(KEY, x, 2, family=gmm.factors(3)), x)
    assert f"{d},{d}" not in str(jax.make_jaxpr(run)(x))
    mixture = jax.eval_shape(run, x).mixture
    drawn = jax.make_jaxpr(lambda m: gmm.log_prob(m, gmm.sample(KEY, m, 9)))(mixture)
    assert f"{d},{d}" not in str(drawn)
    assert f"{d},3" in str(drawn), "the search itself can find"


@pytest.mark.parametrize("strength", [1.0, 100.0])
def test_float32_is_accurate(strength):
    """Oracle: SciPy and the published step in float64, far from zero or with strong factors."""
    offset = 1e4 if strength == 1.0 else 0.0
    cast = lambda a: jnp.asarray(a, jnp.float32)
    cov = jax.tree.map(cast, example("diag", strength))
    x, means = cast(strength * X + offset), cast(strength * MEANS + offset)
    got = use(cov, means, x, ALL, cast(RIDGE))
    assert got.new.noise.dtype == jnp.float32
    exact = jax.tree.map(lambda a: np.asarray(a, float), (cov, means, x))
    wanted = scipy_density(*exact)
    error = np.abs(got.log_density - wanted) / np.maximum(1, np.abs(wanted))
    assert np.max(error) < 1e-4
    loadings, variances = textbook(exact[0], "diag", exact[2])
    np.testing.assert_allclose(got.new.noise, np.sqrt(variances), rtol=1e-3)
    scale = np.sqrt(np.square(loadings).sum(2) + variances)[:, :, None]
    np.testing.assert_allclose(got.new.loadings / scale, loadings / scale, atol=1e-3)


def test_the_start_has_the_variances_of_the_columns():
    """Oracle: the diagonal of L Lᵀ + Ψ; no two columns of L alike, none zero."""
    variances = jnp.asarray(rng.uniform(0.5, 2, 40))
    cov = jax.jit(lambda v: gmm.factors(6).from_variances(v, K))(variances)
    total = np.square(cov.loadings).sum(axis=2) + np.square(cov.noise)
    np.testing.assert_allclose(total, np.stack([variances] * K), rtol=1e-12)
    unit = np.asarray(cov.loadings[0]) / np.sqrt(variances)[:, None]
    assert np.abs(np.corrcoef(unit.T) - np.eye(6)).max() < 5 / np.sqrt(40)


BAD = {
    "rank 0": (lambda: gmm.factors(0), ValueError, "gmm.factors: rank must be at least 1, got 0"),
    "rank 1.5": (lambda: gmm.factors(1.5), TypeError, "rank must be a whole number"),
    "noise": (lambda: gmm.factors(1, noise="ful"), ValueError, "unknown noise 'ful'.*choose from"),
    "rank d": (lambda: gmm.init(KEY, X, 2, family=gmm.factors(D)), ValueError,
               "rank must be below the number of features, 5, got 5"),
    "dense": (lambda: gmm.from_covariances(np.ones(1), X[:1], np.eye(D)[None],
                                           family=gmm.factors(1)), ValueError, "unknown family"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], where="gmm.")
