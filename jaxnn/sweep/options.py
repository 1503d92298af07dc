"""What all drivers of a sweep are told besides what to fit: layout, memory, reports, pauses."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax.sharding import Mesh
from jaxtyping import PyTree

from jaxnn import checks, memory
from jaxnn.sweep.layouts import LAYOUTS, one_axis
from jaxnn.sweep.progress import Progress


class Paused(NamedTuple):
    """A sweep between two rounds: all that is needed to go on, in arrays and in JSON.

    Attributes:
        arrays: dict of pytrees: hyperparameters, keys, the members' states, and the records.
        facts: what the arrays belong to; a dict that JSON can hold.
    """

    arrays: dict[str, PyTree]
    facts: dict[str, Any]


class Options(NamedTuple):
    """What `sweep.run` and `sweep.halving` pass on."""

    chunk: int | None
    layout: str
    mesh: Any
    memory_budget: int | None
    progress: Callable[[Progress], None] | None
    save: Callable[[Paused], None] | None
    resume: Paused | None


def checked_options(
    where: str, *, chunk: int | None, layout: str, mesh: Mesh | None,
    memory_budget: int | str | None, progress: Callable[[Progress], None] | None,
    save: Callable[[Paused], None] | None = None, resume: Paused | None = None,
) -> Options:  # fmt: skip
    """Returns what all drivers share, checked."""
    checks.in_table(where, "layout", layout, (*LAYOUTS, "auto"))
    if resume is not None:
        checks.instance(where, "resume", resume, Paused)
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
    )
