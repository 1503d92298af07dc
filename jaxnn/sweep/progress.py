"""What a long sweep tells while it runs, and when it is stopped from the keyboard."""

import math
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """How far a sweep has come.

    Attributes:
        new: members that are done since the last report; over all reports they sum to `members`.
        done: members that are done.
        members: all members.
        best: the least score so far; NaN while there is none.
        seconds: since the sweep began, compilation included.
        left: seconds still to go if the rest goes as fast; NaN while nothing is done.
    """

    new: int
    done: int
    members: int
    best: float
    seconds: float
    left: float


class Reporter:
    """Calls `progress`, if there is one, with what has changed since the last time."""

    def __init__(self, progress: Callable[[Progress], None] | None, members: int):
        self._progress, self._members = progress, members
        self._start, self._done, self._best = time.perf_counter(), 0, math.nan

    def __call__(self, done: int, best: float = math.nan) -> None:
        """Reports that `done` members are through and that `best` is the least score among some."""
        if self._progress is None:
            return
        new, self._done = done - self._done, done
        self._best = min(self._best, best) if self._best == self._best else best
        seconds = time.perf_counter() - self._start
        left = seconds * (self._members - done) / done if done else math.nan
        self._progress(Progress(new, done, self._members, self._best, seconds, left))


def warn_of_interrupt(where: str, done: int, members: int) -> None:
    """Warns that a sweep was stopped from the keyboard."""
    warnings.warn(
        f"{where}: interrupted with {done} of {members} members done; `done` says which",
        UserWarning,
        stacklevel=3,
    )
