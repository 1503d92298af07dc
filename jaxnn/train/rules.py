"""Rules by name that are NamedTuples of traced numbers: made from a table, and checked."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax.numpy as jnp

from jaxnn import checks

Range = Callable[[str, str, Any], None]


def fraction(where: str, name: str, x: Any) -> None:
    """Raises unless a number lies in [0, 1), as the decay of a running average must."""
    checks.non_negative(where, name, x)
    if checks.concrete(x) and not checks.holds(lambda: jnp.all(jnp.less(x, 1))):
        raise ValueError(f"{where}: {name} must be below 1, got {x}")


def number(where: str, name: str, x: Any, inside: Range) -> None:
    """Raises unless `x` is one number, perhaps traced, in its range."""
    if isinstance(x, bool) or not (isinstance(x, int | float) or hasattr(x, "dtype")):
        raise TypeError(f"{where}: {name} must be a number, got {x!r}")
    checks.shape(where, name, x, ())
    inside(where, name, x)


def within(where: str, rule: Any, ranges: Mapping[str, Range], optional: str = "") -> None:
    """Raises unless all numbers of a rule are in their ranges; the optional one may be None."""
    for name, value in rule._asdict().items():
        if value is not None or name != optional:
            number(where, name, value, ranges[name])


def make(
    where: str, kind: str, name: Any, table: Mapping[str, Callable[..., Any]], /, *args: Any,
    **numbers: Any,
) -> Any:  # fmt: skip
    """Returns the rule of that name with its numbers, unchecked.

    Raises ValueError for an unknown name, and TypeError for numbers that the rule does not have.
    """
    checks.in_table(where, kind, name, table)
    try:
        return table[name](*args, **numbers)
    except TypeError as error:
        words = str(error).rpartition("() ")[2]
        raise TypeError(f"{where}: {name} does not take these numbers: it {words}") from None


def options(where: str, name: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises TypeError for a number that the thing called `name` does not have."""
    known = list(known)
    for option in given:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            guess = f" (did you mean {near[0]!r}?)" if near else ""
            choice = f"choose from {', '.join(known)}" if known else "it has no numbers of its own"
            raise TypeError(f"{where}: {name} does not take {option!r}{guess}; {choice}")
