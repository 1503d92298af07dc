"""Spaces of hyperparameters as data: grids, designs, products and zips, with conditional parts.

A space is a frozen value that prints, hashes and is saved (`to_json`); `sample` makes its members:
a dict of columns with one entry a member.  A column is an array of numbers, which a program takes
as they are, or `Static`: names and shapes, for each of which `run_groups` compiles a program.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxnn import checks
from jaxnn.sweep import designs
from jaxnn.sweep.axes import Choice, Column, Distribution, Values, plain
from jaxnn.sweep.axes import HParams as HParams
from jaxnn.sweep.axes import numbers as numbers
from jaxnn.sweep.tables import WHERE, Table, When, finished, holds_for, join, side_by_side, whole
from jaxnn.types import Key

Axes = tuple[tuple[str, Any], ...]


def _frozen(axes: Any) -> Any:
    """Returns a dict of axes as pairs, lists as tuples, so that the whole can be hashed."""
    if not isinstance(axes, Mapping):
        return axes
    return tuple((name, plain(axis)) for name, axis in axes.items())


def _shown(kind: str, axes: Axes, *before: str) -> str:
    words = [*before, "{" + ", ".join(f"{name!r}: {axis!r}" for name, axis in axes) + "}"]
    return f"{kind}({', '.join(words)})"


@dataclass(frozen=True, repr=False)
class Grid:
    """Every combination of the values of the axes, a dict; the last axis varies fastest."""

    axes: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", _frozen(self.axes))

    def __repr__(self) -> str:
        return _shown("Grid", self.axes)


@dataclass(frozen=True, repr=False)
class Design:
    """n points of a dict of distributions, spread as `kind` says: a name in `DESIGNS`."""

    n: int
    axes: Any
    kind: str = "random"

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", _frozen(self.axes))

    def __repr__(self) -> str:
        return _shown("Design", self.axes, str(self.n))[:-1] + f", {self.kind!r})"


@dataclass(frozen=True)
class Product:
    """Every combination of the members of some spaces; those of the last vary fastest."""

    parts: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))


@dataclass(frozen=True)
class Zip:
    """Spaces of equally many members side by side."""

    parts: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))


Space = Grid | Design | Product | Zip


def _named(name: str) -> int:
    # A hash that is the same in every process, unlike Python's own.
    return int.from_bytes(name.encode()) % (2**31 - 1)


def _keys(key: Key, axes: Mapping[str, Any]) -> list[Key]:
    return [jax.random.fold_in(key, _named(name)) for name in axes]


def _by_quantiles(points: Callable[..., Any]) -> Callable[..., dict[str, Column]]:
    def draw(key: Key, n: int, axes: Mapping[str, Any]) -> dict[str, Column]:
        for name, axis in axes.items():
            if not hasattr(axis, "quantile"):
                raise TypeError(
                    f"{WHERE}: {name} must have a method quantile(u) in this design, got {axis!r}"
                )
        if len(axes) > designs.MOST_AXES:
            raise ValueError(
                f"{WHERE}: a design has at most {designs.MOST_AXES} axes, got {len(axes)}"
            )
        u = points(_keys(key, axes), n, len(axes))
        return {name: axis.quantile(u[:, i]) for i, (name, axis) in enumerate(axes.items())}

    return draw


def _independent(key: Key, n: int, axes: Mapping[str, Any]) -> dict[str, Column]:
    keys = _keys(key, axes)
    return {name: axis.sample(k, n) for k, (name, axis) in zip(keys, axes.items(), strict=True)}


# How the points of a design lie: (key, n, axes) -> columns.  An axis draws from its own name only.
DESIGNS: dict[str, Callable[..., dict[str, Column]]] = {
    "random": _independent,
    "sobol": _by_quantiles(designs.sobol),
    "latin_hypercube": _by_quantiles(designs.latin_hypercube),
}


def _grid(key: Key | None, space: Grid) -> Table:
    table = whole(1, {})
    for name, axis in space.axes:
        when = axis if isinstance(axis, When) else None
        values = axis.part if isinstance(axis, When) else axis
        choice = values if isinstance(values, Choice) else Choice(values)
        filled = choice.column(WHERE, name)
        table = join(table, whole(filled.shape[0], {name: filled}), when)
    return table


def _design(key: Key | None, space: Design) -> Table:
    checks.in_table(WHERE, "kind", space.kind, DESIGNS)
    n = checks.count(WHERE, "n", space.n)
    checks.key(WHERE, key)
    parts = {name: a.part if isinstance(a, When) else a for name, a in space.axes}
    for name, axis in parts.items():
        if not isinstance(axis, Distribution):
            raise TypeError(
                f"{WHERE}: {name} must be a distribution such as Uniform(low, high) or "
                f"Choice(values), got {axis!r}"
            )
    table = whole(n, {})
    for (name, axis), filled in zip(
        space.axes, DESIGNS[space.kind](key, n, parts).values(), strict=True
    ):
        when = axis if isinstance(axis, When) else None
        holds = np.ones(n, bool) if when is None else holds_for(table, when)
        table = side_by_side(table, whole(n, {name: filled}), holds, when)
    return table


def _product(key: Key | None, space: Product) -> Table:
    table = whole(1, {})
    for part in space.parts:
        when = part if isinstance(part, When) else None
        table = join(table, _draw(key, part.part if isinstance(part, When) else part), when)
    return table


def _zip(key: Key | None, space: Zip) -> Table:
    drawn = [_draw(key, part) for part in space.parts]
    sizes = [table.n for table in drawn]
    if len(set(sizes)) > 1:
        raise ValueError(f"{WHERE}: parts of a Zip must have equally many members, got {sizes}")
    table = drawn[0]
    for part in drawn[1:]:
        table = side_by_side(table, part, np.ones(table.n, bool), None)
    return table


_DRAW: dict[type, Callable[..., Table]] = {
    Grid: _grid,
    Design: _design,
    Product: _product,
    Zip: _zip,
}


def _draw(key: Key | None, space: Any) -> Table:
    if type(space) not in _DRAW:
        names = ", ".join(kind.__name__ for kind in _DRAW)
        raise TypeError(f"{WHERE}: space must be one of {names}, got {space!r}")
    inside = space.parts if isinstance(space, Product | Zip) else space.axes
    if len(inside) == 0:
        raise ValueError(f"{WHERE}: space must have at least one axis, got {space!r}")
    return _DRAW[type(space)](key, space)


def sample(key: Key | None, space: Space) -> HParams:
    """Returns the members of a space: for each axis a column with one entry a member.

    An axis depends on `key` and its own name only: adding another one leaves it unchanged. Members
    without a conditional axis hold NaN there, None among names, or what `otherwise` says.

    Args:
        key: for designs; None will do for grids.
        space: a `Grid`, `Design`, `Product` or `Zip`.

    Raises:
        TypeError, ValueError: no axes, an empty one, values that are neither numbers nor hashable,
            bad distributions, conditions on unknown axes, two values for one axis of a member.

    >>> space = Product((Grid({"rule": ["sgd", "momentum"]}),
    ...                  When("rule", "momentum", Grid({"beta": [0.5, 0.75]}))))
    >>> for name, values in sample(None, space).items():
    ...     print(name, values.tolist())
    rule ['sgd', 'momentum', 'momentum']
    beta [nan, 0.5, 0.75]
    """
    table = _draw(key, space)
    return {
        name: finished(name, values, table.active[name], table.otherwise.get(name))
        for name, values in table.columns.items()
    }


def grid(**axes: Values) -> HParams:
    """Returns every combination of the values of the axes; the last axis varies fastest.

    Raises TypeError or ValueError for no axes, an empty one, or one that holds neither numbers nor
    names.

    >>> {name: values.tolist() for name, values in grid(decay=[0, 1], seed=[1, 2, 3]).items()}
    {'decay': [0, 0, 0, 1, 1, 1], 'seed': [1, 2, 3, 1, 2, 3]}
    """
    if not axes:
        raise ValueError("sweep.grid: at least one axis must be given")
    return sample(None, Grid(axes))


def _designed(where: str, key: Key, n: int, space: Mapping[str, Any], kind: str) -> HParams:
    checks.key(where, key)
    n = checks.count(where, "n", n)
    if not isinstance(space, Mapping) or not space:
        raise ValueError(f"{where}: space must have at least one axis, by name in a dict")
    return sample(key, Design(n, space, kind))


def random(key: Key, n: int, space: Mapping[str, Any]) -> HParams:
    """Returns n independent samples of a space, a dict of distributions by name.

    An axis depends on `key` and its own name only: adding another one leaves it unchanged.
    Raises TypeError or ValueError for a bad key, n < 1, or an empty space.
    """
    return _designed("sweep.random", key, n, space, "random")


def sobol(key: Key, n: int, space: Mapping[str, Any]) -> HParams:
    """Returns n samples of a space that fill it evenly: a scrambled Sobol sequence.

    Each is distributed as in `random`. Together they lie most evenly if n is a power of two; the
    first ones of a longer sequence are those of a shorter. At most 64 axes.

    >>> points = sobol(jax.random.key(0), 4, {"x": Choice([0, 1, 2, 3])})["x"]
    >>> sorted(int(x) for x in points)
    [0, 1, 2, 3]
    """
    return _designed("sweep.sobol", key, n, space, "sobol")


def latin_hypercube(key: Key, n: int, space: Mapping[str, Any]) -> HParams:
    """Returns n samples of a space with one in each of n slices of equal probability of each axis.

    Each is distributed as in `random`; any n serves as well.
    """
    return _designed("sweep.latin_hypercube", key, n, space, "latin_hypercube")
