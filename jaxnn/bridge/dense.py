"""What all bridges share: networks of dense layers as pairs of arrays."""

from collections.abc import Callable, Iterable
from typing import Any

from jaxtyping import Array

from jaxnn import checks, mlp


def dense_layers(where: str, params: mlp.Params) -> list[mlp.Dense]:
    """Returns the layers one by one; raises TypeError for a kind that other libraries lack."""
    layers: list[mlp.Dense] = []
    for i, layer in enumerate(mlp.unstack(params)):
        if not isinstance(layer, mlp.Dense):
            raise TypeError(
                f"{where}: params[{i}] must be Dense, which other libraries have, too, "
                f"got {type(layer).__name__}"
            )
        layers.append(layer)
    return layers


def steps(
    where: str, params: mlp.Params, activation: str, output_activation: str
) -> list[tuple[mlp.Dense, Callable[[Array], Array]]]:
    """Returns each layer with the function behind it; raises for an unknown one, too."""
    layers = dense_layers(where, params)
    checks.in_table(where, "activation", activation, mlp.ACTIVATIONS)
    checks.in_table(where, "output_activation", output_activation, mlp.ACTIVATIONS)
    names = [activation] * (len(layers) - 1) + [output_activation]
    return [(layer, mlp.ACTIVATIONS[n].value) for layer, n in zip(layers, names, strict=True)]


def from_pairs(where: str, pairs: Iterable[tuple[str, Any, Any]]) -> mlp.Params:
    """Returns layers of (name, weight (o, i), bias or None); raises unless they form a chain."""
    layers: list[mlp.Dense] = []
    for name, weight, bias in pairs:
        weight = checks.floating(where, f"weight of {name}", weight)
        width = layers[-1].weight.shape[0] if layers else None
        checks.shape(where, f"weight of {name}", weight, (None, width))
        checks.finite(where, f"weight of {name}", weight)
        if bias is not None:
            bias = checks.floating(where, f"bias of {name}", bias)
            checks.shape(where, f"bias of {name}", bias, weight.shape[:1])
            checks.finite(where, f"bias of {name}", bias)
            checks.same_dtype(where, f"bias of {name}", bias, "its weight", weight.dtype)
        layers.append(mlp.Dense(weight=weight, bias=bias))
    if not layers:
        raise ValueError(f"{where}: there must be at least one dense layer, found none")
    return tuple(layers)
