"""A pure segment of epochs: passes over the rows, validation, early stopping, history.

A segment is one `lax.scan` over epochs.  An epoch depends only on the state and on its number, so
the length of the segments changes nothing; once a run has stopped, its epochs are skipped.  All
numbers are traced: `vmap` over keys, learning rates, decays, data.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Int, PyTree

from jaxnn import draws
from jaxnn.train import step, stopping
from jaxnn.train.data import Batch
from jaxnn.train.state import Choices, History, Plan, Rows, Trained, TrainState
from jaxnn.types import Key

STRETCH = 16  # steps between two looks at whether a run has stopped, which copy its state


def blank(choices: Choices, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Returns what stands for numbers that there are none of."""
    return jnp.full(shape, jnp.inf if choices.finite else jnp.nan, dtype)


def start(key: Key, params: PyTree, rows: Rows, plan: Plan, choices: Choices) -> TrainState:
    """Returns the state before the first epoch."""
    off, zero = jnp.zeros((), bool), jnp.zeros((), jnp.int32)
    dtype = plan.min_gain.dtype
    none = blank(choices, (choices.epochs,), dtype)
    return TrainState(
        at=step.start(params, plan, choices),
        best=None if rows.validation is None else stopping.start(params, dtype),
        key=key,
        epoch=zero,
        halted=off,
        diverged=off,
        bad_batch=zero - 1,
        bad_leaf=zero - 1,
        history=History(none, none, {name: none for name, _ in choices.metrics}),
    )


def pass_keys(
    key: Key, plan: Plan, epoch: Int[Array, ""], chunk: Int[Array, ""] | int = 0
) -> tuple[Key, Key]:
    """Returns the keys of a pass over a chunk of rows, the only one where all are in memory.

    The first is of the order, the second of the steps.  The 0 of an epoch is left for what comes
    before its passes.
    """
    of_pass = lambda key: draws.split(draws.fold_in(draws.fold_in(key, epoch), 1 + chunk))
    order, steps = of_pass(key)
    return order if plan.order_key is None else of_pass(plan.order_key)[0], steps


def last_epoch(plan: Plan, choices: Choices) -> Int[Array, ""] | int:
    """Returns how many epochs a run has, if nothing stops it before."""
    return choices.epochs if plan.stop_at is None else plan.stop_at


def is_due(epoch: Int[Array, "*e"], plan: Plan, choices: Choices) -> Bool[Array, "*e"]:
    """Returns whether an epoch is validated: counted from the last one, which always is."""
    return (last_epoch(plan, choices) - 1 - epoch) % choices.validate_every == 0


def _judge(params: PyTree, batch: Batch, choices: Choices, dtype: DTypeLike) -> dict[str, Array]:
    """Returns the validation score under "", and the metrics under their names."""
    if choices.score is None:  # no key: evaluation, hence no dropout
        score = choices.value_and_grad(params, batch, None)[0]
    else:
        score = choices.score(params, batch)
    found = {name: metric(params, batch) for name, metric in choices.metrics}
    return {name: jnp.asarray(x).astype(dtype) for name, x in ({"": score} | found).items()}


def close_epoch(
    state: TrainState,
    walk: step.Walk,
    due: Bool[Array, ""],
    rows: Rows,
    plan: Plan,
    choices: Choices,
) -> tuple[TrainState, History]:
    """Returns the state after an epoch whose passes are over, and its line of history.

    `due` says whether it is time to validate; not one per member, so that `vmap` keeps it a
    branch.
    """
    dtype = walk.loss.dtype
    good = walk.bad_batch < 0
    best, out = state.best, False
    none = blank(choices, (), dtype)
    found = {"": none} | {name: none for name, _ in choices.metrics}
    validation = rows.validation
    if validation is not None and best is not None:
        look = lambda params: _judge(params, validation, choices, dtype)
        if choices.validate_every == 1:
            found = look(walk.at.judged)
        else:
            found = jax.lax.cond(due, look, lambda _, none=found: none, walk.at.judged)
        new = stopping.update(best, found[""], walk.at.judged, state.epoch, plan.min_gain)
        best = new._replace(wait=jnp.where(due, new.wait, best.wait))  # a blank never is better
        out = stopping.exhausted(best, plan.patience)
    ended = state.epoch + 1 >= last_epoch(plan, choices)
    state = state._replace(
        at=walk.at,
        best=best,
        epoch=state.epoch + 1,
        halted=ended | ~good | out,
        diverged=~good,
        bad_batch=walk.bad_batch,
        bad_leaf=walk.bad_leaf,
    )
    mass = jnp.where(walk.mass > 0, walk.mass, 1)  # of an idle epoch, whose line nobody reads
    return state, History(walk.loss / mass, found.pop(""), found)


def write(history: History, at: Int[Array, "..."], lines: History) -> History:
    """Returns the history with lines of some epochs, those beyond the last one dropped."""
    return jax.tree.map(lambda all, some: all.at[at].set(some, mode="drop"), history, lines)


def close_line(
    state: TrainState, walk: step.Walk, rows: Rows, plan: Plan, choices: Choices
) -> TrainState:
    """Returns the state after an epoch whose passes are over, its line in the history."""
    due = is_due(state.epoch, plan, choices)
    after, line = close_epoch(state, walk, due, rows, plan, choices)
    return after._replace(history=write(state.history, state.epoch, line))


def rounded(epochs: int, choices: Choices) -> int:
    """Returns the length of a segment: the next multiple of `validate_every`."""
    return -(-epochs // choices.validate_every) * choices.validate_every


def _together(epochs: int, rows: Rows, choices: Choices) -> int:
    """Returns how many epochs are run at a stretch: a divisor of `epochs`, 1 but for short ones."""
    steps = step.steps_of(len(jax.tree.leaves(rows.batch)[0]), choices)
    return max(k for k in range(1, max(1, STRETCH // steps) + 1) if epochs % k == 0)


def segment(
    state: TrainState, rows: Rows, plan: Plan, *, choices: Choices, epochs: int
) -> TrainState:
    """Returns the state after `epochs` more epochs, a multiple of `validate_every`.  Pure."""
    dtype = plan.min_gain.dtype
    none = blank(choices, (), dtype)
    nothing = History(none, none, {name: none for name, _ in choices.metrics})
    together = _together(epochs, rows, choices)

    def epoch(state: TrainState, xs: tuple[Array, tuple[Key, Key]]) -> tuple[TrainState, History]:
        due, keys = xs
        idle = state.halted
        walk = step.begin(state.at, dtype, idle)
        walk = step.walk_over(walk, rows, keys, plan, choices)
        after, line = close_epoch(state, walk, due, rows, plan, choices)
        # The parameters of an idle epoch have not moved, and its optimizer is not asked again.
        before = (state._replace(at=after.at, key=None), nothing)
        now = (after._replace(key=None), line)
        state, line = jax.tree.map(lambda a, b: jnp.where(idle, a, b), before, now)
        return state._replace(key=after.key), line

    # A loop of one epoch, too, so that its numbers are those of any other segment to the last bit.
    stretch = partial(jax.lax.scan, epoch)

    def skip(state: TrainState, xs: PyTree) -> tuple[TrainState, History]:
        shape = xs[0].shape
        return state, jax.tree.map(lambda a: jnp.broadcast_to(a, shape), nothing)

    def body(state: TrainState, xs: PyTree) -> tuple[TrainState, History]:
        return jax.lax.cond(state.halted, skip, stretch, state, xs)

    # The first epoch of a segment is a multiple of `validate_every`: what is due is no secret of
    # the state.
    number = jnp.arange(epochs)
    due = is_due(number, plan, choices)
    # All keys beforehand: in the loop their rounds would be written into all that draws from them.
    keys = jax.vmap(lambda epoch: pass_keys(state.key, plan, epoch))(state.epoch + number)
    cut = lambda a: a.reshape(-1, together, *a.shape[1:])
    after, lines = jax.lax.scan(body, state, jax.tree.map(cut, (due, keys)))
    lines = jax.tree.map(jnp.ravel, lines)
    return after._replace(history=write(state.history, state.epoch + number, lines))


def finish(state: TrainState) -> Trained:
    """Returns what a state has come to."""
    best = state.best
    last = state.history.loss[state.epoch - 1]
    last = jnp.where(state.diverged, jnp.nan, jnp.where(state.epoch > 0, last, jnp.inf))
    return Trained(
        params=state.at.judged if best is None else best.params,
        value=last if best is None else best.value,
        best_epoch=state.epoch - 1 - state.diverged if best is None else best.epoch,
        epochs=state.epoch,
        diverged=state.diverged,
        bad_batch=state.bad_batch,
        bad_leaf=state.bad_leaf,
        history=state.history,
    )


def run(
    key: Key, params: PyTree, rows: Rows, plan: Plan, *, choices: Choices, epochs: int
) -> Trained:
    """Returns a whole run of one segment.  Pure; see `train.fit`."""
    state = start(key, params, rows, plan, choices)
    return finish(segment(state, rows, plan, choices=choices, epochs=epochs))
