"""Training of any `ValueAndGrad`: a pure compiled segment of epochs, and a thin driver.

What `fit` is given is checked in `door`; what is compiled stands in `epochs` and `step`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxnn import checks
from jaxnn.train import door
from jaxnn.train import epochs as core
from jaxnn.train.augment import Augmentation
from jaxnn.train.averages import Averaging
from jaxnn.train.data import Batch
from jaxnn.train.optimizers import Factory
from jaxnn.train.schedules import Schedule
from jaxnn.train.state import Score, Trained, TrainState
from jaxnn.types import Key, Scalar, ValueAndGrad

WHERE = "train.fit"

_start = jax.jit(core.start, static_argnames="choices")
_segment = jax.jit(core.segment, static_argnames=("choices", "epochs"))
_finish = jax.jit(core.finish)
_run = jax.jit(core.run, static_argnames=("choices", "epochs"))


def drive(
    where: str,
    state: TrainState,
    advance: Callable[[TrainState], TrainState],
    progress: Callable[[int], None] | None,
    callback: Callable[[Trained], bool | None] | None,
) -> Trained:
    """Returns what one long segment would have, from a loop over short ones.

    What is raised in it leaves with an attribute `trained`: the run up to the last segment.
    """
    done = 0
    try:
        while not bool(state.halted):
            state = advance(state)
            before, done = done, int(state.epoch)
            if progress is not None:
                progress(done - before)
            if callback is not None and callback(_finish(state)):
                break
    except BaseException as error:  # Ctrl-C too
        error.trained = _finish(state)  # pyright: ignore[reportAttributeAccessIssue]
        error.add_note(f"{where}: {done} epochs are done; they are `trained` of this exception")
        raise
    return _finish(state)


def fit(
    key: Key,
    params: PyTree,
    batch: Batch,
    value_and_grad: ValueAndGrad,
    *,
    epochs: int,
    optimizer: str | Factory = "adam",
    learning_rate: Scalar | Schedule | None = None,
    flavour: str = "optax",
    batch_size: int | None = None,
    accumulate: int = 1,
    shuffle: bool = True,
    sampling: Float[Array, " n"] | None = None,
    l2: Scalar = 0.0,
    max_norm: Scalar | None = None,
    average: Averaging | None = None,
    augment: Augmentation | None = None,
    validation: Batch | None = None,
    validate_every: int = 1,
    score: Score | None = None,
    metrics: Mapping[str, Score] | None = None,
    patience: int | Int[Array, ""] | None = None,
    stop_at: int | Int[Array, ""] | None = None,
    order_key: Key | None = None,
    min_gain: Scalar = 0.0,
    segment_epochs: int | None = None,
    progress: Callable[[int], None] | None = None,
    callback: Callable[[Trained], bool | None] | None = None,
    **options: Any,
) -> Trained:
    """Trains `params` on `batch` and returns the best parameters and the history.

    Args:
        key: shuffles each epoch anew and is handed, folded with the step, to `value_and_grad`.
        params: pytree to start from.
        batch: all rows; `weight` None counts each once.
        value_and_grad: `(params, batch, key) -> (value, gradient)`, a weighted mean over rows.
            Give the same function objects (this one, `score` and `metrics`) again and nothing is
            compiled anew. It is traced once at the door, with the rows as they are, so that its
            own checks of them are raised before anything is compiled.
        epochs: the most passes over the rows (static).
        optimizer: a name in `OPTIMIZERS`, or a function as `optimizer` takes it (static).
        learning_rate: step length, or a `schedule` of it over updates, or a function of their
            number (traced). By default 1e-3, and 1 for `lbfgs` and `adadelta`.
        flavour: "optax" or "torch": whose numbers and details the optimizer has (static).
        batch_size: rows at once; None or n and more is full-batch descent. A ragged last batch
            is filled with rows of weight zero, so no row is dropped.
        accumulate: batches whose gradients are added up to one step, which is that of the large
            batch in less memory. The last step of an epoch takes what is left.
        shuffle: whether each epoch has a new order of rows; False keeps the order given.
        sampling: how often to draw each row, (n,): an epoch is then n draws in proportion to it,
            row i either ⌊n p_i⌋ or ⌈n p_i⌉ times. `mlp.balanced(y, k)[y]` draws all classes alike.
        l2: λ of the lecture's loss + λ‖W‖² (traced, but for a plain 0, which leaves it out); biases
            are left alone.
        max_norm: a bound on the weights of each unit, kept after each step; see `max_norm`.
        average: the rule of an `averaging` of the parameters; the average is then what is
            validated and returned.
        augment: the rule of an `augmentation`, or `(key, batch) -> batch`: changes the rows of
            each step. Give the same function object again and nothing is compiled anew.
        validation: held-out rows, scored after each epoch.
        validate_every: score only each so many epochs, counted back from the last one.
        score: `(params, batch) -> value`, lower is better; the loss without dropout by default.
        metrics: functions like `score` under names of their own, only written to the history.
        patience: stop after so many scores in a row that are not better (traced); needs
            `validation`.
        stop_at: epochs of this run, `epochs` by default and at most (traced): all else, schedules
            without `steps` too, is as if `epochs` were that, and the rest of the history is blank.
            Members of a sweep may so have epochs of their own in one program.
        order_key: draws the orders of rows instead of `key`. Members of a sweep that share one see
            the same batches, so that the first layers of all become one product; their results
            are then no longer independent of each other given the data.
        min_gain: how much lower a better score must be (traced).
        segment_epochs: epochs per compiled call, rounded up to a multiple of `validate_every`;
            the result does not depend on it. With it, `progress` or `callback` (which imply 1),
            `fit` is a driver: it stops as soon as the run has, Ctrl-C is answered between two
            segments, and `fit` itself cannot be traced.
        progress: called after each segment with the number of epochs it ran.
        callback: called after each segment, outside the compiled program, with the `Trained` so
            far; True stops the run. What it raises, and KeyboardInterrupt, goes on to the caller
            with the run so far in the exception's attribute `trained`.
        **options: further numbers of the optimizer (traced): `clip_norm`, `clip_value`,
            `weight_decay`, and its own, as `optimizer` names them.

    Raises:
        TypeError, ValueError: an unknown optimizer or option; a negative rate, decay or gain;
            sizes below 1; rows that differ in number; parameters of no or of two dtypes; a
            function that does not fit its slot; patience or metrics without validation; and what
            `value_and_grad` itself raises for the rows.
    """
    every = epochs if progress is None and callback is None else 1
    if segment_epochs is not None:
        every = checks.count(WHERE, "segment_epochs", segment_epochs)
    job = door.prepare(
        WHERE,
        key,
        params,
        batch,
        value_and_grad,
        epochs=epochs,
        optimizer=optimizer,
        learning_rate=learning_rate,
        flavour=flavour,
        batch_size=batch_size,
        accumulate=accumulate,
        shuffle=shuffle,
        sampling=sampling,
        l2=l2,
        max_norm=max_norm,
        average=average,
        augment=augment,
        validation=validation,
        validate_every=validate_every,
        score=score,
        metrics=metrics,
        patience=patience,
        stop_at=stop_at,
        order_key=order_key,
        min_gain=min_gain,
        **options,
    )
    choices = job.choices
    every = core.rounded(every, choices)
    if progress is None and callback is None and segment_epochs is None:
        # Inside another jit the function may hold a tracer, which no cache must keep.
        run = _run if checks.concrete(jnp.zeros(())) else core.run
        return run(key, job.params, job.rows, job.plan, choices=choices, epochs=every)
    if not all(checks.concrete(leaf) for leaf in jax.tree.leaves((jnp.zeros(()), key, job[:3]))):
        raise TypeError(
            f"{WHERE}: segment_epochs, progress and callback make a loop in Python, which jit, "
            "vmap and grad cannot trace; leave them out"
        )
    return drive(
        WHERE,
        _start(key, job.params, job.rows, job.plan, choices=choices),
        lambda state: _segment(state, job.rows, job.plan, choices=choices, epochs=every),
        progress,
        callback,
    )
