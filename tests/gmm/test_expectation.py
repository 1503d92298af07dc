"""The E-step of rows with gaps against brute force; `test_missing` makes a step of EM of it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import norm

from jaxnn import gmm

N, D, K = 40, 3, 2
rng = np.random.default_rng(2)
X = rng.normal(size=(N, D)) @ rng.normal(size=(D, D)) + 5
X[rng.uniform(size=X.shape) < 0.3] = np.nan
X[4] = np.nan
X[: N // 2, 1] = np.nan  # of the first half a whole column
WEIGHT = rng.integers(0, 3, N).astype(float)
MEANS = 5 + rng.normal(size=(K, D))
VARIANCES = rng.uniform(0.5, 2, size=(K, D))
START = gmm.from_covariances(np.array([0.4, 0.6]), MEANS, VARIANCES, family="diag")


def brute_force() -> tuple[np.ndarray, ...]:
    """Counts, Σ r E[x − m], Σ r E[(x − m)²] and log-likelihood, by a loop over rows."""
    counts, first, second, log_lik = np.zeros(K), np.zeros((K, D)), np.zeros((K, D)), 0.0
    for row, w in zip(X, WEIGHT, strict=True):
        o = ~np.isnan(row)
        if not o.any():
            continue
        away = np.where(o, row - MEANS, 0.0)
        squares = np.where(o, away**2, VARIANCES)
        density = norm(MEANS[:, o], np.sqrt(VARIANCES[:, o])).logpdf(row[o]).sum(1)
        joint = np.asarray(START.log_weights) + density
        r = w * softmax(joint)
        counts, first, second = counts + r, first + r[:, None] * away, second + r[:, None] * squares
        log_lik += w * np.logaddexp.reduce(joint)
    return counts, first, second, log_lik


def test_moments_of_rows_with_gaps():
    """Oracle: a loop over rows in data units; moments of the halves add up, though one of them
    has never seen a column."""
    halves = [
        gmm.e_step(START, X[part], WEIGHT[part], missing=True)
        for part in (slice(N // 2), slice(N // 2, N))
    ]
    total = jax.tree.map(np.add, *halves)
    counts, first, second, log_lik = brute_force()
    scale = np.sqrt(VARIANCES)
    np.testing.assert_allclose(total.counts, counts, rtol=1e-10)
    np.testing.assert_allclose(total.log_lik, log_lik, rtol=1e-12)
    np.testing.assert_allclose(total.first * scale, first, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(total.second * scale**2, second, rtol=1e-9)


NO_GAPS = START._replace(cov=gmm.Factors(jnp.ones((K, D, 1)), jnp.ones((K, D))))
BAD = {
    "no opt-in": (partial(gmm.e_step, START, X), ValueError, "x must be finite"),
    "infinity": (partial(gmm.e_step, START, X * np.inf, missing=True), ValueError,
                 "x must be finite, got inf"),
    "family": (partial(gmm.e_step, NO_GAPS, X, missing=True), TypeError, "got Factors"),
    "weight": (partial(gmm.e_step, START, X, -WEIGHT, missing=True), ValueError,
               "sample_weight must not be negative"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=f"gmm.e_step: .*{message}"):
        call()
