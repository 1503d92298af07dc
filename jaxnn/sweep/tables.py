"""Members in the making: tables of columns, joined, set side by side, and filled where empty."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import checks
from jaxnn.sweep.axes import Column, Static, array_of, column, plain

WHERE = "sweep.sample"


@dataclass(frozen=True, repr=False)
class When:
    """A part that exists only for members of which `axis` has one of some values.

    An axis of a grid or a design, or a space within a product.  In a grid and a product, members
    without it stay one; in a design every point has it or not.  Several parts may give values to
    the same axis, for different members.

    Attributes:
        axis: name of an axis that stands before this part.
        values: one or a tuple of them.
        part: values, a distribution, or a space.
        otherwise: what axes hold without the part; NaN for floats, None for names.
    """

    axis: str
    values: Any
    part: Any
    otherwise: Any = None

    def __repr__(self) -> str:
        words = [repr(self.axis), repr(self.values), repr(self.part)]
        words += [] if self.otherwise is None else [f"otherwise={self.otherwise!r}"]
        return f"When({', '.join(words)})"

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", plain(self.values))
        object.__setattr__(self, "part", plain(self.part))


class Table(NamedTuple):
    """Members in the making: columns, where they exist, and what they hold elsewhere."""

    n: int
    columns: dict[str, Any]
    active: dict[str, Any]
    otherwise: dict[str, Any]


def holds_for(table: Table, when: When) -> np.ndarray:
    """Returns which members a condition holds for."""
    checks.in_table(WHERE, "axis of a condition", when.axis, table.columns)
    asked = when.values if isinstance(when.values, tuple | list) else (when.values,)
    tested = table.columns[when.axis]
    if isinstance(tested, Static):
        for value in asked:
            if value not in tested.values:
                checks.in_table(WHERE, when.axis, value, map(str, tested.values))
        found = [code for code, value in enumerate(tested.values) if value in asked]
        return np.isin(np.asarray(tested.codes), found) & table.active[when.axis]
    kind = np.asarray(tested)
    return np.isin(kind, np.asarray(asked).astype(kind.dtype)) & table.active[when.axis]


def _merged(name: str, old: Any, new: Any, chosen: np.ndarray) -> Any:
    """Returns the new column where it was chosen, else the old one."""
    if isinstance(old, Static) != isinstance(new, Static):
        raise TypeError(f"{WHERE}: {name} must hold numbers in all its parts, or names in all")
    if isinstance(old, Static):
        codes = np.where(chosen, np.asarray(new.codes) + len(old.values), np.asarray(old.codes))
        return column(WHERE, name, [(*old.values, *new.values)[code] for code in codes], True)
    return np.where(chosen, np.asarray(new), np.asarray(old))


def join(table: Table, part: Table, when: When | None = None) -> Table:
    """Returns every combination of both, or of those members for which a condition holds."""
    holds = np.ones(table.n, bool) if when is None else holds_for(table, when)
    sizes = np.where(holds, part.n, 1)
    left = np.repeat(np.arange(table.n), sizes)
    right = np.arange(left.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return side_by_side(
        _rows(table, left), _rows(part, np.where(holds[left], right, 0)), holds[left], when
    )


def _rows(table: Table, places: np.ndarray) -> Table:
    pick = lambda a: np.asarray(a)[places]
    return Table(
        len(places),
        {name: jax.tree.map(pick, values) for name, values in table.columns.items()},
        {name: active[places] for name, active in table.active.items()},
        table.otherwise,
    )


def side_by_side(table: Table, part: Table, holds: np.ndarray, when: When | None) -> Table:
    """Returns the columns of both; those of the part exist where `holds` says so."""
    columns, active = dict(table.columns), dict(table.active)
    otherwise = table.otherwise | part.otherwise
    for name, values in part.columns.items():
        here = holds & part.active[name]
        if name not in columns:
            columns[name], active[name] = values, here
        elif when is None or np.any(here & active[name]):
            raise ValueError(f"{WHERE}: {name} must stand in one part only of each member, got two")
        else:
            columns[name] = _merged(name, columns[name], values, here)
            active[name] = active[name] | here
        if when is not None and when.otherwise is not None:
            otherwise[name] = when.otherwise
    return Table(table.n, columns, active, otherwise)


def whole(n: int, columns: dict[str, Any]) -> Table:
    """Returns a table of columns that exist for all members."""
    return Table(n, columns, {name: np.ones(n, bool) for name in columns}, {})


def finished(name: str, values: Any, active: np.ndarray, otherwise: Any) -> Column:
    """Returns a column as an array, filled for members without it."""
    if np.all(active):
        return jax.tree.map(array_of, values)
    if isinstance(values, Static):
        if otherwise is not None:
            filled = column(WHERE, name, [otherwise], True)
            return jax.tree.map(array_of, _merged(name, values, filled, ~active))
        return Static(values.values, array_of(np.where(active, np.asarray(values.codes), -1)))
    array = np.asarray(values)
    if otherwise is None and not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"{WHERE}: {name} holds {array.dtype}, which has no NaN for members without it; "
            "give When(..., otherwise=...)"
        )
    fill = math.nan if otherwise is None else otherwise
    return array_of(np.where(active, array, np.asarray(fill).astype(array.dtype)))
