"""Many fits in one program: any pure `fit_one(hparams, key, *shared)` over all members at once."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnn import checks
from jaxnn.sweep import pieces, reads, rules
from jaxnn.sweep.axes import HParams, Static, numbers
from jaxnn.sweep.chunks import FitOne, Score, in_chunks
from jaxnn.sweep.options import Options, Paused, Share, checked_options
from jaxnn.sweep.progress import Progress, warn_of_interrupt
from jaxnn.types import Key, Segments


class Sweep(NamedTuple):
    """All members: hyperparameters and results, every leaf with a leading axis of members.

    Attributes:
        hparams: as given.
        results: what `fit_one` returned, or `Segments.result`.  Of a member that is not done: NaN
            and zeros, or what it had come to in pieces.
        done: whether the sweep is through with a member, however that ended; False where Ctrl-C
            came first.
        failed: whether its score is NaN; without a score, whether one of the single numbers in
            its result is.
        stopped: whether a rule such as successive halving stopped it; None if there was none.
        pieces: how many it ran; None for fits that are not in pieces.
        scores: lower is better; None where nothing gives one.
    """

    hparams: HParams
    results: PyTree
    done: Bool[Array, " members"] | None = None
    failed: Bool[Array, " members"] | None = None
    stopped: Bool[Array, " members"] | None = None
    pieces: Int[Array, " members"] | None = None
    scores: Float[Array, " members"] | None = None


class Best(NamedTuple):
    """The best member of a sweep: its number, hyperparameters and result."""

    member: Int[Array, ""]
    hparams: HParams
    result: PyTree


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


def in_pieces(
    where: str, protocol: Segments, hparams: HParams, key: Key, shared: Any,
    make_rule: Callable[[int, int], rules.Rule], options: Options,
) -> Sweep:  # fmt: skip
    """Returns the sweep of a fit in pieces; `make_rule` takes the members, and those at a time."""
    if not all(map(checks.concrete, jax.tree.leaves((hparams, key, shared)))):
        raise TypeError(
            f"{where}: a fit in pieces is driven by a loop in Python, which jit, vmap and grad "
            "cannot trace; call its init and advance inside them"
        )
    n = members(where, hparams)
    results, records, done = pieces.drive(
        where, protocol, hparams, member_keys(key, hparams), shared, partial(make_rule, n), options
    )
    return Sweep(
        hparams=hparams,
        results=results,
        done=jnp.asarray(done),
        failed=jnp.asarray(records.failed),
        stopped=jnp.asarray(records.stopped),
        pieces=jnp.asarray(records.pieces),
        scores=jnp.asarray(records.scores),
    )


def fit_all(
    where: str, fit_one: FitOne | Segments, hparams: HParams, key: Key, shared: Any,
    score: Score | None, options: Options,
) -> Sweep:  # fmt: skip
    """Returns the sweep of `run`, whose arguments were checked; says nothing of Ctrl-C."""
    if isinstance(fit_one, Segments):
        if score is not None:
            raise TypeError(f"{where}: score belongs to a function; a fit in pieces has its own")
        everybody = lambda n, slots: rules.every_piece()
        return in_pieces(where, fit_one, hparams, key, shared, everybody, options)
    n = members(where, hparams)
    cut = (hparams, member_keys(key, hparams))
    found, done = in_chunks(where, fit_one, score, cut, shared, options)
    return Sweep(
        hparams=hparams,
        results=found.results,
        done=jnp.arange(n) < done,
        failed=found.failed,
        scores=found.scores,
    )


def run(
    fit_one: FitOne | Segments,
    hparams: HParams,
    key: Key,
    *shared: PyTree,
    chunk: int | None = None,
    layout: str = "auto",
    mesh: Mesh | None = None,
    memory_budget: int | str | None = None,
    score: Score | None = None,
    progress: Callable[[Progress], None] | None = None,
    save: Callable[[Paused], None] | None = None,
    resume: Paused | None = None,
    share: Share | None = None,
) -> Sweep:
    """Returns the results of `fit_one(hparams_i, key_i, *shared)` for every member i.

    Args:
        fit_one: any pure function of one member's numbers (a dict of scalars), its key and the
            shared data; or a fit in pieces, whose members leave the batch as soon as they have
            halted or their score is NaN. Give the same function objects again and nothing is
            compiled anew.
        hparams: dict of arrays with one entry per member, from `grid`, `random` or by hand.
        key: see `member_keys`; member i depends on nothing but its numbers and its key.
        *shared: arrays (or pytrees) that all members use, such as the data.
        chunk: members per compiled call, to bound memory and to see progress; by default all, or
            on CPU, where a large sweep runs a call on each core at a time, what suits its cache.
            Every call has the same shape, so one compilation serves them all.
        layout: a name in `LAYOUTS`; by default, "auto", `map` on CPU for fits with a loop that
            ends when the values say so, such as EM, if they are not very small, and else `vmap`.
        mesh: devices over which the members are cut, each working on its own; none by default. On
            CPU plain functions use all cores without; fits in pieces are about twice as fast with
            a device for each core, which needs
            `jax.config.update("jax_num_cpu_devices", cores)` before the first computation.
        memory_budget: bytes that one call may take on a device, arguments included, or "auto" for
            half of what is free: members per call are as many as the compiled program allows, at
            most `chunk`.
        score: one number of a result, lower is better: for `Sweep.scores`, `Sweep.failed` and
            progress. Fits in pieces have their own.
        progress: called with a `Progress` after each chunk, or round of pieces.
        save: called after each chunk, or round of pieces, with all that is needed to go on.
        resume: what `save` was given in a run with the same hyperparameters and key.
        share: in a job of many processes, which members this one runs; see `scale.sweep`.

    Ctrl-C ends the sweep after the running chunk or round with a warning, and `Sweep.done` says
    which members' results are there; pressed again, or where there is one chunk, it interrupts.

    Raises:
        TypeError, ValueError: no members, axes of unequal length, a bad key, chunk, layout or
            mesh; a budget below the needs of one member; functions that do not fit the protocol.

    >>> key = jax.random.key(0)
    >>> squares = run(lambda hp, key: hp["x"] ** 2, {"x": jnp.arange(4)}, key)
    >>> squares.results.tolist()
    [0, 1, 4, 9]
    """
    where = "sweep.run"
    if not callable(fit_one) and not isinstance(fit_one, Segments):
        raise TypeError(f"{where}: fit_one must be a function, got {type(fit_one).__name__}")
    checks.key(where, key)
    options = checked_options(
        where, chunk=chunk, layout=layout, mesh=mesh, memory_budget=memory_budget,
        progress=progress, save=save, resume=resume, share=share,
    )  # fmt: skip
    hparams = {name: numbers(where, name, values) for name, values in hparams.items()}
    members(where, hparams)  # of unequal numbers: a mistake, before anything is traced
    with reads.explained(where, hparams):
        done = fit_all(where, fit_one, hparams, key, shared, score, options)
    if done.done is not None and checks.concrete(done.done):
        warn_of_interrupt(where, done.done)
    return done


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
