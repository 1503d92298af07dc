"""Oracles: the penalty written out in NumPy, and its derivative by jax.grad."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.train.decay import add_decay, add_l2, penalty

PARAMS = {
    "layer": {"weight": np.array([[1.0, -2.0], [0.5, 3.0]]), "bias": np.array([3.0, 4.0])},
    "visible_bias": np.array([7.0]),
    "unbiased": np.array([2.0]),
}
SQUARES = 1.0 + 4.0 + 0.25 + 9.0 + 4.0


def test_the_penalty_is_of_the_weights_alone_and_add_l2_its_gradient():
    """Oracle: the sum by hand; jax.grad."""
    value, gradient = jax.value_and_grad(lambda p: penalty(p, 0.3))(PARAMS)
    np.testing.assert_allclose(value, 0.3 * SQUARES, rtol=1e-14)
    zeros = jax.tree.map(np.zeros_like, PARAMS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14),
        add_l2(PARAMS, zeros, 0.3),
        gradient,
    )


def test_decay_of_everything_takes_the_biases_too():
    """Oracle: u + rate·p of every leaf."""
    ones = jax.tree.map(np.ones_like, PARAMS)
    found = add_decay(PARAMS, ones, -0.5, biases=True)
    jax.tree.map(lambda a, p: np.testing.assert_allclose(a, 1 - 0.5 * p), found, PARAMS)


def test_the_dtype_is_that_of_the_updates():
    """Invariant: a rate in float64 leaves float32 alone."""
    single = {"weight": jnp.ones(2, jnp.float32)}
    assert add_l2(single, single, jnp.float64(0.1))["weight"].dtype == jnp.float32
