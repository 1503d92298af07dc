"""Networks of several widths in one program: wide ones, of which a traced number of units lives."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxnn import checks
from jaxnn.mlp.layers import Params


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
        widths: How many units of each hidden layer live, from 1 up to its size.
        start: Whether to widen weights by √(inputs / living inputs), as `init` would have drawn
            them for the narrower layer.

    Raises:
        ValueError: If there are not as many widths as hidden layers, or one is out of range.

    >>> import jax
    >>> from jaxnn.mlp import init
    >>> params = narrow(init(jax.random.key(0), (4, 8, 3)), [2])
    >>> [int((layer.weight != 0).sum()) for layer in params]
    [8, 6]
    """
    where = "mlp.narrow"
    if len(widths) != len(params) - 1:
        raise ValueError(
            f"{where}: widths must hold one number for each of {len(params) - 1} hidden layers, "
            f"got {len(widths)}"
        )
    layers, inputs = [], None
    for i, layer in enumerate(params):
        weight, bias = layer.weight, layer.bias
        n_out, n_in = weight.shape[-2:]
        kept = jnp.ones(weight.shape[-2:], bool)
        if inputs is not None:
            kept = kept & (jnp.arange(n_in) < inputs)[None, :]
            if start:
                weight = weight * jnp.sqrt(n_in / inputs).astype(weight.dtype)
        if i < len(widths):
            inputs = widths[i]
            if checks.concrete(inputs):
                checks.count(where, f"widths[{i}]", inputs, most=n_out)
            lives = jnp.arange(n_out) < inputs
            kept = kept & lives[:, None]
            bias = bias if bias is None else _zero(bias, lives)
        layers.append(layer._replace(weight=_zero(weight, kept), bias=bias))
    return tuple(layers)


def _zero(array: Array, kept: Array) -> Array:
    """Returns the array with zeros where its last axes are not kept."""
    return jnp.where(jnp.broadcast_to(kept, array.shape), array, 0)
