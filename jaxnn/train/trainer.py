"""Training of any `ValueAndGrad`: a pure compiled segment of epochs, and a thin driver.

A segment is one `lax.scan` over epochs, each a scan over batches. An epoch depends only on the
state and on its number, so the length of the segments changes nothing; once a run has stopped,
its epochs are skipped.  All numbers are traced: `vmap` over keys, learning rates, decays, data.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnn import checks
from jaxnn.train import stopping
from jaxnn.train.data import Batch, epoch_batches, leading
from jaxnn.train.optimizers import optimizer as make_optimizer
from jaxnn.train.state import History, Plan, Trained, TrainState
from jaxnn.types import Key, Scalar, ValueAndGrad

Score = Callable[[PyTree, Batch], Float[Array, ""]]


def add_l2(params: PyTree, gradient: PyTree, l2: Scalar) -> PyTree:
    """Returns the gradient of loss + l2·‖W‖², the lecture's penalty, given that of the loss.

    Every array counts as a weight but those whose name ends with `bias`.
    """

    def decayed(path: tuple[Any, ...], g: Array, p: Array) -> Array:
        name = str(getattr(path[-1], "name", getattr(path[-1], "key", ""))) if path else ""
        return g if name.endswith("bias") else g + (2 * l2 * p).astype(g.dtype)

    return jax.tree_util.tree_map_with_path(decayed, gradient, params)


def _select(keep: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, old)


def _start(key: Key, params: PyTree, optimizer: str, plan: Plan) -> TrainState:
    off = jnp.zeros((), bool)
    transformation = make_optimizer(optimizer, plan.learning_rate, **plan.options)
    return TrainState(
        params=params,
        opt_state=transformation.init(params),
        best=stopping.start(params, plan.learning_rate.dtype),
        key=key,
        epoch=jnp.zeros((), jnp.int32),
        halted=off,
        diverged=off,
    )


@partial(
    jax.jit,
    static_argnames=("value_and_grad", "score", "optimizer", "epochs", "batch_size"),
)
def segment(
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
    """Returns the state after `epochs` more epochs, and their history.  Pure; see `fit`."""
    transformation = make_optimizer(optimizer, plan.learning_rate, **plan.options)
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
        value, gradient = value_and_grad(params, part._replace(weight=mass), key)
        gradient = add_l2(params, gradient, plan.l2)
        updates, opt_state = transformation.update(gradient, opt_state, params)
        total = jnp.sum(mass)
        return (optax.apply_updates(params, updates), opt_state), (value * total, total)

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
        good = jnp.isfinite(loss)
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


def _drive(
    state: TrainState,
    run: Callable[..., tuple[TrainState, History]],
    epochs: int,
    every: int,
    progress: Callable[[int, History], None] | None,
) -> tuple[TrainState, History]:
    """Returns what one long segment would have, from a loop over short ones."""
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


def _weights(batch: Batch, n: int, dtype: Any) -> Float[Array, " n"]:
    if batch.weight is None:
        return jnp.ones(n, dtype)
    return checks.weights("train.fit", "batch.weight", batch.weight, n).astype(dtype)


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
    **options: Scalar,
) -> Trained:
    """Trains `params` on `batch` and returns the best parameters and the history.

    Args:
        key: shuffles each epoch anew and is handed, folded with the step, to `value_and_grad`.
        params: pytree to start from.
        batch: all rows; `weight` None counts each once.
        value_and_grad: `(params, batch, key) -> (value, gradient)`, a weighted mean over rows.
            Give the same function object again and nothing is compiled anew.
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
        progress: called after each segment, outside the compiled program, with the epochs so far
            and the segment's history. With it or `segment_epochs`, `fit` is a driver and cannot
            itself be traced; a run that has halted returns at once.
        **options: further numbers of the optimizer, as optax names them (traced).

    Raises:
        TypeError, ValueError: an unknown optimizer or option; a negative rate, decay or gain;
            sizes below 1; rows that differ in number; patience without validation.
    """
    where = "train.fit"
    checks.key(where, key)
    n = leading(where, batch)
    epochs = checks.count(where, "epochs", epochs)
    size = n if batch_size is None else checks.count(where, "batch_size", batch_size)
    for name, number in (("learning_rate", learning_rate), ("l2", l2), ("min_gain", min_gain)):
        checks.non_negative(where, name, number)
    if patience is None:
        patience = jnp.iinfo(jnp.int32).max
    elif validation is None:
        raise ValueError(f"{where}: patience needs a validation batch to watch")
    else:
        checks.positive(where, "patience", patience)
    leaves = jax.tree.leaves(params)
    if not leaves:
        raise ValueError(f"{where}: params must hold at least one array")
    dtype = jnp.result_type(*leaves)
    plan = Plan(
        learning_rate=jnp.asarray(learning_rate, dtype),
        l2=jnp.asarray(l2, dtype),
        patience=jnp.asarray(patience, jnp.int32),
        min_gain=jnp.asarray(min_gain, dtype),
        options={name: jnp.asarray(value, dtype) for name, value in options.items()},
    )
    weight = _weights(batch, n, dtype)
    if validation is not None:
        held_out = _weights(validation, leading(where, validation), dtype)
        validation = validation._replace(weight=held_out)
    run = partial(
        segment,
        plan=plan,
        batch=batch._replace(weight=None),
        weight=weight,
        validation=validation,
        value_and_grad=value_and_grad,
        score=score,
        optimizer=optimizer,
        batch_size=size,
    )
    state = _start(key, params, optimizer, plan)
    if progress is None and segment_epochs is None:
        state, history = run(state, epochs=epochs)
    else:
        state, history = _drive(state, run, epochs, segment_epochs or 1, progress)
    judged = validation is not None
    return Trained(
        params=state.best.params if judged else state.params,
        value=state.best.value if judged else history.loss[state.epoch - 1],
        best_epoch=state.best.epoch if judged else state.epoch - 1,
        epochs=state.epoch,
        diverged=state.diverged,
        history=history,
    )
