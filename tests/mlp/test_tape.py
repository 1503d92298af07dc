"""Oracles: the lecture's recursion as a loop over rows, and `apply` with the same key."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import mlp

KEYS = jax.random.split(jax.random.key(2), 4)
SIZES = (5, 40, 40, 3)
PARAMS = mlp.init(KEYS[0], SIZES, activation="tanh", dtype=jnp.float64)
X = jax.random.normal(KEYS[1], (50, 5))


def test_the_tape_holds_the_recursion_of_the_lecture():
    outputs, tape = mlp.forward(PARAMS, X, activation="tanh", output_activation="sigmoid")
    for r in range(3):
        h = X[r]
        for i, layer in enumerate(PARAMS):
            np.testing.assert_allclose(tape.inputs[i][r], h, rtol=1e-12, atol=1e-14)
            a = layer.weight @ h + layer.bias
            np.testing.assert_allclose(tape.linear[i][r], a, rtol=1e-12, atol=1e-14)
            h = jnp.tanh(a) if i < 2 else jax.nn.sigmoid(a)
        np.testing.assert_allclose(outputs[r], h, rtol=1e-12)
    assert tape.kept == (None, None, None)
    assert tape.scale is None


def test_the_same_key_drops_the_same_units_in_forward_and_in_apply():
    options = {"activation": "tanh", "keep_prob": 0.7, "key": KEYS[2]}
    outputs, tape = mlp.forward(PARAMS, X, **options)
    np.testing.assert_array_equal(outputs, mlp.apply(PARAMS, X, **options))
    for i in (0, 1):
        zero = tape.inputs[i + 1] == 0
        np.testing.assert_array_equal(zero, ~tape.kept[i])
        kept = jnp.where(tape.kept[i], jnp.tanh(tape.linear[i]) / 0.7, 0)
        np.testing.assert_allclose(tape.inputs[i + 1], kept, rtol=1e-12)
    assert tape.kept[2] is None  # outputs are never dropped


def test_layers_keys_and_rows_have_independent_masks():
    masks = []
    for key in KEYS[2:]:
        _, tape = mlp.forward(PARAMS, X, keep_prob=0.5, key=key)
        masks += [tape.kept[0], tape.kept[1]]
    flat = jnp.stack([mask.ravel() for mask in masks]).astype(float)  # 4 masks of 2000 units
    correlation = jnp.corrcoef(flat) - jnp.eye(4)
    assert float(jnp.abs(correlation).max()) < 5 / 2000**0.5
    assert len({mask.tobytes() for mask in np.asarray(masks[0])}) == 50


def test_a_mask_does_not_depend_on_the_layers_behind():
    _, short = mlp.forward(PARAMS[:2], X, keep_prob=0.5, key=KEYS[2])
    _, long = mlp.forward(PARAMS, X, keep_prob=0.5, key=KEYS[2])
    np.testing.assert_array_equal(short.kept[0], long.kept[0])


def test_the_python_number_one_draws_nothing():
    def trace(keep_prob):
        run = lambda x, key: mlp.forward(PARAMS, x, key=key, keep_prob=keep_prob)[0]
        return str(jax.make_jaxpr(run)(X, KEYS[2]))

    assert "shift_left" not in trace(1.0)  # the rotations of Threefry
    assert "shift_left" in trace(0.5)


def test_the_mask_of_the_rows_is_no_mask_of_a_layer():
    params = mlp.init(KEYS[0], (40, 40, 3), dtype=jnp.float64)
    x = jnp.ones((50, 40))
    _, tape = mlp.forward(params, x, keep_prob=0.5, input_keep_prob=0.5, key=KEYS[2])
    np.testing.assert_allclose(tape.inputs[0], jnp.where(tape.input_kept, 2.0, 0.0))
    masks = jnp.stack([tape.input_kept.ravel(), tape.kept[0].ravel()]).astype(float)
    assert abs(float(jnp.corrcoef(masks)[0, 1])) < 5 / 2000**0.5
