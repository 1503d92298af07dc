"""Checkpoints of a job of many processes: process 0 reads and writes, and tells the others.

So all of them go on from the same one, whatever each sees of the folder; how many there are, and on
which devices, may change between two runs.  The state is one that every process has in full.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnn.scale import processes
from jaxnn.scale.checkpoints import Checkpoints, Restored
from jaxnn.scale.leaves import original, plain

WHERE = "scale.checkpoints"
ERRORS = (RuntimeError, ValueError, TypeError, OSError, ImportError)


def checkpoints(
    folder: str | os.PathLike[str], facts: dict[str, Any], *, resume: bool, keep: int
) -> "Checkpoints | OneWriter":
    """Returns the checkpoints of this run, whether it is one process or many."""
    kind = Checkpoints if jax.process_count() == 1 else OneWriter
    return kind(folder, facts, resume=resume, keep=keep)


class OneWriter:
    """What `Checkpoints` is to one process, to all of a job; each call is made by all of them."""

    def __init__(
        self, folder: str | os.PathLike[str], facts: dict[str, Any], *, resume: bool, keep: int
    ):
        processes.agree(WHERE, {"facts": json.dumps(facts, sort_keys=True), "resume": resume})
        self.folder = Path(folder).absolute()
        self._mine: Checkpoints | None = None
        self._last: int | None = None

        def begin() -> bytes:
            self._mine = Checkpoints(folder, facts, resume=resume, keep=keep)
            return b""

        told(begin)

    def __enter__(self) -> "OneWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._mine is not None:
            self._mine.__exit__()

    @property
    def saved(self) -> int | None:
        """After which step the last checkpoint was written; in process 0 alone it can be None."""
        return self._last if self._mine is None else self._mine.saved

    def save(self, step: int, state: PyTree, note: Any = None) -> None:
        """Begins to write a checkpoint, as `Checkpoints.save`."""
        arrays, impls = plain(state)
        self._last = step
        if self._mine is not None:
            self._mine.save(step, original(processes.on_host(arrays), impls, state), note)

    def wait(self) -> None:
        """Waits until all is written."""
        if self._mine is not None:
            self._mine.wait()

    def restore(self, like: PyTree) -> Restored | None:
        """Returns what process 0 found, as arrays of each process; as `Checkpoints.restore`."""

        def find() -> bytes:
            assert self._mine is not None
            found = self._mine.restore(_empty(like))
            if found is None:
                return b""
            arrays, impls = plain(found.state)
            leaves = [np.asarray(a) for _, a in sorted(arrays.items())]
            specs = [(list(a.shape), str(a.dtype)) for a in leaves]
            head = json.dumps([found.step, found.note, impls, specs]).encode()
            return b"".join([len(head).to_bytes(8, "little"), head, *(a.tobytes() for a in leaves)])

        data = told(find)
        if not data:
            return None
        at = 8 + int.from_bytes(data[:8], "little")
        step, note, impls, specs = json.loads(data[8:at])
        found = {}
        for i, (shape, name) in enumerate(specs):
            dtype = jnp.dtype(name)
            size = int(np.prod(shape, dtype=int)) * dtype.itemsize
            found[f"{i:05d}"] = np.frombuffer(data[at : at + size], dtype).reshape(shape)
            at += size
        return Restored(step, original(found, impls, like), note)


def _empty(like: PyTree) -> PyTree:
    """Returns what `Checkpoints.restore` takes to return NumPy arrays."""
    if isinstance(like, jax.tree_util.PyTreeDef):
        return like
    arrays, impls = plain(like)
    empty = {name: np.zeros(np.shape(a), np.dtype(a.dtype)) for name, a in arrays.items()}
    return original(empty, impls, like)


def told(act: Callable[[], bytes]) -> bytes:
    """Returns in every process what `act` returned in process 0; raises what it raised there."""
    from jax.experimental import multihost_utils

    kind, answer = len(ERRORS), b""
    if jax.process_index() == 0:
        try:
            answer = act()
        except ERRORS as error:
            kind = next(i for i, one in enumerate(ERRORS) if isinstance(error, one))
            answer = str(error).encode()
    head = multihost_utils.broadcast_one_to_all(jnp.array([kind, len(answer)], jnp.int32))
    kind, size = map(int, np.asarray(head))
    body = np.zeros(size, np.uint8)  # as bytes: sums of numbers would lose the sign of zero
    if jax.process_index() == 0:
        body = np.frombuffer(answer, np.uint8)
    answer = np.asarray(multihost_utils.broadcast_one_to_all(body)).tobytes() if size else b""
    if kind < len(ERRORS):
        raise ERRORS[kind](answer.decode())
    return answer
