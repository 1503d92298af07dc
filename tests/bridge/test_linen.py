"""The bridge to flax.linen: equal outputs and gradients both ways, and modules in the trainer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge.flax_cases import BATCH, GRADIENT, NET, OUTPUTS, VALUE, X, same
from flax import linen as nn

from jaxnn import mlp, train
from jaxnn.bridge import linen


def test_outputs_gradients_and_the_way_back():
    """Twelve layers, whose names do not sort like their numbers.  Oracles: each other."""
    module, variables = linen.to_linen(NET, activation="tanh")
    np.testing.assert_allclose(module.apply(variables, X), OUTPUTS, rtol=1e-12)
    same(linen.from_linen(variables), NET)
    value, gradient = linen.value_and_grad(module)(variables["params"], BATCH, None)
    np.testing.assert_allclose(value, VALUE, rtol=1e-12)
    same(linen.from_linen(gradient), GRADIENT)


def test_without_biases_and_with_an_output_activation():
    net = mlp.init(jax.random.key(0), (3, 4, 2), bias=False, dtype=jnp.float32)
    module, variables = linen.to_linen(net, output_activation="sigmoid")
    x = X.astype(jnp.float32)
    found = module.apply(variables, x)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(
        found, mlp.apply(net, x, output_activation="sigmoid"), rtol=1e-6
    )  # fmt: skip
    same(linen.from_linen(variables), net)


class Thinned(nn.Module):
    """A module with dropout, which is told when it is in training."""

    @nn.compact
    def __call__(self, x, *, training=False):
        h = nn.Dropout(0.5, deterministic=not training)(
            nn.relu(nn.Dense(8, param_dtype=x.dtype)(x))
        )
        return nn.Dense(2, param_dtype=x.dtype)(h)


def test_any_module_trains():
    module = Thinned()
    params = module.init(jax.random.key(0), X)["params"]
    descend = linen.value_and_grad(module, training={"training": True})
    on = [descend(params, BATCH, jax.random.key(i))[0] for i in (0, 0, 1)]
    assert on[0] == on[1] != on[2]
    off = linen.value_and_grad(module)(params, BATCH, None)[0]
    assert off not in on
    run = train.fit(jax.random.key(2), params, BATCH, descend, epochs=150, learning_rate=0.05)
    assert descend(run.params, BATCH, None)[0] < 0.5 * off


@pytest.mark.parametrize(
    ("variables", "error", "message"),
    [
        ({"params": {"Conv_0": {"kernel": X, "mask": X}}}, TypeError, "Conv_0 must be a numbered"),
        ({"layer": {"kernel": X}}, TypeError, "layer must be a numbered dense layer"),
        ({"layers_0": X}, TypeError, "layers_0 must be a numbered dense layer, got Array"),
        ({"layers_0": {"kernel": X[0]}}, ValueError, "kernel of layers_0 must have shape"),
        ({}, ValueError, "at least one dense layer"),
    ],
)
def test_other_variables_are_refused(variables, error, message):
    with pytest.raises(error, match=message):
        linen.from_linen(variables)


@pytest.mark.usefixtures("unchecked_types")
def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match="module must be a Module, got function"):
        linen.value_and_grad(lambda x: x)
