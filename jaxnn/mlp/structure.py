"""What a network is made of: its layers counted, stacked, and checked against each other."""

from collections.abc import Callable
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxnn import checks
from jaxnn.mlp.activations import ACTIVATIONS
from jaxnn.mlp.layers import Dense, Layer, Maxout, Params, Residual, Stack

KINDS = (Dense, Maxout, Residual)


@jax.jit
def _all_finite(params: Params) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]))


def bare(layer: Layer | Stack) -> Layer:
    """Returns the layer, or the layers that a stack holds in one."""
    return layer.layers if isinstance(layer, Stack) else layer


def length(layer: Layer | Stack) -> int:
    """Returns how many layers it stands for."""
    return layer.weight.shape[0] if isinstance(layer, Stack) else 1


def input_width(layer: Layer | Stack) -> int:
    """Returns how wide the rows are that go in."""
    return layer.weight.shape[-1]


def over(layer: Layer | Stack, f: Callable[..., Any], *args: Any) -> Any:
    """Returns `f(layer, *args)`, for a stack for each of its layers with its part of `args`."""
    return jax.vmap(f)(layer.layers, *args) if isinstance(layer, Stack) else f(layer, *args)


def _check_layer(
    where: str, name: str, layer: Any, width: int | None, dtype: Any, outermost: bool
) -> None:
    """Raises unless it is a layer, or a stack of layers, for rows of that width and dtype."""
    head: tuple[None, ...] = ()
    if isinstance(layer, Stack):
        if outermost:
            raise ValueError(
                f"{where}: {name}, the output layer, must not be a Stack, whose layers are hidden "
                "ones; keep the last layer by itself"
            )
        layer, head, name = layer.layers, (None,), f"{name}.layers"
    if not isinstance(layer, KINDS):
        kinds = "Dense, Maxout, Residual" + ("" if head else " or Stack")
        raise TypeError(f"{where}: {name} must be {kinds}, got {type(layer).__name__}")
    weight = checks.floating(where, f"weight of {name}", layer.weight)
    checks.same_dtype(where, f"weight of {name}", weight, "params[0]", dtype)
    square = (head or layer.skip) and weight.ndim > 1
    shape = (*head, *(None,) * (layer.axes - 2), weight.shape[-1] if square else None, width)
    checks.shape(where, f"weight of {name}", weight, shape)
    if 0 in weight.shape:
        raise ValueError(f"{where}: weight of {name} must not be empty, got shape {weight.shape}")
    if layer.bias is not None:
        bias = checks.floating(where, f"bias of {name}", layer.bias)
        checks.same_dtype(where, f"bias of {name}", bias, "params[0]", dtype)
        checks.shape(where, f"bias of {name}", bias, weight.shape[:-1])


def check_network(where: str, params: Params, activation: str, output_activation: str) -> Any:
    """Returns the dtype of all layers; raises unless they fit together and to the activations."""
    checks.in_table(where, "activation", activation, ACTIVATIONS)
    checks.in_table(where, "output_activation", output_activation, ACTIVATIONS)
    if not isinstance(params, tuple) or isinstance(params, (*KINDS, Stack)) or not params:
        raise TypeError(f"{where}: params must be a tuple of layers, got {type(params).__name__}")
    first = params[0].layers if isinstance(params[0], Stack) else params[0]
    width, dtype = None, jnp.result_type(getattr(first, "weight", 0.0))
    for i, layer in enumerate(params):
        name, last = f"params[{i}]", i == len(params) - 1
        _check_layer(where, name, layer, width, dtype, last)
        kind = bare(layer)
        if kind.nonlinear and not last and activation != "identity":
            raise ValueError(
                f"{where}: {name} is {type(kind).__name__}, its own nonlinearity; "
                f"pass activation='identity', not {activation!r}"
            )
        width = kind.weight.shape[-2]
    leaves = jax.tree.leaves(params)
    if all(map(checks.concrete, leaves)) and not checks.holds(lambda: _all_finite(params)):
        for i, layer in enumerate(params):
            for field, array in bare(layer)._asdict().items():
                if array is not None:
                    checks.finite(where, f"{field} of params[{i}]", jnp.asarray(array))
    return dtype


def check_derivatives(where: str, *activations: str) -> None:
    """Raises unless the way back is known through each of the activations."""
    for name in activations:
        if not callable(ACTIVATIONS[name].derivative):
            raise TypeError(
                f"{where}: activation {name!r} must have a derivative to go back through, got "
                f"{ACTIVATIONS[name].derivative!r}; jax.grad of mlp.mean_loss needs none"
            )


def _alike(layer: Layer | Stack) -> Any:
    """Returns what two layers must share to stand in one stack; None for those that cannot."""
    if isinstance(layer, Stack) or layer.weight.shape[-1] != layer.weight.shape[-2]:
        return object()
    return type(layer), jax.tree.structure(layer), layer.weight.shape, layer.weight.dtype


def stack(params: Params) -> Params:
    """Returns the same network with each run of equal hidden layers as one `Stack`.

    Equal are layers of one kind and of one size that is as wide as its inputs; the last layer
    stays by itself.  Outputs, gradients and dropout are the same; compilation takes as long for a
    thousand layers as for one.

    Raises:
        TypeError, ValueError: If `params` are no layers, or they do not fit together.

    >>> from jaxnn import mlp
    >>> deep = stack(mlp.init(jax.random.key(0), (4, 8, 8, 8, 8, 3)))
    >>> [type(layer).__name__ for layer in deep], deep[1].layers.weight.shape
    (['Dense', 'Stack', 'Dense'], (3, 8, 8))
    """
    check_network("mlp.stack", params, "identity", "identity")
    found: list[Layer | Stack] = []
    for _, run in groupby(params[:-1], _alike):
        layers = list(run)
        if len(layers) == 1:
            found += layers
        else:
            found.append(Stack(jax.tree.map(lambda *a: jnp.stack(a), *layers)))
    return (*found, params[-1])


def unstack(params: Params) -> Params:
    """Returns the same network with its layers one by one: the inverse of `stack`.

    Raises:
        TypeError, ValueError: If `params` are no layers, or they do not fit together.
    """
    check_network("mlp.unstack", params, "identity", "identity")
    found: list[Layer | Stack] = []
    for layer in params:
        if isinstance(layer, Stack):
            for i in range(length(layer)):
                found.append(jax.tree.map(lambda a, i=i: a[i], layer.layers))
        else:
            found.append(layer)
    return tuple(found)
