"""The bridge to flax.nnx: equal outputs and gradients both ways, and modules in the trainer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge.flax_cases import BATCH, GRADIENT, NET, OUTPUTS, VALUE, X, same
from flax import nnx as fnx

from jaxnn import mlp, train
from jaxnn.bridge import nnx


def test_outputs_gradients_and_the_way_back():
    module = nnx.to_nnx(NET, activation="tanh")
    np.testing.assert_allclose(module(X), OUTPUTS, rtol=1e-12)
    same(nnx.from_nnx(module), NET)
    graph, params, rest = nnx.split(module)
    value, gradient = nnx.value_and_grad(module)(params, BATCH, None)
    np.testing.assert_allclose(value, VALUE, rtol=1e-12)
    same(nnx.from_nnx(fnx.merge(graph, gradient, rest)), GRADIENT)


def test_without_biases_and_with_an_output_activation():
    net = mlp.init(jax.random.key(0), (3, 4, 2), bias=False, dtype=jnp.float32)
    module = nnx.to_nnx(net, output_activation="sigmoid")
    x = X.astype(jnp.float32)
    found = module(x)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(
        found, mlp.apply(net, x, output_activation="sigmoid"), rtol=1e-6
    )  # fmt: skip
    same(nnx.from_nnx(module), net)


class Thinned(fnx.Module):
    """A module with dropout."""

    def __init__(self, rngs):
        self.first = fnx.Linear(3, 8, param_dtype=jnp.float64, rngs=rngs)
        self.last = fnx.Linear(8, 2, param_dtype=jnp.float64, rngs=rngs)
        self.dropout = fnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(fnx.relu(self.first(x))))


def test_any_module_trains():
    module = Thinned(fnx.Rngs(0))
    descend, (_, params, _) = nnx.value_and_grad(module), nnx.split(module)
    on = [descend(params, BATCH, jax.random.key(i))[0] for i in (0, 0, 1)]
    assert on[0] == on[1] != on[2]
    off = [descend(params, BATCH, None)[0] for _ in range(2)]
    assert off[0] == off[1]
    assert off[0] not in on
    run = train.fit(jax.random.key(2), params, BATCH, descend, epochs=150, learning_rate=0.05)
    assert descend(run.params, BATCH, None)[0] < 0.5 * off[0]


@pytest.mark.usefixtures("unchecked_types")
def test_other_modules_are_refused():
    rngs = fnx.Rngs(0)
    with pytest.raises(TypeError, match="module must be a Sequential, got Thinned"):
        nnx.from_nnx(Thinned(rngs))
    with pytest.raises(TypeError, match=r"layers\[1\] must be Linear or a function, got BatchNorm"):
        nnx.from_nnx(fnx.Sequential(fnx.Linear(3, 2, rngs=rngs), fnx.BatchNorm(2, rngs=rngs)))
    with pytest.raises(ValueError, match="at least one dense layer"):
        nnx.from_nnx(fnx.Sequential(fnx.relu))
    with pytest.raises(TypeError, match="module must be a Module, got function"):
        nnx.value_and_grad(lambda x: x)
