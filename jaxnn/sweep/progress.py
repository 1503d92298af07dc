"""What a long sweep tells while it runs, and when it is stopped from the keyboard."""

import math
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

BAR = 20  # characters


class Progress(NamedTuple):
    """How far a sweep has come; as text a bar of one line, so that `progress=print` will do.

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

    def __str__(self) -> str:
        length = BAR * self.done // max(self.members, 1)
        words = [f"[{'#' * length}{'.' * (BAR - length)}] {self.done} of {self.members} members"]
        words += [] if math.isnan(self.best) else [f"best {self.best:.4g}"]
        words += [] if math.isnan(self.left) else [f"{_clock(self.left)} left"]
        return ", ".join(words)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def least(scores: np.ndarray) -> float:
    """Returns the least of those scores that are there; NaN of none."""
    known = scores[~np.isnan(scores)]
    return float(known.min()) if len(known) else math.nan


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


def together(
    progress: Callable[[Progress], None] | None, members: int
) -> Callable[[Progress], None] | None:
    """Returns what takes the reports of parts, from any thread, and reports on the whole."""
    if progress is None:
        return None
    report, lock, done = Reporter(progress, members), threading.Lock(), 0

    def add(part: Progress) -> None:
        nonlocal done
        with lock:
            done += part.new
            report(done, part.best)

    return add


def warn_of_interrupt(where: str, done: Any) -> None:
    """Warns that a sweep was stopped from the keyboard, unless all of its members are done."""
    members, done = done.size, int(done.sum())
    if done == members:
        return
    warnings.warn(
        f"{where}: interrupted with {done} of {members} members done; `done` says which",
        UserWarning,
        stacklevel=3,
    )
