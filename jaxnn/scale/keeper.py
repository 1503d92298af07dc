"""Checkpoints of a loop that somebody else turns, and calls back after each of its pieces."""

from typing import Any

from jaxtyping import PyTree

from jaxnn import checks
from jaxnn.scale.checkpoints import Restored
from jaxnn.scale.one_writer import checkpoints
from jaxnn.scale.resumable import Due, Saving, all_facts, asked, signals_noted, stop


class _Stopped(Exception):
    """A signal came, and all is saved: leaves the loop."""


class Keeper:
    """The checkpoints of one loop, of one process or of all of a job; a context manager around it.

    SIGTERM and Ctrl-C end it after the running piece: once all is saved, leaving raises `Preempted`
    or KeyboardInterrupt, whose message says how to go on.

    Args:
        where: whose loop it is.
        saving: the folder, and how often a checkpoint is written.
        facts: what the run is, besides `saving.config`.
    """

    def __init__(self, where: str, saving: Saving, facts: dict[str, Any]):
        checks.instance(where, "saving", saving, Saving)
        self._due = Due(where, saving)
        self._kept = checkpoints(
            saving.folder, all_facts(saving, facts), resume=saving.resume, keep=saving.keep
        )
        self._resume, self._step = saving.resume, 0
        self._last: tuple[PyTree, Any] | None = None
        self._number: int | None = None
        self._noted = signals_noted()

    def __enter__(self) -> "Keeper":
        self._noted.__enter__()
        return self

    def restore(self, like: PyTree) -> Restored | None:
        """Returns the checkpoint to go on from, as `Checkpoints.restore`; None to begin."""
        found = self._kept.restore(like) if self._resume else None
        self._step = 0 if found is None else found.step
        return found

    def piece(self, state: PyTree, note: Any = None) -> None:
        """Takes the state after one more piece; leaves the loop if a signal has come."""
        self._step, self._last = self._step + 1, (state, note)
        self._number = asked(self._noted, self._step)
        if self._due(self._step) or self._number is not None:
            self._kept.save(self._step, state, note)
        if self._number is not None:
            raise _Stopped

    def end(self) -> None:
        """Takes leave of a loop that has ended by itself, or because of Ctrl-C."""
        self._number = asked(self._noted, self._step)
        if self._last is None or self._kept.saved == self._step:
            return
        if self._number is not None or self._due.late:
            self._kept.save(self._step, *self._last)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._noted.__exit__()
        self._kept.__exit__()
        if self._number is not None and (error is None or isinstance(error, _Stopped)):
            raise stop(self._kept, self._number, self._step) from None
