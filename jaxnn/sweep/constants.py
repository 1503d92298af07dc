"""Large arrays that a function closes over: they become part of its program."""

import warnings
from typing import Any

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
