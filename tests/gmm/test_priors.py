"""Priors against SciPy's densities, the textbook's posterior modes, and what must hold."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy import stats

from jaxnn import gmm
from jaxnn.gmm import priors
from jaxnn.gmm.loop import maximise
from jaxnn.gmm.moments import moments

N, D, K = 60, 2, 3
rng = np.random.default_rng(3)
X = jnp.asarray(rng.normal(size=(N, D)) * [1.0, 3.0] + rng.integers(0, 3, N)[:, None] * 2.0)
ONES = jnp.ones(N)
ALPHA, KAPPA, NU = np.array([2.0, 1.0, 4.5]), 0.7, 9.0
M0 = np.array([0.5, -1.0])
ROOT = np.array([[1.5, 0.0], [-0.4, 0.8]])
LAMBDA = ROOT @ ROOT.T  # the inverse-Wishart's scale matrix
# Rows of each component that weigh as much as its inverse-Wishart and the normaliser of its mean,
# from the exponents of the determinants; and among how many Λ is shared out.
ROWS = {"full": NU + D + 2, "tied": (NU + D + 1 + K) / K, "diag": NU + 3,
        "spherical": (NU + D + 2) / D}  # fmt: skip
SPLIT = {"full": 1, "tied": K, "diag": 1, "spherical": D}


log_prior = jax.jit(gmm.log_prior)


@cache
def start_of(family: str) -> gmm.GMM:
    return gmm.init(jax.random.key(5), X, K, family=family)


@pytest.fixture(params=("full", "tied", "diag", "spherical"))
def family(request):
    return request.param


def prior(family: str = "full") -> gmm.Prior:
    share = ROWS[family] * SPLIT[family]
    return gmm.Prior(ALPHA, M0, KAPPA, ROWS[family], ROOT / np.sqrt(share))


@partial(jax.jit, static_argnames="steps")
def climb(mixture, prior, steps=25):
    """The log posterior before each of `steps` steps of EM, and the mixture behind the first."""

    def step(mixture, _):
        total = moments(mixture, X, ONES)
        new = maximise(mixture, total, jnp.zeros(D), prior)
        return new, (total.log_lik + priors.log_density(mixture, prior), new)

    _, (objective, mixtures) = jax.lax.scan(step, mixture, None, length=steps)
    return objective, jax.tree.map(lambda leaf: leaf[0], mixtures)


def test_map_step_is_the_textbooks_and_never_lowers_the_log_posterior(family):
    """Oracle: Fraley and Raftery (2007, appendix); Murphy (2012, section 11.4.2.8), in NumPy."""
    start = start_of(family)
    objective, new = climb(start, jax.tree.map(jnp.asarray, prior(family)))
    assert np.all(np.diff(objective) >= -1e-9)
    assert np.ptp(objective) > 0.1

    resp = np.asarray(gmm.posterior(start, X))
    counts = resp.sum(0)
    centre = resp.T @ np.asarray(X) / counts[:, None]
    weights = (counts + ALPHA - 1) / (N + np.sum(ALPHA - 1))
    means = (counts[:, None] * centre + KAPPA * M0) / (counts + KAPPA)[:, None]
    far = np.asarray(X)[:, None] - centre
    within = np.einsum("nk,nki,nkj->kij", resp, far, far)
    pull = (KAPPA * counts / (KAPPA + counts))[:, None, None]
    scatter = within + pull * np.einsum("ki,kj->kij", centre - M0, centre - M0)
    variances = np.diagonal(scatter, axis1=1, axis2=2)
    ball = (np.trace(LAMBDA) / D + variances.sum(1)) / (NU + counts * D + D + 2)
    line = (np.diag(LAMBDA) + variances) / (NU + counts + 3)[:, None]
    oracle = {
        "full": (LAMBDA + scatter) / (NU + counts + D + 2)[:, None, None],
        "tied": np.stack([(LAMBDA + scatter.sum(0)) / (NU + N + D + 1 + K)] * K),
        "diag": line[:, :, None] * np.eye(D),
        "spherical": ball[:, None, None] * np.eye(D),
    }[family]
    np.testing.assert_allclose(np.exp(new.log_weights), weights, rtol=1e-10)
    np.testing.assert_allclose(new.means, means, rtol=1e-10)
    np.testing.assert_allclose(new.cov.covariances(new.means), oracle, rtol=1e-10)


def scipy_log_prior(mixture: gmm.GMM) -> float:
    """Dirichlet, and Normal-inverse-Wishart with ν and Λ, by scipy.stats."""
    total = stats.dirichlet(ALPHA).logpdf(np.exp(mixture.log_weights))
    for mean, cov in zip(mixture.means, mixture.cov.covariances(mixture.means), strict=True):
        total += stats.invwishart(NU, LAMBDA).logpdf(np.asarray(cov))
        total += stats.multivariate_normal(M0, np.asarray(cov) / KAPPA).logpdf(np.asarray(mean))
    return total


def test_log_prior_is_scipys_up_to_a_constant():
    a, b = start_of("full"), climb(start_of("full"), jax.tree.map(jnp.asarray, prior()))[1]
    found = log_prior(a, prior()) - log_prior(b, prior())
    np.testing.assert_allclose(found, scipy_log_prior(a) - scipy_log_prior(b), rtol=1e-9)


def test_a_flat_prior_is_maximum_likelihood():
    """Oracle: the M-step without a prior."""
    family = "tied"
    start = start_of(family)
    total = gmm.e_step(start, X)
    flat = gmm.Prior(1.0, M0, 0.0, 0.0, ROOT)
    np.testing.assert_allclose(log_prior(start, flat), 0, atol=1e-12)
    for a, b in zip(*map(jax.tree.leaves, (gmm.m_step(start, total, prior=flat),
                                           gmm.m_step(start, total))), strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_fit_ends_at_a_mode_of_the_posterior():
    """The gradient of the log posterior vanishes there, in every parameter; weights by logits."""
    end = gmm.fit(
        start_of("full"), X, prior=prior(), ridge=0.0, tol=0.0, max_steps=3000, accelerate=True
    )
    assert end.status == gmm.Status.STALLED

    def log_posterior(logits, means, tril):
        tril = jnp.tril(tril)
        mixture = gmm.GMM(jax.nn.log_softmax(logits), means, gmm.Full(tril))
        return jnp.sum(gmm.log_prob(mixture, X)) + gmm.log_prior(mixture, prior())

    value, gradient = jax.jit(jax.value_and_grad(log_posterior, (0, 1, 2)))(
        end.mixture.log_weights, end.mixture.means, end.mixture.cov.scale_tril
    )
    for part in gradient:
        np.testing.assert_allclose(part, 0, atol=1e-4)
    np.testing.assert_allclose(end.objective, value / N, rtol=1e-12)
    log_lik = gmm.log_prob(end.mixture, X).mean()
    np.testing.assert_allclose(end.log_lik, log_lik, rtol=1e-12)
    assert abs(end.objective - end.log_lik) > 0.01


def test_default_prior_is_fraley_and_rafterys(family):
    """Oracle: section 3 of the paper: κ = 0.01, ν = d + 2, Λ = cov / k^(2/d), in NumPy."""
    w = rng.integers(0, 3, N).astype(float)
    found = gmm.default_prior(X, K, family=family, sample_weight=w)
    cov = np.cov(np.asarray(X).T, aweights=w, bias=True)
    rows = {"full": 2 * D + 4, "tied": (2 * D + 3 + K) / K, "diag": D + 5,
            "spherical": (2 * D + 4) / D}[family]  # fmt: skip
    np.testing.assert_allclose(found.strength, rows)
    np.testing.assert_allclose(found.shrinkage, 0.01)
    np.testing.assert_allclose(found.mean, np.average(X, axis=0, weights=w), rtol=1e-12)
    scale = found.strength * found.scale_tril @ found.scale_tril.T
    np.testing.assert_allclose(scale, cov / K ** (2 / D) / SPLIT[family], rtol=1e-5)
    assert found.scale_tril[0, 1] == 0


COLLAPSE = {
    # As many components as there are different rows: each collapses onto one.
    "duplicates": (np.repeat([[0.0, 0.0], [1.0, 3.0], [5.0, -2.0]], 20, axis=0), K),
    "float32, d > n": (np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32), 2),
}


@pytest.mark.filterwarnings("ignore:.*give x.T")
@pytest.mark.parametrize("case", COLLAPSE)
def test_default_prior_prevents_collapse(case):
    """Degenerate with a flat prior, converged with the default one."""
    x, k = COLLAPSE[case]
    start, weak = gmm.init(jax.random.key(0), x, k), gmm.default_prior(x, k)
    zero = jnp.zeros_like(weak.strength)
    flat = weak._replace(shrinkage=zero, strength=zero)
    assert gmm.fit(start, x, prior=flat, accelerate=True).status == gmm.Status.DEGENERATE
    end = gmm.fit(start, x, prior=weak, ridge=0.0, max_steps=500, accelerate=True)
    assert end.status <= gmm.Status.STALLED, gmm.describe(end)  # float32 may not see the tolerance
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end.mixture))


def test_a_component_without_rows_goes_to_the_mode_of_the_prior():
    """Closed form: mean m, covariance C; its weight is what the Dirichlet gives it."""
    start = start_of("full")
    lost = start._replace(means=start.means.at[2].set(1e5))
    total = gmm.e_step(lost, X)
    assert total.counts[2] == 0
    new = gmm.m_step(lost, total, prior=prior())
    np.testing.assert_allclose(new.means[2], M0, atol=1e-9)
    np.testing.assert_allclose(new.cov.covariances(new.means)[2], LAMBDA / ROWS["full"], rtol=1e-9)
    np.testing.assert_allclose(np.exp(new.log_weights[2]), 3.5 / (N + 4.5), rtol=1e-12)
    off = lost._replace(log_weights=jnp.log(jnp.array([0.5, 0.5, 0.0])))
    again = gmm.m_step(off, total, prior=prior())
    assert again.log_weights[2] == -np.inf
    np.testing.assert_allclose(log_prior(off, prior()._replace(concentration=1.0)),
                               log_prior(jax.tree.map(lambda leaf: leaf[:2], off),
                                             prior()._replace(concentration=1.0)))  # fmt: skip


@pytest.mark.parametrize(("offset", "tight"), [(0.0, 1e-4), (1e4, 1.0)])
def test_float32_keeps_the_priors_precision(offset, tight):
    """Oracle: float64 on the same numbers; tight clusters under a wide prior, and far from zero."""
    centres = np.array([[0.0, 0.0], [4.0, 1.0], [-3.0, 5.0]]) + offset
    x = np.repeat(centres, 20, axis=0) + tight * rng.normal(size=(N, D))
    square = jnp.full(D, tight**2)
    start = gmm.GMM(jnp.full(K, -np.log(3)), jnp.asarray(centres + tight),
                    gmm.Full.from_variances(square, K))  # fmt: skip
    wide = gmm.Prior(1.5, M0 + offset, 0.5, 8.0, ROOT)
    arrays = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float32), (start, jnp.asarray(x), wide)
    )
    single, double = (
        gmm.m_step(mixture, gmm.e_step(mixture, rows), prior=prior)
        for mixture, rows, prior in (
            arrays, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), arrays)
        )
    )  # fmt: skip
    np.testing.assert_allclose(
        single.means - offset, double.means - offset, atol=1e-6 + offset * 1e-7
    )
    np.testing.assert_allclose(single.cov.scale_tril, double.cov.scale_tril, rtol=3e-5, atol=1e-6)


def test_weights_repeat_rows_under_a_prior():
    """Oracle: numpy.repeat, with prior and jumps; zero is an absence."""
    w = np.r_[np.zeros(20), np.ones(25), np.full(5, 3), np.full(10, 2)]
    w = rng.permutation(w)
    assert w.sum() == N
    options = {"prior": prior(), "tol": 0.0, "max_steps": 9, "accelerate": True}
    a = gmm.fit(start_of("full"), X, sample_weight=w, **options)
    b = gmm.fit(start_of("full"), np.repeat(X, w.astype(int), axis=0), **options)
    np.testing.assert_allclose(a.objective, b.objective, rtol=1e-10)
    np.testing.assert_allclose(a.mixture.means, b.mixture.means, rtol=1e-7)


PRIOR = prior()
BAD = {
    "no prior": ({"prior": 3}, TypeError, "prior must be a Prior"),
    "mean": ({"prior": PRIOR._replace(mean=M0[:1])}, ValueError, r"mean must have shape \(2,"),
    "factor": ({"prior": PRIOR._replace(scale_tril=np.eye(3))}, ValueError, "scale_tril must"),
    "NaN": ({"prior": PRIOR._replace(scale_tril=np.nan * ROOT)}, ValueError, "must be finite"),
    "dtype": ({"prior": PRIOR._replace(mean=M0.astype(np.float32))}, TypeError, "must be float64"),
    "pull": ({"prior": PRIOR._replace(shrinkage=-1.0)}, ValueError, "prior.shrinkage must be non"),
    "rows": ({"prior": PRIOR._replace(strength=np.ones(2))}, ValueError, "strength must have"),
    "alpha": ({"prior": PRIOR._replace(concentration=0.5)}, ValueError, "at least 1, got 0.5"),
    "alphas": ({"prior": PRIOR._replace(concentration=np.ones(2))}, ValueError, "concentration"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_prior(case):
    options, error, message = BAD[case]
    refused(lambda: gmm.fit(start_of("full"), X, **options), error, message, "gmm.fit: ")
