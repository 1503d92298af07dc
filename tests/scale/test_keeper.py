"""Oracle: which pieces are found again, counted by hand."""

import os
import signal
import time

import numpy as np
import pytest

from jaxnn.scale import OtherRun, Preempted, Saving
from jaxnn.scale.keeper import Keeper

STATE = {"n": np.zeros(())}


def count(folder, pieces, act=lambda n: None, facts=None, **options):
    """A loop that counts to `pieces`, beginning after what was kept; returns where it began."""
    with Keeper("here", Saving(folder, **options), facts or {}) as keeper:
        found = keeper.restore(STATE)
        first = 0 if found is None else int(found.state["n"])
        assert found is None or found.note == f"after {first}"
        for n in range(first + 1, pieces + 1):
            act(n)
            keeper.piece({"n": np.array(float(n))}, f"after {n}")
        keeper.end()
    return first


def test_every_so_many_pieces_and_at_the_end(tmp_path):
    def fail(n):
        if n == 6:
            raise RuntimeError("a fault of the loop's")

    with pytest.raises(RuntimeError, match="a fault"):
        count(tmp_path, 9, fail, every=3)
    assert count(tmp_path, 9, resume=True) == 3
    assert count(tmp_path, 9, resume=True) == 9


def test_only_after_so_many_seconds(tmp_path, monkeypatch):
    """Oracle: our own clock, a second for each piece; checkpoints after 4 and 8, none at 10."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    tick = lambda n: now.__setitem__(0, float(n))
    assert count(tmp_path, 10, tick, seconds=4) == 0
    assert count(tmp_path, 9, resume=True) == 8


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, Preempted), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_is_answered_with_a_checkpoint_whatever_the_time(tmp_path, number, error):
    send = lambda n: os.kill(os.getpid(), number) if n == 3 else None
    with pytest.raises(error, match="stopped after piece 3; resume=True goes on from"):
        count(tmp_path, 9, send, seconds=1e6)
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    assert count(tmp_path, 9, resume=True) == 3


def test_another_run_is_refused_and_leaves_no_lock(tmp_path):
    count(tmp_path, 2)
    for _ in range(2):
        with pytest.raises(OtherRun, match="a was null and is 1 now"):
            count(tmp_path, 2, facts={"a": 1}, resume=True)
    assert count(tmp_path, 2, resume=True) == 2
    with pytest.raises(ValueError, match="seconds must be"):
        count(tmp_path, 2, resume=True, seconds=-1.0)
