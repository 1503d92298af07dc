"""How many members fit into memory, by the compiler's own account of its program."""

import os
import warnings
from collections.abc import Callable
from typing import Any

import jax

from jaxnn import checks

SHARE = 0.5  # of the memory that is free now, which "auto" takes: results need room as well


def available() -> int:
    """Returns the bytes that are free now: of the first device, or of the host on CPU."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


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


def members_that_fit(
    where: str, compile_for: Callable[[int], Any], most: int, fixed: int, budget: int
) -> int:
    """Returns how many members one call may take within `budget` bytes, at most `most`.

    Args:
        where: the public function, for the message.
        compile_for: compiles the program for so many members; the one for the answer is compiled
            last, so that JAX finds it in its cache.
        most: the number to try first.
        fixed: bytes that do not depend on the number of members, such as the shared data.
        budget: bytes.

    Raises ValueError, naming the bytes needed, if not even one member fits.
    """
    size = most
    while True:
        bytes_needed = needed(compile_for(size))
        if bytes_needed <= budget:
            return size
        if size == 1:
            raise ValueError(
                f"{where}: memory_budget must be at least {bytes_needed} bytes, which one member "
                f"needs, got {budget}"
            )
        each = max(1, (bytes_needed - fixed) // size)
        size = max(1, min(size - 1, (budget - fixed) // each))


LARGE = 2**28  # bytes of closed-over arrays from which the compiler suffers


def warn_of_constants(where: str, name: str, traced: Any) -> None:
    """Warns if a traced function holds large arrays: they become part of the program."""
    size = sum(int(getattr(const, "nbytes", 0)) for const in traced.jaxpr.consts)
    if size >= LARGE:
        warnings.warn(
            f"{where}: {name} should be given large arrays as *shared, got a function that closes "
            f"over {size} bytes of them, which its program copies and compiles slowly",
            UserWarning,
            stacklevel=3,
        )
