"""Whole fits, so many members in one compiled call: the driver of `run` for plain functions."""

import math
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, PyTree

from jaxnn import checks, memory
from jaxnn.sweep import lanes as threads
from jaxnn.sweep.constants import warn_of_constants
from jaxnn.sweep.layouts import LAYOUTS, chosen, one_member, place, spread
from jaxnn.sweep.options import Options, Paused, check_own, whose
from jaxnn.sweep.progress import Reporter, least

FitOne = Callable[..., PyTree]
Score = Callable[[PyTree], Float[Array, ""]]


class Chunk(NamedTuple):
    """Some members' results, with what the driver reads."""

    results: PyTree
    failed: Bool[Array, " members"]
    scores: Float[Array, " members"] | None


def _nan_in_a_number(result: PyTree) -> Bool[Array, ""]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(result)]
    single = [a for a in leaves if a.shape == () and jnp.issubdtype(a.dtype, jnp.inexact)]
    return jnp.any(jnp.stack([jnp.isnan(a) for a in single])) if single else jnp.array(False)


# A trace of one member serves programs for any number of them.
@partial(jax.jit, static_argnames="fit_one", inline=True)
def _member(fit_one: FitOne, member: Any, shared: Any) -> PyTree:
    return fit_one(*member, *shared)


@partial(jax.jit, static_argnames=("fit_one", "score", "layout", "mesh"))
def _chunk(
    fit_one: FitOne, score: Score | None, layout: str, mesh: Mesh | None, members: Any, shared: Any
) -> Chunk:
    def one(member: Any, shared: Any) -> Chunk:
        result = _member(fit_one, member, shared)
        if score is None:
            return Chunk(result, _nan_in_a_number(result), None)
        value = jnp.asarray(score(result))
        return Chunk(result, jnp.isnan(value), value)

    def local(members: Any, shared: Any) -> Chunk:
        return LAYOUTS[layout](lambda member: one(member, shared), members)

    return spread(mesh, local, 1)(members, shared)


def _cut(members: PyTree, start: int, size: int) -> PyTree:
    """Returns `size` members from `start` on; behind the last one it comes again."""
    n = jax.tree.leaves(members)[0].shape[0]
    if start + size <= n:
        return jax.tree.map(lambda a: a[start : start + size], members)
    rows = np.minimum(np.arange(start, start + size), n - 1)
    return jax.tree.map(lambda a: a[rows], members)


@jax.jit
def _joined(chunks: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *chunks)


def filled(done: PyTree, n: int) -> PyTree:
    """Returns results for n members: NaN, zero or the like for those that are not done."""

    def fill(a: Array) -> Array:
        if a.shape[0] == n:
            return a
        value = jnp.nan if jnp.issubdtype(a.dtype, jnp.inexact) else None
        shape = (n - a.shape[0], *a.shape[1:])
        rest = jnp.zeros(shape, a.dtype) if value is None else jnp.full(shape, value, a.dtype)
        return jnp.concatenate([a, rest])

    return jax.tree.map(fill, done)


class _Kept:
    """Results on the host, in arrays with room for all members, of which pauses are views.

    Rows that are there do not change any more, so that a pause may be written in the background.
    """

    def __init__(self, where: str, members: PyTree, resume: Paused | None):
        hparams, keys = members
        self.where, self.n, self.done, self.rows = where, keys.shape[0], 0, None
        self.facts = {"members": self.n}
        self.own = whose(hparams, keys)
        if resume is not None:
            check_own(where, resume, self.facts, hparams, keys)
            self.add(resume.arrays["results"])

    def add(self, chunk: Chunk) -> Paused:
        """Takes the results of the next members, and returns the pause behind them."""
        for leaf in jax.tree.leaves(chunk):
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                raise TypeError(f"{self.where}: results that are saved must hold no keys; return "
                                "jax.random.key_data of them")  # fmt: skip
        if self.rows is None:
            room = lambda a: np.empty((self.n, *a.shape[1:]), a.dtype)
            self.rows = jax.tree.map(room, chunk)
        start, self.done = self.done, self.done + len(chunk.failed)
        for row, new in zip(jax.tree.leaves(self.rows), jax.tree.leaves(chunk), strict=True):
            row[start : self.done] = new
        return Paused(arrays=self.own | {"results": self.results}, facts=self.facts)

    @property
    def results(self) -> Chunk:
        """Those of all members that are done."""
        return jax.tree.map(lambda a: a[: self.done], self.rows)


def in_chunks(
    where: str, fit_one: FitOne, score: Score | None, members: PyTree, shared: Any,
    options: Options,
) -> tuple[Chunk, int]:  # fmt: skip
    """Returns results of all members, and how many of them were done when Ctrl-C came."""
    n = jax.tree.leaves(members)[0].shape[0]
    mesh = options.mesh
    alone = one_member(members)
    layout = chosen(options.layout, mesh, partial(_member, fit_one), alone, shared)
    parts = 1 if mesh is None else mesh.size
    most = n if options.share is None else -(-n // options.share.processes)
    size = -(-(most if options.chunk is None else min(most, options.chunk)) // parts) * parts
    run = partial(_chunk, fit_one, score, layout, mesh)
    report, lanes = Reporter(options.progress, n), 1
    traced = not all(map(checks.concrete, jax.tree.leaves((members, shared))))
    cut = lambda size: place(mesh, _cut(members, 0, size), shared)
    trace = lambda size: _chunk.trace(fit_one, score, layout, mesh, *cut(size))
    if not traced:
        if options.share is None and threads.possible(mesh, (members, shared)):
            member = _member.trace(fit_one, alone, shared)
            lanes, size = threads.shares(member, n, size, options.chunk is None)
        warn_of_constants(where, "fit_one", trace(size))
        if options.memory_budget is not None:
            fixed = sum(jnp.asarray(leaf).nbytes for leaf in jax.tree.leaves(shared))
            cost = lambda each: memory.needed(trace(each * parts).lower().compile())
            size = parts * memory.most_that_fit(
                where, cost, size // parts, fixed, options.memory_budget // lanes, "member"
            )
    kept = None
    if options.save is not None or options.resume is not None:
        if traced:
            raise TypeError(f"{where}: save and resume make a loop in Python, which jit, vmap and "
                            "grad cannot trace; leave them out")  # fmt: skip
        kept = _Kept(where, members, options.resume)
    elif size >= n and options.share is None:  # one call, for which nobody waits here
        chunk = run(*place(mesh, _cut(members, 0, size), shared))
        chunk = jax.tree.map(lambda a: a[:n], chunk) if size > n else chunk
        if options.progress is not None:
            report(n, _least(jax.block_until_ready(chunk)))
        return chunk, n
    if lanes > 1:  # compiled here, since other threads have not the caller's settings of JAX
        shared = jax.tree.map(jnp.asarray, shared)
        compiled = trace(size).lower().compile()
        run = lambda *args: jax.block_until_ready(compiled(*args))
    found: list[Chunk] = []
    done = kept.done if kept else 0
    if done:
        report(done, math.nan)
    share = options.share
    many = 1 if share is None else share.processes
    size = size if share is None else share.least(size)

    def part(start: int) -> tuple[slice, PyTree]:
        """Returns the members of a call, and which of its results are wanted."""
        end = min(start + size * many, n)
        if share is None:
            begin = max(0, min(start, n - size))  # the last one reaches back for its shape
            return slice(start - begin, end - begin), _cut(members, begin, size)
        mine = start + share.mine(end - start)
        rows = np.resize(mine, size) if len(mine) else np.full(size, start)
        return slice(len(mine)), jax.tree.map(lambda a: a[rows], members)

    starts = range(done, n, size * many)
    call = lambda part: (part[0], run(*place(mesh, part[1], shared)))
    calls = threads.in_turn(call, map(part, starts), lanes)
    with options.noted() as keyboard, closing(calls):
        for start, (own, chunk) in zip(starts, calls, strict=True):
            done = min(start + size * many, n)
            if done - start < size * many:
                chunk = jax.tree.map(lambda a, own=own: a[own], chunk)
            if share is not None:
                chunk = share.gather(done - start, chunk)
            if not traced:
                jax.block_until_ready(chunk)
            if kept is None:
                found.append(chunk)
            else:
                paused = kept.add(chunk)
                if options.save is not None:
                    options.save(paused)
            report(done, _least(chunk))
            if options.stopped(keyboard):
                break
    together = _joined(found) if kept is None else jax.tree.map(jnp.asarray, kept.results)
    return filled(together, n), done


def _least(chunk: Chunk) -> float:
    if chunk.scores is None or not checks.concrete(chunk.scores):
        return math.nan
    return least(np.asarray(chunk.scores))
