"""Marginals, conditionals and regression against SciPy's densities and textbook formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy import stats
from scipy.special import logsumexp

from jaxnn import gmm

K, D = 3, 4
rng = np.random.default_rng(5)
WEIGHTS = np.array([0.5, 0.2, 0.3])
MEANS = 2 * rng.normal(size=(K, D))
ROOT = rng.normal(size=(K, D, D))
FULL = ROOT @ ROOT.transpose(0, 2, 1) + 0.3 * np.eye(D)
VARIANCES = np.diagonal(FULL, axis1=1, axis2=2)
GIVEN = {"full": FULL, "tied": FULL[0], "diag": VARIANCES, "spherical": VARIANCES[:, 0]}
MIXTURES = {f: gmm.from_covariances(WEIGHTS, MEANS, GIVEN[f], family=f) for f in GIVEN}
X = rng.normal(size=(5, D)) * 2
SEEN, LEFT = (2, 0), (1, 3)  # an order that is not the columns'


def dense(family: str) -> np.ndarray:
    return np.asarray(MIXTURES[family].cov.covariances(jnp.asarray(MEANS)))


def scipy_joint(family: str, columns: tuple[int, ...]) -> np.ndarray:
    """log w_k + log N(x | k) of some columns, by scipy.stats."""
    at = list(columns)
    parts = [
        np.log(WEIGHTS[k])
        + stats.multivariate_normal(MEANS[k, at], dense(family)[k][np.ix_(at, at)]).logpdf(X[:, at])
        for k in range(K)
    ]
    return np.stack(parts, axis=1)


@pytest.mark.parametrize("family", MIXTURES)
def test_marginal_and_conditional_are_scipys(family):
    """Oracle: scipy.stats for p(seen), and p(left | seen) = p(left, seen) / p(seen)."""
    mixture = MIXTURES[family]
    seen = logsumexp(scipy_joint(family, SEEN), axis=1)
    both = logsumexp(scipy_joint(family, SEEN + LEFT), axis=1)
    marginal = gmm.marginal(mixture, SEEN)
    np.testing.assert_allclose(gmm.log_prob(marginal, X[:, SEEN]), seen, rtol=1e-11)
    given = gmm.condition(mixture, SEEN, X[:, SEEN])
    found = jax.vmap(gmm.log_prob)(given, jnp.asarray(X[:, None, LEFT]))[:, 0]
    np.testing.assert_allclose(found, both - seen, rtol=1e-11)
    assert type(given.cov) is type(marginal.cov) is type(mixture.cov)
    assert all(len(leaf) == len(X) for leaf in jax.tree.leaves(given))


@pytest.mark.parametrize("family", ["full", "tied", "diag"])
def test_regression_is_the_textbooks(family):
    """Oracle: Schur complements (Bishop, 2006, 2.81 and 2.82), and the law of total variance."""
    joint, cov = scipy_joint(family, SEEN), dense(family)
    share = np.exp(joint - logsumexp(joint, axis=1)[:, None])
    within, means = [], []
    for k in range(K):
        block = lambda a, b, k=k: cov[k][np.ix_(a, b)]
        slope = block(LEFT, SEEN) @ np.linalg.inv(block(SEEN, SEEN))
        within.append(block(LEFT, LEFT) - slope @ block(SEEN, LEFT))
        means.append(MEANS[k, LEFT] + (X[:, SEEN] - MEANS[k, SEEN]) @ slope.T)
    means = np.stack(means, axis=1)
    mean = np.einsum("ck,ckq->cq", share, means)
    second = np.einsum("ck,kij->cij", share, within) + np.einsum(
        "ck,cki,ckj->cij", share, means, means
    )
    found = gmm.regress(MIXTURES[family], SEEN, X[:, SEEN])
    np.testing.assert_allclose(found.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(
        found.covariance, second - mean[:, :, None] * mean[:, None], rtol=1e-8, atol=1e-10
    )


def test_any_other_family_becomes_full():
    """Oracle: the full mixture; a family that conditioning has never heard of."""

    class Other(gmm.Full):
        pass

    other = MIXTURES["full"]._replace(cov=Other(MIXTURES["full"].cov.scale_tril))
    found = gmm.condition(other, SEEN, X[:, SEEN])
    expected = gmm.condition(MIXTURES["full"], SEEN, X[:, SEEN])
    assert type(found.cov) is gmm.Full
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), found, expected)


@pytest.mark.parametrize(("dtype", "far"), [(np.float64, 1e250), (np.float32, 1e30)])
def test_values_far_outside_leave_finite_weights(dtype, far):
    """C32: all densities underflow, even their logarithms; the widest living component wins."""
    single = jax.tree.map(lambda leaf: leaf.astype(dtype), MIXTURES["diag"])
    widest = int(np.argmax(VARIANCES[:, 1]))
    values = np.array([[far], [-far], [0]], dtype)
    weights = np.exp(gmm.condition(single, [1], values).log_weights)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    assert (weights[:2].argmax(1) == widest).all()
    dead = single._replace(log_weights=single.log_weights.at[widest].set(-np.inf))
    weights = np.exp(gmm.condition(dead, [1], values).log_weights)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    assert (weights[:, widest] == 0).all()


def test_tight_clusters_keep_their_precision_in_float32():
    """Oracle: float64; columns correlated to 1 - 1e-6, where a Schur complement would cancel."""
    root = np.array([[1.0, 0.0], [1.0, 1e-3]])
    mixture = gmm.GMM(jnp.zeros(1), jnp.zeros((1, 2)), gmm.Full(jnp.asarray(root)[None]))
    single = jax.tree.map(lambda leaf: leaf.astype(np.float32), mixture)
    found = gmm.condition(single, [0], np.ones((1, 1), np.float32))
    np.testing.assert_allclose(found.cov.scale_tril, 1e-3, rtol=1e-5)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}


M = MIXTURES["full"]
BAD = {
    "C30": (lambda: gmm.condition(M, range(D), X), ValueError, r"between 1 and 3 of the 4 columns"),
    "C30 one": (
        lambda: gmm.condition(gmm.marginal(M, [0]), [0], X[:, :1]),
        ValueError,
        "at least 2 columns",
    ),
    "C31 range": (lambda: gmm.marginal(M, [0, 4]), ValueError, "dims must be between 0 and 3"),
    "C31 repeated": (lambda: gmm.marginal(M, [1, 1]), ValueError, "must not repeat a column"),
    "C31 negative": (lambda: gmm.regress(M, [-1], X[:, :1]), ValueError, "got -1"),
    "C33": (lambda: gmm.marginal(M, []), ValueError, "between 1 and 4 of the 4 columns"),
    "float": (lambda: gmm.marginal(M, [0.5]), TypeError, "dims must be a whole number"),
    "no sequence": (lambda: gmm.marginal(M, 1), TypeError, "dims must be a sequence"),
    "width": (lambda: gmm.condition(M, [0], X), ValueError, r"values must have shape \(any, 1\)"),
    "NaN": (lambda: gmm.regress(M, [0], X[:, :1] * np.nan), ValueError, "values must be finite"),
    "dtype": (lambda: gmm.regress(M, [0], X[:, :1].astype(np.float32)), TypeError, "float64 like"),
    "no mixture": (lambda: gmm.marginal(None, [0]), TypeError, "mixture must be a GMM"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    refused(*BAD[case], where="gmm.")
