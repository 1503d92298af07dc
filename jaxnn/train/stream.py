"""Training on more rows than the device holds: chunk after chunk from the host.

Every chunk runs the one compiled pass of `step`, while the next one is read and sent; so two of
them are on the device.  With a single chunk it is `train.fit`, bit for bit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from jaxnn.train import door, slots, step
from jaxnn.train import epochs as core
from jaxnn.train.data import Batch
from jaxnn.train.state import Choices, Plan, Rows, Trained, TrainState
from jaxnn.train.trainer import drive
from jaxnn.types import Key, ValueAndGrad

WHERE = "train.fit_stream"


class Midway(NamedTuple):
    """A training between two chunks: all that it needs to go on besides the stream.

    Attributes:
        state: the run before the epoch it is in; its number is `state.epoch`.
        walk: what the chunks of this epoch have changed.
        chunks: how many of them that were.
    """

    state: TrainState
    walk: step.Walk
    chunks: Int[Array, ""]


@partial(jax.jit, static_argnames="choices")
def _pass(
    walk: step.Walk, rows: Rows, key: Key, epoch: Array, chunk: Array, plan: Plan, choices: Choices
) -> step.Walk:
    return step.walk_over(walk, rows, core.pass_keys(key, plan, epoch, chunk), plan, choices)


_start = jax.jit(core.start, static_argnames="choices")
_close = jax.jit(core.close_line, static_argnames="choices")
_finish = jax.jit(core.finish)


def _numbered(
    source: Sequence[Batch] | Iterable[Batch], key: Key, epoch: int, shuffle: bool, skip: int
) -> Iterator[tuple[int, Batch]]:
    """Yields the chunks of an epoch with their numbers, but for the first few of them.

    Those of a sequence come in an order from the key, and those to skip are not read.
    """
    if not isinstance(source, Sequence):
        yield from islice(enumerate(source), skip, None)
        return
    order = range(len(source))
    if shuffle:
        # Passes fold in 1 and more.
        key = jax.random.fold_in(jax.random.fold_in(key, epoch), 0)
        order = jax.random.permutation(key, len(source)).tolist()
    for i in order[skip:]:
        yield i, source[i]


def _filled(chunk: Batch, size: int, number: int, dtype: Any) -> tuple[Batch, Array]:
    """Returns a chunk on the device without weights, and these, with rows of weight 0 to `size`."""
    if isinstance(chunk, Batch):  # a source may fill the same array again and again
        # By the host, at once: `jnp.array` may still read when the array is filled anew.
        chunk = jax.tree.map(lambda a: a.copy() if hasattr(a, "copy") else a, chunk)
    batch, weight = door.rows(WHERE, f"chunk {number}", chunk, dtype)
    weight = door.ones(batch, weight, dtype)
    n = len(weight)
    if n > size:
        raise ValueError(f"{WHERE}: chunk {number} must have at most the {size} rows of the first, "
                         f"got {n}")  # fmt: skip
    if n < size:
        batch = jax.tree.map(lambda a: a[jnp.arange(size) % n], batch)
        weight = jnp.pad(weight, (0, size - n))
    return batch, weight


def fit_stream(
    key: Key,
    params: PyTree,
    source: Sequence[Batch] | Iterable[Batch],
    value_and_grad: ValueAndGrad,
    *,
    epochs: int,
    progress: Callable[[int], None] | None = None,
    callback: Callable[[Trained], bool | None] | None = None,
    save: Callable[[Midway], None] | None = None,
    resume: Midway | None = None,
    **settings: Any,
) -> Trained:
    """Trains `params` on chunks of rows that are read one after another, in every epoch anew.

    Args:
        key: as in `fit`; also draws the order of the chunks, if `source` is a sequence.
        params: as in `fit`.
        source: chunks of rows as `Batch`es of arrays on the host: a sequence (whatever has
            `collections.abc.Sequence` as its base), or anything that can be iterated over once
            an epoch. All have as many rows as the first; smaller ones are filled with rows of
            weight 0. A batch never spans two chunks, nor does a step of accumulated batches.
        value_and_grad: as in `fit`. In the first epoch it is traced with each chunk, for its own
            checks of the rows.
        epochs: as in `fit`.
        progress: as in `fit`, after each epoch.
        callback: as in `fit`, after each epoch.
        save: called after each chunk with all that is needed to go on; `scale.train.fit` keeps it
            in checkpoints.
        resume: what `save` was given in a run with the same arguments. It goes on with the next
            chunk, over which the others are passed unseen, and ends with the same bits; a callback
            that was last called before that epoch is asked once more.
        **settings: as in `fit`: `batch_size` and the rest. `validation` stays on the device.

    Returns:
        What `fit` returns; `bad_batch` counts the steps over all chunks of the epoch.

    Raises:
        TypeError, ValueError: what `fit` raises; a source that is an iterator, which has one
            epoch only; no chunks; a chunk larger than the first, or of other arrays; fewer
            chunks than `resume` has seen, or a state of other arrays.

    >>> from jaxnn import mlp, train
    >>> chunk = train.Batch(x=jnp.ones((5, 2), jnp.float32), y=jnp.array([0, 1, 0, 1, 1]))
    >>> params = mlp.init(jax.random.key(0), (2, 3, 2))
    >>> trained = fit_stream(jax.random.key(1), params, [chunk] * 3, mlp.value_and_grad(), epochs=2)
    >>> int(trained.epochs)
    2
    """
    if isinstance(source, Batch) or not isinstance(source, Iterable):
        raise TypeError(f"{WHERE}: source must be an iterable of train.Batch, "
                        f"got {type(source).__name__}")  # fmt: skip
    if isinstance(source, Iterator):
        raise TypeError(f"{WHERE}: source must be iterable once an epoch, got an iterator, which "
                        "is used up by the first; give a list, say")  # fmt: skip

    def first() -> Batch:
        for chunk in source:
            return chunk
        raise ValueError(f"{WHERE}: source must have at least one chunk, got none")

    return run(
        key, params, first, source, value_and_grad, epochs=epochs, progress=progress,
        callback=callback, save=save,
        begin=lambda start: start if resume is None else _checked(resume, start), **settings,
    )  # fmt: skip


def run(
    key: Key,
    params: PyTree,
    first: Callable[[], Batch],
    source: Sequence[Batch] | Iterable[Batch],
    value_and_grad: ValueAndGrad,
    *,
    epochs: int,
    progress: Callable[[int], None] | None = None,
    callback: Callable[[Trained], bool | None] | None = None,
    save: Callable[[Midway], None] | None = None,
    begin: Callable[[Midway], Midway] = lambda start: start,
    **settings: Any,
) -> Trained:
    """Does what `fit_stream` does; `begin` is given the start and returns where to go on.

    `first` returns the first chunk, for the door to look at; then `source` is iterated over once
    an epoch.
    """
    if settings.get("sampling") is not None:
        raise ValueError(f"{WHERE}: sampling needs all rows at once; weigh the rows of the chunks")
    passes = len(source) if isinstance(source, Sequence) else None
    params, rows, plan, choices = door.prepare(
        WHERE, key, params, first(), value_and_grad, epochs=epochs, passes=passes, **settings
    )
    size, dtype = len(jax.tree.leaves(rows.batch)[0]), plan.min_gain.dtype
    shapes = jax.tree.map(jnp.shape, rows.batch)
    rows = rows._replace(batch=Batch(x=()))  # not to be kept for nothing

    def read(chunks: Iterator[tuple[int, Batch]], look: bool) -> tuple[int, Rows] | None:
        number, chunk = next(chunks, (0, None))
        if chunk is None:
            return None
        batch, weight = _filled(chunk, size, number, dtype)
        given = jax.tree.map(jnp.shape, batch)
        if given != shapes:
            raise ValueError(f"{WHERE}: chunk {number} must hold arrays like the first, {shapes}, "
                             f"got {given}")  # fmt: skip
        if look:
            slots.slot(WHERE, value_and_grad, params, batch, key)
        return number, rows._replace(batch=batch, weight=weight, validation=None)

    midway: Midway | None

    order_key = key if plan.order_key is None else plan.order_key

    def advance(state: TrainState) -> TrainState:
        nonlocal midway
        epoch = int(state.epoch)
        walk, done = step.begin(state.at, dtype), 0
        if midway is not None:
            walk, done, midway = midway.walk, int(midway.chunks), None
        chunks = _numbered(source, order_key, epoch, choices.shuffle, done)
        coming = read(chunks, epoch == 0)
        if done and coming is None:
            raise ValueError(f"{WHERE}: source must give the chunks that it gave before, more than "
                             f"{done}, got fewer")  # fmt: skip
        while coming is not None and int(walk.bad_batch) < 0:  # waits for the pass before
            number, here = coming
            walk = _pass(walk, here, key, state.epoch, jnp.asarray(number), plan, choices)
            coming = read(chunks, epoch == 0)  # while the device works
            done += 1
            if save is not None and coming is not None:
                save(Midway(state, walk, jnp.asarray(done)))
        state = _close(state, walk, rows, plan, choices=choices)
        if save is not None:
            save(Midway(state, step.begin(state.at, dtype), jnp.asarray(0)))
        return state

    state = _start(key, params, rows, plan, choices=choices)
    midway = begin(Midway(state, step.begin(state.at, dtype), jnp.asarray(0)))
    state = midway.state
    between = int(state.epoch) > 0 and int(midway.chunks) == 0
    if callback is not None and between and callback(_finish(state)):
        return _finish(state)
    return drive(WHERE, state, advance, progress, callback)


def _checked(resume: Midway, like: Midway) -> Midway:
    """Returns the state to go on with; raises ValueError for one of other arrays."""
    kinds = lambda tree: jax.tree.map(lambda a: (jnp.shape(a), jnp.result_type(a)), tree)
    if not isinstance(resume, Midway) or kinds(resume) != kinds(like):
        raise ValueError(f"{WHERE}: resume must be what save was given in a run of these arrays "
                         "and settings, got another")  # fmt: skip
    return resume
