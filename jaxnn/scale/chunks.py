"""Equal chunks of rows on the devices, the next one on its way while one is worked on.

All chunks of a source have one shape, so that one program serves them: the last is filled up with
copies of its first row, of weight zero.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, TypeVar

import jax
import numpy as np

from jaxnn.scale.sources import Source, runs_of
from jaxnn.train.data import Batch

T = TypeVar("T")
U = TypeVar("U")

# Bytes of a chunk: long enough that starting a program costs nothing, short enough that four of
# them are nothing either.
CHUNK = 2**23
AHEAD = 2  # chunks that wait on the devices


def chunk_rows(like: Batch, rows: int | None, devices: int) -> int:
    """Returns how many rows a chunk has: a multiple of the devices, no more than are needed."""
    width = sum(
        leaf.dtype.itemsize * int(np.prod(leaf.shape[1:])) for leaf in jax.tree.leaves(like)
    )
    size = max(1, CHUNK // max(width, 1))
    if rows:
        size = -(-rows // -(-rows // size))
    return -(-size // devices) * devices


def equal(source: Source, take: int, size: int, turn: int, dtype: Any) -> Iterator[Batch]:
    """Yields the rows of one pass, `take` in each chunk of `size`, with weights in `dtype`."""
    for block in runs_of(source.read(take, turn), lambda _: take):
        yield filled(block, size, dtype)


def filled(block: Batch, size: int, dtype: Any) -> Batch:
    """Returns rows filled up to `size` with copies of the first, of weight zero."""
    n = len(block.x)
    if n == size and block.weight is None:
        return block._replace(weight=_ones(size, dtype))
    weight = np.zeros(size, dtype)
    weight[:n] = 1 if block.weight is None else block.weight
    full = jax.tree.map(lambda a: fill_up(a, size), block._replace(weight=None))
    return full._replace(weight=weight)


@lru_cache(4)
def _ones(size: int, dtype: Any) -> np.ndarray:
    """Returns weights that all chunks can share: nobody writes to them."""
    return np.ones(size, dtype)


def fill_up(a: np.ndarray, size: int) -> np.ndarray:
    """Returns `a` with copies of its first row at the end."""
    if len(a) == size:
        return a
    return np.concatenate([a, np.broadcast_to(a[:1], (size - len(a), *a.shape[1:]))])


def ahead(items: Iterator[T], place: Callable[[T], U], depth: int = AHEAD) -> Iterator[U]:
    """Yields `place(item)` in order, made by a thread that runs `depth` items ahead.

    What goes wrong in the thread is raised here; a consumer that stops early stops the thread.
    """
    ready: queue.Queue = queue.Queue(depth)
    stop = threading.Event()
    # Settings of `with` blocks do not reach other threads.
    x64 = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    def put(message: tuple[str, Any]) -> bool:
        while not stop.is_set():
            try:
                ready.put(message, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            with jax.enable_x64(x64):
                for item in items:
                    if not put(("item", place(item))):
                        return
        except BaseException as error:  # it belongs to the caller
            put(("error", error))
        else:
            put(("end", None))

    thread = threading.Thread(target=work, daemon=True, name="reads ahead")
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        thread.join()
