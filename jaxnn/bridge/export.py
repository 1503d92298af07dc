"""A trained model as a program in bytes, for a batch of any size: StableHLO by `jax.export`.

The bytes begin with a mark and a SHA-256, so that what is damaged is refused rather than run.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export  # a submodule of its own
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, PyTree

from jaxnn import checks

MARK = b"jaxnn program 1\n"


def to_bytes(
    function: Callable[[PyTree, Any], PyTree],
    model: PyTree,
    width: int,
    *,
    dtype: DTypeLike = jnp.float32,
    platforms: Sequence[str] | None = None,
) -> bytes:
    """Returns `x -> function(model, x)` for rows x, (n, width), n left open, with its numbers.

    Args:
        function: Such as `functools.partial(mlp.apply, activation="tanh")` or `gmm.log_prob`.
        model: Its first argument; the arrays become constants of the program.
        width: Columns of the rows.
        dtype: Of the rows.
        platforms: Such as `("cpu", "cuda", "tpu")`; by default the one that it runs on here.

    Raises:
        ValueError: If `width` is below 1, or the function needs to know n.
    """
    where = "bridge.export.to_bytes"
    checks.count(where, "width", width)
    (n,) = jax.export.symbolic_shape("n")
    rows = jax.ShapeDtypeStruct((n, width), dtype)
    try:
        program = jax.export.export(
            jax.jit(lambda x: function(model, x)), platforms=platforms and tuple(platforms)
        )(rows)
    except jax.errors.InconclusiveDimensionOperation as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"{where}: function must work for any number of rows ({first})") from None
    try:
        body = bytes(program.serialize())
    except ImportError as missing:
        needs = f"{where} needs flatbuffers; pip install 'jaxnn-functional[export]'"
        raise ImportError(needs) from missing
    return MARK + hashlib.sha256(body).digest() + body


def from_bytes(data: bytes) -> Callable[[ArrayLike], PyTree]:
    """Returns the function x -> outputs that `to_bytes` wrote; jit and vmap work on it.

    Raises:
        ValueError: If the bytes are damaged or something else; from the function, for rows of
            another width or dtype.
    """
    where = "bridge.export.from_bytes"
    head, body = data[: len(MARK) + 32], data[len(MARK) + 32 :]
    if head[: len(MARK)] != MARK:
        raise ValueError(f"{where}: data must come from bridge.export.to_bytes")
    if hashlib.sha256(body).digest() != head[len(MARK) :]:
        raise ValueError(f"{where}: data is damaged: its SHA-256 does not fit")
    program = jax.export.deserialize(bytearray(body))

    def run(x: ArrayLike) -> Array:
        rows = checks.floating(where, "x", x)
        wanted = program.in_avals[0]
        checks.shape(where, "x", rows, (None, wanted.shape[1]))
        checks.same_dtype(where, "x", rows, "the program", wanted.dtype)
        return program.call(rows)

    return run
