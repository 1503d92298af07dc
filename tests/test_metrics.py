"""Metrics against scikit-learn and closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from jaxnn import metrics

rng = np.random.default_rng(0)
A, B = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
P, W = rng.dirichlet(np.ones(4), 200), rng.uniform(size=200)


def test_labels_against_scikit_learn():
    np.testing.assert_allclose(metrics.accuracy(A, B), oracle.accuracy_score(B, A))
    np.testing.assert_array_equal(metrics.confusion(A, B, 4), oracle.confusion_matrix(B, A))
    np.testing.assert_allclose(
        metrics.adjusted_rand(A, B, 4), oracle.adjusted_rand_score(B, A), atol=1e-12
    )


def test_renamed_clusters_agree_fully():
    names = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(metrics.adjusted_rand(names[A], A, 4), 1.0)
    one = np.zeros(5, int)
    assert metrics.adjusted_rand(one, one, 1) == 1.0


def test_rmse_closed_form():
    np.testing.assert_allclose(metrics.rmse(jnp.array([1.0, 3.0]), jnp.array([0.0, 0.0])), 5**0.5)


def test_interval_against_scipy():
    values = rng.normal(size=50)
    low, high = stats.norm.interval(0.9, values.mean(), stats.sem(values))
    np.testing.assert_allclose(metrics.mean_interval(values, 0.9), (values.mean(), low, high))


@pytest.mark.parametrize("weight", [None, W])
def test_probabilities_against_scikit_learn(weight):
    found = metrics.log_loss(P, B, sample_weight=weight)
    np.testing.assert_allclose(found, oracle.log_loss(B, P, sample_weight=weight), rtol=1e-12)
    found = metrics.brier(P, B, sample_weight=weight)
    expected = oracle.brier_score_loss(
        B, P, sample_weight=weight, labels=np.arange(4), scale_by_half=False
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_forecast_that_failed_wholly_costs_a_finite_price():
    """Closed form: no less than the precision counts."""
    sure = np.array([[1.0, 0.0]], np.float32)
    found = metrics.log_loss(sure, np.array([1]))
    np.testing.assert_allclose(found, -np.log(np.finfo(np.float32).eps), rtol=1e-6)
    assert found.dtype == jnp.float32


def test_reliability_of_two_classes_against_scikit_learn():
    lead = np.sort(rng.uniform(0.5, 1, 200))  # class 1 is always predicted
    y = (rng.uniform(size=200) < lead).astype(int)
    found = metrics.reliability(np.stack([1 - lead, lead], axis=1), y, bins=10)
    there = np.asarray(found.share) > 0
    accuracy, confidence = calibration_curve(y, lead, n_bins=10)
    np.testing.assert_allclose(found.accuracy[there], accuracy, rtol=1e-12)
    np.testing.assert_allclose(found.confidence[there], confidence, rtol=1e-12)
    assert not there[:5].any()
    assert np.isnan(found.accuracy[:5]).all()
    np.testing.assert_allclose(found.edges, np.linspace(0, 1, 11), rtol=1e-12)


@pytest.mark.parametrize("weight", [None, W])
def test_calibration_error_by_a_loop_over_bins(weight):
    w = np.ones(200) if weight is None else weight
    confidence, hit = P.max(axis=1), P.argmax(axis=1) == B
    total = 0.0
    for b in range(15):
        rows = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        total += abs(np.sum(w[rows] * (hit[rows] - confidence[rows]))) / w.sum()
    found = metrics.calibration_error(P, B, sample_weight=weight)
    np.testing.assert_allclose(found, total, rtol=1e-12)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.accuracy(A, B[:5]), ValueError, "target must have shape"),
        (lambda: metrics.accuracy(A[:0], B[:0]), ValueError, "empty"),
        (lambda: metrics.rmse(np.ones((2, 1)), np.ones((2, 1))), ValueError, "predicted"),
        (lambda: metrics.confusion(A, B, 3), ValueError, r"\[0, 3\)"),
        (lambda: metrics.confusion(A * 1.0, B, 4), TypeError, "whole numbers"),
        (lambda: metrics.log_loss(P / 2, B), ValueError, "must be a distribution"),
        (lambda: metrics.log_loss(P[:, :1], B), ValueError, "give both, 1 - p and p"),
        (lambda: metrics.log_loss(P - 0.25, B), ValueError, "not negative"),
        (lambda: metrics.log_loss(P, B[:5]), ValueError, r"target must have shape \(200,\)"),
        (lambda: metrics.brier(P[:, :3] / P[:, :3].sum(1)[:, None], B), ValueError, r"\[0, 3\)"),
        (lambda: metrics.brier(P, B, sample_weight=-W), ValueError, "must not be negative"),
        (lambda: metrics.reliability(P, B, bins=0), ValueError, "bins must be at least 1"),
        (lambda: metrics.mean_interval(np.ones(1)), ValueError, "at least 2"),
        (lambda: metrics.mean_interval(np.array([1.0, np.nan])), ValueError, "finite"),
        (lambda: metrics.mean_interval(np.ones(3), 1.5), ValueError, "level"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
