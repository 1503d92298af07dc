"""Sweeps over names and shapes too: members that share a program run together, each under `run`.

Numbers are traced and go under one `vmap`.  For each combination of static values (`Static`
columns) a program is compiled, in the background while another runs.  Sizes may be padded: then
programs are compiled for some of them only, and smaller members are masked inside those.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxnn import checks
from jaxnn.sweep import cost, reads
from jaxnn.sweep.axes import HParams, Static, identity, members_of, take
from jaxnn.sweep.run import FitOne, Sweep, member_keys, members, run
from jaxnn.types import Key

WHERE = "sweep.run_groups"
OPERATIONS_PER_SECOND = 2e9  # of small arrays on a core or two

# What JAX is told for one thread only, and must be told the other threads as well.
SETTINGS: dict[str, Callable[[Any], Any]] = {
    "jax_enable_x64": jax.enable_x64,
    "jax_default_device": jax.default_device,
    "jax_default_matmul_precision": jax.default_matmul_precision,
    "jax_numpy_rank_promotion": jax.numpy_rank_promotion,
    "jax_numpy_dtype_promotion": jax.numpy_dtype_promotion,
    "jax_debug_nans": jax.debug_nans,
    "jax_disable_jit": jax.disable_jit,
}


@dataclass(frozen=True)
class Bound:
    """A fit with the static values of its group; equal ones share their compiled programs.

    Attributes:
        fit_one: the caller's function.
        static: names, values and their `identity`, which tells 1 from True.
        seeded: whether `seed` is an axis of the space, for the fit to see.
    """

    fit_one: FitOne
    static: tuple[tuple[str, Any, Any], ...]
    seeded: bool

    def __call__(self, hparams: HParams, key: Key, *shared: PyTree) -> PyTree:
        """Returns the result of one member."""
        own = {name: v for name, v in hparams.items() if self.seeded or name != "seed"}
        bound = {name: value for name, value, _ in self.static}
        return reads.call(WHERE, self.fit_one, own | bound, key, *shared)


class Group(NamedTuple):
    """Members that one program serves."""

    places: np.ndarray
    fit: Bound
    hparams: HParams


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


def _groups(
    fit_one: FitOne, hparams: HParams, keys: Array, shared: Any, padded: Sequence[str],
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
            return Group(places, Bound(fit_one, static + limits, seeded), own)

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
    seconds = [
        _trace(group(places, bounds | {name: int(s)}), keys, shared, cost.operations)
        / OPERATIONS_PER_SECOND
        for s in distinct
    ]
    return distinct[cost.programs(seconds, counts.tolist(), compile_seconds)][which]


def _trace(group: Group, keys: Array, shared: Any, how: Callable[..., Any]) -> Any:
    """Returns `how` of the group's first member, which traces it and compiles nothing."""
    one = jax.tree.map(lambda a: a[0], group.hparams)
    return how(group.fit, one, keys[group.places[0]], *shared)


def _agree(groups: list[Group], keys: Array, shared: Any) -> None:
    """Raises ValueError unless the results of all groups have the same structure."""
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
    name = lambda group: ", ".join(f"{k}={v!r}" for k, v, _ in group.fit.static) or "all"
    return (
        f"{WHERE}: results must have the same structure for all members, got {ours} with "
        f"{name(one)} and {theirs} with {name(other)}; return what they share, or pad to one size"
    )


@jax.jit
def _in_order(parts: list[PyTree], order: Array) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[order], *parts)


def _each(jobs: list[Callable[[], Sweep]], ahead: int) -> list[Sweep]:
    """Returns what the jobs return, `ahead` of them begun besides the first that is not done."""
    if ahead == 0 or len(jobs) == 1:
        return [job() for job in jobs]
    settings = {name: getattr(jax.config, name) for name in SETTINGS}

    def told(job: Callable[[], Sweep]) -> Sweep:
        with ExitStack() as stack:
            for name, value in settings.items():
                stack.enter_context(SETTINGS[name](value))
            return jax.block_until_ready(job())

    with ThreadPoolExecutor(1 + ahead) as pool:
        waiting: list[Future[Sweep]] = [pool.submit(told, job) for job in jobs]
        try:
            return [future.result() for future in waiting]
        except BaseException:  # an interrupt, too: what has not begun never will
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_groups(
    fit_one: FitOne,
    hparams: HParams,
    key: Key,
    *shared: PyTree,
    padded: Sequence[str] = (),
    compile_seconds: float = 3.0,
    ahead: int = 1,
    **options: Any,
) -> Sweep:
    """Returns the results of `fit_one(hparams_i, key_i, *shared)`, names and shapes among hparams.

    `fit_one` gets Python values of static axes and traced numbers of the others. Members of equal
    static values run under one `sweep.run`; their order and their keys are those of the whole
    sweep, so no result depends on the grouping. An axis of a conditional part is not handed to
    groups that lack it.

    Padding: for an axis `width` in `padded`, `fit_one` gets the number `width`, traced, and the
    size `max_width` of the program, static, at least as large; it makes arrays of the latter and
    masks what lies beyond the former. Which sizes get a program is decided by cost: the least sum
    of `compile_seconds` a program and, for each member, the operations of its program (counted in
    a trace, `cost.operations`) at 2e9 a second.

    Args:
        fit_one: any pure function of one member's hyperparameters (a dict), its key and the data.
            It must read every one of them but `seed`.
        hparams: dict of columns from `sample`, `grid`, `random` and their like.
        key: see `member_keys`.
        *shared: arrays (or pytrees) that all members use.
        padded: names of whole-number axes whose programs may be larger than their members.
        compile_seconds: what a further program costs; 0 gives each size its own.
        ahead: groups that are compiled, and begin to run, while another runs; 0 for none.
        **options: of `sweep.run`, such as `chunk` and `layout`, for each group.

    Raises:
        TypeError, ValueError: as `sweep.run`; and for a hyperparameter that the fit does not
            read, one that it reads and does not get, results that differ in structure or shape
            between groups, unknown or unfit `padded`.

    >>> from jaxnn.sweep import grid
    >>> space = grid(rule=["double", "square"], x=[1.0, 2.0, 3.0])
    >>> fit_one = lambda hp, key: hp["x"] * 2 if hp["rule"] == "double" else hp["x"] ** 2
    >>> run_groups(fit_one, space, jax.random.key(0)).results.tolist()
    [2.0, 4.0, 6.0, 1.0, 4.0, 9.0]
    """
    if not callable(fit_one):
        raise TypeError(f"{WHERE}: fit_one must be a function, got {type(fit_one).__name__}")
    ahead = checks.count(WHERE, "ahead", ahead, least=0)
    checks.non_negative(WHERE, "compile_seconds", compile_seconds)
    columns = {name: members_of(WHERE, name, values) for name, values in hparams.items()}
    n = members(WHERE, columns)
    seeds = {"seed": columns["seed"]} if "seed" in columns else {"seed": jnp.arange(n)}
    keys = member_keys(key, seeds)
    groups = _groups(fit_one, columns, keys, shared, padded, compile_seconds)
    if len(groups) > 1:
        _agree(groups, keys, shared)
    jobs = [lambda g=group: run(g.fit, g.hparams, key, *shared, **options) for group in groups]
    plain = all(checks.concrete(leaf) for leaf in jax.tree.leaves((columns, key, shared)))
    parts = _each(jobs, ahead if plain else 0)
    order = jnp.asarray(np.argsort(np.concatenate([group.places for group in groups])))
    whole = _in_order([part._replace(hparams={}) for part in parts], order)
    return whole._replace(hparams=columns)
