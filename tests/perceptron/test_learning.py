"""The rule against scikit-learn and loops, Novikoff's bound, and what one neuron can learn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Perceptron as Peer

from jaxnn import perceptron

RNG = np.random.default_rng(0)
N, D = 40, 3
X = RNG.normal(size=(N, D))
NOISY = (X @ np.array([1.0, -2.0, 0.5]) + 0.3 + RNG.normal(size=N) > 0).astype(int)
CLASSES = np.argmax(X @ RNG.normal(size=(3, 4)) + RNG.normal(size=(N, 4)), axis=1)
XOR_X, XOR_Y = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
KEY = jax.random.key(0)


def start(d: int, o: int = 1, **options) -> perceptron.Perceptron:
    return perceptron.init(d, o, dtype=jnp.float64, **options)


def rows_with_bias(x):
    return np.hstack([x, np.ones((len(x), 1))])


def loop(x, y, passes):
    """Every weight vector (d + 1,) that the rule visits, in order, and the number of mistakes."""
    w, visited, mistakes = np.zeros(x.shape[1] + 1), [], 0
    for row, label in list(zip(rows_with_bias(x), 2 * y - 1, strict=True)) * passes:
        if label * (row @ w) <= 0:
            w, mistakes = w + label * row, mistakes + 1
        visited.append(w)
    return np.array(visited), mistakes


def vector(params):
    return np.concatenate([np.asarray(params.weight[0]), np.asarray(params.bias)])


@pytest.mark.parametrize("passes", [1, 7])
def test_equals_scikit_learn(passes):
    """Oracle: its `Perceptron`, unshuffled, on labels that no plane separates."""
    peer = Peer(max_iter=passes, tol=None, shuffle=False).fit(X, NOISY)
    got = perceptron.fit(start(D), X, NOISY, max_passes=passes)
    np.testing.assert_allclose(got.params.weight, peer.coef_, rtol=1e-12)
    np.testing.assert_allclose(got.params.bias, peer.intercept_, rtol=1e-12)
    assert int(got.errors) == round(N * (1 - peer.score(X, NOISY)))
    assert int(got.passes) == passes
    assert not got.converged


def test_averaged_and_pocket_equal_a_loop():
    """Oracle: the list of all weights visited: its mean, and the one with the fewest errors."""
    visited, mistakes = loop(X, NOISY, 6)
    fits = {
        name: perceptron.fit(start(D), X, NOISY, variant=name, max_passes=6)
        for name in perceptron.VARIANTS
    }
    assert {int(fit.mistakes[0]) for fit in fits.values()} == {mistakes}
    np.testing.assert_allclose(vector(fits["plain"].params), visited[-1], rtol=1e-12)
    np.testing.assert_allclose(vector(fits["averaged"].params), visited.mean(axis=0), rtol=1e-10)
    errors = np.sum((rows_with_bias(X) @ visited.T > 0) != NOISY[:, None].astype(bool), axis=0)
    assert int(fits["pocket"].errors) == errors.min()
    np.testing.assert_allclose(vector(fits["pocket"].params), visited[errors.argmin()], rtol=1e-12)


@pytest.mark.parametrize("variant", perceptron.VARIANTS)
def test_errors_are_those_of_predict_and_labels_have_two_spellings(variant):
    """Invariant: -1 and +1, booleans, floats and one column mean what 0 and 1 mean."""
    fit = lambda y: perceptron.fit(start(D), X, y, variant=variant, max_passes=5)
    first = fit(NOISY)
    assert int(first.errors) == np.sum(
        np.asarray(perceptron.predict(first.params, X))[:, 0] != NOISY
    )
    for same in (2 * NOISY - 1, NOISY.astype(bool), NOISY.astype(float), NOISY[:, None]):
        jax.tree.map(np.testing.assert_array_equal, fit(same), first)


def test_outputs_are_perceptrons_by_themselves():
    """Oracle: each column learned alone; here until all of them have run the same passes."""
    y = np.stack([NOISY, 1 - NOISY, CLASSES % 2], axis=1)
    together = perceptron.fit(start(D, 3), X, y, max_passes=4)
    for j in range(3):
        alone = perceptron.fit(start(D), X, y[:, j], max_passes=4)
        np.testing.assert_array_equal(together.params.weight[j], alone.params.weight[0])
        assert together.mistakes[j] == alone.mistakes[0]


def test_winner_equals_a_loop():
    """Oracle: up with the true class, down with its best rival, where it does not win clearly."""
    w, mistakes = np.zeros((4, D + 1)), np.zeros(4, int)
    for row, label in list(zip(rows_with_bias(X), CLASSES, strict=True)) * 5:
        rivals = np.where(np.arange(4) == label, -np.inf, w @ row)
        rival = rivals.argmax()
        if w[label] @ row <= rivals[rival]:
            w[label] += row
            w[rival] -= row
            mistakes[[label, rival]] += 1
    got = perceptron.fit(start(D, 4), X, CLASSES, decision="winner", max_passes=5)
    np.testing.assert_allclose(got.params.weight, w[:, :D], rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(got.mistakes, mistakes)
    said = perceptron.predict(got.params, X, decision="winner")
    assert int(got.errors) == np.sum(np.asarray(said) != CLASSES)


def test_rate_scales_weights_learned_from_zero():
    """Invariant: signs do not change with the scale, so mistakes do not either."""
    one, half = (perceptron.fit(start(D), X, NOISY, rate=r, max_passes=5) for r in (1.0, 0.5))
    np.testing.assert_allclose(half.params.weight, one.params.weight / 2, rtol=1e-12)
    assert half.mistakes == one.mistakes


def test_no_passes_only_count_errors():
    """Invariant: nothing is learned, and nothing claimed."""
    none = perceptron.fit(start(D), X, NOISY, max_passes=0)
    assert not np.any(none.params.weight)
    assert (int(none.passes), int(none.errors), bool(none.converged)) == (0, NOISY.sum(), False)


def separable(key, gamma, n=30, d=4):
    """Rows in the unit ball, labelled by a plane through the origin that leaves a margin."""
    key_plane, key_rows, key_sides, key_depth = jax.random.split(key, 4)
    plane = jax.random.normal(key_plane, (d,))
    plane /= jnp.linalg.norm(plane)
    rows = jax.random.normal(key_rows, (n, d))
    rows -= (rows @ plane)[:, None] * plane[None]
    rows /= jnp.linalg.norm(rows, axis=1, keepdims=True)
    side = jnp.where(jax.random.bernoulli(key_sides, 0.5, (n,)), 1, -1)
    depth = jax.random.uniform(key_depth, (n,), minval=gamma, maxval=2 * gamma)
    x = rows * jnp.sqrt(1 - depth**2)[:, None] + (side * depth)[:, None] * plane[None]
    return plane, x, side


@pytest.mark.parametrize(("bias", "shuffled"), [(False, True), (True, False)])
def test_mistakes_stay_under_novikoffs_bound(bias, shuffled):
    """Novikoff (1962): at most (R/γ)² mistakes, for 400 data sets of known margin, in any order."""

    def one(key, gamma):
        plane, x, y = separable(key, gamma)
        truth = perceptron.Perceptron(plane[None], jnp.zeros(1) if bias else None)
        order = key if shuffled else None
        fit = perceptron.fit(start(4, bias=bias), x, y, max_passes=3000, key=order)
        return fit, perceptron.bound(truth, x, y)[0], jnp.min(y * (x @ plane))

    gammas = jnp.repeat(jnp.array([0.05, 0.1, 0.2, 0.4]), 100)
    fit, bound, margin = jax.jit(jax.vmap(one))(jax.random.split(KEY, 400), gammas)
    assert np.all(margin >= gammas)
    np.testing.assert_allclose(bound, (1 + bias) / margin**2, rtol=1e-9)
    assert np.all(fit.converged)
    assert not np.any(fit.errors)
    assert np.all(fit.mistakes[:, 0] <= bound)


def test_the_bound_can_be_met():
    """Closed form: d orthogonal rows of label 1 take d mistakes, and R = 1, γ = 1/√d."""
    d = 9
    fit = perceptron.fit(start(d, bias=False), jnp.eye(d), np.ones(d, int))
    assert (int(fit.mistakes[0]), int(fit.passes)) == (d, 2)
    np.testing.assert_allclose(perceptron.bound(fit.params, jnp.eye(d), np.ones(d, int)), [d])


@pytest.mark.parametrize(("n", "separable"), [(1, 4), (2, 14), (3, 104)])
def test_the_linearly_separable_boolean_functions(n, separable):
    """Known count (OEIS A000609), by learning all 2^(2^n) functions of n inputs at once.

    With inputs ±1 and the bias R² = n + 1 <= 4, and whole weights of square length 8 or less
    separate with least score 1, so 33 passes suffice: what has not converged cannot.
    """
    x = np.array(list(itertools.product([-1.0, 1.0], repeat=n)))
    tables = jnp.asarray(list(itertools.product([0, 1], repeat=2**n)))
    fit = jax.jit(jax.vmap(lambda y: perceptron.fit(start(n), x, y, max_passes=33)))(tables)
    assert int(jnp.sum(fit.converged)) == separable
    assert np.all(fit.errors[fit.converged] == 0)
    assert np.all(fit.errors[~fit.converged] > 0)


def test_xor_is_flagged_as_not_learned():
    """Minsky and Papert (1969): no plane separates it; the pocket holds three rows of four."""
    for y in (XOR_Y, 1 - XOR_Y):
        fit = perceptron.fit(start(2), XOR_X, y, variant="pocket", max_passes=1000, key=KEY)
        assert not fit.converged
        assert (int(fit.passes), int(fit.errors)) == (1000, 1)


def test_a_key_orders_rows_and_each_pass_anew():
    """Invariant: the same key, typed or old, is the same run; another key is another run."""
    fit = lambda key: perceptron.fit(start(D), X, NOISY, max_passes=3, key=key).params.weight
    np.testing.assert_array_equal(fit(KEY), fit(jax.random.PRNGKey(0)))
    assert not np.array_equal(fit(KEY), fit(jax.random.key(1)))
    assert not np.array_equal(fit(KEY), fit(None))


ROWS, ONES = jnp.ones((3, 2)), np.ones(3, int)


@pytest.mark.parametrize(
    ("o", "y", "options", "error", "message"),
    [
        (1, np.array([0, 1, 2]), {}, ValueError, "labels 0 and 1, or -1 and .1, got 0, 2"),
        (1, np.array([-1, 0, 1]), {}, ValueError, "labels 0 and 1, or -1 and .1, got -1, 0"),
        (1, np.array([0.5, 1.0, 0.0]), {}, ValueError, "got 0, 0.5"),
        (1, np.array([np.nan, 1.0, 0.0]), {}, ValueError, "y must hold labels"),
        (1, ONES[:2], {}, ValueError, r"y must have shape \(3,\) or \(3, 1\).*got \(2,\)"),
        (1, np.ones((3, 2), int), {}, ValueError, "as many labels as rows and outputs"),
        (2, np.ones((3, 3), int), {}, ValueError, r"y must have shape \(3, 2\), as many labels"),
        (2, ONES, {}, ValueError, r"shape \(3, 2\), as many labels"),
        (2, ONES + 1, {"decision": "winner"}, ValueError, r"y must lie in \[0, 2\)"),
        (2, ONES - 2, {"decision": "winner"}, ValueError, r"y must lie in \[0, 2\)"),
        (2, ONES * 1.0, {"decision": "winner"}, TypeError, "y must hold whole numbers"),
        (1, ONES, {"decision": "winner"}, ValueError, "must have at least 2 outputs, got 1"),
        (1, ONES, {"decision": "treshold"}, ValueError, "did you mean 'threshold'"),
        (1, ONES, {"variant": "average"}, ValueError, "did you mean 'averaged'"),
        (1, ONES, {"rate": 0.0}, ValueError, "rate must be positive"),
        (1, ONES, {"max_passes": -1}, ValueError, "max_passes must be non-negative"),
        (1, ONES, {"key": 0}, TypeError, "key must be a PRNG key"),
    ],
)
def test_bad_input_is_answered_at_the_door(unchecked_types, o, y, options, error, message):
    with pytest.raises(error, match=message):
        perceptron.fit(start(2, o), ROWS, y, **options)


def test_bad_rows_and_parameters_are_answered_too(unchecked_types):
    """They meet the same door as `scores`."""
    with pytest.raises(ValueError, match="x must be finite"):
        perceptron.fit(start(2), ROWS * jnp.nan, ONES)
    with pytest.raises(ValueError, match=r"params\.weight must be finite"):
        perceptron.fit(perceptron.Perceptron(ROWS[:1] / 0, None), ROWS, ONES)
    with pytest.raises(TypeError, match="params must be a Perceptron"):
        perceptron.fit(ROWS, ROWS, ONES)
