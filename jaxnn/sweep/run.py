"""Many fits in one program: any pure `fit_one(hparams, key, *shared)` over all members at once."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from jaxnn import checks
from jaxnn.sweep.axes import HParams, Static, numbers
from jaxnn.types import Key

FitOne = Callable[..., PyTree]

# How the members of a chunk are laid out in the compiled program.  `vmap` works on all of them at
# once; `map` on one after another, so that a member that stops early is really done.
LAYOUTS: dict[str, Callable[[Callable[[Any], PyTree], Any], PyTree]] = {
    "vmap": lambda one, members: jax.vmap(one)(members),
    "map": jax.lax.map,
}


class Sweep(NamedTuple):
    """All members: hyperparameters and results, every leaf with a leading axis of members."""

    hparams: HParams
    results: PyTree


class Best(NamedTuple):
    """The best member of a sweep: its number, hyperparameters and result."""

    member: Int[Array, ""]
    hparams: HParams
    result: PyTree


@partial(jax.jit, static_argnames=("fit_one", "layout"))
def _chunk(fit_one: FitOne, layout: str, hparams: HParams, keys: Array, shared: Any) -> PyTree:
    return LAYOUTS[layout](lambda member: fit_one(*member, *shared), (hparams, keys))


def members(where: str, hparams: HParams) -> int:
    """Returns how many members there are; raises ValueError unless all axes agree."""
    if not hparams:
        raise ValueError(f"{where}: hparams must have at least one axis")
    sizes = {
        name: values.shape if isinstance(values, Static) else numbers(where, name, values).shape
        for name, values in hparams.items()
    }
    first = next(iter(sizes))
    for name, size in sizes.items():
        if len(size) == 0 or size[0] == 0:
            raise ValueError(f"{where}: {name} must have one value for each member, got {size}")
        if size[0] != sizes[first][0]:
            raise ValueError(
                f"{where}: all axes must have the same length, got {first} with "
                f"{sizes[first][0]} and {name} with {size[0]}"
            )
    return sizes[first][0]


def member_keys(key: Key, hparams: HParams) -> Array:
    """Returns a key for each member: `key` folded with its `seed` if there is one, or its number.

    Members that share a seed share their random numbers, so that differences between them come
    from the other hyperparameters alone. Raises TypeError or ValueError for seeds that are not
    whole numbers in [0, 2**32).
    """
    where = "sweep.member_keys"
    checks.key(where, key)
    n = members(where, hparams)
    seeds = numbers(where, "seed", hparams.get("seed", jnp.arange(n)))
    if not jnp.issubdtype(seeds.dtype, jnp.integer):
        raise TypeError(f"{where}: seed must hold whole numbers, got {seeds.dtype}")
    checks.shape(where, "seed", seeds, (n,))
    if checks.concrete(seeds):
        low, high = min(seeds.tolist()), max(seeds.tolist())
        if low < 0 or high >= 2**32:  # `fold_in` takes 32 bits: -1 would be 2**32 - 1
            raise ValueError(
                f"{where}: seed must lie in [0, 2**32), got values from {low} to {high}"
            )
    return jax.vmap(lambda seed: jax.random.fold_in(key, seed))(seeds)


def run(
    fit_one: FitOne,
    hparams: HParams,
    key: Key,
    *shared: PyTree,
    chunk: int | None = None,
    layout: str = "vmap",
    progress: Callable[[int], None] | None = None,
) -> Sweep:
    """Returns the results of `fit_one(hparams_i, key_i, *shared)` for every member i.

    Args:
        fit_one: any pure function of one member's numbers (a dict of scalars), its key and the
            shared data. Give the same function object again and nothing is compiled anew.
        hparams: dict of arrays with one entry per member, from `grid`, `random` or by hand.
        key: see `member_keys`; member i depends on nothing but its numbers and its key.
        *shared: arrays (or pytrees) that all members use, such as the data.
        chunk: members per compiled call, to bound memory and to see progress; all by default.
            Every call has the same shape, so one compilation serves them all.
        layout: a name in `LAYOUTS`.
        progress: called after each chunk with the number of members that it finished; they
            sum to n.

    Raises:
        TypeError, ValueError: no members, axes of unequal length, a bad key, chunk or layout.

    >>> key = jax.random.key(0)
    >>> squares = run(lambda hp, key: hp["x"] ** 2, {"x": jnp.arange(4)}, key)
    >>> squares.results.tolist()
    [0, 1, 4, 9]
    """
    where = "sweep.run"
    if not callable(fit_one):
        raise TypeError(f"{where}: fit_one must be a function, got {type(fit_one).__name__}")
    checks.key(where, key)
    checks.in_table(where, "layout", layout, LAYOUTS)
    hparams = {name: numbers(where, name, values) for name, values in hparams.items()}
    n = members(where, hparams)
    size = n if chunk is None else min(n, checks.count(where, "chunk", chunk))
    keys = member_keys(key, hparams)
    parts = []
    for start in range(0, n, size):
        begin = min(start, n - size)  # the last chunk reaches back rather than change its shape
        part = jax.tree.map(lambda a, i=begin: a[i : i + size], (hparams, keys))
        results = _chunk(fit_one, layout, *part, shared)
        parts.append(jax.tree.map(lambda a, skip=start - begin: a[skip:], results))
        if progress is not None:
            jax.block_until_ready(results)
            progress(min(size, n - start))
    results = parts[0] if len(parts) == 1 else jax.tree.map(lambda *p: jnp.concatenate(p), *parts)
    return Sweep(hparams=hparams, results=results)


def best(sweep: Sweep, by: Callable[[PyTree], Array], *, mode: str = "min") -> Best:
    """Returns the member with the least (or largest) value `by(results)`.

    Args:
        sweep: what `run` returned.
        by: picks one number per member, shape (members,), such as `lambda r: r.value`.
        mode: `min` or `max`. A member whose value is NaN is never the best.

    Raises:
        ValueError: values of another shape, an unknown mode, or nothing but NaN.
    """
    where = "sweep.best"
    checks.instance(where, "sweep", sweep, Sweep)
    extremes = {"min": jnp.nanmin, "max": jnp.nanmax}
    checks.in_table(where, "mode", mode, extremes)
    values = jnp.asarray(by(sweep.results))
    checks.shape(where, "by(results)", values, (members(where, sweep.hparams),))
    if checks.concrete(values) and checks.holds(lambda: jnp.isnan(values)):
        raise ValueError(f"{where}: by(results) must hold a number, got only NaN")
    member = jnp.argmax(values == extremes[mode](values))  # the first of them
    take = lambda tree: jax.tree.map(lambda a: a[member], tree)
    return Best(member=member, hparams=take(sweep.hparams), result=take(sweep.results))
