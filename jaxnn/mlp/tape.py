"""The forward pass, keeping a tape of what the way back needs.

Shapes: n samples, d features, o outputs.  h_0 = x, a_i = W_i h_{i-1} + b_i, h_i = σ(a_i), and
dropout on the hidden h_i.  Where nobody reads the tape, XLA removes it: `mlp.apply` is this pass.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnn import checks
from jaxnn.mlp.activations import ACTIVATIONS, Activation
from jaxnn.mlp.layers import Layer, Params, check_dropout, dropout_mask, dropout_scale, thin
from jaxnn.types import Data, Key, Scalar


class Tape(NamedTuple):
    """What the forward pass leaves for `backward`; tuples have an entry for each layer.

    Attributes:
        inputs: h_{i-1}, the rows that went into the layer, after dropout.
        linear: a_i, its pre-activations.
        memory: What else the layer's `pullback` asked for.
        kept: Which outputs of the layer dropout kept, or None where it kept all.
        scale: The factor on kept outputs of hidden layers, or None for no dropout.
    """

    inputs: tuple[Float[Array, "n _"], ...]
    linear: tuple[Float[Array, "n _"], ...]
    memory: tuple[Array | None, ...]
    kept: tuple[Bool[Array, "n _"] | None, ...]
    scale: Float[Array, ""] | None


def check_network(where: str, params: Params, activation: str, output_activation: str) -> None:
    """Raises unless the layers fit together and the activations fit them."""
    checks.in_table(where, "activation", activation, ACTIVATIONS)
    checks.in_table(where, "output_activation", output_activation, ACTIVATIONS)
    if not isinstance(params, tuple) or isinstance(params, Layer) or not params:
        raise TypeError(f"{where}: params must be a tuple of layers, got {type(params).__name__}")
    width, dtype = None, jnp.result_type(getattr(params[0], "weight", 0.0))
    for i, layer in enumerate(params):
        name = f"params[{i}]"
        if not isinstance(layer, Layer):
            raise TypeError(f"{where}: {name} must be Dense or Maxout, got {type(layer).__name__}")
        weight = checks.floating(where, f"weight of {name}", layer.weight)
        checks.same_dtype(where, f"weight of {name}", weight, "params[0]", dtype)
        checks.shape(where, f"weight of {name}", weight, (None,) * (layer.axes - 1) + (width,))
        if layer.bias is not None:
            checks.shape(where, f"bias of {name}", layer.bias, weight.shape[:-1])
        if layer.nonlinear and i < len(params) - 1 and activation != "identity":
            raise ValueError(
                f"{where}: {name} is {type(layer).__name__}, its own nonlinearity; "
                f"pass activation='identity', not {activation!r}"
            )
        width = weight.shape[-2]


def activations_of(depth: int, activation: str, output_activation: str) -> tuple[Activation, ...]:
    """Returns the activation behind each of `depth` layers."""
    return (ACTIVATIONS[activation],) * (depth - 1) + (ACTIVATIONS[output_activation],)


class Options(NamedTuple):
    """What a forward pass is told besides parameters, rows and key."""

    activation: str
    output_activation: str
    keep_prob: Scalar
    convention: str


def run(
    where: str, params: Params, x: Data, key: Key | None, options: Options
) -> tuple[Float[Array, "n o"], Tape]:
    """Returns outputs and tape: the one forward pass, behind the public door named `where`."""
    activation, output_activation, keep_prob, convention = options
    check_network(where, params, activation, output_activation)
    check_dropout(where, key, keep_prob, convention)
    h = checks.data(where, "x", x, width=params[0].weight.shape[-1])
    checks.same_dtype(where, "x", h, "params", params[0].weight.dtype)
    scale = dropout_scale(key, keep_prob, convention, h.dtype)
    functions = activations_of(len(params), activation, output_activation)
    inputs, linear, memory, kept = [], [], [], []
    for i, (layer, function) in enumerate(zip(params, functions, strict=True)):
        inputs.append(h)
        a, rest = layer.linear(h)
        h = function.value(a)
        mask = None
        if i < len(params) - 1 and scale is not None:
            layer_key = None if key is None else jax.random.fold_in(key, i)
            mask = dropout_mask(layer_key, keep_prob, h.shape)
            h = thin(h, mask, scale)
        linear.append(a)
        memory.append(rest)
        kept.append(mask)
    return h, Tape(tuple(inputs), tuple(linear), tuple(memory), tuple(kept), scale)


def forward(
    params: Params,
    x: Data,
    *,
    activation: str = "relu",
    output_activation: str = "identity",
    keep_prob: Scalar = 1.0,
    key: Key | None = None,
    convention: str = "inverted",
) -> tuple[Float[Array, "n o"], Tape]:
    """Returns the outputs of the network and the tape for `backward`.

    Arguments and errors are those of `mlp.apply`.
    """
    options = Options(activation, output_activation, keep_prob, convention)
    return run("mlp.forward", params, x, key, options)
