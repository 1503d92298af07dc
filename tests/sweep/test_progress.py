"""Oracle: arithmetic on a clock of our own."""

import math

from jaxnn.sweep import progress
from jaxnn.sweep.progress import Progress, Reporter


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
