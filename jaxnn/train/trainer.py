"""Training of any `ValueAndGrad`: a pure compiled segment of epochs, and a thin driver.

A segment is one `lax.scan` over epochs, each a scan over batches. An epoch depends only on the
state and on its number, so the length of the segments changes nothing; once a run has stopped,
its epochs are skipped.  All numbers are traced: `vmap` over keys, learning rates, decays, data.
What `fit` is given is checked in `door`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnn import checks
from jaxnn.train import door, stopping
from jaxnn.train.data import Batch, epoch_batches
from jaxnn.train.door import Score
from jaxnn.train.optimizers import optimizer as make_optimizer
from jaxnn.train.state import History, Plan, Trained, TrainState
from jaxnn.types import Key, Scalar, ValueAndGrad


def _finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _select(keep: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, old)


def _start(key: Key, params: PyTree, optimizer: str, plan: Plan) -> TrainState:
    off = jnp.zeros((), bool)
    transformation = make_optimizer(optimizer, plan.learning_rate, l2=plan.l2, **plan.options)
    return TrainState(
        params=params,
        opt_state=transformation.init(params),
        best=stopping.start(params, plan.learning_rate.dtype),
        key=key,
        epoch=jnp.zeros((), jnp.int32),
        halted=off,
        diverged=off,
    )


def _segment(
    state: TrainState,
    plan: Plan,
    batch: Batch,
    weight: Float[Array, " n"],
    validation: Batch | None,
    *,
    value_and_grad: ValueAndGrad,
    score: Score | None,
    optimizer: str,
    epochs: int,
    batch_size: int,
) -> tuple[TrainState, History]:
    """Returns the state after `epochs` more epochs, and their history.  Pure; see `fit`.

    Unlike `fit` it checks nothing: `batch` has no weight of its own, `validation` has.
    """
    transformation = make_optimizer(optimizer, plan.learning_rate, l2=plan.l2, **plan.options)
    n = weight.shape[0]
    dtype = plan.learning_rate.dtype

    def judge(params: PyTree, held_out: Batch) -> Float[Array, ""]:
        if score is None:  # no key: evaluation, hence no dropout
            return value_and_grad(params, held_out, None)[0]
        return score(params, held_out)

    def update(
        carry: tuple[PyTree, optax.OptState], part: Batch, mass: Float[Array, " s"], key: Key
    ) -> tuple[tuple[PyTree, optax.OptState], tuple[Array, Array]]:
        params, opt_state = carry
        part = part._replace(weight=mass)
        value, gradient = value_and_grad(params, part, key)
        gradient = jax.tree.map(lambda g, p: g.astype(p.dtype), gradient, params)
        updates, opt_state = transformation.update(
            gradient,
            opt_state,
            params,
            value=value,
            grad=gradient,
            value_fn=lambda p: value_and_grad(p, part, key)[0],
        )
        total = jnp.sum(mass)
        # Rows that all weigh nothing make no step; their mean is 0/0.
        new = _select(total > 0, (optax.apply_updates(params, updates), opt_state), carry)
        return new, (jnp.where(total > 0, value * total, 0), total)

    def epoch(state: TrainState) -> tuple[TrainState, History]:
        key_order, key_steps = jax.random.split(jax.random.fold_in(state.key, state.epoch))
        carry = (state.params, state.opt_state)
        if batch_size >= n:
            carry, (value, mass) = update(carry, batch, weight, key_steps)
        else:
            rows, real = epoch_batches(key_order, n, batch_size)
            keys = jax.random.split(key_steps, rows.shape[0])

            def step(carry: Any, xs: tuple[Array, Array, Array]) -> Any:
                chosen, counted, key = xs
                part = jax.tree.map(lambda a: a[chosen], batch)
                return update(carry, part, weight[chosen] * counted.astype(dtype), key)

            carry, (value, mass) = jax.lax.scan(step, carry, (rows, real, keys))
        loss = (jnp.sum(value) / jnp.sum(mass)).astype(dtype)
        good = jnp.isfinite(loss) & _finite(carry[0])
        params = _select(good, carry[0], state.params)
        best, held_out = state.best, jnp.full((), jnp.nan, dtype)
        if validation is not None:
            held_out = judge(params, validation).astype(dtype)
            best = stopping.update(best, held_out, params, state.epoch, plan.min_gain)
        state = state._replace(
            params=params,
            opt_state=_select(good, carry[1], state.opt_state),
            best=best,
            epoch=state.epoch + 1,
            halted=~good | stopping.exhausted(best, plan.patience),
            diverged=~good,
        )
        return state, History(loss=loss, validation=held_out)

    def skip(state: TrainState) -> tuple[TrainState, History]:
        nan = jnp.full((), jnp.nan, dtype)
        return state, History(loss=nan, validation=nan)

    def body(state: TrainState, _: None) -> tuple[TrainState, History]:
        return jax.lax.cond(state.halted, skip, epoch, state)

    return jax.lax.scan(body, state, None, length=epochs)


segment = jax.jit(
    _segment, static_argnames=("value_and_grad", "score", "optimizer", "epochs", "batch_size")
)


def _drive(
    state: TrainState,
    run: partial[tuple[TrainState, History]],
    epochs: int,
    every: int,
    progress: Callable[[int, History], None] | None,
) -> tuple[TrainState, History]:
    """Returns what one long segment would have, from a loop over short ones."""
    if not all(checks.concrete(leaf) for leaf in jax.tree.leaves((state, run.keywords))):
        raise TypeError(
            f"{door.WHERE}: segment_epochs and progress make a loop in Python, which jit, vmap "
            "and grad cannot trace; leave both out"
        )
    parts, done = [], 0
    while done < epochs and not bool(state.halted):
        length = min(every, epochs - done)
        state, history = run(state, epochs=length)
        parts.append(history)
        done += length
        if progress is not None:
            progress(done, history)
    rest = jnp.full(epochs - done, jnp.nan, parts[0].loss.dtype)
    parts.append(History(loss=rest, validation=rest))
    return state, jax.tree.map(lambda *p: jnp.concatenate(p), *parts)


def fit(
    key: Key,
    params: PyTree,
    batch: Batch,
    value_and_grad: ValueAndGrad,
    *,
    epochs: int,
    optimizer: str = "adam",
    learning_rate: Scalar = 1e-3,
    batch_size: int | None = None,
    l2: Scalar = 0.0,
    validation: Batch | None = None,
    score: Score | None = None,
    patience: int | Int[Array, ""] | None = None,
    min_gain: Scalar = 0.0,
    segment_epochs: int | None = None,
    progress: Callable[[int, History], None] | None = None,
    **options: Any,
) -> Trained:
    """Trains `params` on `batch` and returns the best parameters and the history.

    Args:
        key: shuffles each epoch anew and is handed, folded with the step, to `value_and_grad`.
        params: pytree to start from.
        batch: all rows; `weight` None counts each once.
        value_and_grad: `(params, batch, key) -> (value, gradient)`, a weighted mean over rows.
            Give the same function objects (this one and `score`) again and nothing is compiled
            anew. It is traced once at the door, with the rows as they are, so that its own
            checks of them are raised before anything is compiled.
        epochs: the most passes over the rows (static).
        optimizer: a name in `OPTIMIZERS`.
        learning_rate: step length (traced).
        batch_size: rows per step; None or n and more is full-batch descent. A ragged last batch
            is filled with rows of weight zero, so no row is dropped.
        l2: λ of the lecture's loss + λ‖W‖² (traced); biases are left alone.
        validation: held-out rows, scored after each epoch.
        score: `(params, batch) -> value`, lower is better; the loss without dropout by default.
        patience: stop after so many epochs without a better score (traced); needs `validation`.
        min_gain: how much lower a better score must be (traced).
        segment_epochs: epochs per compiled call; the result does not depend on it.
        progress: called after each segment (of one epoch by default), outside the compiled
            program, with the epochs so far and the segment's history. With it or
            `segment_epochs`, `fit` is a driver that stops as soon as the run has, and cannot
            itself be traced.
        **options: further numbers of the optimizer, as optax names them (traced).

    Raises:
        TypeError, ValueError: an unknown optimizer or option; a negative rate, decay or gain;
            sizes below 1; rows that differ in number; parameters of no or of two dtypes; a
            function that does not fit its slot; patience without validation; and what
            `value_and_grad` itself raises for the rows.
    """
    where = door.WHERE
    checks.key(where, key)
    epochs = checks.count(where, "epochs", epochs)
    every = epochs if progress is None else 1
    if segment_epochs is not None:
        every = checks.count(where, "segment_epochs", segment_epochs)
    params, dtype = door.parameters(params)
    batch, weight = door.rows("batch", batch, dtype)
    size = len(weight)
    if batch_size is not None:
        size = min(size, checks.count(where, "batch_size", batch_size))
    given = {"learning_rate": learning_rate, "l2": l2, "min_gain": min_gain}
    numbers = {name: door.number(name, x, dtype) for name, x in given.items()}
    make_optimizer(optimizer, learning_rate, **options)  # checks name and options
    door.slot(value_and_grad, params, batch._replace(weight=weight), key)
    if validation is not None:
        held_out, held_weight = door.rows("validation", validation, dtype)
        validation = held_out._replace(weight=held_weight)
        door.judge(value_and_grad, score, params, validation)
    plan = Plan(
        **numbers,
        patience=door.patience(patience, validation),
        options={name: door.number(name, x, dtype) for name, x in options.items()},
    )
    state = _start(key, params, optimizer, plan)
    run = partial(
        # Inside another jit the function may hold a tracer, which no cache must keep.
        segment if checks.concrete(state.halted) else _segment,
        plan=plan,
        batch=batch,
        weight=weight,
        validation=validation,
        value_and_grad=value_and_grad,
        score=score,
        optimizer=optimizer,
        batch_size=size,
    )
    if progress is None and segment_epochs is None:
        state, history = run(state, epochs=epochs)
    else:
        state, history = _drive(state, run, epochs, every, progress)
    judged = validation is not None
    last = jnp.where(state.diverged, jnp.nan, history.loss[state.epoch - 1])
    return Trained(
        params=state.best.params if judged else state.params,
        value=state.best.value if judged else last,
        best_epoch=state.best.epoch if judged else state.epoch - 1 - state.diverged,
        epochs=state.epoch,
        diverged=state.diverged,
        history=history,
    )
