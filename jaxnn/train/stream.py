"""Training on more rows than the device holds: chunk after chunk from the host.

Every chunk runs the one compiled pass of `step`, while the next one is read and sent; so two of
them are on the device.  With a single chunk it is `train.fit`, bit for bit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxnn.train import door, slots, step
from jaxnn.train import epochs as core
from jaxnn.train.data import Batch
from jaxnn.train.state import Choices, Plan, Rows, Trained, TrainState
from jaxnn.train.trainer import drive
from jaxnn.types import Key, ValueAndGrad

WHERE = "train.fit_stream"


@partial(jax.jit, static_argnames="choices")
def _pass(
    walk: step.Walk, rows: Rows, key: Key, epoch: Array, chunk: Array, plan: Plan, choices: Choices
) -> step.Walk:
    return step.walk_over(walk, rows, core.pass_key(key, epoch, chunk), plan, choices)


_start = jax.jit(core.start, static_argnames="choices")
_close = jax.jit(core.close_line, static_argnames="choices")


def _numbered(
    source: Sequence[Batch] | Iterable[Batch], key: Key, epoch: int, shuffle: bool
) -> Iterator[tuple[int, Batch]]:
    """Yields the chunks of an epoch with their numbers; a sequence's in an order from the key."""
    if not isinstance(source, Sequence):
        yield from enumerate(source)
        return
    order = range(len(source))
    if shuffle:
        # Passes fold in 1 and more.
        key = jax.random.fold_in(jax.random.fold_in(key, epoch), 0)
        order = jax.random.permutation(key, len(source)).tolist()
    for i in order:
        yield i, source[i]


def _filled(chunk: Batch, size: int, number: int, dtype: Any) -> tuple[Batch, Array]:
    """Returns a chunk on the device without weights, and these, with rows of weight 0 to `size`."""
    if isinstance(chunk, Batch):  # a source may fill the same array again and again
        chunk = jax.tree.map(jnp.array, chunk)
    batch, weight = door.rows(WHERE, f"chunk {number}", chunk, dtype)
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
        **settings: as in `fit`: `batch_size` and the rest. `validation` stays on the device.

    Returns:
        What `fit` returns; `bad_batch` counts the steps over all chunks of the epoch.

    Raises:
        TypeError, ValueError: what `fit` raises; a source that is an iterator, which has one
            epoch only; no chunks; a chunk larger than the first, or of other arrays.

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
    first = next(iter(source), None)
    if first is None:
        raise ValueError(f"{WHERE}: source must have at least one chunk, got none")
    if settings.get("sampling") is not None:
        raise ValueError(f"{WHERE}: sampling needs all rows at once; weigh the rows of the chunks")
    passes = len(source) if isinstance(source, Sequence) else None
    params, rows, plan, choices = door.prepare(
        WHERE, key, params, first, value_and_grad, epochs=epochs, passes=passes, **settings
    )
    size, dtype = len(rows.weight), rows.weight.dtype
    shapes = jax.tree.map(jnp.shape, rows.batch)
    rows = rows._replace(batch=Batch(x=()))  # not to be kept for nothing
    del first

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
            slots.slot(WHERE, value_and_grad, params, batch._replace(weight=weight), key, batch)
        return number, rows._replace(batch=batch, weight=weight, validation=None)

    def advance(state: TrainState) -> TrainState:
        epoch = int(state.epoch)
        chunks = _numbered(source, key, epoch, choices.shuffle)
        walk = step.begin(state.at, dtype)
        coming = read(chunks, epoch == 0)
        while coming is not None and int(walk.bad_batch) < 0:  # waits for the pass before
            number, here = coming
            walk = _pass(walk, here, key, state.epoch, jnp.asarray(number), plan, choices)
            coming = read(chunks, epoch == 0)  # while the device works
        return _close(state, walk, rows, plan, choices=choices)

    return drive(
        WHERE, _start(key, params, rows, plan, choices=choices), advance, progress, callback
    )
