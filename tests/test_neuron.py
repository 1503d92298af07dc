"""Gates against their truth tables, Hebb's rule against sums, Oja's against NumPy's SVD."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import neuron

RNG = np.random.default_rng(0)


def corners(d: int) -> jax.Array:
    """All 2^d rows of d inputs in {0, 1}."""
    return jnp.asarray(list(itertools.product([0.0, 1.0], repeat=d)))


def gates():
    return [(n, d) for n, g in neuron.GATES.items() for d in (1, 2, 3, 5) if d <= (g.most or d)]


@pytest.mark.parametrize(("name", "d"), gates())
def test_a_gate_is_its_truth_table(name, d):
    """Oracle: the definition, in every row."""
    rows = corners(d)
    expected = neuron.GATES[name].truth(np.asarray(rows).sum(axis=1), d)
    network = neuron.gate(name, d, dtype=jnp.float64)
    np.testing.assert_array_equal(neuron.apply(network, rows)[:, 0], expected)


def test_truth_tables_by_hand():
    """Oracle: the tables of two inputs as all know them; the definitions can be wrong too."""
    known = {
        "and": [0, 0, 0, 1], "or": [0, 1, 1, 1], "nand": [1, 1, 1, 0], "nor": [1, 0, 0, 0],
        "majority": [0, 0, 0, 1], "xor": [0, 1, 1, 0],
    }  # fmt: skip
    for name, table in known.items():
        got = neuron.apply(neuron.gate(name, 2, dtype=jnp.float64), corners(2))
        assert got[:, 0].tolist() == table
    assert neuron.apply(neuron.gate("not", 1, dtype=jnp.float64), corners(1))[:, 0].tolist() == [
        1,
        0,
    ]


@pytest.mark.parametrize(("name", "d"), gates())
def test_only_xor_needs_a_second_layer_and_noise_below_the_half_changes_nothing(name, d):
    """Invariant: sums are whole numbers, thresholds lie halfway: a shift of 0.49 is nothing."""
    network = neuron.gate(name, d, dtype=jnp.float64)
    assert len(network) == 1 + (name == "xor")
    for shift in (-0.49, 0.49):
        shifted = tuple(n._replace(threshold=n.threshold + shift) for n in network)
        np.testing.assert_array_equal(
            neuron.apply(shifted, corners(d)), neuron.apply(network, corners(d))
        )


def test_a_neuron_fires_at_its_threshold():
    """Closed form: the sum 2·0.5 - 1 = 0 reaches a threshold of 0, and not one just above."""
    at = neuron.Neuron(weight=jnp.array([[2.0, -1.0]] * 2), threshold=jnp.array([0.0, 1e-9]))
    assert neuron.apply((at,), jnp.array([[0.5, 1.0]])).tolist() == [[1, 0]]


def test_random_networks_equal_a_loop():
    """Oracle: one neuron after another in Python."""
    network = tuple(
        neuron.Neuron(weight=jnp.asarray(RNG.normal(size=(o, d))), threshold=jnp.asarray(t))
        for d, o, t in [(3, 4, RNG.normal(size=4)), (4, 2, RNG.normal(size=2))]
    )
    x = RNG.normal(size=(20, 3))
    for row, got in zip(x, neuron.apply(network, x), strict=True):
        signal = list(row)
        for layer in network:
            pairs = zip(np.asarray(layer.weight), np.asarray(layer.threshold), strict=True)
            signal = [float(sum(w * signal) >= t) for w, t in pairs]
        assert got.tolist() == signal


X = RNG.normal(size=(60, 4)) @ np.diag([3.0, 1.5, 1.0, 0.5])
X -= X.mean(axis=0)
FIRST = np.linalg.svd(X)[2][0]
STARTS = jnp.asarray(RNG.normal(size=(20, 4)))


def test_hebb_with_outputs_is_a_sum():
    """Closed form: w + passes · rate · Σ y x, and for one-hot outputs a memory of each row."""
    y, w = RNG.normal(size=60), RNG.normal(size=4)
    got = neuron.hebb(jnp.asarray(w), X, jnp.asarray(y), rate=0.1, passes=3)
    np.testing.assert_allclose(got, w + 0.3 * y @ X, rtol=1e-12)
    rows = jnp.eye(3)
    layer = jax.vmap(lambda y: neuron.hebb(jnp.zeros(3), rows, y, rate=1.0))(jnp.eye(3))
    np.testing.assert_array_equal(layer, np.eye(3))


@pytest.mark.parametrize("rule", neuron.RULES)
def test_own_outputs_equal_a_loop(rule):
    """Oracle: the recursion in NumPy, with a falling rate."""
    change = {"hebb": lambda w, x, y: y * x, "oja": lambda w, x, y: y * x - y * y * w}[rule]
    w = np.asarray(STARTS[0])
    for t, row in enumerate(np.concatenate([X, X])):
        w = w + 0.01 / (1 + 0.05 * t) * change(w, row, row @ w)
    got = neuron.hebb(STARTS[0], X, rate=0.01, decay=0.05, rule=rule, passes=2)
    np.testing.assert_allclose(got, w, rtol=1e-10)


def test_oja_converges_to_the_first_principal_component():
    """Oracle: NumPy's SVD of the centred rows; unit length, and the direction up to its sign."""
    learn = lambda w: neuron.hebb(w, X, rate=0.01, decay=0.01, rule="oja", passes=3000)
    w = np.asarray(jax.vmap(learn)(STARTS))
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), 1, atol=2e-4)
    assert np.all(np.abs(w @ FIRST) > 1 - 1e-4)


def test_plain_hebb_grows_without_bound_where_oja_does_not():
    """Invariant: Hebb's own output feeds itself, so the length never falls and doubles quickly."""
    grow = lambda rule: jax.vmap(
        lambda w: neuron.hebb(w, X, rate=0.01, rule=rule, passes=10)
    )(STARTS)  # fmt: skip
    before = np.linalg.norm(STARTS, axis=1)
    assert np.all(np.linalg.norm(grow("hebb"), axis=1) > 100 * before)
    assert np.all(np.linalg.norm(grow("oja"), axis=1) < 1.5)


ONE = (neuron.Neuron(weight=jnp.ones((1, 2)), threshold=jnp.ones(1)),)
ROWS = jnp.ones((3, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: neuron.gate("xnand", 2), ValueError, "unknown name 'xnand' .*'nand'"),
        (lambda: neuron.gate("not", 2), ValueError, "n_inputs must be between 1 and 1, got 2"),
        (lambda: neuron.gate("or", 0), ValueError, "n_inputs must be at least 1, got 0"),
        (lambda: neuron.gate("or", 1.5), TypeError, "n_inputs must be a whole number, got 1.5"),
        (lambda: neuron.gate("or", 2, dtype=int), TypeError, "dtype must be a floating"),
        (lambda: neuron.apply(ONE[0], ROWS), TypeError, "tuple of layers, got Neuron; one layer"),
        (lambda: neuron.apply((), ROWS), TypeError, "must be a tuple of layers"),
        (lambda: neuron.apply((ROWS,), ROWS), TypeError, r"network\[0\] must be a neuron.Neuron"),
        (lambda: neuron.apply(ONE * 2, ROWS), ValueError, r"network\[1\].weight .*\(any, 1\)"),
        (lambda: neuron.apply(ONE, ROWS[:, :1]), ValueError, r"network\[0\].weight must have"),
        (lambda: neuron.apply(ONE, ROWS[0]), ValueError, "x must have shape"),
        (lambda: neuron.apply(ONE, ROWS * jnp.nan), ValueError, "x must be finite"),
        (lambda: neuron.apply(ONE, ROWS.astype(int)), TypeError, "x must hold floating-point"),
        (lambda: neuron.apply(ONE, ROWS.astype("f4")), TypeError, "x must be float64 like"),
        (lambda: neuron.hebb(ROWS[0], ROWS, rate=1.0, rule="oia"), ValueError, "mean 'oja'"),
        (lambda: neuron.hebb(ROWS[0, :1], ROWS, rate=1.0), ValueError, r"weight .*\(2,\)"),
        (lambda: neuron.hebb(ROWS[0], ROWS, ROWS[0], rate=1.0), ValueError, r"y .*\(3,\)"),
        (lambda: neuron.hebb(ROWS[0], ROWS, rate=-1.0), ValueError, "rate must be non-negative"),
        (lambda: neuron.hebb(ROWS[0], ROWS, rate=1.0, passes=-1), ValueError, "passes must be"),
        (lambda: neuron.hebb(ROWS[0] / 0, ROWS, rate=1.0), ValueError, "weight must be finite"),
        (
            lambda: neuron.hebb(ROWS[0].astype("f4"), ROWS, rate=1.0),
            TypeError,
            "weight must be float64 like x",
        ),
    ],
)
def test_bad_input_is_answered_at_the_door(unchecked_types, call, error, message):
    with pytest.raises(error, match=message):
        call()
