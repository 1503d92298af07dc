"""Oracles: jax.grad with respect to what is added to the pre-activations, row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import mlp
from jaxnn.mlp.recursion import _size

KEYS = jax.random.split(jax.random.key(6), 4)
X = jax.random.normal(KEYS[0], (6, 3))
GRAD = jax.random.normal(KEYS[1], (6, 2))


@pytest.mark.parametrize("kind", ["dense", "residual stack"])
def test_deltas_are_the_gradients_of_shifts_of_the_pre_activations(kind):
    params = mlp.init(KEYS[2], (3, 4, 4, 4, 2), residual=kind != "dense", dtype=jnp.float64)
    given = mlp.stack(params) if "stack" in kind else params
    options = {"activation": "tanh", "output_activation": "sigmoid"}

    def weighed(shifts, x, grad):  # a shift of the bias of one row is one of its pre-activations
        moved = tuple(p._replace(bias=p.bias + s) for p, s in zip(params, shifts, strict=True))
        return jnp.sum(grad * mlp.apply(moved, x[None], **options)[0])

    def both(given):
        tape = mlp.forward(given, X, **options)[1]
        zeros = [jnp.zeros(p.bias.shape) for p in params]
        wanted = jax.vmap(jax.grad(weighed), (None, 0, 0))(zeros, X, GRAD)
        return mlp.deltas(given, tape, GRAD, **options), wanted

    found, wanted = jax.jit(both)(given)
    flat = [d for entry in found for d in (entry if entry.ndim == 3 else [entry])]
    assert [d.shape for d in found] == (
        [(6, 4), (2, 6, 4), (6, 2)] if "stack" in kind else [(6, 4)] * 3 + [(6, 2)]
    )
    for one, other in zip(flat, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


def test_sizes_of_rows_neither_vanish_nor_overflow_and_have_derivatives():
    rows = jnp.array([[3.0, 4.0], [0.0, 0.0], [3e-30, 4e-30], [3e30, -4e30]], jnp.float32)
    size, vjp = jax.vjp(_size, rows)
    np.testing.assert_allclose(size, [5, 0, 5e-30, 5e30], rtol=1e-6)
    expected = [[0.6, 0.8], [0, 0], [0.6, 0.8], [0.6, -0.8]]
    np.testing.assert_allclose(vjp(jnp.ones_like(size))[0], expected, rtol=1e-6)
