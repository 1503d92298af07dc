"""Oracles: the compiler's account of programs compiled here, and arithmetic."""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from refusals import refused

from jaxnn import gmm, kde, memory, rbm, sweep
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


X = np.random.default_rng(1).normal(size=(700, 2))
WIDE = np.random.default_rng(2).normal(size=(700, 6))
MIXTURE = gmm.init(KEY, WIDE[:100], 4)
MODEL = kde.fit(X, bandwidth=0.5)
LINE = kde.fit(X[:, :1], bandwidth=0.5)
MACHINE = rbm.init(KEY, 12, 10)

# The function, given its arrays and the budget.
TILED = {
    "gmm.log_joint": (gmm.log_joint, (MIXTURE, WIDE)),
    "gmm.log_prob": (gmm.log_prob, (MIXTURE, WIDE)),
    "gmm.posterior": (gmm.posterior, (MIXTURE, WIDE)),
    "gmm.predict": (gmm.predict, (MIXTURE, WIDE)),
    "gmm.e_step": (gmm.e_step, (MIXTURE, WIDE)),
    "gmm.bic": (gmm.bic, (MIXTURE, WIDE)),
    "gmm.fit": (lambda m, x, **b: gmm.fit(m, x, max_steps=3, **b), (MIXTURE, WIDE)),
    "gmm.fit_bayes": (lambda m, x, **b: gmm.fit_bayes(m, x, max_steps=2, **b), (MIXTURE, WIDE)),
    "gmm.fit_implicit": (
        lambda m, x, **b: gmm.fit_implicit(m, x, max_steps=2, **b), (MIXTURE, WIDE)),
    "gmm.init": (lambda x, **b: gmm.init(KEY, x, 4, **b), (WIDE,)),
    "gmm.regress": (lambda m, x, **b: gmm.regress(m, [1], x, **b), (MIXTURE, WIDE[:, :1])),
    "kde.log_prob": (kde.log_prob, (MODEL, X)),
    "kde.score": (kde.score, (MODEL, X)),
    "kde.leave_one_out": (kde.leave_one_out, (X, np.array([0.3, 0.5]))),
    "kde.cross_validate": (
        lambda x, h, **b: kde.cross_validate(x, h, folds=3, **b), (X, np.array([0.3, 0.5]))),
    "kde.modes": (lambda m, **b: kde.modes(m, max_modes=4, max_steps=2, **b), (MODEL,)),
    "kde.nearest_neighbour": (lambda x, **b: kde.nearest_neighbour(x, 2, **b), (X,)),
    "kde.cdf": (kde.cdf, (LINE, X[:, :1])),
    "kde.nadaraya_watson": (kde.nadaraya_watson, (MODEL, X, X)),
    "rbm.log_partition": (rbm.log_partition, (MACHINE,)),
}  # fmt: skip
TAKES_BUDGET = {
    f"{module.__name__.split('.')[1]}.{name}": getattr(module, name)
    for module in (gmm, kde, rbm)
    for name in module.__all__
    if callable(getattr(module, name))
    and not inspect.isclass(getattr(module, name))
    and "memory_budget" in inspect.signature(getattr(module, name)).parameters
    and name != "fit_many"  # of which the budget decides how many members run at a time
}


def on_top(program):
    found = program.memory_analysis()
    return found.temp_size_in_bytes + found.output_size_in_bytes


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", TILED)
def test_tiles_keep_to_the_budget(name):
    """Oracle: the compiler's account of the whole, and the result without a budget.

    The budget is the least, as the message of a smaller one names it.
    """
    function, arrays = TILED[name]
    with pytest.raises(ValueError, match=f"^{name}: memory_budget must be at least") as caught:
        function(*arrays, memory_budget=1)
    least = int(re.findall(r"at least (\d+) bytes", str(caught.value))[0])
    usual = jax.jit(function).lower(*arrays).compile()
    small = jax.jit(lambda *a: function(*a, memory_budget=least)).lower(*arrays).compile()
    assert on_top(small) <= least < on_top(usual)
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    jax.tree.map(same, small(*arrays), usual(*arrays))


def test_tiles_are_as_large_as_the_budget_allows():
    """Oracle: bytes of tiles by arithmetic; the fewest halvings that fit, in few compilations."""
    asked = []

    def cost(cut, rows=300):
        asked.append(cut)
        return 1000 + 10 * max(16, min(rows, 2**14 >> cut))

    for budget, expected in ((4000, 0), (3999, 6), (2280, 7), (2279, 8), (1160, memory.MOST)):
        asked.clear()
        assert memory._cut("here", cost, budget) == expected
        assert len(asked) <= 2 + max(expected, 1)
    with pytest.raises(ValueError, match=r"here: .* at least 1160 bytes, .*, got 1159"):
        memory._cut("here", cost, 1159)
    with pytest.raises(ValueError, match=r"at least 900 bytes"):  # what joins tiles needs room too
        memory._cut("here", {0: 900, memory.MOST: 950}.get, 899)
    assert memory._cut("here", lambda cut: cost(cut, 2**14), 90_000) == 1  # along the line, at once


def test_a_budget_is_measured_once_and_costs_nothing_where_there_is_none(monkeypatch):
    """Counted: lowerings.  A budget that suffices leaves the usual tiles; other arrays of the same
    shapes, and other budgets, are measured no more; another static argument is.
    """
    seen = []
    measured = memory._bytes_on_top.__wrapped__

    def looked(call, cut, x64):
        seen.append(cut)
        return measured(call, cut, x64)

    monkeypatch.setattr(memory, "_bytes_on_top", memory.functools.lru_cache(looked))
    plain = kde.nearest_neighbour(X, 2)
    assert seen == []
    np.testing.assert_array_equal(kde.nearest_neighbour(X, 2, memory_budget="auto"), plain)
    assert seen == [0]
    kde.nearest_neighbour(X + 1, 2, memory_budget=2**30)
    assert seen == [0]
    kde.nearest_neighbour(X, 3, memory_budget=2**30)
    kde.nearest_neighbour(X[:-1], 3, memory_budget=2**30)
    assert seen == [0, 0, 0]
    with pytest.raises(ValueError, match="must be finite"):  # as ever, at the door
        kde.nearest_neighbour(np.where(X > 3, np.nan, X), 2, memory_budget=2**30)
    each = jax.vmap(lambda x: kde.nearest_neighbour(x, 2, memory_budget=2**30))(X[None])
    np.testing.assert_array_equal(each[0], plain)
    assert seen == [0, 0, 0]  # a member has the shape of the whole


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", TAKES_BUDGET)
def test_what_is_no_budget_is_refused(name):
    """I10. Bytes are a whole number, at least 1; whatever else is given, that is said first."""
    assert TAKES_BUDGET.keys() >= TILED.keys()
    for bad, error in (("much", ValueError), (0, ValueError), (1.5, TypeError), (True, TypeError)):
        refused(lambda bad=bad: TAKES_BUDGET[name](memory_budget=bad), error, "memory_budget", name)
