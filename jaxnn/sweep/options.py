"""What all drivers of a sweep are told besides what to fit: layout, memory, reports, pauses."""

import signal
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from jaxnn import checks, memory
from jaxnn.signals import Noted
from jaxnn.sweep.layouts import LAYOUTS, one_axis
from jaxnn.sweep.progress import Progress


class Paused(NamedTuple):
    """A sweep between two rounds or chunks: all that is needed to go on, in arrays and in JSON.

    Attributes:
        arrays: dict of pytrees: hyperparameters and keys; and the members' states and the records,
            or the results of those members that are done.
        facts: what the arrays belong to; a dict that JSON can hold.
    """

    arrays: dict[str, PyTree]
    facts: dict[str, Any]


class Share(NamedTuple):
    """The members that one of many processes runs, and how it hears of the others.

    All processes run the same rounds, in which each advances those of its own that are to go on.

    Attributes:
        process: its number.
        processes: how many there are; no more than members.
        gather: `(n, tree) -> tree`: makes of arrays with a leading axis of those of n members that
            are `mine` the arrays of all n, in NumPy; called by all processes at the same time.
        least: the least of what all processes say; as `gather`.
    """

    process: int
    processes: int
    gather: Callable[[int, PyTree], PyTree]
    least: Callable[[int], int]

    def mine(self, n: int) -> np.ndarray:
        """Returns which of n members this process runs: every so-manyth."""
        return np.arange(self.process, n, self.processes)


class Options(NamedTuple):
    """What `sweep.run` and its like pass on; `keyboard` is watched by who runs several sweeps."""

    chunk: int | None
    layout: str
    mesh: Any
    memory_budget: int | None
    progress: Callable[[Progress], None] | None
    save: Callable[[Paused], None] | None
    resume: Paused | None
    share: Share | None = None
    keyboard: Noted | None = None

    def noted(self) -> Noted:
        """Returns what notes Ctrl-C; nothing where who shares the members out tells all."""
        return Noted() if self.share is not None else Noted(signal.SIGINT)

    def stopped(self, noted: Noted) -> bool:
        """Returns whether Ctrl-C was noted, here or by who runs several sweeps in threads."""
        return any(one is not None and one.first is not None for one in (noted, self.keyboard))


def whose(hparams: dict[str, Array], keys: Array) -> dict[str, PyTree]:
    """Returns those arrays of a pause that say which sweep it is of."""
    return {"hparams": hparams, "keys": jax.random.key_data(keys)}


def check_own(
    where: str, paused: Paused, facts: dict[str, Any], hparams: dict[str, Array], keys: Array
) -> None:
    """Raises ValueError if a pause is of another sweep than that of these facts and members."""
    if dict(paused.facts) != facts:
        raise ValueError(f"{where}: resume must belong to a sweep of {facts}, got {paused.facts}")
    for name, tree in whose(hparams, keys).items():
        other = paused.arrays[name]
        same = jax.tree.structure(tree) == jax.tree.structure(other) and all(
            map(np.array_equal, jax.tree.leaves(tree), jax.tree.leaves(other))
        )
        if not same:
            raise ValueError(f"{where}: resume must belong to this sweep, got other {name}")


def checked_options(
    where: str, *, chunk: int | None, layout: str, mesh: Mesh | None,
    memory_budget: int | str | None, progress: Callable[[Progress], None] | None,
    save: Callable[[Paused], None] | None = None, resume: Paused | None = None,
    share: Share | None = None,
) -> Options:  # fmt: skip
    """Returns what all drivers share, checked."""
    checks.in_table(where, "layout", layout, (*LAYOUTS, "auto"))
    if resume is not None:
        checks.instance(where, "resume", resume, Paused)
    if share is not None:
        checks.instance(where, "share", share, Share)
    return Options(
        chunk=None if chunk is None else checks.count(where, "chunk", chunk),
        layout=layout,
        mesh=one_axis(where, mesh),
        memory_budget=(
            None if memory_budget is None else memory.bytes_allowed(where, memory_budget)
        ),
        progress=progress,
        save=save,
        resume=resume,
        share=share,
    )
