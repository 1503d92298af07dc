"""Oracles: scikit-learn, closed forms of a linear model, and loops over slices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from sklearn.inspection import permutation_importance as sklearn_importance
from sklearn.linear_model import LinearRegression

from jaxnn import inspection, train

rng = np.random.default_rng(0)
N, D, R = 50, 3, 400
X = rng.normal(size=(N, D)) * [1.0, 2.0, 1.0]
SLOPES = np.array([1.5, -0.5, 0.0])
Y = X @ SLOPES
KEY = jax.random.key(0)


def score(params, x, y):
    return -jnp.mean(jnp.square(x @ params - y))


@pytest.fixture(scope="module")
def importance():
    return inspection.permutation_importance(KEY, score, SLOPES, X, Y, repeats=R)


def test_importance_in_closed_form(importance):
    """Of an exact linear model: 2 β² var(x) on average over orders, within 5 standard errors."""
    expected = 2 * SLOPES**2 * X.var(axis=0)
    error = importance.std / R**0.5
    assert np.all(np.abs(importance.mean - expected) <= 5 * error)
    assert float(importance.mean[2]) == 0  # what is not used does not matter
    np.testing.assert_allclose(importance.mean, importance.drops.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(importance.std, importance.drops.std(axis=1), rtol=1e-12)
    assert len(np.unique(importance.drops[0])) == R  # each repeat has an order of its own
    # And each column: of two that are the same, with the same slope, only the orders differ.
    twice, slopes = X[:, [0, 0, 2]], np.array([1.0, 1.0, 0.0])
    drops = inspection.permutation_importance(KEY, score, slopes, twice, Y, repeats=R).drops
    assert not np.allclose(np.sort(drops[0]), np.sort(drops[1]))


def test_importance_agrees_with_scikit_learn(importance):
    """Statistics: both means are of independent repeats; 5 standard errors of the difference."""
    model = LinearRegression(fit_intercept=False).fit(X, Y)
    peer = sklearn_importance(model, X, Y, scoring="neg_mean_squared_error", n_repeats=R,
                              random_state=0)  # fmt: skip
    error = np.hypot(importance.std, peer.importances_std) / R**0.5
    assert np.all(np.abs(importance.mean - peer.importances_mean) <= 5 * error + 1e-12)
    np.testing.assert_allclose(importance.std[:2], peer.importances_std[:2], rtol=0.25)


def test_the_score_itself_and_other_parameters_need_no_other_program(importance):
    np.testing.assert_allclose(importance.score, 0, atol=1e-12)
    before = inspection._permutation_importance._cache_size()
    other = inspection.permutation_importance(KEY, score, 2 * SLOPES, X, Y, repeats=R)
    np.testing.assert_allclose(other.score, -np.mean(Y**2), rtol=1e-12)
    assert inspection._permutation_importance._cache_size() == before


def fit_and_score(key, weight, x, y):
    """Weighted least squares, and the rows that it saw."""
    del key
    root = jnp.sqrt(weight.astype(x.dtype))[:, None]
    slopes = jnp.linalg.lstsq(root * x, root[:, 0] * y)[0]
    return jnp.mean(jnp.square(x @ slopes - y)), weight


def test_a_learning_curve_is_that_of_slices():
    """Oracle: NumPy's least squares of the rows alone, for each size and repeat."""
    noisy = Y + rng.normal(size=N)
    sizes = [5, 10, N]
    curve = inspection.learning_curve(KEY, fit_and_score, N, sizes, X, noisy, repeats=2)
    scores, seen = (np.asarray(a) for a in curve.scores)
    np.testing.assert_array_equal(seen.sum(axis=2), [sizes, sizes])
    assert np.all(seen[:, 0] <= seen[:, 1])  # nested
    assert not np.array_equal(seen[0, 0], seen[1, 0])  # another order
    for r in range(2):
        for s in range(3):
            rows = seen[r, s] == 1
            slopes = np.linalg.lstsq(X[rows], noisy[rows])[0]
            expected = np.mean((X @ slopes - noisy) ** 2)
            np.testing.assert_allclose(scores[r, s], expected, rtol=1e-9)
    before = inspection._learning_curve._cache_size()
    inspection.learning_curve(KEY, fit_and_score, N, [6, 7, 8], X, noisy, repeats=2)
    assert inspection._learning_curve._cache_size() == before


def descend(params, batch, key):
    def loss(w):
        return jnp.sum(batch.weight * jnp.square(batch.x @ w - batch.y)) / jnp.sum(batch.weight)

    return jax.value_and_grad(loss)(params)


def train_and_score(key, weight, params, x, y):
    run = train.fit(key, params, train.Batch(x, y, weight), descend, epochs=3, learning_rate=0.1)
    return run.params


def test_a_learning_curve_of_trained_networks():
    """Oracle: the trainer on the rows that were cut out, without weights."""
    sizes, start = [4, 20], jnp.ones(D)
    curve = inspection.learning_curve(KEY, train_and_score, N, sizes, start, X, Y)
    key_order, key_fit = jax.random.split(jax.random.split(KEY, 1)[0])
    place = np.asarray(jax.random.permutation(key_order, N))
    rows = np.flatnonzero(place < 20)
    alone = train.fit(key_fit, start, train.Batch(X[rows], Y[rows], np.ones(20)), descend,
                      epochs=3, learning_rate=0.1)  # fmt: skip
    np.testing.assert_allclose(curve.scores[0, 1], alone.params, rtol=1e-12)


def many(params, x, y):
    return x[:, 0]


def whole(params, x, y):
    return x.size


BAD = {
    "key": (lambda: inspection.permutation_importance(0, score, SLOPES, X, Y), TypeError, "key"),
    "nan": (lambda: inspection.permutation_importance(KEY, score, SLOPES, X * np.nan, Y),
            ValueError, "x must be finite"),
    "repeats": (lambda: inspection.permutation_importance(KEY, score, SLOPES, X, Y, repeats=0),
                ValueError, "repeats must be at least 1"),
    "score": (lambda: inspection.permutation_importance(KEY, many, SLOPES, X, Y), ValueError,
              r"the value of score must have shape \(\)"),
    "no score": (lambda: inspection.permutation_importance(KEY, whole, SLOPES, X, Y), TypeError,
                 "the value of score must hold floating-point"),
    "size": (lambda: inspection.learning_curve(KEY, fit_and_score, N, [0, 3], X, Y), ValueError,
             r"sizes must lie in \[1, 51\), got values from 0"),
    "large": (lambda: inspection.learning_curve(KEY, fit_and_score, N, [N + 1], X, Y), ValueError,
              "sizes must lie"),
    "share": (lambda: inspection.learning_curve(KEY, fit_and_score, N, [0.5], X, Y), TypeError,
              "sizes must hold whole numbers"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], "inspection.")
