"""Which members of a sweep over names and sizes share a program, and what each group is told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxnn import checks
from jaxnn.sweep import cost, reads
from jaxnn.sweep.axes import HParams, Static, identity, take
from jaxnn.sweep.run import FitOne, members
from jaxnn.types import Key, Segments

WHERE = "sweep.run_groups"
OPERATIONS_PER_SECOND = 2e9  # of small arrays on a core or two


@dataclass(frozen=True)
class Bound:
    """A fit with the static values of its group; equal ones share their compiled programs.

    Attributes:
        fit_one: the caller's function.
        static: names, values and their `identity`, which tells 1 from True.
        seeded: whether `seed` is an axis of the space, for the fit to see.
        watched: whether it must read all that it is given, and must not read more.
    """

    fit_one: FitOne
    static: tuple[tuple[str, Any, Any], ...]
    seeded: bool
    watched: bool = True

    def __call__(self, hparams: HParams, key: Key, *shared: PyTree) -> PyTree:
        """Returns the result of one member."""
        own = {name: v for name, v in hparams.items() if self.seeded or name != "seed"}
        bound = {name: value for name, value, _ in self.static}
        if self.watched:
            return reads.call(WHERE, self.fit_one, own | bound, key, *shared, static=bound)
        return self.fit_one(reads.Reads(own | bound, bound), key, *shared)


@dataclass(frozen=True)
class Once:
    """A fit in pieces whose functions are called once each, for what they read and return."""

    protocol: Segments

    def __call__(self, hparams: HParams, key: Key, *shared: PyTree) -> PyTree:
        """Returns the result after one piece."""
        state = self.protocol.init(hparams, key, *shared)
        state = self.protocol.advance(state, *shared)
        self.protocol.score(state)
        self.protocol.halted(state)
        return self.protocol.result(state)


class Group(NamedTuple):
    """Members that one program serves.

    `static` names what they have in common; `look` runs a member a little, for its trace.
    """

    places: np.ndarray
    static: tuple[tuple[str, Any, Any], ...]
    fit: FitOne | Segments
    look: Bound
    hparams: HParams


def bind(
    fit_one: FitOne | Segments, static: tuple[tuple[str, Any, Any], ...], seeded: bool
) -> tuple[FitOne | Segments, Bound]:
    """Returns a fit with the static values of a group, and what is traced to look at it.

    A fit in pieces carries them from `init` on in the structure of its state.
    """
    if isinstance(fit_one, Segments):
        start = Bound(fit_one.init, static, seeded, watched=False)
        return fit_one._replace(init=start), Bound(Once(fit_one), static, seeded)
    bound = Bound(fit_one, static, seeded)
    return bound, bound


def _split(hparams: HParams, n: int) -> dict[tuple[Any, ...], np.ndarray]:
    """Returns the places of the members of each combination of static values, by first place."""
    static = [
        (name, column.tolist(), np.asarray(column.codes))
        for name, column in hparams.items()
        if isinstance(column, Static)
    ]
    found: dict[tuple[Any, ...], list[int]] = {}
    for i in range(n):
        given = tuple((name, v[i], identity(v[i])) for name, v, code in static if code[i] >= 0)
        found.setdefault(given, []).append(i)
    return {key: np.asarray(places) for key, places in found.items()}


def _present(name: str, values: Any) -> bool:
    """Whether the members of a group have this axis: NaN stands where they do not."""
    if not jnp.issubdtype(values.dtype, jnp.floating) or not checks.concrete(values):
        return True
    missing = np.isnan(np.asarray(values))
    if missing.any() and not missing.all():
        raise ValueError(
            f"{WHERE}: {name} must be a number for all members of a program, got NaN for "
            f"{int(missing.sum())} of {missing.size}; give When(..., otherwise=...)"
        )
    return not missing.all()


def _sizes(hparams: HParams, padded: Sequence[str]) -> dict[str, np.ndarray]:
    sizes = {}
    for name in padded:
        checks.in_table(WHERE, "padded axis", name, hparams)
        values = hparams[name]
        if isinstance(values, Static) or not jnp.issubdtype(values.dtype, jnp.integer):
            raise TypeError(f"{WHERE}: {name} must hold whole numbers to be padded")
        sizes[name] = np.asarray(values)
        if np.any(sizes[name] < 1):
            raise ValueError(f"{WHERE}: {name} must be at least 1, got {sizes[name].min()}")
    return sizes


def groups_of(
    fit_one: FitOne | Segments, hparams: HParams, keys: Array, shared: Any, padded: Sequence[str],
    compile_seconds: float,
) -> list[Group]:  # fmt: skip
    """Returns the groups by static values, and within each by the sizes that pay for a program."""
    n, seeded = members(WHERE, hparams), "seed" in hparams
    traced = {name: v for name, v in hparams.items() if not isinstance(v, Static)}
    # A member's key depends on its seed, or on its place among all: in its group, too.
    traced |= {} if seeded else {"seed": jnp.arange(n)}
    sizes = _sizes(hparams, padded)
    groups = []
    for static, all_places in _split(hparams, n).items():

        def group(places: np.ndarray, bounds: dict[str, int], static: Any = static) -> Group:
            own = {name: take(values, places) for name, values in traced.items()}
            own = {name: values for name, values in own.items() if _present(name, values)}
            limits = tuple((f"max_{k}", v, identity(v)) for k, v in bounds.items())
            return Group(places, static + limits, *bind(fit_one, static + limits, seeded), own)

        parts = [(all_places, {name: int(max(s[all_places])) for name, s in sizes.items()})]
        for name, size in sizes.items():
            parts = [
                (places[bound == b], bounds | {name: int(b)})
                for places, bounds in parts
                for bound in [_bounds(group, places, bounds, name, size, keys, shared,
                                      compile_seconds)]
                for b in np.unique(bound)
            ]  # fmt: skip
        groups += [group(places, bounds) for places, bounds in parts]
    return groups


def _bounds(
    group: Callable[..., Group], places: np.ndarray, bounds: dict[str, int], name: str,
    size: np.ndarray, keys: Array, shared: Any, compile_seconds: float,
) -> np.ndarray:  # fmt: skip
    """Returns for each member the size that its program should have."""
    distinct, which, counts = np.unique(size[places], return_inverse=True, return_counts=True)
    if len(distinct) == 1:
        return size[places]
    groups = [group(places, bounds | {name: int(s)}) for s in distinct]
    turns = cost.TURNS if isinstance(groups[0].fit, Segments) else 1  # how many, nobody knows
    seconds = [
        turns * _trace(group, keys, shared, cost.operations) / OPERATIONS_PER_SECOND
        for group in groups
    ]
    return distinct[cost.programs(seconds, counts.tolist(), compile_seconds)][which]


def _trace(group: Group, keys: Array, shared: Any, how: Callable[..., Any]) -> Any:
    """Returns `how` of the group's first member, which traces it and compiles nothing."""
    one = jax.tree.map(lambda a: a[0], group.hparams)
    return how(group.look, one, keys[group.places[0]], *shared)


def agree(groups: list[Group], keys: Array, shared: Any) -> None:
    """Raises ValueError unless the results of all groups have the same structure.

    Of fits in pieces also if they do not read what they are given, as whole ones do when they run.
    """
    first: list[tuple[str, Any, Any]] = []
    for group in groups:
        tree = _trace(group, keys, shared, jax.eval_shape)
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        found = [(jax.tree_util.keystr(path) or "result", v.shape, v.dtype) for path, v in leaves]
        first = first or found
        for ours, theirs in zip(first, found, strict=False):
            if ours != theirs:
                raise ValueError(_differ(groups[0], group, _words(*ours), _words(*theirs)))
        if len(first) != len(found):
            raise ValueError(
                _differ(groups[0], group, f"{len(first)} arrays", f"{len(found)} arrays")
            )


def _words(path: str, shape: tuple[int, ...], dtype: Any) -> str:
    return f"{path} {dtype}{list(shape)}"


def _differ(one: Group, other: Group, ours: str, theirs: str) -> str:
    name = lambda group: ", ".join(f"{k}={v!r}" for k, v, _ in group.static) or "all"
    return (
        f"{WHERE}: results must have the same structure for all members, got {ours} with "
        f"{name(one)} and {theirs} with {name(other)}; return what they share, or pad to one size"
    )
