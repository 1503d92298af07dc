"""Scores against matrix products, labels in both spellings, and Novikoff's bound in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import perceptron

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(30, 3)))
NET = perceptron.Perceptron(
    weight=jnp.asarray(RNG.normal(size=(4, 3))), bias=jnp.asarray(RNG.normal(size=4))
)
ONE = perceptron.Perceptron(weight=NET.weight[:1], bias=None)


@pytest.mark.parametrize("bias", [True, False])
def test_scores_and_predictions_equal_numpy(bias):
    """Oracle: the matrix product in NumPy, its sign, and its largest entry."""
    net = NET if bias else NET._replace(bias=None)
    expected = np.asarray(X) @ np.asarray(NET.weight).T + bias * np.asarray(NET.bias)
    np.testing.assert_allclose(perceptron.scores(net, X), expected, rtol=1e-12)
    np.testing.assert_array_equal(perceptron.predict(net, X), expected > 0)
    np.testing.assert_array_equal(
        perceptron.predict(net, X, decision="winner"), expected.argmax(axis=1)
    )


def test_a_score_of_zero_is_off_and_the_first_of_equals_wins():
    """Closed form: the perceptron that knows nothing scores zero everywhere."""
    net = perceptron.init(3, 4, dtype=jnp.float64)
    assert not np.any(perceptron.scores(net, X))
    assert not np.any(perceptron.predict(net, X))
    assert not np.any(perceptron.predict(net, X, decision="winner"))
    assert perceptron.init(3, bias=False).bias is None


def test_bound_in_closed_form():
    """Closed form: rows at ±3 on a line through the origin, and the same with a bias."""
    x, y = jnp.array([[3.0, 4.0], [-3.0, 4.0]]), jnp.array([1, 0])
    plain = perceptron.Perceptron(weight=jnp.array([[7.0, 0.0]]), bias=None)
    np.testing.assert_allclose(perceptron.bound(plain, x, y), [25 / 9])
    biased = perceptron.Perceptron(weight=jnp.array([[2.0, 0.0]]), bias=jnp.array([1.0]))
    np.testing.assert_allclose(perceptron.bound(biased, x, y), [26 * 5 / 25])
    assert np.isinf(perceptron.bound(plain, x, 1 - y)[0])


def test_bound_is_of_each_output_and_of_no_scale():
    """Invariant: multiples of weights mean the same plane."""
    y = np.asarray(perceptron.predict(NET, X))
    bounds = perceptron.bound(NET, X, y)
    assert np.all(np.isfinite(bounds))
    for j in range(4):
        alone = perceptron.Perceptron(NET.weight[j : j + 1] * 5, NET.bias[j : j + 1] * 5)
        np.testing.assert_allclose(perceptron.bound(alone, X, y[:, j]), bounds[j : j + 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: perceptron.init(0), ValueError, "n_inputs must be at least 1, got 0"),
        (lambda: perceptron.init(2, 1.0), TypeError, "n_outputs must be a whole number"),
        (lambda: perceptron.init(2, dtype=int), TypeError, "dtype must be a floating-point"),
        (lambda: perceptron.scores(X, X), TypeError, "params must be a Perceptron, got Array"),
        (lambda: perceptron.scores(NET, X[:, :2]), ValueError, r"\(any, 3\), got \(30, 2\)"),
        (lambda: perceptron.scores(NET, X * jnp.inf), ValueError, "x must be finite"),
        (lambda: perceptron.scores(NET, X.astype("f4")), TypeError, "x must be float64"),
        (lambda: perceptron.scores(NET._replace(bias=X[0]), X), ValueError, "params.bias must"),
        (lambda: perceptron.predict(NET, X, decision="win"), ValueError, "mean 'winner'"),
        (lambda: perceptron.bound(ONE, X, jnp.arange(30)), ValueError, "labels 0 and 1, or -1"),
    ],
)
def test_bad_input_is_answered_at_the_door(unchecked_types, call, error, message):
    with pytest.raises(error, match=message):
        call()
