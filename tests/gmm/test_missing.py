"""EM on the observed parts against brute force over rows, and against EM without gaps."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score

from jaxnn import gmm
from jaxnn.gmm import missing as gaps
from jaxnn.gmm.expectation import expect

IRIS, SPECIES = load_iris(return_X_y=True)
K = 3
KEY = jax.random.key(1)
rng = np.random.default_rng(0)
HOLES = rng.uniform(size=IRIS.shape) < 0.2
HOLES[4] = True  # a row of nothing
X = np.where(HOLES, np.nan, IRIS)
N, D = X.shape
FAMILIES = ("full", "tied", "diag", "spherical")
WEIGHT = rng.integers(0, 3, N).astype(float)


@cache
def start_of(family: str) -> gmm.GMM:
    return gmm.init(KEY, X, K, family=family, missing=True)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def pooled(family: str, cov: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The covariances of a family that are nearest to full ones (all (k, d, d))."""
    if family == "tied":
        cov = np.broadcast_to(np.einsum("k,kij->ij", counts / counts.sum(), cov), cov.shape)
    if family in ("diag", "spherical"):
        cov = cov * np.eye(D)
    if family == "spherical":
        cov = np.trace(cov, axis1=1, axis2=2)[:, None, None] / D * np.eye(D)
    return cov


def brute_force(family: str, mixture: gmm.GMM, steps: int):
    """EM by a loop over rows, in data units (Ghahramani and Jordan, 1994)."""
    w, m = np.exp(mixture.log_weights), np.asarray(mixture.means)
    c = np.asarray(mixture.cov.covariances(mixture.means))
    history = []
    for step in range(steps + 1):
        joint = np.full((N, K), 0.0)
        value, extra = np.zeros((N, K, D)), np.zeros((N, K, D, D))
        for i, row in enumerate(X):
            o, h = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
            for k in range(K):
                joint[i, k] = np.log(w[k])
                value[i, k], extra[i, k][np.ix_(h, h)] = m[k], c[k][np.ix_(h, h)]
                if len(o):
                    joint[i, k] += multivariate_normal(m[k][o], c[k][np.ix_(o, o)]).logpdf(row[o])
                    gain = np.linalg.solve(c[k][np.ix_(o, o)], c[k][np.ix_(o, h)]).T
                    value[i, k, o] = row[o]
                    value[i, k, h] += gain @ (row[o] - m[k][o])
                    extra[i, k][np.ix_(h, h)] -= gain @ c[k][np.ix_(o, h)]
        counted = WEIGHT * ~np.isnan(X).all(1)
        evidence = logsumexp(joint, axis=1)
        history.append((counted @ evidence / counted.sum(), joint))
        if step == steps:
            return w, m, c, history
        r = np.exp(joint - evidence[:, None]) * counted[:, None]
        counts = r.sum(0)
        w, m = counts / counts.sum(), np.einsum("nk,nkd->kd", r, value) / counts[:, None]
        away = value - m
        c = np.einsum("nk,nki,nkj->kij", r, away, away) + np.einsum("nk,nkij->kij", r, extra)
        c = pooled(family, c / counts[:, None, None], counts)
    raise AssertionError


def test_equals_brute_force(family):
    """Oracle: a NumPy loop over rows, three weighted steps, and SciPy's density of each part."""
    start = start_of(family)
    w, m, c, history = brute_force(family, start, 3)
    fit = gmm.fit(start, X, sample_weight=WEIGHT, ridge=0.0, tol=0.0, max_steps=3, missing=True)
    np.testing.assert_allclose(np.exp(fit.mixture.log_weights), w, rtol=1e-9)
    np.testing.assert_allclose(fit.mixture.means, m, rtol=1e-9)
    np.testing.assert_allclose(fit.mixture.cov.covariances(fit.mixture.means), c, atol=1e-9)
    np.testing.assert_allclose(fit.log_lik, history[3][0], rtol=1e-10)
    if family in ("full", "spherical"):  # a step by hand, of moments that add up
        halves = [gmm.e_step(start, X[s], WEIGHT[s], missing=True)
                  for s in (slice(N // 2), slice(N // 2, N))]  # fmt: skip
        total = jax.tree.map(jnp.add, *halves)
        one = gmm.fit(start, X, sample_weight=WEIGHT, ridge=0.0, max_steps=1, missing=True)
        close = partial(np.testing.assert_allclose, rtol=1e-9)
        jax.tree.map(close, gmm.m_step(start, total), one.mixture)
        np.testing.assert_allclose(total.log_lik / WEIGHT[~HOLES.all(1)].sum(), history[0][0])
    joint = history[0][1]
    np.testing.assert_allclose(gmm.log_joint(start, X, missing=True), joint, rtol=1e-9)
    if family in ("full", "diag"):
        total = logsumexp(joint, axis=1)
        np.testing.assert_allclose(gmm.log_prob(start, X, missing=True), total, atol=1e-9)
        assert total[4] == pytest.approx(0, abs=1e-12)
        resp = np.exp(joint - total[:, None])
        np.testing.assert_allclose(gmm.posterior(start, X, missing=True), resp, atol=1e-9)
        np.testing.assert_array_equal(gmm.predict(start, X, missing=True), joint.argmax(1))


@pytest.mark.parametrize("family", ["full", "diag"])
def test_without_gaps_it_is_plain_em(family):
    """Oracle: gmm.fit and gmm.init of the complete rows."""
    given = {"ridge": 1e-3, "tol": 0.0, "max_steps": 5}
    plain = gmm.fit(start_of(family), IRIS, **given)
    gapless = gmm.fit(start_of(family), IRIS, missing=True, **given)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), gapless, plain)
    start = gmm.init(KEY, IRIS, K, family=family)
    same = gmm.init(KEY, IRIS, K, family=family, missing=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), same, start)


@pytest.mark.parametrize("family", ["full", "tied"])
def test_grouped_rows_equal_the_rows_alone(family, monkeypatch):
    """Oracle: each row with matrices of its own, as under jit; small tiles leave ragged ends.

    No row is complete, so that none is good for filling up tiles of other patterns.
    """
    x = X.copy()
    x[::2, 0] = x[1::2, 3] = np.nan
    monkeypatch.setattr(gaps, "LEAST", 1)
    monkeypatch.setattr(gaps, "TILE", 8)
    gaps._count.clear_cache()
    data, weight = gaps.observe(jnp.asarray(x), jnp.asarray(WEIGHT), start_of(family).cov, K)
    gaps._count.clear_cache()
    assert data.groups is not None
    moments = jax.jit(expect)
    both = [moments(start_of(family), d, weight) for d in (data, data._replace(groups=None))]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), *both)


def test_never_lowers_the_observed_likelihood(family):
    """EM's own theorem, with gaps."""
    start = start_of(family)._replace(means=start_of(family).means[::-1] + 1.0)
    liks = [
        float(gmm.fit(start, X, ridge=0.0, tol=0.0, max_steps=s, missing=True).log_lik)
        for s in range(12)
    ]
    assert np.all(np.diff(liks) >= -1e-12)
    assert liks[-1] > liks[0] + 0.1


def test_iris_with_a_fifth_missing_is_clustered():
    """The species are found nearly as without gaps: adjusted Rand above 0.8 (0.90 complete)."""
    starts = [gmm.init(key, X, K, missing=True) for key in jax.random.split(KEY, 8)]
    best = max((gmm.fit(s, X, missing=True) for s in starts), key=lambda fit: fit.log_lik)
    labels = gmm.predict(best.mixture, X, missing=True)
    assert adjusted_rand_score(SPECIES, labels) > 0.8


def test_gaps_far_from_zero_and_strongly_tied_in_float32():
    """Oracle: float64; columns that nearly determine each other, and an offset of 1e4."""
    local = np.random.default_rng(3)
    common = local.normal(size=(N, 1))
    x = (1e4 + common + 0.03 * local.normal(size=(N, D))).astype(np.float32)
    cov = np.ones((D, D)) + 0.03**2 * np.eye(D)
    x[HOLES] = np.nan
    double = gmm.from_covariances(np.ones(1), np.full((1, D), 1e4), cov[None])
    single = jax.tree.map(lambda a: a.astype(jnp.float32), double)
    error = gmm.log_prob(single, x, missing=True) - gmm.log_prob(
        double, x.astype(float), missing=True
    )
    assert np.abs(error).max() < 2e-2


COLUMN = np.where(np.arange(D) == 2, np.nan, X)
FULL = partial(start_of, "full")
BAD = {
    "no opt-in": (lambda: gmm.fit(FULL(), X), ValueError, "x must be finite, got nan"),
    "density": (lambda: gmm.log_prob(FULL(), X), ValueError, "x must be finite, got nan"),
    "infinity": (lambda: gmm.fit(FULL(), np.where(HOLES, np.inf, X), missing=True), ValueError,
                 "x must be finite, got inf"),
    "-infinity": (lambda: gmm.log_prob(FULL(), np.where(HOLES, -np.inf, X), missing=True),
                  ValueError, "x must be finite, got -inf"),
    "A4 column": (lambda: gmm.fit(FULL(), COLUMN, missing=True), ValueError,
                  "observed value in every column, got none in column 2"),
    "A4 start": (lambda: gmm.init(KEY, COLUMN, K, missing=True), ValueError, "none in column 2"),
    "weight": (lambda: gmm.fit(FULL(), X, sample_weight=(HOLES[:, 1] & ~HOLES[:, 0]).astype(float),
                               missing=True), ValueError, "none in column 1"),
    "C20 weight": (lambda: gmm.fit(FULL(), X, sample_weight=-WEIGHT, missing=True), ValueError,
                   "sample_weight must not be negative"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], where="gmm.")
