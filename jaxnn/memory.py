"""How much work fits into memory at a time, by the compiler's own account of its program.

`memory_budget` is bytes on a device, or "auto" for half of what is free now; below what the
smallest piece of work needs it is refused, and the message names those bytes.  Where functions
stream (`scale.by_rows`) or run members (`sweep.run`) it bounds all that a call takes, and how many
rows or members go into one call follows.

Where a function works through its rows in tiles (`budgeted`) the rows are there already, so it
bounds what comes on top: the result and what is made on the way.  None, the default, leaves the
tiles as fast as can be and compiles nothing more.  With a budget the function is compiled as a
whole, for its memory alone: with the usual tiles, and where that is too much with the smallest ones
and then with the largest that a line through both promises.  What was found is kept for each shape.
Under `jit` and `vmap` the budget is a static number (of one member), and for a gradient it bounds
the way forward: the way back works tile by tile as well, but is not looked at.  Choices that need
concrete data, such as the fast method of `kde.log_prob`, are not to be had with a budget.
"""

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxnn import checks

P = ParamSpec("P")
R = TypeVar("R")

Budget = int | str | None

SHARE = 0.5  # of the memory that is free now, which "auto" takes: results need room as well

# How often tiles are halved.  Compiled programs are found by it, whatever jit they are in.
halvings = jax.make_user_context(default_value=0)
MOST = 20  # no tile is left to halve by then


def available() -> int:
    """Returns the bytes that are free now: of the first device, or on CPU a device's part of them.

    All devices on CPU have the memory of the host in common.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return free // jax.local_device_count()


def bytes_allowed(where: str, memory_budget: Any) -> int:
    """Returns a checked budget in bytes; "auto" is half of what is free."""
    if memory_budget == "auto":
        return int(SHARE * available())
    if isinstance(memory_budget, str):
        raise ValueError(
            f"{where}: memory_budget must be a number of bytes or 'auto', got {memory_budget!r}"
        )
    return checks.count(where, "memory_budget", memory_budget)


def needed(compiled: Any) -> int:
    """Returns the bytes that one call of a compiled program takes on a device, all arguments in."""
    found = compiled.memory_analysis()
    return (
        found.temp_size_in_bytes
        + found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
    )


def most_that_fit(
    where: str, cost: Callable[[int], int], most: int, fixed: int, budget: int, what: str
) -> int:
    """Returns how many items, such as members or rows, one call may take within `budget` bytes.

    Args:
        where: the public function, for the message.
        cost: the bytes for so many items, by compiling their program; asked last for the answer,
            so that JAX finds it in its cache.
        most: the number to try first, and the largest.
        fixed: bytes that do not depend on the number of items, such as shared data.
        budget: bytes.
        what: one item, for the message.

    Raises ValueError, naming the bytes needed, if not even one item fits.
    """
    size, before = most, None
    while True:
        bytes_needed = cost(size)
        if bytes_needed <= budget:
            return size
        if size == 1:
            raise ValueError(
                f"{where}: memory_budget must be at least {bytes_needed} bytes, which one {what} "
                f"needs, got {budget}"
            )
        each = max(1, (bytes_needed - fixed) // size)
        guess = (budget - fixed) // each
        if before is not None:
            # Along the line through both, since a tile takes the same room however many items
            # there are; where that finds none, there will be fewer of them than a tile holds.
            slope = max(1, (before[1] - bytes_needed) // (before[0] - size))
            along = size + (budget - bytes_needed) // slope
            guess = along if along >= 1 else min(guess, size // 2)
        before = (size, bytes_needed)
        size = max(1, min(size - 1, guess))


@dataclass(frozen=True)
class _Call:
    """A call of a function with arrays of some shapes; equal ones take the same memory."""

    function: Callable[..., PyTree]
    about: tuple[Any, ...]
    again: Callable[..., PyTree] = field(compare=False)
    arrays: list[Any] = field(compare=False)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct | None:
    """Returns shape and dtype where nothing else matters: traced, floating, or keys; else None."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return None
    kinds = (jnp.floating, jax.dtypes.prng_key)
    try:
        if checks.concrete(leaf) and not any(jnp.issubdtype(dtype, kind) for kind in kinds):
            return None
        found = jax.typeof(leaf)
    except TypeError:  # no array to JAX yet: what becomes of it, the function knows
        return None
    return jax.ShapeDtypeStruct(found.shape, found.dtype)


def _name(leaf: Any) -> Any:
    """Returns something hashable that is equal for equal static arguments."""
    if hasattr(leaf, "tobytes"):
        return leaf.shape, str(leaf.dtype), leaf.tobytes()
    try:
        hash(leaf)
    except TypeError:
        return object()
    return object() if hasattr(leaf, "shape") else (type(leaf), leaf)


def _call(function: Callable[..., PyTree], args: tuple, kwargs: dict[str, Any]) -> _Call:
    leaves, tree = jax.tree.flatten((args, kwargs))
    shapes = [_shape(leaf) for leaf in leaves]
    traced = [shape for shape in shapes if shape is not None]
    # What is traced is not held on to.
    pairs = [(None, s) if s is not None else (a, s) for a, s in zip(leaves, shapes, strict=True)]
    about = [_name(leaf) if shape is None else shape for leaf, shape in pairs]

    def again(arrays: list[Any]) -> PyTree:
        coming = iter(arrays)
        full = [leaf if shape is None else next(coming) for leaf, shape in pairs]
        args, kwargs = jax.tree.unflatten(tree, full)
        return function(*args, **kwargs)

    return _Call(function, (tree, *about), again, traced)


@functools.lru_cache(1024)
def _bytes_on_top(call: _Call, cut: int, x64: bool) -> int:
    """Returns the bytes of result and temporaries, with tiles that are halved `cut` times."""
    del x64  # shapes are of its dtypes, but constants of the program are as well
    with halvings(cut):
        compiled: Any = jax.jit(call.again).lower(call.arrays).compile()
    found = compiled.memory_analysis()
    return found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes


def _cut(where: str, cost: Callable[[int], int], budget: int) -> int:
    """Returns how often to halve the tiles so that a call costs no more than `budget`."""
    usual = cost(0)
    if usual <= budget:
        return 0
    least = cost(MOST)
    if least > budget:
        raise ValueError(
            f"{where}: memory_budget must be at least {min(least, usual)} bytes, which the "
            f"smallest tiles and the result need, got {budget}"
        )
    # A tile's bytes are in proportion to its rows, until it holds them all.
    share = (budget - least) / (usual - least)
    cut = min(MOST, math.ceil(-math.log2(share))) if share > 0 else MOST
    while cost(cut) > budget:
        cut += 1
    return cut


def budgeted(function: Callable[P, R]) -> Callable[P, R]:
    """Returns a function of rows in tiles that keeps to its `memory_budget`; see this module.

    The function has an argument of that name, always None when it runs: it is taken here.
    Raises TypeError or ValueError for what is no budget, and for one that is too small.
    """
    where = f"{function.__module__.split('.')[1]}.{function.__name__}"

    @functools.wraps(function)
    def within(*args: Any, memory_budget: Budget = None, **kwargs: Any) -> R:
        if memory_budget is None:
            return function(*args, **kwargs)
        budget = bytes_allowed(where, memory_budget)
        call = _call(function, args, kwargs)
        x64 = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
        with halvings(_cut(where, lambda cut: _bytes_on_top(call, cut, x64), budget)):
            return function(*args, **kwargs)

    return within
