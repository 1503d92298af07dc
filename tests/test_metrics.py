"""Metrics against scikit-learn and closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from jaxnn import metrics

rng = np.random.default_rng(0)
A, B = rng.integers(0, 4, 200), rng.integers(0, 4, 200)


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


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.accuracy(A, B[:5]), ValueError, "target must have shape"),
        (lambda: metrics.accuracy(A[:0], B[:0]), ValueError, "empty"),
        (lambda: metrics.rmse(np.ones((2, 1)), np.ones((2, 1))), ValueError, "predicted"),
        (lambda: metrics.confusion(A, B, 3), ValueError, r"\[0, 3\)"),
        (lambda: metrics.confusion(A * 1.0, B, 4), TypeError, "whole numbers"),
        (lambda: metrics.mean_interval(np.ones(1)), ValueError, "at least 2"),
        (lambda: metrics.mean_interval(np.array([1.0, np.nan])), ValueError, "finite"),
        (lambda: metrics.mean_interval(np.ones(3), 1.5), ValueError, "level"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
