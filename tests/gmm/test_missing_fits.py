"""Many starts, model choice, many data sets and variational Bayes on rows with gaps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris

from jaxnn import gmm
from jaxnn.gmm import missing as gaps
from jaxnn.gmm.belief import divergence

IRIS = load_iris().data
N, D = IRIS.shape
KEY = jax.random.key(1)
rng = np.random.default_rng(0)
W = rng.integers(0, 3, N).astype(float)
# One pattern of gaps in half of the rows, often enough for them to be grouped; a row of nothing.
X = np.where((np.arange(N)[:, None] % 2 == 1) & (np.arange(D) == 1), np.nan, IRIS)
X[4] = np.nan
TOL = 1e-3
close = lambda a, b, rtol=1e-8: jax.tree.map(
    lambda u, v: np.testing.assert_allclose(u, v, rtol=rtol, atol=1e-10), a, b
)


def test_many_starts_are_the_separate_fits(monkeypatch):
    """Oracle: `fit` of `init` with the keys split from the one given, rows grouped or not."""
    monkeypatch.setattr(gaps, "LEAST", 40)  # three patterns in 150 rows
    given = {"missing": True, "sample_weight": W}
    best = gmm.fit_best(KEY, X, 2, n_starts=2, n_continued=1, short_steps=2, tol=TOL, **given)
    starts = [gmm.init(key, X, 2, **given) for key in jax.random.split(KEY, 2)]
    short = [gmm.fit(m, X, tol=TOL, max_steps=2, **given).log_lik for m in starts]
    np.testing.assert_allclose(best.short, short, rtol=1e-9)
    assert best.continued == np.argmax(short)
    close(best.fit, gmm.fit(starts[int(np.argmax(short))], X, tol=TOL, **given))


def test_model_choice_judges_what_was_observed():
    """Oracle: gmm.bic, gmm.icl of the fits it reports."""
    found = gmm.select(KEY, X, (1, 2), "diag", n_starts=2, missing=True, sample_weight=W)
    for row in range(2):
        m = jax.tree.map(lambda a, i=row: a[i], found.fits["diag"].mixture)
        for name in ("bic", "icl"):
            expected = getattr(gmm, name)(m, X, W, missing=True)
            np.testing.assert_allclose(getattr(found.table, name)[row], expected, rtol=1e-10)


@pytest.mark.parametrize("layout", ["map", "vmap"])
def test_many_data_sets_are_the_separate_fits(layout):
    """Oracle: `fit`; with members of different gaps."""
    both = np.stack([X[:60], X[60:120, ::-1]])
    one = gmm.init(KEY, IRIS[:60], 2, family="diag")
    starts = jax.tree.map(lambda a: jnp.stack([a, a[..., ::-1]]), one)
    fits = gmm.fit_many(starts, both, layout=layout, missing=True, max_steps=20)
    for i in range(2):
        start = jax.tree.map(lambda a, i=i: a[i], starts)
        alone = gmm.fit(start, both[i], missing=True, max_steps=20)
        close(jax.tree.map(lambda a, i=i: a[i], fits), alone)


def learned(start: gmm.BayesGMM, prior: gmm.BayesPrior) -> tuple[list[np.ndarray], float]:
    """One step of variational Bayes, row by row: its means, precisions, dof, and scale matrices.

    q(k, gaps) ∝ exp E[log p(row, k)]: normal gaps given k, and log q(k) their expected log joint
    plus their entropy (Bishop, 2006, eq. 10.9).
    """
    at = gmm.surrogate(start)
    k = len(at.means)
    m, c = np.asarray(at.means), np.asarray(at.cov.covariances(at.means))
    log_q, value, extra = np.zeros((N, k)), np.zeros((N, k, D)), np.zeros((N, k, D, D))
    for i, row in enumerate(X):
        o, h = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
        for j in range(k):
            precision = np.linalg.inv(c[j])
            value[i, j, o] = row[o]
            left = np.linalg.inv(precision[np.ix_(h, h)])
            value[i, j, h] = m[j, h] - left @ precision[np.ix_(h, o)] @ (row[o] - m[j, o])
            extra[i, j][np.ix_(h, h)] = left
            log_q[i, j] = at.log_weights[j] + multivariate_normal(m[j], c[j]).logpdf(value[i, j])
            log_q[i, j] += -0.5 * np.trace(precision[np.ix_(h, h)] @ left)
            log_q[i, j] += 0.5 * np.linalg.slogdet(2 * np.pi * np.e * left)[1]
    counted = W * ~np.isnan(X).all(1)
    evidence = np.logaddexp.reduce(log_q, axis=1)
    r = np.exp(log_q - evidence[:, None]) * counted[:, None]
    m0, b0, v0, c0 = (np.asarray(a, float) for a in prior[1:])
    counts = r.sum(0)
    mean = np.einsum("nk,nkd->kd", r, value) / counts[:, None]
    away, apart = value - mean, mean - m0
    scale = c0 + np.einsum("nk,nki,nkj->kij", r, away, away)
    scale += np.einsum("nk,nkij->kij", r, extra)
    share = b0 * counts / (b0 + counts)
    scale += share[:, None, None] * apart[:, :, None] * apart[:, None, :]
    means = (b0 * m0 + counts[:, None] * mean) / (b0 + counts)[:, None]
    return [means, b0 + counts, v0 + counts, scale], counted @ evidence


@pytest.fixture(scope="module")
def bayes() -> tuple[gmm.BayesGMM, gmm.BayesPrior]:
    prior = gmm.bayes_prior(X, 2, weights="dirichlet", sample_weight=W, missing=True)
    many = jnp.full(2, 30.0)
    cov = gmm.Full.from_variances(jnp.asarray(IRIS.var(0)), 2)
    weights = prior.weights.observe(many)
    return gmm.BayesGMM(weights, jnp.asarray(IRIS[[0, 149]]), many, many + 4, cov), prior


def test_a_bayesian_step_equals_brute_force(bayes):
    """Oracle: a NumPy loop over rows; the bound lacks the divergence, which knows no rows."""
    start, prior = bayes
    expected, evidence = learned(start, prior)
    rows = W[~np.isnan(X).all(1)].sum()
    none = gmm.fit_bayes(start, X, prior=prior, sample_weight=W, max_steps=0, missing=True)
    apart = divergence(start, prior)
    np.testing.assert_allclose(none.lower_bound * rows, evidence - apart, rtol=1e-9)
    end = gmm.fit_bayes(start, X, prior=prior, sample_weight=W, tol=0.0, max_steps=1, missing=True)
    p = end.posterior
    scale = np.asarray(p.cov.covariances(p.means)) * np.asarray(p.dof)[:, None, None]
    close([p.means, p.mean_precision, p.dof, scale], expected)


def test_the_bayesian_bound_never_falls(bayes):
    """Coordinate ascent's own theorem, with gaps."""
    start, prior = bayes
    run = lambda s: gmm.fit_bayes(start, X, prior=prior, sample_weight=W, tol=0.0, max_steps=s,
                                  missing=True).lower_bound  # fmt: skip
    bounds = np.array([run(s) for s in range(8)])
    assert np.all(np.diff(bounds) >= -1e-12)
    assert bounds[-1] > bounds[0]


def test_default_prior_of_rows_with_gaps(bayes):
    """Oracle: NumPy's mean and variance of what was observed; without gaps the plain prior."""
    _, prior = bayes
    seen = [np.repeat(c[~np.isnan(c)], W[~np.isnan(c)].astype(int)) for c in X.T]
    np.testing.assert_allclose(prior.mean, [np.mean(c) for c in seen], rtol=1e-10)
    rows = W[~np.isnan(X).all(1)].sum()
    expected = [np.var(c) * (rows / (rows - 1) + 1e-6) for c in seen]
    np.testing.assert_allclose(np.diag(prior.covariance), expected, rtol=1e-9)
    close(gmm.bayes_prior(IRIS, 2, missing=True), gmm.bayes_prior(IRIS, 2))


COLUMN = np.where(np.arange(D) == 2, np.nan, X)
FACTORS = gmm.factors(1)
PAIR = jax.tree.map(lambda a: jnp.stack([a, a]), gmm.from_covariances(
    np.ones(1), IRIS[:1], IRIS.var(0)[None], family="diag"))  # fmt: skip
BAD = {
    "best column": (lambda: gmm.fit_best(KEY, COLUMN, 2, missing=True), ValueError, "in column 2"),
    "best no opt-in": (lambda: gmm.fit_best(KEY, X, 2), ValueError, "missing=True takes NaN"),
    "best family": (lambda: gmm.fit_best(KEY, X, 2, family=FACTORS, missing=True), TypeError,
                    "missing values need a family among Full, Tied, Diag, Spherical, got Factors"),
    "select column": (lambda: gmm.select(KEY, COLUMN, missing=True), ValueError, "in column 2"),
    "select family": (lambda: gmm.select(KEY, X, families="VEI", missing=True), TypeError,
                      "missing values need a family among .*, got Eigen"),
    "many column": (lambda: gmm.fit_many(PAIR, np.stack([X, COLUMN]), missing=True), ValueError,
                    "got none in column 2 of member 1"),
    "many infinity": (lambda: gmm.fit_many(PAIR, np.stack([X, X / 0]), missing=True), ValueError,
                      "x must be finite, got inf"),
    "bayes column": (lambda: gmm.bayes_prior(COLUMN, 2, missing=True), ValueError, "in column 2"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], where="gmm.")
