"""Weights in from and out to PyTorch, by files of safetensors: torch itself is not needed.

The file is the state dict of `torch.nn.Sequential(Linear, activation, Linear, ...)`: arrays
`0.weight`, `0.bias`, `2.weight`, ...  Both libraries keep W as (outputs, inputs).  There,
`torch.nn.Module.load_state_dict(safetensors.torch.load_file(path))` and
`safetensors.torch.save_file(module.state_dict(), path)`.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import mlp
from jaxnn.bridge.dense import dense_layers, from_pairs


def state_dict(params: mlp.Params) -> dict[str, np.ndarray]:
    """Returns the arrays of dense layers under the names that `torch.nn.Sequential` gives them.

    There is an activation, a module without arrays, behind each layer: names are even numbers.
    Raises TypeError if a layer is not dense.
    """
    found = {}
    for i, layer in enumerate(dense_layers("bridge.torch.state_dict", params)):
        found[f"{2 * i}.weight"] = np.ascontiguousarray(layer.weight)
        if layer.bias is not None:
            found[f"{2 * i}.bias"] = np.ascontiguousarray(layer.bias)
    return found


def to_torch(path: str | os.PathLike[str], params: mlp.Params) -> None:
    """Writes the state dict of dense layers to a file of safetensors.

    Raises:
        TypeError: If a layer is not dense; OSError if the file cannot be written.
    """
    from safetensors.numpy import save

    Path(path).write_bytes(save(state_dict(params)))


def from_torch(path: str | os.PathLike[str]) -> mlp.Params:
    """Returns the layers of the state dict of a `torch.nn.Sequential` of linear layers.

    Only arrays are in the file: which activation stands between them, you know.

    Raises:
        ValueError: If the file is damaged, or holds something else than linear layers one behind
            another; TypeError if they are not floating-point, or float64 and x64 is off.
        OSError: If there is no such file.
    """
    from safetensors import SafetensorError
    from safetensors.flax import load

    where = f"bridge.from_torch: {os.fspath(path)}"
    data = Path(path).read_bytes()
    head = data[8 : 8 + int.from_bytes(data[:8], "little")]
    if b'"F64"' in head and jnp.asarray(0.0).dtype != np.float64:  # which would be rounded
        raise TypeError(f"{where}: holds float64; turn on jax_enable_x64, or save float32")
    try:
        arrays = load(data)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{where}: no file of safetensors ({error})") from None
    layers: dict[int, dict[str, jax.Array]] = {}
    for name, array in arrays.items():
        number, _, leaf = name.rpartition(".")
        if not number.isdigit() or leaf not in ("weight", "bias"):
            raise ValueError(f"{where}: {name} must be NUMBER.weight or NUMBER.bias")
        layers.setdefault(int(number), {})[leaf] = jnp.asarray(array)
    for number, leaves in layers.items():
        if "weight" not in leaves:
            raise ValueError(f"{where}: layer {number} has a bias and no weight")
    return from_pairs(
        where, ((str(n), part["weight"], part.get("bias")) for n, part in sorted(layers.items()))
    )
