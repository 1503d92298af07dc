"""Oracle: `kde.log_prob` of all points in memory; devices and processes are in `test_meshes`."""

import numpy as np
import pytest
from refusals import refused

from jaxnn import kde, scale, train

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2)) * [1.0, 3.0]
W = rng.uniform(0.5, 1.5, 60)
W[5:9] = 0
Q = np.concatenate([X[:9] + 0.1, [[50.0, 0.0]]])  # and one far out
FIT, PROB = "scale.kde.fit", "scale.kde.log_prob"


@pytest.mark.parametrize(
    ("rule", "kernel"), [("silverman", "gaussian"), (0.7, "epanechnikov"), ("scott", "exponential")]
)
def test_points_and_queries_may_both_be_streamed(rule, kernel):
    points = scale.kde.fit(train.Batch(X, weight=W), bandwidth=rule, kernel=kernel, chunk=25)
    model = kde.fit(X, bandwidth=rule, kernel=kernel, sample_weight=W)
    np.testing.assert_allclose(points.bandwidth, model.bandwidth, rtol=1e-12)
    expected = kde.log_prob(model, Q)
    weight = np.array([1, 0, 2, 0.0])  # one that weighs nothing is still asked for
    blocks = [train.Batch(Q[:4], weight=weight), train.Batch(Q[4:], weight=0 * Q[4:, 0])]
    queries = scale.batches(blocks)
    found = scale.kde.log_prob(points, queries, chunk=6)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert np.isneginf(found[-1]) == (kernel == "epanechnikov")
    np.testing.assert_allclose(scale.kde.log_prob(model, queries, chunk=6), expected, atol=1e-10)
    whole = train.Batch(Q, weight=np.zeros(len(Q)))
    np.testing.assert_allclose(scale.kde.log_prob(model, whole), expected, atol=1e-10)


@pytest.mark.usefixtures("unchecked_types")
def test_what_does_not_fit_is_refused():
    model, points = kde.fit(X), scale.kde.fit(X)
    flat, bad = X * [1, 0], Q.copy()
    bad[7, 0] = np.nan
    cases = [
        (lambda: scale.kde.fit(X, bandwidth="sheather_jones"), ValueError, "scott, silver", FIT),
        (lambda: scale.kde.fit(X, bandwidth=-1.0), ValueError, "bandwidth must be positive", FIT),
        (lambda: scale.kde.fit(X, kernel="none"), ValueError, "unknown kernel", FIT),
        (lambda: scale.kde.fit(flat), ValueError, "feature 1 of the rows must vary", FIT),
        (lambda: scale.kde.log_prob(3, Q), TypeError, "model must be a KDE", PROB),
        (lambda: scale.kde.log_prob(model, Q[:, :1]), ValueError, "the 2 columns", PROB),
        (lambda: scale.kde.log_prob(points, Q.astype(np.float32)), TypeError, "be float64", PROB),
        (lambda: scale.kde.log_prob(points, bad, chunk=5), ValueError, "row, column 7, 0", PROB),
    ]
    for call, error, message, where in cases:
        refused(call, error, message, where)
