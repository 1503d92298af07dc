"""Networks of several widths in one program: wide ones, of which a traced number of units lives."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxnn import checks
from jaxnn.mlp.layers import Layer, Params, Stack
from jaxnn.mlp.structure import bare, input_width, length


def narrow(
    params: Params,
    widths: Sequence[int | Array] | Int[Array, " hidden"],
    *,
    start: bool = False,
) -> Params:
    """Returns the network with zero weights and biases for hidden units beyond `widths`.

    Such a unit feeds nothing, whatever its activation. Apply it to the gradients too, and a step
    of any optimizer leaves them zero: then the network is, and trains as, the one that has its
    first units alone. Widths are traced, so networks of many widths train under one `vmap`::

        def one(params, batch, key):
            value, gradient = descend(narrow(params, widths), batch, key)
            return value, narrow(gradient, widths)

    Args:
        params: Layers, as from `init`, or gradients of their structure.
        widths: How many units of each hidden layer live, from 1 up to its size: a number for each
            layer of a `Stack`, and none for `Residual` layers, which are as wide as their inputs.
        start: Whether to widen weights by √(inputs / living inputs), as `init` would have drawn
            them for the narrower layer.

    Raises:
        ValueError: If there are not as many widths as layers that have one, or one is out of range.

    >>> import jax
    >>> from jaxnn.mlp import init
    >>> params = narrow(init(jax.random.key(0), (4, 8, 3)), [2])
    >>> [int((layer.weight != 0).sum()) for layer in params]
    [8, 6]
    """
    where = "mlp.narrow"
    *hidden, output = params
    free = [0 if bare(layer).skip else length(layer) for layer in hidden]
    if len(widths) != sum(free):
        raise ValueError(
            f"{where}: widths must hold one number for each of {sum(free)} hidden layers, "
            f"got {len(widths)}"
        )
    layers: list[Layer | Stack] = []
    inputs, i = input_width(params[0]), 0
    for layer, taken in zip(hidden, free, strict=True):
        own = widths[i : i + taken]
        for j, width in enumerate(own, i):
            if checks.concrete(width):
                checks.count(where, f"widths[{j}]", width, most=layer.weight.shape[-2])
        lives = own if taken else [inputs] * length(layer)
        if isinstance(layer, Stack):
            before = _numbers([inputs, *lives[:-1]])
            cut = jax.vmap(partial(_cut, start=start))
            layers.append(Stack(cut(layer.layers, before, _numbers(lives))))
        else:
            layers.append(_cut(layer, inputs, lives[0], start=start))
        inputs, i = lives[-1], i + taken
    return (*layers, _cut(bare(output), inputs, output.weight.shape[-2], start=start))


def _numbers(widths: Any) -> Int[Array, " l"]:
    return jnp.stack([jnp.asarray(width, jnp.int32) for width in widths])


def _cut(layer: Layer, inputs: int | Array, outputs: int | Array, *, start: bool) -> Layer:
    """Returns a layer of which the first `outputs` units and `inputs` weights of each live."""
    weight, bias = layer.weight, layer.bias
    n_out, n_in = weight.shape[-2:]
    if start:
        weight = weight * jnp.sqrt(n_in / jnp.asarray(inputs, weight.dtype))
    lives = jnp.arange(n_out) < outputs
    kept = lives[:, None] & (jnp.arange(n_in) < inputs)[None, :]
    bias = bias if bias is None else _zero(bias, lives)
    return layer._replace(weight=_zero(weight, kept), bias=bias)


def _zero(array: Array, kept: Array) -> Array:
    """Returns the array with zeros where its last axes are not kept."""
    return jnp.where(jnp.broadcast_to(kept, array.shape), array, 0)
