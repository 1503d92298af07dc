"""Oracles: the compiler's account of programs compiled here, and arithmetic."""

import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from refusals import refused

from jaxnn import gmm, kde, memory, sweep
from jaxnn.sweep import chunks

KEY = jax.random.key(0)
ROWS = jnp.ones((50, 20))
HP = {"x": jnp.arange(1.0, 9.0)}


def fit_one(hp, key, rows):
    """A member that needs a square matrix of its own for a moment."""
    square = jnp.sin(hp["x"] * rows) @ jnp.cos(rows.T)
    return jnp.linalg.norm(square)


def account(members):
    """Bytes of the program for so many members, compiled as `run` does."""
    hp = {"x": HP["x"][:members]}
    cut = (hp, sweep.member_keys(KEY, hp))
    program = chunks._chunk.lower(fit_one, None, "vmap", None, cut, (ROWS,)).compile()
    return memory.needed(program)


def steps(**options):
    seen = []
    got = sweep.run(fit_one, HP, KEY, ROWS, progress=seen.append, **options)
    want = [np.linalg.norm(np.sin(x * np.ones((50, 20))) @ np.cos(ROWS.T)) for x in HP["x"]]
    np.testing.assert_allclose(got.results, want, rtol=1e-12)
    return [report.new for report in seen]


@pytest.mark.usefixtures("unchecked_types")
def test_chunks_are_as_large_as_the_budget_allows():
    """I10. Oracle: the compiler's account of the program for k and for k + 1 members; too little
    for one is refused with the bytes that it needs.
    """
    least = account(1)
    budget = account(4)
    size = steps(memory_budget=budget)[0]
    assert account(size) <= budget < account(size + 1)
    assert size >= 3
    assert steps(memory_budget="auto") == [8]
    assert steps(memory_budget=2**40, chunk=5) == [5, 3]
    refused(
        lambda: sweep.run(fit_one, HP, KEY, ROWS, memory_budget=least - 1),
        ValueError,
        f"memory_budget must be at least {least} bytes, which one member needs, got {least - 1}",
        "sweep.run",
    )


@pytest.mark.usefixtures("unchecked_types")
def test_pieces_keep_to_the_budget_too():
    """I10. Oracle: the bytes in the message are enough, and one less is not; same results."""
    hp = toys.members(6, stop=2)

    def advance(state, scale):  # a member needs a matrix of its own
        square = jnp.sin(jnp.outer(ROWS[:, 0] * state.w, ROWS[:, 1]))
        return toys.advance(state, scale + 0 * jnp.linalg.norm(square @ square.T))

    protocol = toys.TOY._replace(advance=advance)
    run = lambda **options: sweep.run(protocol, hp, KEY, 0.9, **options)
    with pytest.raises(ValueError, match="memory_budget must be at least") as caught:
        run(memory_budget=1)
    (least,) = re.findall(r"at least (\d+) bytes", str(caught.value))
    with pytest.raises(ValueError, match=f"at least {least} bytes"):
        run(memory_budget=int(least) - 1)
    jax.tree.map(np.testing.assert_allclose, run(memory_budget=int(least)), run())


@pytest.mark.parametrize(
    ("each", "fixed", "tile", "budget", "expected"),
    [(10, 1000, 0, 1777, 77), (3, 0, 0, 1000, 333), (1, 5000, 0, 5001, 1),
     (32, 64, 10_000, 15_000, 154), (32, 64, 6400, 1000, 9)],
)  # fmt: skip
def test_the_most_is_found_in_few_compilations(each, fixed, tile, budget, expected):
    """Oracle: arithmetic: fixed + k · each bytes, and room for a tile of up to 100 items."""
    asked = []

    def cost(size):
        asked.append(size)
        return fixed + each * size + tile * min(size, 100) // 100

    size = memory.most_that_fit("here", cost, 100_000, fixed, budget, "row")
    assert asked[-1] == size
    assert len(asked) <= 6
    assert cost(size) <= budget
    assert size == expected


def test_all_that_a_program_takes_is_counted():
    """Oracle: arithmetic; what an output shares with an argument counts once."""
    found = SimpleNamespace(temp_size_in_bytes=100, argument_size_in_bytes=20,
                            output_size_in_bytes=7, alias_size_in_bytes=3)  # fmt: skip
    assert memory.needed(SimpleNamespace(memory_analysis=lambda: found)) == 124


def test_what_is_free_is_known():
    """Oracle: the operating system's own file, within what others take meanwhile."""
    (total,) = re.findall(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert 0 < memory.available() <= 1024 * int(total)


def test_devices_share_the_memory_of_a_host_but_not_their_own(monkeypatch):
    """Planted: what the system and an accelerator say."""
    monkeypatch.setattr(memory.os, "sysconf", {"SC_AVPHYS_PAGES": 100, "SC_PAGE_SIZE": 8}.get)
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)
    assert memory.bytes_allowed("here", "auto") == 100
    stats = {"bytes_limit": 1000, "bytes_in_use": 300}
    device = SimpleNamespace(memory_stats=lambda: stats)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert memory.bytes_allowed("here", "auto") == 350


def temporary(function, *args):
    program = jax.jit(function).lower(*args).compile()
    return program.memory_analysis().temp_size_in_bytes


def rows_of(n):
    return jax.ShapeDtypeStruct((n, 3), ROWS.dtype)


def test_fitting_a_mixture_takes_two_numbers_a_row_and_a_tile():
    """The compiler's account; responsibilities of all rows would be 16 numbers a row."""
    x = np.random.default_rng(0).normal(size=(50, 3))
    start = gmm.init(KEY, x, 16)
    few, many = (temporary(gmm.fit, start, rows_of(n)) for n in (2 * 10**6, 8 * 10**6))
    assert many - few <= 2.01 * 8 * 6 * 10**6
    assert few <= 2 * 8 * 2 * 10**6 + 2**24


def test_a_density_takes_a_row_more_for_each_row_and_a_tile():
    """The compiler's account; kernels of all pairs would be 100,000 numbers a row."""
    shape = kde.fit(np.eye(3)).kernel

    def density(points, x):
        weights = jnp.zeros(points.shape[0])
        return kde.log_prob(kde.KDE(points, jnp.ones(3), weights, shape), x)

    few = temporary(density, rows_of(10**5), rows_of(10**5))
    for n, m in ((8, 1), (1, 8)):
        many = temporary(density, rows_of(n * 10**5), rows_of(m * 10**5))
        assert many - few <= 4.1 * 8 * 7 * 10**5
    assert few <= 2**24
