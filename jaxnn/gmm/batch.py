"""One fit for each of many data sets, none of which waits for the slowest.

Shapes: b data sets (members), n samples, d features.  A batch of mixtures has a leading axis on
every leaf.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxnn import checks, memory
from jaxnn.gmm.em import climb
from jaxnn.gmm.missing import Observed, counted
from jaxnn.gmm.model import GMM
from jaxnn.gmm.observed import rule_of
from jaxnn.gmm.outcome import Fit, unfinished
from jaxnn.gmm.restarts import LAYOUTS, layout_or_default, resume
from jaxnn.types import Scalar

Rows = Array | Observed
Members = tuple[GMM, Rows, Array, Array, Array]

SEGMENT = 16  # M-steps of the first segment under `vmap`; each further one is twice as long
SHRINK = 4  # a batch shrinks to its next size when so few members are left: few sizes to compile
CORES = os.cpu_count() or 1
CHUNKS = 4  # chunks for each core under `map`, so that the cores end together


@partial(jax.jit, static_argnames="layout")
def _run(members: Members, max_steps: Int[Array, ""], layout: str) -> Fit:
    def one(member: Members) -> Fit:
        mixture, x, weight, ridge, tol = member
        no_more = jnp.zeros(mixture.means.shape[1], weight.dtype)
        return climb(mixture, x, weight, None, ridge, no_more, tol, max_steps)

    return LAYOUTS[layout](one, members)


@partial(jax.jit, static_argnames="size")
def _run_chunk(
    members: Members, start: Int[Array, ""],
    max_steps: Int[Array, ""], size: int,
) -> Fit:  # fmt: skip
    """Returns the fits of `size` members from `start` on, one after another."""
    chunk = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, size), members)
    return _run(chunk, max_steps, "map")


@jax.jit
def _continue(
    fits: Fit, data: tuple[Rows, Array, Array, Array], who: Int[Array, " m"],
    max_steps: Int[Array, ""],
) -> tuple[Fit, Array]:  # fmt: skip
    """Returns all fits after those of the members `who` went on, and which of all want more."""
    some = jax.tree.map(lambda a: a[who], (fits, data))

    def one(state: Fit, member: tuple[Rows, Array, Array, Array]) -> Fit:
        x, weight, ridge, tol = member
        return resume(state, x, weight, ridge, tol, max_steps)

    fits = jax.tree.map(lambda a, new: a.at[who].set(new), fits, jax.vmap(one)(*some))
    return fits, unfinished(fits, data[3])


def _chunk(members: int) -> int:
    """Returns how many members run one after another on a core."""
    return -(-members // min(members, CHUNKS * CORES))


def _joined(parts: list[Fit]) -> Fit:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _in_chunks(
    members: Members, max_steps: Int[Array, ""],
    progress: Callable[[int], None] | None,
) -> Fit:  # fmt: skip
    """Runs members one after another, chunks of them side by side on the cores.

    JAX traces in this thread, whose settings it would not find in others; the others only run.
    """
    b = members[2].shape[0]
    size = _chunk(b)
    # The last chunk reaches back rather than change its shape.
    starts = [jnp.asarray(min(i, b - size), jnp.int32) for i in range(0, b, size)]
    program = _run_chunk.lower(members, starts[0], max_steps, size).compile()
    parts: list[Fit] = []
    done = 0
    with ThreadPoolExecutor(CORES) as pool:
        run = lambda start: jax.block_until_ready(program(members, start, max_steps))
        for part in pool.map(run, starts):
            skip = max(0, done + size - b)
            parts.append(jax.tree.map(lambda a, skip=skip: a[skip:], part) if skip else part)
            if progress is not None:
                progress(size - skip)
            done += size - skip
    return _joined(parts)


def _in_segments(
    members: Members, max_steps: Int[Array, ""],
    progress: Callable[[int], None] | None,
) -> Fit:  # fmt: skip
    """Runs all members at once, some steps at a time; those that have finished leave the batch."""
    data = members[1:]
    b, last = data[1].shape[0], int(max_steps)
    size, steps, left = b, min(SEGMENT, last), b
    fits = _run(members, jnp.asarray(steps), "vmap")
    going = unfinished(fits, data[3])
    while True:
        who = [i for i, more in enumerate((going & (fits.steps < last)).tolist()) if more]
        if progress is not None and len(who) < left:
            progress(left - len(who))
        left = len(who)
        if not who:
            return fits
        while size > 1 and left <= -(-size // SHRINK):
            size = -(-size // SHRINK)
        steps = min(2 * steps + SEGMENT, last)
        # The batch is filled up with its first member, which gives the same result twice.
        who = jnp.asarray(who + [who[0]] * (size - left))
        fits, going = _continue(fits, data, who, jnp.asarray(steps))


def _that_fit(
    where: str, members: Members, max_steps: Int[Array, ""], layout: str, budget: int
) -> int:
    """Returns how many members may run at a time, so that their program keeps to a budget."""

    def cost(size: int) -> int:
        some = jax.tree.map(lambda a: a[:size], members)
        if layout == "vmap":
            return memory.needed(_run.lower(some, max_steps, "vmap").compile())
        start = jnp.zeros((), jnp.int32)
        program = _run_chunk.lower(some, start, max_steps, _chunk(size)).compile()
        return CORES * memory.needed(program)

    return memory.most_that_fit(where, cost, members[2].shape[0], 0, budget, "member")


def fit_many(
    mixtures: GMM,
    x: Float[ArrayLike, "b n d"],
    *,
    sample_weight: Float[ArrayLike, "b n"] | None = None,
    ridge: Scalar | Float[ArrayLike, " b"] = 1e-6,
    tol: Scalar | Float[ArrayLike, " b"] = 1e-4,
    max_steps: int = 200,
    layout: str | None = None,
    progress: Callable[[int], None] | None = None,
    missing: bool = False,
    memory_budget: memory.Budget = None,
) -> Fit:
    """Fits a mixture to each of many data sets: what `fit` gives one by one, but faster.

    Under the layout "vmap" all members step together; those that have finished leave the batch,
    which shrinks through a short list of sizes. Under "map" each runs alone, as many at a time as
    there are cores. Inside `jit` or `vmap` use `jax.vmap` of `fit` or `jax.lax.map`.

    Args:
        mixtures: where to start, each leaf with a leading axis of members, as `vmap` of `init`
            returns.
        x: shape (b, n, d). Data sets of fewer rows are filled up with rows of weight zero.
        sample_weight: shape (b, n).
        ridge: as in `fit`; one number, or one for each member.
        tol: as in `fit`; one number, or one for each member.
        max_steps: the most M-steps of a member.
        layout: a name in `restarts.LAYOUTS`; by default `map` on CPU and `vmap` elsewhere.
        progress: called now and then with the number of members that have finished since; they
            sum to b.
        missing: as in `fit`; each row has matrices of its own, since gaps differ by member.
        memory_budget: bytes that the members which run at a time may take, data and results in, or
            "auto" (see `jaxnn.memory`): the others wait. All at a time by default.

    Returns:
        A `Fit` with a leading axis of members on every leaf.

    Raises:
        TypeError, ValueError: traced or bad data, weights, mixtures or numbers; a column of a
            member without any observed value; gaps in a family that knows none.
    """
    where = "gmm.fit_many"
    checks.instance(where, "mixtures", mixtures, GMM)
    given = (*jax.tree.leaves(mixtures), x, sample_weight, ridge, tol)
    if not all(checks.concrete(a) for a in given):
        raise TypeError(f"{where}: arguments must not be traced; inside jit, vmap or grad use "
                        "jax.vmap of gmm.fit, or jax.lax.map")  # fmt: skip
    x = checks.floating(where, "x", x)
    checks.shape(where, "x", x, (None, None, None))
    if 0 in x.shape:
        raise ValueError(f"{where}: x must not be empty, got shape {x.shape}")
    checks.finite(where, "x", jnp.where(jnp.isnan(x), 0, x) if missing else x)
    b, n, d = x.shape
    means = checks.floating(where, "mixtures.means", mixtures.means)
    checks.shape(where, "mixtures.means", means, (b, None, d))
    for leaf in jax.tree.leaves(mixtures):
        checks.shape(where, "each leaf of mixtures", leaf, (b, *leaf.shape[1:]))
    checks.same_dtype(where, "x", x, "the mixtures", means.dtype)
    k = means.shape[1]
    if k > n:
        raise ValueError(f"{where}: x must have at least {k} rows for {k} components, got {n}")
    weight, rows = _member_weights(where, sample_weight, x), x
    if missing:
        rule_of(where, mixtures.cov)
        rows, weight = Observed(x, None), jax.vmap(counted)(x, weight)
        seen = jnp.any(~jnp.isnan(x) & (weight > 0)[:, :, None], axis=1)
        if not checks.holds(lambda: seen):
            member, column = (int(place) for place in jnp.argwhere(~seen)[0])
            raise ValueError(f"{where}: x must have an observed value in every column of a "
                             f"member, got none in column {column} of member {member}")  # fmt: skip
    members = (
        mixtures, rows, weight,
        _per_member(where, "ridge", ridge, x), _per_member(where, "tol", tol, x),
    )  # fmt: skip
    limit = checks.steps(where, "max_steps", max_steps)
    layout = layout_or_default(where, layout)
    drive = _in_chunks if layout == "map" else _in_segments
    if memory_budget is None:
        return drive(members, limit, progress)
    budget = memory.bytes_allowed(where, memory_budget)
    size = _that_fit(where, members, limit, layout, budget)
    cuts = [jax.tree.map(lambda a, i=i: a[i : i + size], members) for i in range(0, b, size)]
    return _joined([drive(cut, limit, progress) for cut in cuts])


def _member_weights(
    where: str, sample_weight: Float[ArrayLike, "b n"] | None, x: Float[Array, "b n d"]
) -> Float[Array, "b n"]:
    if sample_weight is None:
        return jnp.ones(x.shape[:2], x.dtype)
    weight = checks.floating(where, "sample_weight", sample_weight)
    checks.shape(where, "sample_weight", weight, x.shape[:2])
    checks.non_negative(where, "sample_weight", weight)
    empty = jnp.all(weight == 0, axis=1).tolist()
    if any(empty):
        raise ValueError(f"{where}: sample_weight must not be zero everywhere, as for member "
                         f"{empty.index(True)}")  # fmt: skip
    return weight.astype(x.dtype)


def _per_member(
    where: str, name: str, number: Scalar | Float[ArrayLike, " b"], x: Float[Array, "b n d"]
) -> Float[Array, " b"]:
    checks.non_negative(where, name, number)
    if jnp.ndim(number) > 0:
        checks.shape(where, name, number, x.shape[:1])
    return jnp.broadcast_to(jnp.asarray(number, x.dtype), x.shape[:1])
