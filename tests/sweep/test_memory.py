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

from jaxnn import sweep
from jaxnn.sweep import chunks, memory

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


def test_the_number_of_members_is_found_in_few_compilations():
    """Oracle: arithmetic: fixed + k · each bytes."""
    for each, fixed, budget in ((10, 1000, 1777), (3, 0, 1000), (1, 5000, 5001)):
        asked = []

        def compile_for(size, each=each, fixed=fixed, asked=asked):
            asked.append(size)
            analysis = SimpleNamespace(
                temp_size_in_bytes=each * size, argument_size_in_bytes=fixed,
                output_size_in_bytes=7, alias_size_in_bytes=7,
            )  # fmt: skip
            return SimpleNamespace(memory_analysis=lambda: analysis)

        size = memory.members_that_fit("here", compile_for, 1024, fixed, budget)
        assert size == min(1024, (budget - fixed) // each)
        assert asked[-1] == size
        assert len(asked) <= 3


def test_what_is_free_is_known():
    """Oracle: the operating system's own file, within what others take meanwhile."""
    (total,) = re.findall(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert 0 < memory.available() <= 1024 * int(total)


def test_large_constants_are_pointed_out(monkeypatch):
    """I16. Oracle: the warning counts the bytes; what is shared is none."""
    monkeypatch.setattr(memory, "LARGE", 8000)
    table = jnp.ones((50, 20))
    inside = lambda hp, key: hp["x"] * jnp.sum(table)
    with pytest.warns(UserWarning, match=r"fit_one should be given .* over 8000 bytes"):
        sweep.run(inside, HP, KEY)
    sweep.run(fit_one, HP, KEY, ROWS)  # warns nothing, or the test fails
    closed = toys.TOY._replace(advance=lambda s, c: toys.advance(s, c + 0 * jnp.sum(table)))
    with pytest.warns(UserWarning, match="advance should be given large arrays"):
        sweep.run(closed, toys.members(2, stop=1), KEY, 0.9)
