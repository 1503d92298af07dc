"""Rows that come block by block, from wherever they are, as often as they are asked for.

A `Source` is one function and an example of what it gives.  Everything that runs over more rows
than fit into memory takes one; arrays in memory become one too, and `readers` makes them of files.
Shapes: n rows, d features.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import checks
from jaxnn.train.data import Batch, leading
from jaxnn.types import Key

Blocks = Iterable[Any]


class Source(NamedTuple):
    """Rows to be read block by block.

    Attributes:
        read: `(size, turn) -> iterator` over the rows of one pass, as `train.Batch` of NumPy
            arrays: blocks of any length, of `size` rows where the source can choose. `turn` is the
            number of the pass, from 0; only what shuffles looks at it.
        like: a `train.Batch` of no rows, which tells trailing shapes and dtypes.
        rows: how many rows a pass has; None where only reading tells.
        name: what error messages call it.
    """

    read: Callable[[int, int], Iterator[Batch]]
    like: Batch
    rows: int | None = None
    name: str = "rows"


def no_rows(batch: Batch) -> Batch:
    """Returns the first none of the rows of NumPy arrays: their trailing shapes and dtypes."""
    return jax.tree.map(lambda a: np.empty((0, *a.shape[1:]), a.dtype), batch)


def arrays(x: Any, y: Any = None, weight: Any = None) -> Source:
    """Returns the rows of arrays in memory, as a source.

    Args:
        x: shape (n, ...), n at least 0.
        y: targets, shape (n, ...).
        weight: shape (n,).

    Raises:
        ValueError: arrays that differ in their number of rows.
    """
    where = "scale.arrays"
    given = x if isinstance(x, Batch) else Batch(x=x, y=y, weight=weight)
    for leaf in jax.tree.leaves(given):
        here(where, leaf)
    batch: Batch = jax.tree.map(np.asarray, given)
    n = len(batch.x) if np.ndim(batch.x) else 0
    if n > 0 or any(map(len, filter(np.ndim, jax.tree.leaves(batch)))):
        leading(where, "rows", batch)

    def read(size: int, _: int) -> Iterator[Batch]:
        for start in range(0, n, size):
            yield jax.tree.map(lambda a, i=start: a[i : i + size], batch)

    return Source(read=read, like=no_rows(batch), rows=n, name="arrays")


def here(where: str, array: Any) -> None:
    """Raises ValueError for an array of which other processes hold parts."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        raise ValueError(
            f"{where}: rows must lie on devices of this process, got an array of shape "
            f"{array.shape} of which other processes hold parts; give each process its own rows"
        )


def batches(blocks: Callable[[], Blocks] | Blocks, *, rows: int | None = None) -> Source:
    """Returns the rows of any iterable of batches, such as a list or a data loader.

    Args:
        blocks: something that can be iterated over anew for each pass, or a function that returns
            a fresh iterator.  A batch is a `train.Batch`, a tuple `(x, y, weight)` or shorter, or
            an array `x`; lengths may differ, trailing shapes and dtypes may not.
        rows: how many rows a pass has, if that is known.

    Raises:
        TypeError, ValueError: what can be iterated over only once; no batch at all; later, while
            reading, a batch that does not fit the first one.
    """
    where = "scale.batches"
    fresh = blocks if callable(blocks) else lambda: blocks
    once = iter(blocks) is blocks if isinstance(blocks, Iterable) else not callable(blocks)
    if once:
        raise TypeError(
            f"{where}: blocks must be a function that returns a fresh iterator, or something that "
            f"can be iterated over again, got {type(blocks).__name__}; every pass reads all rows"
        )
    first = next(iter(fresh()), None)
    if first is None:
        raise ValueError(f"{where}: blocks must give at least one batch, got none")
    like = no_rows(_as_batch(where, 0, first))

    def read(_: int, __: int) -> Iterator[Batch]:
        for number, block in enumerate(fresh()):
            batch = _as_batch(where, number, block)
            _check_fit(where, number, batch, like)
            yield batch

    return Source(read=read, like=like, rows=rows, name="batches")


def _as_batch(where: str, number: int, block: Any) -> Batch:
    if isinstance(block, tuple) and not isinstance(block, Batch):
        block = Batch(*block)
    batch = block if isinstance(block, Batch) else Batch(x=block)
    batch = jax.tree.map(np.asarray, batch)
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(
            f"{where}: the arrays of batch {number} must have the same number of rows, got shapes "
            f"{', '.join(str(np.shape(leaf)) for leaf in jax.tree.leaves(batch)) or 'none'}"
        )
    return batch


def _check_fit(where: str, number: int, batch: Batch, like: Batch) -> None:
    tell = lambda tree: jax.tree.map(
        lambda a: f"{a.dtype} (n{''.join(f', {s}' for s in a.shape[1:])})", tree
    )
    if tell(batch) != tell(like):
        raise ValueError(
            f"{where}: batch {number} must have the columns and dtypes of the first one, "
            f"{_words(tell(like))}, got {_words(tell(batch))}"
        )


def _words(told: Batch) -> str:
    return ", ".join(
        f"{name} {kind}" for name, kind in zip(told._fields, told, strict=True) if kind is not None
    )


def source(where: str, rows: Any) -> Source:
    """Returns what a caller gave for rows as a source."""
    if isinstance(rows, Source):
        return rows
    if isinstance(rows, Batch) or hasattr(rows, "shape"):
        for leaf in jax.tree.leaves(rows):
            here(where, leaf)
        return arrays(rows)
    raise TypeError(
        f"{where}: rows must be an array, a train.Batch or a Source such as scale.npy(path), "
        f"got {type(rows).__name__}"
    )


def shuffled(key: Key, rows: Source, *, buffer: int) -> Source:
    """Returns a source whose rows come in another order each pass.

    Args:
        key: of the orders.
        rows: what to shuffle.
        buffer: rows held in memory: so many consecutive ones are shuffled among each other, and
            where one such run ends differs from pass to pass.  As many as there are rows make a
            uniformly random order; fewer only hide it, so do not store rows sorted by class.

    Raises TypeError or ValueError for no key, no source or a buffer below 1.
    """
    where = "scale.shuffled"
    checks.key(where, key)
    checks.instance(where, "rows", rows, Source)
    buffer = checks.count(where, "buffer", buffer)

    def read(size: int, turn: int) -> Iterator[Batch]:
        key_turn = jax.random.fold_in(key, turn)
        data = jax.random.key_data(key_turn) if jnp.issubdtype(
            key_turn.dtype, jax.dtypes.prng_key) else key_turn  # fmt: skip
        draw = np.random.default_rng(np.asarray(data))
        whole = rows.rows is not None and buffer >= rows.rows
        first = buffer if whole else int(draw.integers(1, buffer + 1))
        runs = runs_of(rows.read(size, turn), lambda number: buffer if number else first)
        for run in runs:
            order = draw.permutation(len(run.x))
            yield jax.tree.map(lambda a, order=order: a[order], run)

    return rows._replace(read=read, name=f"shuffled {rows.name}")


def runs_of(blocks: Iterator[Batch], length: Callable[[int], int]) -> Iterator[Batch]:
    """Yields the rows of `blocks` anew, `length(number)` at a time; only the last may be shorter.

    A block that has the length already passes through without being copied.
    """
    number, held, count = 0, [], 0
    wanted = length(0)
    for block in blocks:
        start, n = 0, len(block.x)
        while start < n:
            part = jax.tree.map(lambda a, i=start, j=wanted - count: a[i : i + j], block)
            held.append(part)
            count += len(part.x)
            start += len(part.x)
            if count == wanted:
                yield _join(held)
                number, held, count = number + 1, [], 0
                wanted = length(number)
    if held:
        yield _join(held)


def _join(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
