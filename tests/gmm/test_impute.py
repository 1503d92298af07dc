"""Imputation against the closed form of conditional normals, and draws against their moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from jaxnn import gmm

rng = np.random.default_rng(0)
K, D = 2, 3
ROOT = rng.normal(size=(K, D, D))
FULL = ROOT @ ROOT.transpose(0, 2, 1) + 0.2 * np.eye(D)
GIVEN = {"full": FULL, "tied": FULL[0], "diag": FULL[:, range(D), range(D)],
         "spherical": FULL[:, 0, 0]}  # fmt: skip
WEIGHTS, MEANS = np.array([0.4, 0.6]), rng.normal(size=(K, D))
X = rng.normal(size=(40, D))
X[rng.uniform(size=X.shape) < 0.4] = np.nan
X[3], X[4] = np.nan, [1.0, 2.0, 3.0]


def mixture(family: str) -> gmm.GMM:
    return gmm.from_covariances(WEIGHTS, MEANS, GIVEN[family], family=family)


def conditional(family: str, row: np.ndarray):
    """Posterior, means and covariances of what is missing of a row, by the textbook."""
    cov = np.asarray(mixture(family).cov.covariances(jnp.asarray(MEANS)))
    o, h = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
    log, mean, spread = np.log(WEIGHTS), MEANS[:, h], cov[:, h][:, :, h]
    for k in range(K):
        if len(o):
            log[k] += multivariate_normal(MEANS[k][o], cov[k][np.ix_(o, o)]).logpdf(row[o])
            gain = np.linalg.solve(cov[k][np.ix_(o, o)], cov[k][np.ix_(o, h)]).T
            mean[k] = mean[k] + gain @ (row[o] - MEANS[k][o])
            spread[k] = spread[k] - gain @ cov[k][np.ix_(o, h)]
    return np.exp(log - logsumexp(log)), mean, spread


@pytest.mark.parametrize("family", ["full", "tied", "spherical"])
def test_imputes_the_conditional_mean(family):
    """Oracle: Σ_k p(k | observed) E[missing | observed, k] in closed form; the rest untouched."""
    filled = np.asarray(gmm.impute(mixture(family), X))
    seen = ~np.isnan(X)
    np.testing.assert_array_equal(filled[seen], X[seen])
    for row, got in zip(X, filled, strict=True):
        resp, mean, _ = conditional(family, row)
        np.testing.assert_allclose(got[np.isnan(row)], resp @ mean, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", ["full", "diag"])
def test_draws_have_the_conditional_moments(family):
    """Mean and covariance of 20,000 draws within 5 standard errors; the rest untouched."""
    row = np.array([np.nan, 0.7, np.nan])
    n = 20_000
    drawn = np.asarray(gmm.sample_missing(jax.random.key(2), mixture(family), np.tile(row, (n, 1))))
    np.testing.assert_array_equal(drawn[:, 1], 0.7)
    x = drawn[:, [0, 2]]
    resp, mean, spread = conditional(family, row)
    centre = resp @ mean
    away = mean - centre
    cov = np.einsum("k,kij->ij", resp, spread + away[:, :, None] * away[:, None])
    assert np.all(np.abs(x.mean(0) - centre) < 5 * x.std(0) / np.sqrt(n))
    products = (x - centre)[:, :, None] * (x - centre)[:, None]
    assert np.all(np.abs(products.mean(0) - cov) < 5 * products.std(0) / np.sqrt(n))


BAD = {
    "key": (lambda: gmm.sample_missing(0, mixture("full"), X), TypeError, "key must be a PRNG key"),
    "infinity": (lambda: gmm.impute(mixture("full"), X * np.inf), ValueError, "x must be finite"),
    "width": (lambda: gmm.impute(mixture("full"), X[:, :2]), ValueError, r"\(any, 3\)"),
    "mixture": (lambda: gmm.impute(None, X), TypeError, "mixture must be a GMM"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], where="gmm.")
