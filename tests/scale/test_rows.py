"""Oracle: numpy.average of all rows at once, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn import gmm, scale, train
from jaxnn.scale import meshes, rows

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3)) + np.array([0.0, 1e6, 0.0])
X[:, 2] = 0.1  # a constant column
W = rng.uniform(0.5, 1.5, 40)
W[:7] = 0
TEAM = meshes.team("test", None)


def surveyed(given, chunk=None):
    return rows.survey("test", rows.spread("test", TEAM, given, chunk))


@pytest.mark.parametrize("chunk", [None, 9])
def test_one_pass_finds_mean_and_variance_far_from_the_origin(chunk):
    found = surveyed(scale.arrays(X, weight=W), chunk)
    mean = np.average(X, axis=0, weights=W)
    variance = np.average((X - mean) ** 2, axis=0, weights=W)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(found.variance[:2], variance[:2], rtol=1e-9)
    assert found.variance[2] == 0
    np.testing.assert_allclose(
        [found.rows, found.squares, found.counted], [W.sum(), (W**2).sum(), 33], rtol=1e-12
    )


def test_bad_rows_and_weights_are_named_by_their_place():
    bad, heavy = X.copy(), W.copy()
    bad[17, 1], heavy[21] = np.inf, -1
    cases = [
        (bad, "x must be finite, got inf at row, column 17, 1"),
        (
            train.Batch(X, weight=heavy),
            "weight must be .* not negative, got -1.0 at row 21",
        ),
        (train.Batch(X, weight=0 * W), "at least one of positive weight, got none"),
        (X[:0], "at least one of positive weight, got none"),
    ]
    for given, message in cases:
        refused(lambda given=given: surveyed(scale.arrays(given), 9), ValueError, message, "test")


@pytest.mark.usefixtures("unchecked_types")
def test_what_holds_no_rows_is_refused():
    spread = lambda given: rows.spread("test", TEAM, given)
    refused(lambda: spread(X[0]), ValueError, r"must have shape \(n, d\)", "test")
    refused(lambda: spread(X.astype(int)), TypeError, "float32 or float64, got int64", "test")
    refused(lambda: spread(np.ones((3, 2), np.float16)), TypeError, "got float16; cast", "test")
    refused(lambda: spread(X.tolist()), TypeError, "rows must be an array, .*got list", "test")
    refused(lambda: rows.spread("test", TEAM, X, 0), ValueError, "chunk must be at least 1", "test")
    with jax.enable_x64(False):
        refused(lambda: spread(X), TypeError, "float64 need .*jax_enable_x64", "test")


def test_rows_that_change_between_passes_are_refused():
    spent = iter([[X, X], [X, X], [X]])
    found = rows.spread("test", TEAM, scale.batches(lambda: iter(next(spent))), 40)
    assert len(list(found.chunks(0))) == 2
    refused(lambda: list(found.chunks(1)), ValueError, "got 2 chunks in the first and 1", "test")


def test_rows_of_a_source_keep_their_dtype_without_x64():
    with jax.enable_x64(False):
        single = X.astype(np.float32)
        start = gmm.init(jax.random.key(0), jnp.asarray(single), 1, family="diag")
        fit = scale.gmm.fit(start, scale.arrays(single), max_steps=1)
        assert {leaf.dtype for leaf in jax.tree.leaves(fit.mixture)} == {jnp.dtype(jnp.float32)}
