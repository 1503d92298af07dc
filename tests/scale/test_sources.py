"""Oracle: the rows themselves, in their order; what is refused says why."""

import jax
import numpy as np
import pytest
from refusals import refused

from jaxnn import scale, train
from jaxnn.scale.sources import runs_of, source

X = np.arange(22.0).reshape(11, 2)
Y = np.arange(11)
W = np.linspace(0.5, 1.5, 11)


def rows(found, size=4, turn=0):
    blocks = list(found.read(size, turn))
    return jax.tree.map(lambda *a: np.concatenate(a), *blocks), [len(b.x) for b in blocks]


def test_arrays_come_in_blocks():
    found = scale.arrays(X, Y, W)
    whole, sizes = rows(found)
    assert sizes == [4, 4, 3]
    assert found.rows == 11
    jax.tree.map(np.testing.assert_array_equal, whole, train.Batch(X, Y, W))
    assert scale.arrays(X[:0]).rows == 0
    assert list(scale.arrays(X[:0]).read(4, 0)) == []
    refused(lambda: scale.arrays(X, Y[:3]), ValueError, "same number of rows", "scale.arrays")


@pytest.mark.parametrize(
    "blocks",
    [
        [X[:5], X[5:]],
        [(X[:5],), (X[5:], None)],
        lambda: (X[i : i + 1] for i in range(11)),
        lambda: iter([train.Batch(X)]),
    ],
)
def test_any_iterable_gives_the_same_rows_each_time(blocks):
    found = scale.batches(blocks)
    for _ in range(2):
        np.testing.assert_array_equal(rows(found)[0].x, X)


@pytest.mark.usefixtures("unchecked_types")
def test_batches_that_do_not_fit_are_refused():
    where = "scale.batches"
    refused(lambda: scale.batches(iter([X])), TypeError, "can be iterated over again, got", where)
    refused(lambda: scale.batches(3), TypeError, "got int; every pass", where)
    refused(lambda: scale.batches([]), ValueError, "at least one batch, got none", where)
    refused(lambda: scale.batches([(X, Y[:3])]), ValueError, r"batch 0 .*\(11, 2\), \(3,\)", where)
    for other in (X[:, :1], X.astype(np.float32), (X, Y)):
        found = scale.batches([X, other])
        refused(lambda found=found: rows(found), ValueError,
                r"batch 1 must have .*x float64 \(n, 2\), got x float", where)  # fmt: skip
    refused(lambda: source("here", "x.npy"), TypeError, "a Source such as .*got str", "here")


def test_shuffled_rows_are_all_there_in_another_order_each_turn():
    found = scale.shuffled(jax.random.key(0), scale.arrays(X, Y), buffer=4)
    orders = [rows(found, turn=turn)[0] for turn in (0, 0, 1)]
    for whole in orders:
        np.testing.assert_array_equal(np.sort(whole.y), Y)
        np.testing.assert_array_equal(whole.x, X[whole.y])  # rows stay together
        assert np.abs(whole.y - Y).max() < 4  # no row leaves its run
    np.testing.assert_array_equal(orders[0].y, orders[1].y)
    assert not np.array_equal(orders[0].y, orders[2].y)
    heads = {frozenset(rows(found, turn=t)[0].y[:4].tolist()) for t in range(9)}
    assert len(heads) > 1  # runs end elsewhere in other turns
    with pytest.raises(ValueError, match=r"scale.shuffled: buffer must be at least 1, got 0"):
        scale.shuffled(jax.random.key(0), scale.arrays(X), buffer=0)


def test_a_buffer_of_all_rows_makes_every_order_alike():
    """The mean place of a row over 400 passes lies within 5 standard errors of the middle."""
    found = scale.shuffled(jax.random.PRNGKey(1), scale.arrays(X, Y), buffer=11)
    places = np.array([np.argsort(rows(found, turn=t)[0].y) for t in range(400)])
    error = places.std() / np.sqrt(400)
    assert np.abs(places.mean(axis=0) - 5).max() < 5 * error


def test_runs_cut_blocks_anew():
    blocks = [train.Batch(X[a:b]) for a, b in ((0, 1), (1, 8), (8, 8), (8, 11))]
    found = list(runs_of(iter(blocks), lambda number: 2 if number == 0 else 4))
    assert [len(run.x) for run in found] == [2, 4, 4, 1]
    np.testing.assert_array_equal(np.concatenate([run.x for run in found]), X)
