"""How much work fits into memory at a time, by the compiler's own account of its program."""

import os
from collections.abc import Callable
from typing import Any

import jax

from jaxnn import checks

SHARE = 0.5  # of the memory that is free now, which "auto" takes: results need room as well


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
