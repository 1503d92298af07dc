"""The fits of `networks_peers` by Equinox and by Keras 3, for the long race."""

import os
from collections.abc import Callable
from typing import Any

import equinox as eqx  # type: ignore
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.networks_peers import RATE, Task

os.environ.setdefault("KERAS_BACKEND", "jax")  # read when keras is imported
import keras  # type: ignore


class Layers(eqx.Module):
    """The network as Equinox has it, for one row."""

    layers: list[eqx.nn.Linear]
    dropout: eqx.nn.Dropout
    tanh: bool = eqx.field(static=True)

    def __call__(self, x: Any, key: Any = None, inference: bool = False) -> Any:
        """Returns the outputs."""
        keys = [None] * len(self.layers) if key is None else jax.random.split(key, len(self.layers))
        for layer, key in zip(self.layers[:-1], keys, strict=False):
            x = layer(x)
            x = jnp.tanh(x) if self.tanh else jax.nn.relu(x)
            x = self.dropout(x, key=key, inference=inference)
        return self.layers[-1](x)


def with_equinox(task: Task) -> Callable[[int], Any]:
    """Returns a fit by Equinox and optax: a jitted step in a Python loop."""
    optimizer = optax.adam(RATE)
    still = task.keep == 1

    @eqx.filter_jit(donate="all")
    def step(net: Any, state: Any, x: Any, y: Any, key: Any) -> Any:
        def loss(net: Any) -> Any:
            outputs = jax.vmap(lambda row, key: net(row, key, still))(
                x, jax.random.split(key, len(x))
            )
            if task.classes:
                return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()
            return jnp.mean((outputs - y) ** 2)

        gradient = eqx.filter_grad(loss)(net)
        updates, state = optimizer.update(gradient, state, eqx.filter(net, eqx.is_inexact_array))
        return eqx.apply_updates(net, updates), state

    @eqx.filter_jit
    def apply(net: Any, x: Any) -> Any:
        return jax.vmap(lambda row: net(row, inference=True))(x)

    def fit(seed: int) -> Any:
        rng, key, layers = np.random.default_rng(seed), jax.random.key(seed), []
        for w, b in task.start(seed):
            blank = eqx.nn.Linear(*w.shape[::-1], key=key)
            some = (jnp.asarray(w), jnp.asarray(b))
            layers.append(eqx.tree_at(lambda l: (l.weight, l.bias), blank, some))
        net: Any = Layers(layers, eqx.nn.Dropout(1 - task.keep), not task.classes)
        state, number = optimizer.init(eqx.filter(net, eqx.is_inexact_array)), 0
        for _ in range(task.epochs):
            order = rng.permutation(len(task.x)) if task.batch < len(task.x) else None
            for first in range(0, len(task.x), task.batch):
                rows = slice(None) if order is None else order[first : first + task.batch]
                number += 1
                some = jnp.asarray(task.x[rows]), jnp.asarray(task.y[rows])
                net, state = step(net, state, *some, jax.random.fold_in(key, number))
        return apply(net, task.test_x)

    return fit


def with_keras(task: Task) -> Callable[[int], Any]:
    """Returns a fit by Keras 3 on JAX: `compile` and `fit`."""
    loss = (
        keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if task.classes
        else keras.losses.MeanSquaredError()
    )

    def fit(seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        layers: list[Any] = [keras.Input((task.sizes[0],))]
        for width in task.sizes[1:-1]:
            layers.append(keras.layers.Dense(width, "relu" if task.classes else "tanh"))
            if task.keep < 1:
                layers.append(keras.layers.Dropout(1 - task.keep))
        net: Any = keras.Sequential([*layers, keras.layers.Dense(task.sizes[-1])])
        net.set_weights([part for w, b in task.start(seed) for part in (w.T, b)])
        net.compile(keras.optimizers.Adam(RATE, epsilon=1e-8), loss)
        net.fit(task.x, task.y, batch_size=task.batch, epochs=task.epochs, verbose=0,
                shuffle=task.batch < len(task.x))  # fmt: skip
        return net.predict(task.test_x, verbose=0)

    return fit
