"""Oracles: counting, a barrier that one thread alone does not pass, and sweeps without threads."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import sweep
from jaxnn.sweep import lanes

KEY = jax.random.key(2)


def grow(hp, key, rows):
    """Carries three numbers and a counter for ten turns."""
    start = hp["x"] + jax.random.normal(key, (3,))
    return {"x": jax.lax.fori_loop(0, 10, lambda i, v: v * rows, start), "key": key}


@pytest.fixture
def three_cores(monkeypatch):
    monkeypatch.setattr(lanes, "cores", lambda: 3)
    monkeypatch.setattr(lanes, "WORTH", 0)


def test_so_many_calls_run_at_a_time_and_their_results_come_in_order():
    """Invariant: two meet at a barrier; closed early, what is left is not begun."""
    barrier, begun = threading.Barrier(2, timeout=60), []

    def call(i):
        begun.append(i)
        barrier.wait()
        return i

    assert list(lanes.in_turn(call, range(6), 2)) == list(range(6))
    begun.clear()
    turns = lanes.in_turn(begun.append, iter(range(1_000)), 2)
    next(turns)
    turns.close()
    assert len(begun) <= 3
    assert list(lanes.in_turn(lambda i: i + 1, range(3), 1)) == [1, 2, 3]
    assert lanes.cores() >= 1


def traced(fit_one):
    return jax.jit(fit_one).trace({"x": 1.0}, KEY, 1.0)


def test_members_are_shared_out_evenly(three_cores, monkeypatch):
    """Oracle: by hand, for three cores and a program that carries 32 bytes a member."""
    program = traced(lambda hp, key, rows: grow(hp, key, rows)["x"])
    shares = lambda *args: lanes.shares(program, *args)
    assert shares(1, 1, True) == (1, 1)
    assert shares(7, 7, True) == (3, 3)
    assert shares(30, 4, False) == (3, 4)  # eight calls would leave a core idle: nine
    assert shares(100, 100, True) == (3, 34)
    monkeypatch.setattr(lanes, "CACHE", 32 * 20)
    assert shares(100, 100, True) == (3, 17)  # five calls of twenty would fit: six
    assert shares(100, 100, False) == (3, 34)
    monkeypatch.setattr(lanes, "WORTH", 1e9)
    assert shares(100, 100, True) == (1, 100)
    monkeypatch.setattr(lanes, "WORTH", 0)
    told = traced(lambda hp, key, rows: jax.debug.print("{}", hp["x"]))
    assert lanes.shares(told, 100, 100, True) == (1, 100)


@pytest.mark.parametrize("wide", [True, False])
def test_threads_change_no_result(three_cores, monkeypatch, wide):
    """Invariant, keys included; also of a setting of JAX that holds in the caller's thread only,
    and under `jax_debug_nans`, where no thread is used.
    """
    hp, seen = {"x": np.arange(7, dtype=np.float32)}, []
    run = lambda **options: sweep.run(grow, hp, KEY, 0.5, **options)
    with jax.enable_x64(wide):
        got = run(progress=seen.append)
        assert [report.done for report in seen] == [3, 6, 7]
        with jax.debug_nans(True):
            want = run(progress=seen.append)
    assert seen[-1].new == 7
    assert got.results["x"].dtype == (np.float64 if wide else np.float32)
    np.testing.assert_allclose(got.results["x"], want.results["x"], rtol=1e-6)
    assert bool(jnp.all(got.results["key"] == want.results["key"]))
    assert bool(got.done.all())
