"""The forward pass, keeping a tape of what the way back needs.

Shapes: n samples, d features, o outputs.  h_0 = x, a_i = W_i h_{i-1} + b_i, h_i = σ(a_i), and
dropout on the hidden h_i.  A residual layer adds its inputs, h_i = h_{i-1} + σ(a_i).  Where nobody
reads the tape, XLA removes it: `mlp.apply` is this pass.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks, draws
from jaxnn.mlp.activations import ACTIVATIONS
from jaxnn.mlp.layers import Layer, Params, Stack
from jaxnn.mlp.structure import bare, check_network, input_width, length
from jaxnn.mlp.thinning import check_dropout, dropout_mask, dropout_scale, thin, thin_marked
from jaxnn.types import Key, Scalar

INPUT = 2**31 - 1  # folded into the key for the mask of the rows; layers have their numbers


class Record(NamedTuple):
    """What one layer leaves on the tape; see `Tape`."""

    inputs: Float[Array, "*l n _"]
    linear: Float[Array, "*l n _"]
    memory: Array | None
    kept: Bool[Array, "*l n _"] | None


class Tape(NamedTuple):
    """What the forward pass leaves for `backward`; tuples have an entry for each of `params`.

    Rows are flat: whatever shape the batch had, n is the product of its leading axes.  The entry
    of a `Stack` has a leading axis of layers.

    Attributes:
        inputs: h_{i-1}, the rows that went into the layer, after dropout.
        linear: a_i, its pre-activations.
        memory: What else the layer asked for on the way back.
        kept: Which outputs of σ dropout kept, or None where it kept all.
        scale: The factor on kept outputs of hidden layers, or None for no dropout.
        input_kept: Which entries of x dropout kept, or None where it kept all.
        input_scale: The factor on kept entries of x, or None for no dropout.
    """

    inputs: tuple[Float[Array, "*l n _"], ...]
    linear: tuple[Float[Array, "*l n _"], ...]
    memory: tuple[Array | None, ...]
    kept: tuple[Bool[Array, "*l n _"] | None, ...]
    scale: Float[Array, ""] | None
    input_kept: Bool[Array, "n _"] | None
    input_scale: Float[Array, ""] | None

    def record(self, i: int) -> Record:
        """Returns what entry `i` of the parameters left."""
        return Record(self.inputs[i], self.linear[i], self.memory[i], self.kept[i])


class Options(NamedTuple):
    """What a forward pass is told besides parameters, rows and key."""

    activation: str = "relu"
    output_activation: str = "identity"
    keep_prob: Scalar = 1.0
    convention: str = "inverted"
    input_keep_prob: Scalar = 1.0


def _advance(
    layer: Layer,
    h: Float[Array, "n _"],
    key: Key | None,
    keep_prob: Scalar,
    scale: Float[Array, ""] | None,
    *,
    activation: str,
) -> tuple[Float[Array, "n _"], Record]:
    """Returns the outputs of one layer, and its record."""
    a, memory = layer.linear(h)
    out = ACTIVATIONS[activation].value(a)
    kept = None if scale is None else dropout_mask(key, keep_prob, out.shape)
    if kept is None or scale is None:
        out = thin(out, kept, scale)
    else:
        out, kept = thin_marked(out, kept, scale)
    return (h + out if layer.skip else out), Record(h, a, memory, kept)


# Compiled, since outside of jit a loop would be compiled anew for each call.
@partial(jax.jit, static_argnames="activation")
def _advance_stack(
    stack: Stack,
    h: Float[Array, "n _"],
    key: Key | None,
    first: int | Int[Array, ""],
    keep_prob: Scalar,
    scale: Float[Array, ""] | None,
    *,
    activation: str,
) -> tuple[Float[Array, "n _"], Record]:
    """Returns the outputs of the last of many layers, and the records of all."""

    def step(h: Array, member: tuple[Layer, Array]) -> tuple[Array, Record]:
        layer, i = member
        layer_key = None if key is None or scale is None else draws.fold_in(key, i)
        return _advance(layer, h, layer_key, keep_prob, scale, activation=activation)

    numbers = first + jnp.arange(length(stack))
    return jax.lax.scan(step, h, (stack.layers, numbers))


def flat_rows(where: str, x: ArrayLike, width: int) -> tuple[Float[Array, "n d"], tuple[int, ...]]:
    """Returns the rows of a batch of any leading shape, one under the other, and that shape."""
    array = checks.floating(where, "x", x)
    if array.ndim == 2:
        return checks.data(where, "x", array, width=width), array.shape[:1]
    if array.ndim == 0 or array.shape[-1] != width:
        raise ValueError(f"{where}: x must have shape (..., {width}), got {array.shape}")
    if array.size == 0:
        raise ValueError(f"{where}: x must not be empty, got shape {array.shape}")
    checks.finite(where, "x", array)
    return array.reshape(-1, width), array.shape[:-1]


def run(
    where: str, params: Params, x: ArrayLike, key: Key | None, options: Options
) -> tuple[Float[Array, "n o"], Tape, tuple[int, ...]]:
    """Returns outputs, tape and leading shape: the one forward pass, behind the door `where`."""
    activation, output_activation, keep_prob, convention, input_keep_prob = options
    dtype = check_network(where, params, activation, output_activation)
    check_dropout(where, key, keep_prob, convention)
    check_dropout(where, key, input_keep_prob, convention, name="input_keep_prob")
    h, shape = flat_rows(where, x, input_width(params[0]))
    checks.same_dtype(where, "x", h, "params", dtype)
    scale = dropout_scale(key, keep_prob, convention, dtype)
    input_scale = dropout_scale(key, input_keep_prob, convention, dtype)
    input_kept = None
    if input_scale is not None and key is not None:
        input_kept = dropout_mask(draws.fold_in(key, INPUT), input_keep_prob, h.shape)
    h = thin(h, input_kept, input_scale)
    records, i = [], 0
    *hidden, output = params
    for layer in hidden:
        if isinstance(layer, Stack):
            h, record = _advance_stack(layer, h, key, i, keep_prob, scale, activation=activation)
        else:
            layer_key = None if key is None or scale is None else draws.fold_in(key, i)
            h, record = _advance(layer, h, layer_key, keep_prob, scale, activation=activation)
        records.append(record)
        i += length(layer)
    h, record = _advance(bare(output), h, None, 1.0, None, activation=output_activation)
    inputs, linear, memory, kept = zip(*records, record, strict=True)
    return h, Tape(inputs, linear, memory, kept, scale, input_kept, input_scale), shape


def forward(
    params: Params,
    x: Float[ArrayLike, "*n d"],
    *,
    activation: str = "relu",
    output_activation: str = "identity",
    keep_prob: Scalar = 1.0,
    key: Key | None = None,
    convention: str = "inverted",
    input_keep_prob: Scalar = 1.0,
) -> tuple[Float[Array, "*n o"], Tape]:
    """Returns the outputs of the network and the tape for `backward`.

    Arguments and errors are those of `mlp.apply`.
    """
    options = Options(activation, output_activation, keep_prob, convention, input_keep_prob)
    outputs, tape, shape = run("mlp.forward", params, x, key, options)
    return outputs.reshape(*shape, -1), tape
