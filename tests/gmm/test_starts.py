"""Starts: what k-means++ promises, and mixtures that EM can start from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_iris

from jaxnn import gmm
from jaxnn.gmm.starts import STARTS

X = load_iris().data
KEY = jax.random.key(0)
rng = np.random.default_rng(0)
# Five tight clusters: a seed drawn at random misses some, one drawn by distance does not.
CENTRES = rng.normal(size=(5, 2)) * 100
CLUSTERS = jnp.asarray((CENTRES[:, None] + rng.normal(size=(5, 30, 2))).reshape(-1, 2))
ONES = jnp.ones(150)


@pytest.mark.parametrize("start", STARTS)
def test_seeds_are_different_rows(start):
    for seeds in jax.vmap(lambda k: STARTS[start](k, CLUSTERS, ONES, 5))(jax.random.split(KEY, 20)):
        rows = [int(np.where((np.asarray(CLUSTERS) == s).all(1))[0][0]) for s in np.asarray(seeds)]
        assert len(set(rows)) == 5


def test_k_means_plus_plus_finds_every_cluster():
    """Far-apart clusters each get a seed, from 50 keys; random points do not manage that."""

    def hits(start):
        seeds = jax.vmap(lambda k: STARTS[start](k, CLUSTERS, ONES, 5))(jax.random.split(KEY, 50))
        distance = np.linalg.norm(np.asarray(seeds)[:, :, None] - CENTRES[None, None], axis=-1)
        return np.mean([len(set(d.argmin(1))) == 5 for d in distance])

    assert hits("k-means++") == 1.0
    assert hits("random points") < 0.5


def test_first_seed_follows_the_weights():
    """5 standard errors about the weights; rows of weight zero are never drawn."""
    w = jnp.array([0.0, 1.0, 3.0])
    x = jnp.array([[0.0], [1.0], [2.0]])
    first = jax.vmap(lambda k: STARTS["k-means++"](k, x, w, 1)[0, 0])(jax.random.split(KEY, 4000))
    assert not np.any(first == 0)
    assert abs(np.mean(first == 2) - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 4000)


def test_fewer_active_components_are_a_smaller_mixture():
    """Oracle: `init` and `fit` with that many components."""
    for k in (1, 2, 4):
        padded = gmm.init(KEY, X, 4, active=k)
        assert np.sum(np.exp(padded.log_weights) > 0) == k
        np.testing.assert_allclose(gmm.log_prob(padded, X).mean(),
                                   gmm.fit(padded, X, max_steps=0).log_lik)  # fmt: skip
        fit = gmm.fit(padded, X)
        assert np.all(np.exp(fit.mixture.log_weights[k:]) == 0)
        assert gmm.n_parameters(fit.mixture) == k * (10 + 4) + k - 1
    # k = 1 has one answer whatever the start: the closed form.
    one = gmm.fit(gmm.init(KEY, X, 4, active=1), X, ridge=0.0)
    np.testing.assert_allclose(one.mixture.means[0], X.mean(0), rtol=1e-10)
    bics = jax.vmap(lambda k: gmm.bic(gmm.fit(gmm.init(KEY, X, 4, active=k), X).mixture, X))
    assert np.isfinite(bics(jnp.arange(1, 5))).all()


@pytest.mark.parametrize("family", gmm.COVARIANCES)
def test_start_is_a_mixture_in_any_units(family):
    """Weights sum to 1; scaling the columns scales the means."""
    start = gmm.init(KEY, X, 3, family=family)
    np.testing.assert_allclose(np.exp(start.log_weights).sum(), 1, rtol=1e-12)
    scale = np.array([1e-3, 1.0, 1e3, 10.0])
    if family != "spherical":
        moved = gmm.init(KEY, X * scale, 3, family=family)
        np.testing.assert_allclose(np.asarray(moved.means) / scale, start.means, rtol=1e-8)


def test_weights_are_absences():
    """Oracle: the start of the rows that count, for the same seeds (k = 1 has no choice)."""
    w = np.r_[np.ones(100), np.zeros(50)]
    weighted = gmm.init(KEY, X, 1, sample_weight=w)
    np.testing.assert_allclose(weighted.means, gmm.init(KEY, X[:100], 1).means, rtol=1e-12)


BAD = {
    "B4": (lambda: gmm.init(KEY, X.astype(np.float16), 2), TypeError, "float32 or float64"),
    "B5": (lambda: gmm.init(KEY, jnp.asarray(X, jnp.bfloat16), 2), TypeError, "got bfloat16"),
    "C1": (lambda: gmm.init(KEY, X, 0), ValueError, "n_components must be between 1 and 150"),
    "C2": (lambda: gmm.init(KEY, X, -2), ValueError, "n_components"),
    "C3": (lambda: gmm.init(KEY, X, 2.5), TypeError, "n_components must be a whole number"),
    "C4": (lambda: gmm.init(KEY, X, True), TypeError, "n_components"),
    "C5": (lambda: gmm.init(KEY, X, 151), ValueError, "n_components .*150, got 151"),
    "C7": (lambda: gmm.init(KEY, X, 2, family="diagonal"), ValueError, "mean 'diag'"),
    "start": (
        lambda: gmm.init(KEY, X, 2, start="kmeans"),
        ValueError,
        r"unknown start.*k-means\+\+",
    ),
    "key": (lambda: gmm.init(0, X, 2), TypeError, "key"),
    "NaN": (lambda: gmm.init(KEY, np.full((5, 2), np.nan), 2), ValueError, "x must be finite"),
    "weight": (lambda: gmm.init(KEY, X, 2, sample_weight=np.ones(4)), ValueError, "sample_weight"),
    "active": (lambda: gmm.init(KEY, X, 2, active=3), ValueError, "active must be between 1 and 2"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message) as caught:
        call()
    assert str(caught.value).startswith("gmm.init: ")
