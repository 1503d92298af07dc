"""Oracles: arithmetic on a clock of our own, and signals sent to this process."""

import math
import signal
import threading

import pytest

from jaxnn.sweep import progress
from jaxnn.sweep.progress import Interrupts, Progress, Reporter


def test_reports_count_time_and_keep_the_best(monkeypatch):
    """Oracle: arithmetic: after 2 s two of eight are done, so 6 s are left."""
    clock = iter([10.0, 11.0, 12.0, 18.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    seen = []
    report = Reporter(seen.append, 8)
    report(0)
    report(2, 5.0)
    report(8, 7.0)
    assert seen[1:] == [Progress(2, 2, 8, 5.0, 2.0, 6.0), Progress(6, 8, 8, 5.0, 8.0, 0.0)]
    assert seen[0][:3] == (0, 0, 8)
    assert math.isnan(seen[0].best)
    assert math.isnan(seen[0].left)


def test_nobody_to_report_to():
    """Invariant: nothing happens."""
    Reporter(None, 3)(3, 1.0)


def test_the_second_ctrl_c_interrupts():
    """Oracle: the first is noted, the second raised, and the handler is put back either way."""
    before = signal.getsignal(signal.SIGINT)
    noted = []

    def press_twice():
        with Interrupts() as keyboard:
            for _ in range(2):
                noted.append(keyboard.pressed)
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        press_twice()
    assert noted == [False, True]
    assert signal.getsignal(signal.SIGINT) is before


def test_who_asked_before_is_told_as_well():
    """Oracle: counting; Python's own handler, which would interrupt, is not asked."""
    told = []
    before = signal.signal(signal.SIGINT, lambda number, frame: told.append(number))
    try:
        with Interrupts() as keyboard:
            signal.raise_signal(signal.SIGINT)
            assert keyboard.pressed
    finally:
        signal.signal(signal.SIGINT, before)
    assert told == [signal.SIGINT]


def test_other_threads_have_no_signals():
    """Invariant: entered there it does nothing."""
    found = []

    def enter():
        with Interrupts() as keyboard:
            found.append((keyboard.pressed, signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(False, before)]
