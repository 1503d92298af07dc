"""Fits in equal pieces, many at once: after each piece those that are done leave the batch.

The batch shrinks through a short list of sizes, so few programs are compiled, and a member that has
halted, failed or been stopped costs nothing from then on.  Once a round the host reads a score and
a flag for each member that ran; nothing else leaves the device.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxnn import memory
from jaxnn.sweep import pool
from jaxnn.sweep.constants import warn_of_constants
from jaxnn.sweep.layouts import chosen, one_member, place
from jaxnn.sweep.options import Options, Paused, check_own, whose
from jaxnn.sweep.progress import Reporter, least
from jaxnn.sweep.rules import Records, Rule
from jaxnn.types import Segments


class _Places:
    """Where members are: dealt out one by one over the parts of the pool, one for each device."""

    def __init__(self, n: int, parts: int):
        self.n, self.parts, self.size = n, parts, -(-n // parts)
        part, row = np.divmod(np.arange(parts * self.size), self.size)
        # Member of each row of the pool; rows that are left over hold the last one's numbers.
        self.members = jnp.asarray(np.minimum(row * parts + part, n - 1))
        self.rows = jnp.asarray(np.arange(n) % parts * self.size + np.arange(n) // parts)  # back

    def batches(self, chosen: np.ndarray, chunk: int, shrink: bool) -> list[np.ndarray]:
        """Returns the chosen members in batches (parts, size), -1 where there is none."""
        split = [chosen[chosen % self.parts == part] for part in range(self.parts)]
        longest = max(map(len, split))
        size = chunk
        while shrink and longest <= -(-size // 2) < size:
            size = -(-size // 2)
        batches = []
        for start in range(0, longest, size):
            batch = np.full((self.parts, size), -1)
            for part, members in enumerate(split):
                some = members[start : start + size]
                batch[part, : len(some)] = some
            batches.append(batch)
        return batches

    def local(self, batch: np.ndarray) -> Array:
        """Returns the rows of a batch, each within its part of the pool."""
        rows = np.where(batch < 0, self.size, batch // self.parts)
        return jnp.asarray(rows.reshape(-1), jnp.int32)


def check_functions(where: str, protocol: Segments) -> None:
    """Raises TypeError unless all of a protocol are functions."""
    for name, part in protocol._asdict().items():
        if not callable(part):
            raise TypeError(f"{where}: {name} must be a function, got {type(part).__name__}")


def check_protocol(where: str, protocol: Segments, member: PyTree, shared: Sequence[Any]) -> PyTree:
    """Returns the shapes of a state; raises unless the functions of `protocol` fit each other."""
    check_functions(where, protocol)
    state = jax.eval_shape(protocol.init, *member, *shared)
    if not jax.tree.leaves(state):
        raise ValueError(f"{where}: init must return a state with at least one array, got {state}")
    after = jax.eval_shape(partial(pool.further, protocol), state, tuple(shared))
    if jax.tree.structure(after) != jax.tree.structure(state):
        raise ValueError(
            f"{where}: advance must return a state like that of init, "
            f"{jax.tree.structure(state)}, got {jax.tree.structure(after)}"
        )
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(after), strict=True
    ):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise ValueError(
                f"{where}: advance must keep shapes and dtypes, got {new.dtype}{new.shape} for "
                f"{old.dtype}{old.shape} at state{jax.tree_util.keystr(path)}"
            )
    for name, kind in (("score", jnp.floating), ("halted", jnp.bool_)):
        found = jax.eval_shape(getattr(protocol, name), state)
        one = getattr(found, "shape", None) == ()
        if not one or not jnp.issubdtype(found.dtype, kind):
            raise ValueError(
                f"{where}: {name} must return one {'number' if name == 'score' else 'bool'}, "
                f"got {found}"
            )
    return state


def _room(
    where: str, how: pool.How, places: _Places, state: PyTree, shared: Any, options: Options,
) -> tuple[PyTree, int]:  # fmt: skip
    """Returns an empty pool, and how many members each device takes at a time."""
    states, _ = place(options.mesh, pool.room(state, places.parts * places.size), None)
    rows = lambda size: jnp.zeros(places.parts * size, jnp.int32)
    most = places.size
    if options.chunk is not None:
        most = min(most, -(-options.chunk // places.parts))
    traced = pool.advance.trace(states, rows(most), shared, how=how)
    warn_of_constants(where, "advance", traced)
    if options.memory_budget is not None:
        own = sum(leaf.nbytes for leaf in jax.tree.leaves(states)) // places.parts
        fixed = own + sum(jnp.asarray(leaf).nbytes for leaf in jax.tree.leaves(shared))
        program = lambda size: pool.advance.lower(states, rows(size), shared, how=how).compile()
        cost = lambda size: memory.needed(program(size))
        most = memory.most_that_fit(where, cost, most, fixed, options.memory_budget, "member")
    return states, most


def _note(records: Records, batch: np.ndarray, seen: Any, piece: int, rule: Rule) -> None:
    """Writes what was seen of a batch into the records."""
    who = batch.reshape(-1)
    real = who >= 0
    scores, halted = (np.asarray(a)[real] for a in seen)
    who = who[real]
    records.pieces[who] += piece
    records.scores[who] = scores
    records.halted[who] = halted
    records.failed[who] = np.isnan(scores) & (halted | (piece > 0))
    for j, level in enumerate(rule.levels):
        reached = (records.pieces[who] == level) | halted | records.failed[who]
        fresh = reached & (records.pieces[who] <= level)
        records.rungs[who[fresh], j] = np.where(records.failed[who], math.inf, scores)[fresh]


def _fresh_records(n: int, rule: Rule) -> Records:
    off = lambda: np.zeros(n, bool)
    return Records(
        pieces=np.zeros(n, int), scores=np.full(n, math.nan), halted=off(), failed=off(),
        stopped=off(), rungs=np.full((n, len(rule.levels)), math.nan),
    )  # fmt: skip


def _facts(keys: Array, rule: Rule) -> dict[str, Any]:
    return {"members": keys.shape[0], "rule": rule.name, "numbers": list(rule.numbers)}


def _paused(states: PyTree, records: Records, hparams: Any, keys: Array, rule: Rule) -> Paused:
    """Returns all that is needed to go on; the records are copied, since they are written to."""
    arrays = {
        **whose(hparams, keys),
        "states": states,
        "records": {name: a.copy() for name, a in records._asdict().items()},
    }
    return Paused(arrays=arrays, facts=_facts(keys, rule))


def _resumed(
    where: str, paused: Paused, state: PyTree, hparams: Any, keys: Array, rows: np.ndarray,
    rule: Rule, mesh: Any,
) -> tuple[PyTree, Records]:  # fmt: skip
    """Returns the pool and the records of a sweep to go on with; raises if it is another one.

    `rows` says which member has each row of the pool.
    """
    check_own(where, paused, _facts(keys, rule), hparams, keys)
    arrays = paused.arrays
    likes = lambda tree: [(a.shape, a.dtype) for a in jax.tree.leaves(tree)]
    wanted = [((keys.shape[0], *shape), dtype) for shape, dtype in likes(state)]
    if likes(arrays["states"]) != wanted:
        raise ValueError(f"{where}: resume must hold states as init returns them, got others")
    states = jax.tree.map(jnp.asarray, arrays["states"])
    states, _ = place(mesh, pool.reorder(states, jnp.asarray(rows)), None)
    return states, Records(**{name: np.array(a) for name, a in arrays["records"].items()})


def drive(
    where: str,
    protocol: Segments,
    hparams: dict[str, Array],
    keys: Array,
    shared: Sequence[Any],
    make_rule: Callable[[int], Rule],
    options: Options,
) -> tuple[PyTree, Records, np.ndarray]:
    """Returns the results of all members, the records, and which members are done.

    `make_rule` takes the number of members that run at a time.
    """
    n = keys.shape[0]
    mesh, share = options.mesh, options.share
    own = np.arange(n) if share is None else share.mine(n)
    places = _Places(len(own), 1 if mesh is None else mesh.size)
    held = own[np.asarray(places.members)]  # by each row of the pool
    state = check_protocol(where, protocol, one_member((hparams, keys)), shared)
    layout = chosen(options.layout, mesh, partial(pool.further, protocol), state, tuple(shared))
    how = pool.How(protocol, layout, mesh)
    members = (hparams, keys)
    if mesh is not None or share is not None:
        members = pool.reorder(members, jnp.asarray(held))
    members, shared = place(mesh, members, tuple(shared))
    states, chunk = _room(where, how, places, state, shared, options)
    slots = chunk * places.parts
    rule = make_rule(min(n, slots if share is None else share.processes * share.least(slots)))
    records = _fresh_records(n, rule)
    shrink = layout == "vmap"  # under `map` what fills a batch up is skipped

    def round_of(chosen: np.ndarray, step: Callable[..., Any], piece: int) -> None:
        nonlocal states
        mine = np.flatnonzero(np.isin(own, chosen))
        batches, seen = places.batches(mine, chunk, shrink), []
        for batch in batches:  # dispatched one after another; the host waits once, for all
            states, found = step(states, places.local(batch))
            seen.append(found)
        for batch, found in zip(batches, jax.device_get(seen), strict=True):
            _note(records, np.where(batch < 0, -1, own[batch]), found, piece, rule)
        if share is not None:
            everyone = share.gather(n, {name: a[own] for name, a in records._asdict().items()})
            for name, array in everyone.items():
                getattr(records, name)[:] = array

    def in_order(states: PyTree) -> PyTree:
        states = pool.reorder(states, places.rows)
        return states if share is None else share.gather(n, states)

    report = Reporter(options.progress, n)
    with options.noted() as keyboard:
        if options.resume is None:
            start = lambda states, rows: pool.begin(states, members, rows, shared, how=how)
            round_of(np.arange(n), start, 0)
        else:
            states, records = _resumed(
                where, options.resume, state, hparams, keys, held, rule, mesh
            )
        # One member on its own is spared the batching, which costs loops their early end.
        lone = how._replace(layout="map")

        def further(states: PyTree, rows: Array) -> Any:
            single = rows.shape[0] == places.parts
            return pool.advance(states, rows, shared, how=lone if single else how)

        while True:
            go, stop = rule.decide(records)
            records.stopped[stop] = True
            done = ~records.racing if go.any() else np.ones(n, bool)
            report(int(done.sum()), least(records.scores))
            if not go.any() or options.stopped(keyboard):
                break
            round_of(np.flatnonzero(go), further, 1)
            if options.save is not None:
                options.save(_paused(in_order(states), records, hparams, keys, rule))
    results = pool.finish(states, how=how)
    if share is not None:
        results = jax.tree.map(jnp.asarray, in_order(results))
    elif mesh is not None:
        results = in_order(results)
    return results, records, done
