"""Low rank plus diagonal against dense matrices, and against what maximises a likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis

from jaxnn import gmm
from jaxnn.gmm.family import Covariances, Whitened

K, D, Q, N = 3, 5, 2, 60
KINDS = {"diag": (K, D), "tied": (1, D), "spherical": (K, 1)}
rng = np.random.default_rng(0)
X = rng.normal(size=(N, Q)) @ rng.normal(size=(Q, D)) + 0.7 * rng.normal(size=(N, D))
MEANS = rng.normal(size=(K, D))
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


@pytest.mark.parametrize("strength", [0.0, 1.0, 1e4])
def test_density_is_that_of_the_dense_matrices(noise, strength):
    """Oracle: SciPy; without factors, with some, and with factors that dwarf the noise."""
    cov = example(noise, strength)
    assert isinstance(cov, Covariances)
    np.testing.assert_allclose(cov.covariances(jnp.asarray(MEANS)), dense(cov), rtol=1e-12)
    mixture = gmm.GMM(jnp.log(jnp.ones(K)), jnp.asarray(MEANS), cov)
    got = gmm.log_joint(mixture, X)
    for k in range(K):
        oracle = multivariate_normal(MEANS[k], dense(cov)[k]).logpdf(X)
        np.testing.assert_allclose(got[:, k], oracle, rtol=1e-5 if strength > 10 else 1e-10)


def test_colour_undoes_the_whitening_and_makes_the_covariance(noise):
    """Oracle: the identity, and S Sᵀ = Σ for the columns that S makes of unit vectors."""
    cov, owner = example(noise), np.arange(N) % K

    @jax.jit
    def both(cov: gmm.Factors) -> tuple[jax.Array, jax.Array]:
        y = cov.whitener(jnp.asarray(MEANS))(jnp.asarray(X))
        units = cov.colour(jnp.repeat(jnp.arange(K), D), jnp.tile(jnp.eye(D), (K, 1)))
        return cov.colour(jnp.asarray(owner), y[owner, :, np.arange(N)]), units

    back, units = both(cov)
    np.testing.assert_allclose(back + MEANS[owner], X, atol=1e-12)
    roots = np.asarray(units).reshape(K, D, D).transpose(0, 2, 1)
    np.testing.assert_allclose(roots @ roots.transpose(0, 2, 1), dense(cov), rtol=1e-12)


@jax.jit
def step(cov: gmm.Factors, alive: jax.Array, ridge: jax.Array) -> gmm.Factors:
    y = cov.whitener(jnp.asarray(MEANS))(jnp.asarray(X))
    resp = jnp.asarray(RESP * alive[:, None])
    counts = jnp.where(alive, RESP.sum(1), 1.0)
    shift = jnp.einsum("kdc,kc->kd", y, resp) / counts[:, None]
    return cov.update(Whitened(cov.second(y, resp), counts, shift, alive), ridge)


def textbook(cov: gmm.Factors, noise: str, ridge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ghahramani and Hinton (1996), eqs. 9 and 10, about given means, with dense matrices."""
    loadings, sigma = np.asarray(cov.loadings), dense(cov)
    counts = RESP.sum(1)
    centred = X[None] - (RESP @ X / counts[:, None])[:, None]
    scatter = np.einsum("kn,kni,knj->kij", RESP, centred, centred) / counts[:, None, None]
    scatter = scatter + np.diag(ridge)
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
    cov, ridge = example(noise), np.linspace(0.01, 0.05, D)
    new = step(cov, jnp.ones(K, bool), jnp.asarray(ridge))
    loadings, variances = textbook(cov, noise, ridge)
    np.testing.assert_allclose(new.loadings, loadings, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(np.square(new.noise), variances, rtol=1e-9)


def test_a_dead_component_keeps_what_it_had(noise):
    cov = example(noise)
    new = step(cov, jnp.array([True, False, True]), jnp.zeros(D))
    assert all(np.isfinite(leaf).all() for leaf in new)
    np.testing.assert_array_equal(new.loadings[1], cov.loadings[1])
    if noise != "tied":
        np.testing.assert_array_equal(new.noise[1], cov.noise[1])
    assert not np.any(np.isclose(new.loadings[0], cov.loadings[0]))


@pytest.mark.parametrize("noise", ["diag", "spherical"])
def test_no_noise_falls_below_the_ridge(noise):
    """Heywood's case: a feature that one factor explains wholly keeps the ridge as its noise."""
    rows = np.random.default_rng(0).normal(size=(N, D))
    rows[:, 1] = 2 * rows[:, 0]
    start = gmm.init(KEY, rows, 1, family=gmm.factors(Q, noise=noise))
    fit = gmm.fit(start, rows, ridge=1e-3, tol=0.0, max_steps=1500)
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
    mixture = gmm.init(KEY, X, K, family=gmm.factors(Q, noise="tied"), start="random points")

    def advance(mixture: gmm.GMM, _: None) -> tuple[gmm.GMM, jax.Array]:
        total = gmm.e_step(mixture, X)
        return gmm.m_step(mixture, total), total.log_lik

    path = np.asarray(jax.lax.scan(advance, mixture, length=60)[1])
    assert np.all(np.diff(path) > -1e-9)
    assert path[-1] > path[0] + 1


def test_one_component_is_factor_analysis():
    """Oracle: the likelihood that scikit-learn's FactorAnalysis reaches."""
    oracle = FactorAnalysis(Q, tol=1e-9, max_iter=5000, svd_method="lapack").fit(X)
    start = gmm.init(KEY, X, 1, family=gmm.factors(Q))
    fit = gmm.fit(start, X, ridge=0.0, tol=1e-13, max_steps=20_000)
    np.testing.assert_allclose(fit.log_lik, oracle.score(X), atol=1e-7)
    noise = np.square(fit.mixture.cov.noise[0])
    np.testing.assert_allclose(noise, oracle.noise_variance_, rtol=1e-2)


def test_one_spherical_component_is_probabilistic_pca():
    """Oracle: the maximum in closed form (Tipping and Bishop, 1999, eqs. 7 and 8)."""
    values, vectors = np.linalg.eigh(np.cov(X.T, bias=True))
    noise = values[:-Q].mean()
    best = -0.5 * (D * np.log(2 * np.pi) + np.log(values[-Q:]).sum() + (D - Q) * np.log(noise) + D)
    start = gmm.init(KEY, X, 1, family=gmm.factors(Q, noise="spherical"))
    fit = gmm.fit(start, X, ridge=0.0, tol=1e-13, max_steps=20_000)
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


@jax.jit
def once(mixture: gmm.GMM, x: jax.Array) -> tuple[jax.Array, gmm.Factors]:
    return gmm.log_joint(mixture, x), gmm.m_step(mixture, gmm.e_step(mixture, x), 1e-3).cov


@pytest.mark.parametrize("strength", [1.0, 100.0])
def test_float32_is_accurate(strength):
    """Oracle: float64, for rows far from zero: densities to 1e-4 of themselves, EM's step to 1e-3."""
    offset = 1e4 if strength == 1.0 else 0.0
    rows = (strength * X + offset).astype(np.float32)
    single = gmm.GMM(
        jnp.zeros(K, jnp.float32),
        jnp.asarray(strength * MEANS + offset, jnp.float32),
        jax.tree.map(lambda a: a.astype(jnp.float32), example("diag", strength)),
    )
    double = jax.tree.map(lambda a: a.astype(jnp.float64), single)
    (low, got), (high, wanted) = once(single, rows), once(double, rows.astype(float))
    assert np.max(np.abs(low - high) / np.maximum(1, np.abs(high))) < 1e-4
    assert got.noise.dtype == jnp.float32
    np.testing.assert_allclose(got.noise, wanted.noise, rtol=1e-3)
    scale = np.sqrt(np.square(wanted.loadings).sum(2) + np.square(wanted.noise))[:, :, None]
    np.testing.assert_allclose(got.loadings / scale, wanted.loadings / scale, atol=1e-3)


def test_the_start_has_the_variances_of_the_columns():
    """Oracle: the diagonal of L Lᵀ + Ψ; no two columns of L alike, none zero."""
    variances = jnp.asarray(rng.uniform(0.5, 2, 40))
    cov = gmm.factors(6).from_variances(variances, K)
    matrices = np.asarray(cov.covariances(jnp.zeros((K, 40))))
    np.testing.assert_allclose(np.diagonal(matrices[0]), variances, rtol=1e-12)
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
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
