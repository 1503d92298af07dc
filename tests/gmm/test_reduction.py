"""Merged mixtures against moments in NumPy and a greedy loop written out."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn import gmm

K, D = 5, 2
rng = np.random.default_rng(9)
WEIGHTS = np.array([0.1, 0.3, 0.25, 0.15, 0.2])
MEANS = 3 * rng.normal(size=(K, D))
ROOT = rng.normal(size=(K, D, D))
COVARIANCES = ROOT @ ROOT.transpose(0, 2, 1) + 0.3 * np.eye(D)
MIXTURE = gmm.from_covariances(WEIGHTS, MEANS, COVARIANCES)


def joined(parts: list[tuple], i: int, j: int) -> tuple:
    """Weight, mean and covariance of two components together."""
    (u, a, s), (v, b, t) = parts[i], parts[j]
    w = u + v
    mean = (u * a + v * b) / w
    second = (u * (s + np.outer(a, a)) + v * (t + np.outer(b, b))) / w
    return w, mean, second - np.outer(mean, mean)


def price(parts: list[tuple], i: int, j: int) -> float:
    entropy = lambda part: part[0] * np.linalg.slogdet(part[2])[1] / 2
    return entropy(joined(parts, i, j)) - entropy(parts[i]) - entropy(parts[j])


def equal(mixture: gmm.GMM, parts: list[tuple]) -> None:
    weights, means, covariances = zip(*parts, strict=True)
    np.testing.assert_allclose(np.exp(mixture.log_weights), weights, rtol=1e-11)
    np.testing.assert_allclose(mixture.means, means, rtol=1e-11)
    np.testing.assert_allclose(mixture.cov.covariances(mixture.means), covariances, rtol=1e-9)


@pytest.mark.parametrize(("i", "j"), [(1, 3), (3, 0)])
def test_merge_keeps_the_moments(i, j):
    """Oracle: moments of both in NumPy; the merged takes the place of i, the rest moves up."""
    parts = list(zip(WEIGHTS, MEANS, COVARIANCES, strict=True))
    parts[i] = joined(parts, i, j)
    del parts[j]
    equal(gmm.merge(MIXTURE, i, j), parts)


def test_reduce_is_the_greedy_loop():
    """Oracle: Runnalls' bound over all pairs, in Python; mean and covariance are kept."""
    parts, costs = list(zip(WEIGHTS, MEANS, COVARIANCES, strict=True)), []
    while len(parts) > 3:
        prices = {pair: price(parts, *pair) for pair in combinations(range(len(parts)), 2)}
        i, j = min(prices, key=prices.get)
        costs.append(prices[i, j])
        parts[i] = joined(parts, i, j)
        del parts[j]
    reduction = gmm.reduce(MIXTURE, 3)
    equal(reduction.mixture, parts)
    np.testing.assert_allclose(reduction.costs, costs, rtol=1e-9)
    np.testing.assert_allclose(gmm.mean(reduction.mixture), gmm.mean(MIXTURE), rtol=1e-12)
    np.testing.assert_allclose(
        gmm.covariance(reduction.mixture), gmm.covariance(MIXTURE), rtol=1e-11
    )


def test_dead_components_go_first():
    """Two of weight zero cost nothing: what is left is the others."""
    at = jnp.array([1, 4])
    dead = MIXTURE._replace(log_weights=MIXTURE.log_weights.at[at].set(-np.inf))
    parts = [(w, m, c) for k, (w, m, c) in enumerate(zip(WEIGHTS, MEANS, COVARIANCES, strict=True))
             if k not in (1, 4)]  # fmt: skip
    reduction = gmm.reduce(dead, 3)
    np.testing.assert_allclose(reduction.costs, 0, atol=1e-12)
    order = np.argsort(np.exp(reduction.mixture.log_weights))
    equal(
        jax.tree.map(lambda leaf: leaf[order], reduction.mixture), sorted(parts, key=lambda p: p[0])
    )


BAD = {
    "C34 same": (lambda: gmm.merge(MIXTURE, 1, 1), ValueError, "different components, got 1 twice"),
    "range": (lambda: gmm.merge(MIXTURE, 0, 5), ValueError, "j must be between 0 and 4, got 5"),
    "negative": (lambda: gmm.merge(MIXTURE, -1, 2), ValueError, "i must be between 0 and 4"),
    "one": (
        lambda: gmm.merge(gmm.GMM(jnp.zeros(1), jnp.zeros((1, 2)), MIXTURE.cov), 0, 0),
        ValueError,
        "at least 2 comp",
    ),
    "none": (lambda: gmm.merge(None, 0, 1), TypeError, "mixture must be a GMM"),
    "too many": (lambda: gmm.reduce(MIXTURE, 6), ValueError, "k must be between 1 and 5, got 6"),
    "reduce none": (lambda: gmm.reduce(None, 1), TypeError, "mixture must be a GMM"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    refused(*BAD[case], where="gmm.")
