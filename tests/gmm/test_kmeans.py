"""K-means against scikit-learn's from the same seeds, and what k-means++ promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris

from jaxnn import gmm, linalg
from jaxnn.gmm import kmeans

X = load_iris().data
KEY = jax.random.key(0)
rng = np.random.default_rng(0)
W = rng.integers(0, 4, len(X)).astype(float)
# Five tight clusters: a seed drawn at random misses some, one drawn by distance does not.
CENTRES = rng.normal(size=(5, 2)) * 100
CLUSTERS = jnp.asarray((CENTRES[:, None] + rng.normal(size=(5, 30, 2))).reshape(-1, 2))
MEANS = np.asarray(CLUSTERS).reshape(5, 30, 2).mean(1)
ONES = jnp.ones(150)
ALL = jnp.ones(5, bool)


seeds_of = jax.jit(kmeans.k_means_plus_plus, static_argnames="k")
lloyd = jax.jit(kmeans.lloyd)


def in_order(centres) -> np.ndarray:
    centres = np.asarray(centres)
    return centres[np.lexsort(centres.T)]


def test_equals_scikit_learn_from_the_same_seeds():
    """Oracle: KMeans with weights, until nothing moves."""
    mean = np.average(X, axis=0, weights=W)
    seeds = seeds_of(KEY, X - mean, jnp.asarray(W), k=5) + mean[None]
    oracle = KMeans(5, init=np.asarray(seeds), n_init=1, tol=0).fit(X, sample_weight=W)
    ours = gmm.k_means(KEY, X, 5, sample_weight=W, tol=0.0)
    np.testing.assert_allclose(ours.centres, oracle.cluster_centers_, rtol=1e-10)
    np.testing.assert_array_equal(ours.labels, oracle.labels_)
    np.testing.assert_allclose(ours.inertia, oracle.inertia_, rtol=1e-10)
    assert ours.converged
    once = gmm.k_means(KEY, X, 5, sample_weight=W, tol=0.0, max_steps=1)
    assert once.steps == 1
    assert not once.converged
    # A tolerance is a share of the mean variance: this one is met at once.
    assert gmm.k_means(KEY, X, 5, sample_weight=W, tol=1e6).steps == 1


def test_weights_are_repetitions_and_inactive_centres_take_no_row():
    """Oracle: numpy.repeat, and Lloyd's steps with the active centres alone."""
    steps = lambda c, on, x, w: lloyd(c, on, jnp.asarray(x), jnp.asarray(w), jnp.zeros(()), 4)[0]
    seeds = jnp.asarray(X[:5])
    weighted = steps(seeds, ALL, X, W)
    repeated = np.repeat(X, W.astype(int), axis=0)
    np.testing.assert_allclose(weighted, steps(seeds, ALL, repeated, np.ones(len(repeated))))
    some = steps(seeds, jnp.arange(5) < 3, X, W)
    np.testing.assert_allclose(some[:3], steps(seeds[:3], ALL[:3], X, W), rtol=1e-12)
    np.testing.assert_array_equal(some[3:], seeds[3:])


def test_tiles_change_nothing(monkeypatch):
    """Oracle: all rows in one tile."""

    def run(x, w):
        seeds = kmeans.k_means_plus_plus(KEY, x, w, 5)
        return seeds, kmeans.lloyd(seeds, ALL, x, w, jnp.zeros(()), 20)[0]

    whole = jax.jit(run)(X, W)
    monkeypatch.setitem(linalg.TILE, "cpu", 1)
    # Jitted anew, so that the patch is seen.
    for a, b in zip(jax.jit(lambda x, w: run(x, w))(X, W), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_large_offset_costs_nothing():
    """Oracle: the same rows about the origin; they are multiples of 1/64, exact both times."""
    rows = np.round(np.asarray(CLUSTERS) * 64) / 64
    near, far = gmm.k_means(KEY, rows, 5, tol=0.0), gmm.k_means(KEY, rows + 2.0**40, 5, tol=0.0)
    np.testing.assert_array_equal(near.labels, far.labels)
    np.testing.assert_allclose(far.inertia, near.inertia, rtol=1e-6)


def test_k_means_plus_plus_finds_every_cluster():
    """Far-apart clusters each get a seed, from 50 keys."""
    draw = jax.jit(jax.vmap(lambda k: kmeans.k_means_plus_plus(k, CLUSTERS, ONES, 5)))
    seeds = np.asarray(draw(jax.random.split(KEY, 50)))
    distance = np.linalg.norm(seeds[:, :, None] - CENTRES[None, None], axis=-1)
    assert all(len(set(d.argmin(1))) == 5 for d in distance)


def test_first_seed_follows_the_weights():
    """5 standard errors about the weights; rows of weight zero are never drawn."""
    w = jnp.array([0.0, 1.0, 3.0])
    x = jnp.array([[0.0], [1.0], [2.0]])
    draw = jax.jit(jax.vmap(lambda k: kmeans.k_means_plus_plus(k, x, w, 2)))
    seeds = draw(jax.random.split(KEY, 4000))
    assert not np.any(seeds == 0)
    assert abs(np.mean(seeds[:, 0, 0] == 2) - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 4000)


def test_many_rows_are_seen_in_batches(monkeypatch):
    """By default above `LARGE` rows: seeds from a sample, then batches.

    A centre is the mean of the some 640 rows it was given: 5 standard errors (variance 1).
    """
    monkeypatch.setattr(kmeans, "LARGE", 140)
    monkeypatch.setattr(kmeans, "BATCH", 32)
    ours = gmm.k_means(KEY, CLUSTERS, 5)
    assert ours.steps == kmeans.BATCH_STEPS
    assert not ours.converged
    assert np.abs(in_order(ours.centres) - in_order(MEANS)).max() < 5 / np.sqrt(500)


def test_fewer_distinct_rows_than_centres():
    """D1, C6: finite, nothing left over, and a centre without rows stays at one of them."""
    for x in (np.ones((150, 2)), np.repeat([[0.0, 1.0], [5.0, 1.0]], 75, axis=0)):
        ours = gmm.k_means(KEY, x, 5)
        assert np.isfinite(ours.centres).all()
        assert ours.inertia < 1e-20
        assert ours.converged
        np.testing.assert_allclose(ours.centres[ours.labels], x, atol=1e-12)


BAD = {
    "C1": (lambda: gmm.k_means(KEY, X, 0), ValueError, "n_clusters must be between 1 and 150"),
    "C3": (lambda: gmm.k_means(KEY, X, 2.5), TypeError, "n_clusters must be a whole number"),
    "C5": (lambda: gmm.k_means(KEY, X, 151), ValueError, "n_clusters .*150, got 151"),
    "C8": (lambda: gmm.k_means(KEY, X, 2, tol=-1.0), ValueError, "tol must be non-negative"),
    "C9": (lambda: gmm.k_means(KEY, X, 2, max_steps=-1), ValueError, "max_steps must be at least"),
    "C20": (lambda: gmm.k_means(KEY, X, 2, sample_weight=-W), ValueError, "sample_weight must not"),
    "batch": (lambda: gmm.k_means(KEY, X, 2, batch_size=0), ValueError, "batch_size must be at"),
    "key": (lambda: gmm.k_means(0, X, 2), TypeError, "key"),
    "A1": (lambda: gmm.k_means(KEY, np.full((5, 2), np.nan), 2), ValueError, "x must be finite"),
    "B4": (lambda: gmm.k_means(KEY, X.astype(np.float16), 2), TypeError, "float32 or float64"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], where="gmm.k_means: ")
