"""The formulas of variational Bayes against SciPy's Wishart and Dirichlet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import digamma, multigammaln

from jaxnn import gmm
from jaxnn.gmm import belief

K, D = 2, 3
rng = np.random.default_rng(4)
ROOT = rng.normal(size=(K + 1, D, D))
SCALE = ROOT @ ROOT.transpose(0, 2, 1) + np.eye(D)  # inverses of E[Λ], and the prior's covariance
POSTERIOR = jax.tree.map(
    jnp.asarray,
    gmm.BayesGMM(
        weights=gmm.Dirichlet(np.array([2.5, 0.5])),
        means=rng.normal(size=(K, D)),
        mean_precision=np.array([0.5, 7.0]),
        dof=np.array([3.5, 20.0]),
        cov=gmm.Full(np.linalg.cholesky(SCALE[:K])),
    ),
)  # fmt: skip
PRIOR = gmm.BayesPrior(
    gmm.Dirichlet(jnp.array([1.5, 1.5])), jnp.asarray(rng.normal(size=D)), jnp.array(2.0),
    jnp.array(4.0), jnp.asarray(SCALE[K]),
)  # fmt: skip
ROWS = rng.normal(size=(5, D))
WISHARTS = [
    (float(nu), np.linalg.inv(s) / float(nu))
    for nu, s in zip(POSTERIOR.dof, SCALE[:K], strict=True)
]


@pytest.fixture(scope="module")
def found():
    """The surrogate's log joint of some rows, and the divergence from the prior."""
    both = lambda q, p: (gmm.log_joint(gmm.surrogate(q), ROWS), belief.divergence(q, p))
    return jax.jit(both)(POSTERIOR, PRIOR)


def expected_log_det(nu: float, v: np.ndarray) -> float:
    """E log|Λ| for Λ ~ W(v, nu) (Bishop, 2006, eq. B.81)."""
    return digamma(0.5 * (nu - np.arange(D))).sum() + D * np.log(2) + np.linalg.slogdet(v)[1]


def test_surrogate_is_the_expected_log_joint(found):
    """Oracle: E[log w_k + log N(x | μ_k, Λ_k⁻¹)] by Bishop's eqs. 10.64 to 10.66, dense."""
    x, joint = ROWS, found[0]
    weights = digamma(POSTERIOR.weights.concentration) - digamma(3.0)
    for k, (nu, v) in enumerate(WISHARTS):
        away = x - np.asarray(POSTERIOR.means[k])
        square = D / float(POSTERIOR.mean_precision[k]) + nu * np.einsum(
            "ni,ij,nj->n", away, v, away
        )
        expected = weights[k] + 0.5 * (expected_log_det(nu, v) - D * np.log(2 * np.pi) - square)
        np.testing.assert_allclose(joint[:, k], expected, rtol=1e-10)


def test_divergence_is_that_of_scipys_distributions(found):
    """Oracle: minus the entropy minus E[log prior], with the entropies of SciPy."""
    m0, beta0, nu0 = (np.asarray(a, float) for a in PRIOR[1:4])
    v0 = np.linalg.inv(SCALE[K])
    a, b = np.asarray(POSTERIOR.weights.concentration), np.asarray(PRIOR.weights.concentration)
    total = -stats.dirichlet(a).entropy()
    total -= (b - 1) @ (digamma(a) - digamma(a.sum())) + stats.dirichlet(b).logpdf([0.5, 0.5])
    total -= (b - 1).sum() * np.log(2)  # what the density at (1/2, 1/2) had besides its constant
    for k, (nu, v) in enumerate(WISHARTS):
        log_det, beta = expected_log_det(nu, v), float(POSTERIOR.mean_precision[k])
        total -= stats.wishart(nu, v).entropy()
        constant = -0.5 * nu0 * (D * np.log(2) + np.linalg.slogdet(v0)[1])
        constant -= multigammaln(0.5 * nu0, D)
        total -= constant + 0.5 * (nu0 - D - 1) * log_det
        total += 0.5 * nu * np.trace(np.linalg.inv(v0) @ v)
        away = np.asarray(POSTERIOR.means[k]) - m0
        total += 0.5 * (
            D * (np.log(beta / beta0) + beta0 / beta - 1) + beta0 * nu * away @ v @ away
        )
    np.testing.assert_allclose(found[1], total, rtol=1e-9)
