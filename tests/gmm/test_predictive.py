"""Predictive densities against SciPy's Student t, means of weights and pruning against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy import special, stats

from jaxnn import gmm

rng = np.random.default_rng(0)
K = 3
WEIGHTS = gmm.Dirichlet(jnp.array([1.0, 3.0, 0.5]))


def belief(d: int, family: str = "full") -> gmm.BayesGMM:
    root = rng.normal(size=(K, d, d))
    full = root @ root.transpose(0, 2, 1) + np.eye(d)
    given = full if family == "full" else np.diagonal(full, axis1=1, axis2=2)
    return gmm.BayesGMM(
        weights=WEIGHTS,
        means=jnp.asarray(rng.normal(size=(K, d))),
        mean_precision=jnp.array([1.0, 4.0, 30.0]),
        dof=d + jnp.array([0.5, 3.0, 30.0]),
        cov=gmm.COVARIANCES[family].from_covariances(jnp.asarray(given)),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("d", "family", "scale"), [(3, "full", 1.0), (1, "diag", 1e5)])
def test_is_a_mixture_of_student_t(d, family, scale, dtype):
    """Oracle: scipy.stats.multivariate_t (Bishop, 2006, eq. 10.82).

    Belief from 1e5 times as many rows: the normalisers nearly cancel, in float64 down to SciPy's
    own rounding of log Γ(1e6), and in float32 nothing may be lost.
    """
    q = belief(d, family)
    q = q._replace(dof=q.dof * scale, mean_precision=q.mean_precision * scale)
    cov, x = np.asarray(q.cov.covariances(q.means)), rng.normal(size=(20, d))
    parts = []
    for k in range(K):
        free, precision = float(q.dof[k]) + 1 - d, float(q.mean_precision[k])
        shape = cov[k] * float(q.dof[k]) * (1 + precision) / (precision * free)
        weight = np.log(WEIGHTS.concentration[k] / 4.5)
        parts.append(weight + stats.multivariate_t(q.means[k], shape, df=free).logpdf(x))
    ours = gmm.predictive_log_prob(jax.tree.map(lambda a: a.astype(dtype), q), x.astype(dtype))
    close = {"rtol": 1e-8} if dtype == np.float64 else {"rtol": 0, "atol": 1e-4}
    np.testing.assert_allclose(ours, special.logsumexp(parts, axis=0), **close)


def test_expected_mixture_has_the_mean_weights():
    """Oracle: a Dirichlet's mean."""
    q = belief(2)
    mixture = gmm.expected_mixture(q)
    np.testing.assert_allclose(np.exp(mixture.log_weights), [1 / 4.5, 3 / 4.5, 0.5 / 4.5])
    np.testing.assert_array_equal(mixture.means, q.means)


def test_pruning_switches_off_and_renormalises():
    """Oracle: NumPy; the heaviest component stays whatever is asked."""
    mixture = gmm.expected_mixture(belief(2))
    for least, expected in ((0.2, [0.25, 0.75, 0]), (0.01, [1 / 4.5, 3 / 4.5, 0.5 / 4.5]),
                            (1.0, [0, 1, 0])):  # fmt: skip
        np.testing.assert_allclose(np.exp(gmm.prune(mixture, least).log_weights), expected)


FULL = belief(2)
BAD = {
    "rank": (lambda: gmm.predictive_log_prob(FULL, np.ones(2)), ValueError, "x must have shape"),
    "NaN": (lambda: gmm.predictive_log_prob(FULL, np.full((3, 2), np.nan)), ValueError, "finite"),
    "posterior": (lambda: gmm.predictive_log_prob(gmm.expected_mixture(FULL), np.ones((3, 2))),
                  TypeError, "posterior must be a BayesGMM"),
    "mixture": (lambda: gmm.expected_mixture(None), TypeError, "must be a BayesGMM"),
    "least": (lambda: gmm.prune(gmm.surrogate(FULL), 0.0), ValueError, r"least must be in \(0, 1"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], where="gmm.")
