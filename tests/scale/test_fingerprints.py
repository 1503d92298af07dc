"""Data sets are told apart by any bit of any row, and by nothing else."""

import numpy as np

from jaxnn.scale import meshes
from jaxnn.scale.fingerprints import fingerprint
from jaxnn.scale.rows import spread
from jaxnn.train import Batch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3))
W = RNG.uniform(0.5, 1, 12)


def of(x, weight=W, chunk=4):
    return fingerprint(spread("test", meshes.team("test", None), Batch(x=x, weight=weight), chunk))


def test_order_and_chunks_do_not_matter_and_rows_of_weight_zero_are_none():
    order = RNG.permutation(12)
    more = np.concatenate([X, X[:2] + 7]), np.concatenate([W, [0, 0]])
    assert len({of(X), of(X[order], W[order]), of(X, chunk=5), of(*more)}) == 1


def test_every_bit_matters():
    last = X.copy()
    last[11, 2] = np.nextafter(last[11, 2], 9)
    swapped = X.copy()
    swapped[3, :2] = X[3, 1::-1]
    rolled, mixed = X[:, [1, 2, 0]], X.copy()
    mixed[[0, 1], 0] = X[[1, 0], 0]  # the same numbers, in other rows
    others = [of(last), of(swapped), of(rolled), of(mixed), of(X, W * 2), of(X[:11], W[:11])]
    assert len({of(X), *others, of(X.astype(np.float32), W.astype(np.float32))}) == 8
