"""Between jaxnn and flax.nnx: equal outputs and gradients, and any module for the trainer."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxnn import checks, mlp
from jaxnn.bridge.dense import from_pairs, steps
from jaxnn.types import Key, ValueAndGrad

try:
    from flax import nnx
except ImportError as missing:
    raise ImportError("jaxnn.bridge.nnx needs flax; pip install 'jaxnn-functional[flax]'") from (
        missing
    )


def to_nnx(
    params: mlp.Params, *, activation: str = "relu", output_activation: str = "identity"
) -> nnx.Sequential:
    """Returns a `flax.nnx.Sequential` that computes what `mlp.apply` does.

    Args:
        params: Dense layers; a `Stack` is taken apart.
        activation: Of hidden layers, a name in `mlp.ACTIVATIONS`.
        output_activation: Of the last layer.

    Raises:
        TypeError: If a layer is not dense; ValueError for an unknown activation.
    """
    modules: list[Any] = []
    for layer, function in steps("bridge.to_nnx", params, activation, output_activation):
        n_out, n_in = layer.weight.shape
        dtype = layer.weight.dtype
        # The numbers drawn here are replaced at once.
        linear = nnx.Linear(
            n_in, n_out, use_bias=layer.bias is not None, dtype=dtype, param_dtype=dtype,
            rngs=nnx.Rngs(0),
        )  # fmt: skip
        linear.kernel = nnx.Param(jnp.transpose(layer.weight))
        if layer.bias is not None:
            linear.bias = nnx.Param(layer.bias)
        modules += [linear, function]
    return nnx.Sequential(*modules)


def from_nnx(module: nnx.Sequential) -> mlp.Params:
    """Returns the linear layers of a `flax.nnx.Sequential`, first to last.

    The functions between them are Python, not data: which activation they are, you know.

    Raises:
        TypeError: If `module` is no Sequential, or has parts with parameters that are not Linear.
        ValueError: If there are no linear layers, or they do not fit one behind another.
    """
    where = "bridge.from_nnx"
    checks.instance(where, "module", module, nnx.Sequential)
    pairs = []
    for i, part in enumerate(module.layers):
        if isinstance(part, nnx.Linear):
            bias = None if part.bias is None else part.bias[...]
            pairs.append((f"layers[{i}]", part.kernel[...].T, bias))
        elif isinstance(part, nnx.Module) and not isinstance(part, nnx.Dropout):
            kind = type(part).__name__
            raise TypeError(f"{where}: layers[{i}] must be Linear or a function, got {kind}")
    return from_pairs(where, pairs)


def split(module: nnx.Module) -> tuple[Any, PyTree, PyTree]:
    """Returns the graph of a module, its parameters, which can be trained, and the rest."""
    checks.instance("bridge.nnx.split", "module", module, nnx.Module)
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    return graph, params, rest


def value_and_grad(
    module: nnx.Module, loss: str | mlp.Loss = "softmax_cross_entropy"
) -> ValueAndGrad:
    """Returns what `train.fit` descends for any nnx module; parameters are `split(module)[1]`.

    With a key the module is in training, and all its random streams start from that key; without
    one it is in evaluation (`module.train()`, `module.eval()`).  What is no parameter (running
    means) stays as it is in `module`.

    Raises:
        TypeError: If `module` is none of nnx's; ValueError for an unknown loss.
    """
    graph, _, rest = split(module)

    def run(params: PyTree, x: PyTree, key: Key | None) -> Array:
        merged: Any = nnx.merge(graph, params, rest, copy=True)
        if key is None:
            merged.eval()
        else:
            merged.train()
            streams = [s for _, s in nnx.iter_graph(merged) if isinstance(s, nnx.RngStream)]
            keys: dict[str, Any] = {stream.tag: key for stream in streams}
            nnx.reseed(merged, **keys)
        return merged(x)

    return mlp.autodiff(run, loss)
