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


def test_a_report_prints_as_a_bar():
    """By hand: minutes and seconds, hours from one on, and no numbers that nobody knows."""
    half = Progress(2, 4, 8, 0.12345, 10.0, 75.4)
    assert str(half) == "[##########..........] 4 of 8 members, best 0.1235, 1:15 left"
    assert str(half._replace(done=8, left=3725.0)).endswith("8 members, best 0.1235, 1:02:05 left")
    none = Progress(0, 0, 8, math.nan, 0.0, math.nan)
    assert str(none) == "[" + 20 * "." + "] 0 of 8 members"


def test_nobody_to_report_to():
    """Invariant: nothing happens."""
    Reporter(None, 3)(3, 1.0)


def test_reports_of_parts_are_of_the_whole():
    """Oracle: counting; the best of all parts, and members of the whole."""
    assert progress.together(None, 5) is None
    seen = []
    add = progress.together(seen.append, 5)
    for new, best in ((0, math.nan), (2, 0.5), (1, 0.7), (2, math.nan)):
        add(Progress(new, new, 2, best, 1.0, 0.0))
    assert [(p.new, p.done, p.members) for p in seen] == [
        (0, 0, 5),
        (2, 2, 5),
        (1, 3, 5),
        (2, 5, 5),
    ]
    assert [p.best for p in seen[1:]] == [0.5, 0.5, 0.5]
    assert seen[-1].left == 0
