"""Criteria against their definitions; BIC and AIC against scikit-learn stand in `test_model`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, xlogy
from scipy.stats import multivariate_normal

from jaxnn import gmm, linalg
from jaxnn.gmm import criteria, forms

rng = np.random.default_rng(5)
X = rng.normal(size=(150, 2)) * 2
WEIGHTS, MEANS = np.array([0.5, 0.2, 0.3]), rng.normal(size=(3, 2))
COV = np.array([[1.0, 0.3], [0.3, 2.0]])
MIXTURE = gmm.from_covariances(WEIGHTS, MEANS, COV, family="tied")
W = rng.integers(0, 3, len(X)).astype(float)
JOINT = WEIGHTS * np.stack([multivariate_normal(m, COV).pdf(X) for m in MEANS], axis=1)
RESP = JOINT / JOINT.sum(1, keepdims=True)


def test_icl_is_bic_and_twice_the_entropy():
    """Oracle: the definition in NumPy; a weight is a repetition."""
    entropy = -W @ (RESP * np.log(RESP)).sum(1)
    expected = gmm.bic(MIXTURE, X, W) + 2 * entropy
    np.testing.assert_allclose(gmm.icl(MIXTURE, X, W), expected, rtol=1e-12)


def test_components_that_do_not_overlap_cost_nothing_more():
    apart = MIXTURE._replace(means=1e3 * jnp.arange(6.0).reshape(3, 2))
    np.testing.assert_allclose(gmm.icl(apart, X), gmm.bic(apart, X), rtol=1e-12)
    off = MIXTURE._replace(log_weights=jnp.log(jnp.array([1.0, 0.0, 0.0])))
    np.testing.assert_allclose(gmm.icl(off, X), gmm.bic(off, X), rtol=1e-12)


def test_sums_over_tiles_are_the_sums_in_the_fast_form_too(monkeypatch):
    """Oracle: all rows in one tile, in the safe form; of 149 rows two tiles share one."""
    of = lambda: jax.jit(lambda x, w: criteria.fit_and_entropy(MIXTURE, x, w))(X[1:], W[1:] + 1)
    whole = of()
    monkeypatch.setitem(linalg.TILE, "cpu", 1)
    monkeypatch.setattr(forms, "SMALL", 0)
    taken = []
    linear = forms.linear
    monkeypatch.setattr(forms, "linear", lambda *given: taken.append(given) or linear(*given))
    tiled = of()
    assert taken
    np.testing.assert_allclose(tiled, whole, rtol=1e-12)


def test_rows_with_gaps_count_by_what_was_observed():
    """Oracle: the definitions by a loop over rows; a row of nothing is no row."""
    gaps = np.where(rng.uniform(size=X.shape) < 0.3, np.nan, X)
    log_lik, entropy, n = 0.0, 0.0, 0.0
    for row, w in zip(gaps, W, strict=True):
        o = np.flatnonzero(~np.isnan(row))
        if len(o) == 0:
            continue
        parts = [multivariate_normal(m[o], COV[np.ix_(o, o)]).logpdf(row[o]) for m in MEANS]
        joint = np.log(WEIGHTS) + parts
        resp = np.exp(joint - logsumexp(joint))
        log_lik, n = log_lik + w * logsumexp(joint), n + w
        entropy -= w * xlogy(resp, resp).sum()
    assert n < W.sum()
    p = 3 + 6 + 2
    bic = p * np.log(n) - 2 * log_lik
    np.testing.assert_allclose(gmm.bic(MIXTURE, gaps, W, missing=True), bic, rtol=1e-12)
    np.testing.assert_allclose(
        gmm.aic(MIXTURE, gaps, W, missing=True), 2 * p - 2 * log_lik, rtol=1e-12
    )
    np.testing.assert_allclose(
        gmm.icl(MIXTURE, gaps, W, missing=True), bic + 2 * entropy, rtol=1e-12
    )


@pytest.mark.usefixtures("unchecked_types")
def test_bad_input():
    with pytest.raises(ValueError, match=r"gmm\.icl: sample_weight must have shape \(150,\)"):
        gmm.icl(MIXTURE, X, np.ones(3))
    with pytest.raises(
        ValueError, match=r"gmm\.icl: x must be finite, got nan at row, column 0, 0"
    ):
        gmm.icl(MIXTURE, X * np.nan)
