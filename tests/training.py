"""Small things to train, shared by the tests of training."""

import logging
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import mlp
from jaxnn.train import Batch

KEYS = jax.random.split(jax.random.key(7), 4)
KEY = KEYS[0]
N = 10
X = jax.random.normal(KEYS[1], (N, 3))
Y = X @ jnp.array([1.0, -2.0, 0.5]) + 0.1 * jax.random.normal(KEYS[2], (N,))
LINE = Batch(x=X, y=Y)
CLASSES = Batch(x=X, y=(Y > 0).astype(int))
AWAY = Batch(x=X + 0.3, y=Y)
HELD_OUT = Batch(x=X[::-1] + 0.3, y=CLASSES.y)
START = {"weight": jnp.array([0.3, 0.1, -0.2]), "bias": jnp.array(0.5)}
NET = mlp.init(KEYS[3], (3, 5, 4, 2), activation="tanh", dtype=jnp.float64)
MAXOUT = mlp.init(KEYS[3], (3, 4, 2), activation="identity", pieces=2, dtype=jnp.float64)
# The same function objects again and again: what one test has compiled, another need not.
DESCEND = mlp.value_and_grad("softmax_cross_entropy", activation="tanh", keep_prob=0.7)
PLAIN = mlp.value_and_grad(activation="tanh")


def squares(params, batch, key):
    """Mean squared error of a line; the gradient by hand."""
    del key
    error = batch.x @ params["weight"] + params["bias"] - batch.y
    share = batch.weight / jnp.sum(batch.weight)
    slope = 2 * share * error
    value = jnp.sum(share * error**2)
    return value, {"weight": slope @ batch.x, "bias": jnp.sum(slope)}


def countdown(params, batch, key):
    """The parameter grows by one each epoch with plain SGD and learning rate 1."""
    return 0.0 * jnp.sum(batch.x), jax.tree.map(lambda p: -jnp.ones_like(p), params)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def close(a, b, rtol=1e-10):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=1e-12), a, b)


def compiled(caplog, function, name="run"):
    """How many programs of that name `function` compiles."""
    caplog.clear()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        jax.block_until_ready(function())
    return sum(f"Compiling jit({name})" in record.getMessage() for record in caplog.records)
