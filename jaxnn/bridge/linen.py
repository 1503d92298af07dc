"""Between jaxnn and flax.linen: equal outputs and gradients, and any module for the trainer."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxnn import checks, mlp
from jaxnn.bridge.dense import from_pairs, steps
from jaxnn.types import Key, ValueAndGrad

try:
    from flax import linen as nn
except ImportError as missing:
    raise ImportError("jaxnn.bridge.linen needs flax; pip install 'jaxnn-functional[flax]'") from (
        missing
    )


def to_linen(
    params: mlp.Params, *, activation: str = "relu", output_activation: str = "identity"
) -> tuple[nn.Sequential, dict[str, Any]]:
    """Returns a `flax.linen.Sequential` and its variables, which compute what `mlp.apply` does.

    Args:
        params: Dense layers; a `Stack` is taken apart.
        activation: Of hidden layers, a name in `mlp.ACTIVATIONS`.
        output_activation: Of the last layer.

    Raises:
        TypeError: If a layer is not dense; ValueError for an unknown activation.
    """
    modules, variables = [], {}
    for layer, function in steps("bridge.to_linen", params, activation, output_activation):
        leaves = {"kernel": jnp.transpose(layer.weight)}
        if layer.bias is not None:
            leaves["bias"] = layer.bias
        variables[f"layers_{len(modules)}"] = leaves
        dtype = layer.weight.dtype
        modules += [
            nn.Dense(
                layer.weight.shape[0], use_bias=layer.bias is not None, dtype=dtype,
                param_dtype=dtype,
            ),
            function,
        ]  # fmt: skip
    return nn.Sequential(modules), {"params": variables}


def from_linen(variables: Mapping[str, Any]) -> mlp.Params:
    """Returns the dense layers of the variables of a `flax.linen.Sequential`, first to last.

    Only the arrays are in the variables: which activation stands between them, you know.

    Raises:
        ValueError: If there are no dense layers, or they do not fit one behind another.
        TypeError: If a part is something else than a dense layer, or not floating-point.
    """
    where = "bridge.from_linen"
    parts = variables.get("params", variables)
    numbers = {}
    for name, part in parts.items():
        head, _, number = name.rpartition("_")
        leaves = set(part) if isinstance(part, Mapping) else set()
        if not head or not number.isdigit() or not {"kernel"} <= leaves <= {"kernel", "bias"}:
            given = ", ".join(part) if isinstance(part, Mapping) else type(part).__name__
            raise TypeError(f"{where}: {name} must be a numbered dense layer, got {given}")
        numbers[int(number)] = (name, part)
    pairs = []
    for _, (name, part) in sorted(numbers.items()):
        kernel = checks.floating(where, f"kernel of {name}", part["kernel"])
        checks.shape(where, f"kernel of {name}", kernel, (None, None))
        pairs.append((name, kernel.T, part.get("bias")))
    return from_pairs(where, pairs)


def value_and_grad(
    module: nn.Module,
    loss: str | mlp.Loss = "softmax_cross_entropy",
    *,
    training: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    rngs: tuple[str, ...] = ("dropout",),
) -> ValueAndGrad:
    """Returns what `train.fit` descends for any linen module; parameters are `variables["params"]`.

    Args:
        module: A module without other collections: `batch_stats` and the like are no parameters.
        loss: A name in `mlp.LOSSES`, or what `mlp.loss` returns.
        training: Keywords of the module's call in training, such as `{"deterministic": False}`.
        evaluation: The same where the value is only evaluated, without a key.
        rngs: Names of the module's random streams, each given the step's key, folded.

    Raises:
        TypeError: If `module` is none of linen's; ValueError for an unknown loss.
    """
    where = "bridge.linen.value_and_grad"
    checks.instance(where, "module", module, nn.Module)
    on, off = dict(training or {}), dict(evaluation or {})

    def run(params: PyTree, x: PyTree, key: Key | None) -> Array:
        if key is None:
            return module.apply({"params": params}, x, **off)  # type: ignore[return-value]
        streams = {name: jax.random.fold_in(key, i) for i, name in enumerate(rngs)}
        return module.apply({"params": params}, x, rngs=streams, **on)  # type: ignore[return-value]

    return mlp.autodiff(run, loss)
