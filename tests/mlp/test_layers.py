"""Oracles: jax.vjp for the way back, jnp.max for maxout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.mlp import Dense, Maxout, Residual

KEYS = jax.random.split(jax.random.key(1), 5)
H = jax.random.normal(KEYS[0], (7, 3))
DELTA = jax.random.normal(KEYS[1], (7, 4))
LAYERS = {
    "dense": Dense(jax.random.normal(KEYS[2], (4, 3)), jax.random.normal(KEYS[3], (4,))),
    "dense without bias": Dense(jax.random.normal(KEYS[2], (4, 3)), None),
    "residual": Residual(jax.random.normal(KEYS[2], (3, 3)), jax.random.normal(KEYS[3], (3,))),
    "maxout": Maxout(jax.random.normal(KEYS[2], (5, 4, 3)), jax.random.normal(KEYS[3], (5, 4))),
    "maxout without bias": Maxout(jax.random.normal(KEYS[2], (2, 4, 3)), None),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_way_back_is_the_vector_jacobian_product(name):
    layer = LAYERS[name]
    a, vjp = jax.vjp(lambda layer, h: layer.linear(h)[0], layer, H)
    delta = DELTA[:, : a.shape[1]]
    memory = layer.linear(H)[1]
    by_hand = layer.gradient(H, memory, delta), layer.pull(memory, delta)
    assert jax.tree.structure(by_hand[0]) == jax.tree.structure(layer)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), by_hand, vjp(delta)
    )


@pytest.mark.parametrize("name", LAYERS)
def test_along_is_the_derivative_in_the_direction_of_the_weights(name):
    layer = LAYERS[name]
    direction = jax.tree.map(jnp.cos, layer)
    a, tangent = jax.jvp(lambda layer: layer.linear(H)[0], (layer,), (direction,))
    memory = layer.linear(H)[1]
    np.testing.assert_allclose(direction.along(H, memory), tangent, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(layer.along(H, memory), a, rtol=1e-14)


def test_dense_is_w_h_plus_b_for_each_row():
    weight, bias = LAYERS["dense"]
    rows = [weight @ row + bias for row in H]
    np.testing.assert_allclose(LAYERS["dense"].linear(H)[0], jnp.stack(rows), rtol=1e-13)


def test_maxout_is_the_largest_of_its_pieces():
    weight, bias = LAYERS["maxout"]
    pieces = jnp.stack([Dense(w, b).linear(H)[0] for w, b in zip(weight, bias, strict=True)])
    np.testing.assert_allclose(LAYERS["maxout"].linear(H)[0], pieces.max(axis=0), rtol=1e-13)


def test_a_piece_of_zeros_makes_maxout_a_relu():
    weight, bias = LAYERS["dense"]
    layer = Maxout(jnp.stack([jnp.zeros_like(weight), weight]), jnp.stack([0 * bias, bias]))
    expected = jax.nn.relu(LAYERS["dense"].linear(H)[0])
    np.testing.assert_allclose(layer.linear(H)[0], expected, rtol=1e-13)


def test_ties_of_pieces_go_to_the_first_by_hand_and_by_jax():
    layer = LAYERS["maxout without bias"]
    zeros = jnp.zeros_like(H)  # as in padded rows: all pieces are 0
    _, vjp = jax.vjp(lambda h: layer.linear(h)[0], zeros)
    grad = layer.pull(layer.linear(zeros)[1], DELTA)
    np.testing.assert_allclose(grad, DELTA @ layer.weight[0], rtol=1e-12)
    np.testing.assert_allclose(grad, vjp(DELTA)[0], rtol=1e-12)
