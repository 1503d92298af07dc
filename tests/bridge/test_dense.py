"""What all bridges share: chains of dense layers, and who is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import mlp
from jaxnn.bridge import dense

KEY = jax.random.key(0)


def test_a_stack_is_taken_apart():
    net = mlp.init(KEY, (2, 3, 3, 3, 1))
    layers = dense.dense_layers("f", mlp.stack(net))
    assert len(layers) == len(net)
    for a, b in zip(layers, net, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)


def test_other_layers_are_named():
    net = mlp.init(KEY, (2, 3, 1), activation="identity", pieces=2)
    with pytest.raises(TypeError, match=r"f: params\[0\] must be Dense, .* got Maxout"):
        dense.dense_layers("f", net)
    with pytest.raises(ValueError, match="unknown activation 'rely'"):
        dense.steps("f", mlp.init(KEY, (2, 3, 1)), "rely", "identity")


def test_the_last_activation_is_that_of_the_outputs():
    net = mlp.init(KEY, (2, 3, 1))
    (first, hidden), (second, last) = dense.steps("f", net, "relu", "tanh")
    assert first is net[0]
    assert second is net[1]
    assert (hidden, last) == (mlp.ACTIVATIONS["relu"].value, mlp.ACTIVATIONS["tanh"].value)


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ([], ValueError, "at least one dense layer"),
        ([("a", np.ones(3), None)], ValueError, r"weight of a must have shape \(any, any\)"),
        ([("a", np.ones((2, 3)), None), ("b", np.ones((1, 3)), None)], ValueError,
         r"weight of b must have shape \(any, 2\), got \(1, 3\)"),
        ([("a", np.ones((2, 3)), np.ones(3))], ValueError, r"bias of a must have shape \(2,\)"),
        ([("a", np.ones((2, 3)), np.ones(2, np.float32))], TypeError, "bias of a must be float64"),
        ([("a", np.ones((2, 3), int), None)], TypeError, "weight of a must hold floating-point"),
        ([("a", np.full((2, 3), np.nan), None)], ValueError, "weight of a must be finite"),
    ],
)  # fmt: skip
def test_what_is_no_chain_is_refused(pairs, error, message):
    with pytest.raises(error, match=message):
        dense.from_pairs("f", [(n, jnp.asarray(w), b) for n, w, b in pairs])
