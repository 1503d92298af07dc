"""Oracles: gradients spoilt on purpose, and kinks put where they are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import mlp
from jaxnn.train import Batch

KEYS = jax.random.split(jax.random.key(12), 4)
X = jax.random.normal(KEYS[0], (5, 3))
BATCH = Batch(X, jnp.arange(5) % 2, None)
NET = mlp.init(KEYS[1], (3, 4, 2), activation="tanh", dtype=jnp.float64)
BY_HAND = mlp.value_and_grad(activation="tanh", keep_prob=0.7)


def sign(params, batch, key):
    value, gradient = BY_HAND(params, batch, key)
    return value, (gradient[0], jax.tree.map(lambda g: -g, gradient[1]))


def scale(params, batch, key):
    value, gradient = BY_HAND(params, batch, key)
    return value, jax.tree.map(lambda g: 1.001 * g, gradient)


def term(params, batch, key):
    value, gradient = BY_HAND(params, batch, key)
    return value, (gradient[0]._replace(bias=0 * gradient[0].bias), gradient[1])


@pytest.mark.parametrize("dropout", [False, True])
def test_the_gradient_by_hand_is_right(dropout):
    found = mlp.check_gradient(KEYS[2], BY_HAND, NET, BATCH, dropout=dropout)
    assert not found.wrong.any()
    assert not found.kink.any()
    np.testing.assert_allclose(found.by_hand, found.by_differences, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("spoilt", [sign, scale, term])
def test_a_wrong_gradient_is_found(spoilt):
    found = mlp.check_gradient(KEYS[2], spoilt, NET, BATCH)
    assert found.wrong.all()
    assert not found.kink.any()


def test_float32_finds_what_it_can():
    net = jax.tree.map(jnp.float32, NET)
    batch = BATCH._replace(x=X.astype(jnp.float32))
    assert not mlp.check_gradient(KEYS[2], BY_HAND, net, batch).wrong.any()
    found = mlp.check_gradient(KEYS[2], sign, net, batch)
    assert found.wrong.all()
    assert found.by_differences.dtype == jnp.float32


RELU = mlp.value_and_grad("squared")
# Rows of zeros and no bias: every unit stands at the kink.
AT_KINK = mlp.init(KEYS[1], (3, 4, 2), dtype=jnp.float64)
ZEROS = Batch(0 * X, jnp.ones((5, 2)), None)


def test_a_kink_is_told_from_a_wrong_gradient():  # F28
    found = mlp.check_gradient(KEYS[2], RELU, AT_KINK, ZEROS)
    assert found.kink.all()
    assert not found.wrong.any()
    differ = np.abs(found.by_hand - found.by_differences)
    assert np.all(differ > 1e-3)  # differences alone would have called it wrong


def test_at_a_kink_a_gradient_outside_of_both_slopes_is_wrong():
    def spoilt(params, batch, key):
        value, gradient = RELU(params, batch, key)
        return value, jax.tree.map(lambda g: g + 1e3, gradient)

    found = mlp.check_gradient(KEYS[2], spoilt, AT_KINK, ZEROS)
    assert found.kink.all()
    assert found.wrong.all()


def absolute(point, batch, key):
    del key
    return jnp.sum(jnp.abs(point - batch)), jnp.sign(point - batch)


@pytest.mark.parametrize("share", [0.0, 0.2, 1 / 3, 0.5, 0.9, -0.4])
def test_kinks_anywhere_within_the_step_are_seen_and_beyond_it_are_not(share):
    found = mlp.check_gradient(
        KEYS[2], absolute, jnp.zeros(1), 0.1 * share * jnp.ones(1), step=0.1, directions=2
    )
    assert found.kink.all()
    assert not found.wrong.any()
    beyond = mlp.check_gradient(
        KEYS[2], absolute, jnp.zeros(1), 0.1001 * jnp.ones(1), step=0.1, directions=2
    )
    assert not beyond.kink.any()
    assert not beyond.wrong.any()


def cube(point, batch, key):
    del batch, key
    return jnp.sum(point**3), 3 * point**2


def test_differences_are_exact_for_a_cubic():
    found = mlp.check_gradient(KEYS[2], cube, jnp.ones(2), None, step=0.5, directions=2)
    np.testing.assert_allclose(found.by_differences, found.by_hand, rtol=1e-12)


def test_it_can_be_traced_and_mapped():
    keys = jax.random.split(KEYS[3], 2)
    check = lambda key: mlp.check_gradient(key, absolute, jnp.ones(2), jnp.zeros(2), directions=3)
    both = jax.jit(jax.vmap(check))(keys)
    for i in (0, 1):
        one = check(keys[i])
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-9), both, one)


def rows(params, batch, key):
    del key
    return params * batch, batch


BAD = [
    ({"value_and_grad": rows}, ValueError, r"the value of .* must have shape \(\)"),  # F29
    ({"value_and_grad": lambda p, b, k: 0.0}, TypeError, "must return .value, gradient., got "),
    ({"value_and_grad": lambda p, b, k: (jnp.sum(p), (p,))}, TypeError, "gradient must be built"),
    ({"params": ()}, ValueError, "params must hold at least one array"),
    ({"params": jnp.arange(3)}, TypeError, "params must hold floating-point numbers"),
    ({"step": 0.0}, ValueError, "step must be positive"),
    ({"tol": -1.0}, ValueError, "tol must be positive"),
    ({"directions": 0}, ValueError, "directions must be at least 1"),
    ({"key": 3}, TypeError, "key must be a PRNG key"),
]  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input(change, error, message):
    good = {"key": KEYS[2], "value_and_grad": absolute, "params": jnp.ones(3), "batch": X[0]}
    with pytest.raises(error, match="^mlp.check_gradient: .*" + message):
        mlp.check_gradient(**good | change)
