"""Oracles: itertools, NumPy's masks, nested loops in Python, and invariants."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy import stats

from jaxnn import sweep
from jaxnn.sweep import (
    Choice,
    Design,
    Grid,
    Integers,
    LogUniform,
    Normal,
    Product,
    Uniform,
    When,
    Zip,
    grid,
    sample,
)

KEY = jax.random.key(0)


def test_a_grid_has_every_combination_the_last_axis_fastest():
    """Oracle: itertools.product."""
    axes = {"a": [0.1, 0.2], "b": [1, 2, 3], "c": [True, False]}
    got = grid(**axes)
    assert list(got) == ["a", "b", "c"]
    rows = list(zip(*(got[name].tolist() for name in axes), strict=True))
    assert rows == list(itertools.product(*axes.values()))
    kinds = [jnp.float64, jnp.int64, jnp.bool_]
    assert [values.dtype for values in got.values()] == kinds


def test_a_large_grid_has_the_product_of_the_sizes():
    """Oracle: counting."""
    got = grid(a=jnp.arange(100), b=jnp.arange(200), c=[1, 2])
    assert {values.shape for values in got.values()} == {(40_000,)}
    assert len(np.unique(np.stack(list(got.values())), axis=1).T) == 40_000


# --- spaces as data ---------------------------------------------------------------------------

EVEN = Design(8, {"rate": LogUniform(1e-4, 1e-1)}, "sobol")
WHOLE = Product(
    (
        Grid({"rule": ["sgd", "momentum"], "depth": Choice([1, 2], static=True)}),
        When("rule", "momentum", Grid({"beta": np.array([0.5, 0.9], np.float32)})),
        EVEN,
        Zip((Grid({"seed": range(2)}), Grid({"sizes": [(8,), (4, 4)]}))),
    )
)


def rows(members):
    return list(zip(*(values.tolist() for values in members.values()), strict=True))


def test_a_product_has_every_combination_and_parts_where_they_belong():
    """Oracle: nested loops in Python; a zip goes in step, and the last part varies fastest."""
    got = sample(KEY, WHOLE)
    rates = sample(KEY, EVEN)["rate"].tolist()
    betas = {"sgd": [None], "momentum": [0.5, np.float32(0.9)]}
    expected = [
        (rule, depth, beta, rate, seed, sizes)
        for rule in ("sgd", "momentum")
        for depth in (1, 2)
        for beta in betas[rule]
        for rate in rates
        for seed, sizes in ((0, (8,)), (1, (4, 4)))
    ]
    beta = np.array(got["beta"])
    assert beta.dtype == np.float32
    assert rows(got | {"beta": np.where(np.isnan(beta), None, beta)}) == expected
    assert [type(got[name]) for name in ("rule", "depth", "sizes")] == [sweep.Static] * 3


def test_a_sample_is_a_pytree_whose_only_leaves_are_arrays():
    """Invariant: members are taken out by indexing leaves, names included."""
    one = jax.tree.map(lambda a: a[-1], sample(KEY, WHOLE))
    assert {leaf.shape for leaf in jax.tree.leaves(one)} == {()}
    assert (one["rule"].tolist(), one["sizes"].tolist()) == ("momentum", (4, 4))


def test_a_condition_in_a_design_blanks_points_and_in_a_grid_spares_them():
    """Oracle: NumPy's masks, and counting; nested conditions, and what stands otherwise."""
    axes = {
        "rule": Choice(["sgd", "momentum", "nesterov"]),
        "beta": When("rule", ("momentum", "nesterov"), Uniform(0.5, 1.0)),
        "turns": When("beta", (), Integers(1, 9), otherwise=0),
        "how": When("rule", "nesterov", Choice(["a", "b"])),
    }
    got = sample(KEY, Design(200, axes))
    plain = np.array(got["rule"].tolist()) == "sgd"
    np.testing.assert_array_equal(np.isnan(got["beta"]), plain)
    assert float(np.nanmin(got["beta"])) >= 0.5
    assert set(got["turns"].tolist()) == {0}
    # Of a condition on values that not all members have, those without them are none.
    chain = Grid({"a": [1, 2], "b": When("a", 2, [7], otherwise=7), "c": When("b", 7, [1.0, 2.0])})
    assert len(sample(None, chain)["c"]) == 3
    named = {"a": [1, 2], "b": When("a", 2, ["x"]), "c": When("b", "x", [1.0, 2.0])}
    assert len(sample(None, Grid(named))["c"]) == 3
    nested = [v is not None for v in got["how"].tolist()]
    np.testing.assert_array_equal(nested, np.array(got["rule"].tolist()) == "nesterov")
    table = sample(None, Grid({"n": [1, 2, 3], "w": When("n", (2, 3), [5, 6], otherwise=-1)}))
    assert rows(table) == [(1, -1), (2, 5), (2, 6), (3, 5), (3, 6)]


def test_parts_may_share_an_axis_for_different_members():
    """Closed form: each rule has rates of its own."""
    rates = lambda rule, values: When(rule, True, Grid({"rate": values}))
    got = sample(None, Product((Grid({"a": [True, False]}), rates("a", [1.0, 2.0]),
                                When("a", False, Grid({"rate": [7.0], "s": ["x"]})))))  # fmt: skip
    assert rows(got) == [(True, 1.0, None), (True, 2.0, None), (False, 7.0, "x")]


@pytest.mark.parametrize("kind", ["sobol", "latin_hypercube"])
def test_even_designs_have_one_point_in_each_slice(kind):
    """Invariant: by definition, one point in each of n equal slices of each axis, a power of 2 for
    Sobol; quantiles map the slices: every choice and whole number comes equally often.
    """
    axes = {
        "u": Uniform(2.0, 4.0),
        "l": LogUniform(1e-2, 1e2),
        "i": Integers(-3, 5),
        "c": Choice(["a", "b"]),
        "z": Normal(1.0, 2.0),
    }
    got = sample(KEY, Design(64, axes, kind))
    slices = {
        "u": np.floor((np.asarray(got["u"]) - 2) / 2 * 64),
        "l": np.floor((np.log10(got["l"]) + 2) / 4 * 64),
        "z": np.floor(stats.norm(1, 2).cdf(got["z"]) * 64),
    }
    for name, found in slices.items():
        np.testing.assert_array_equal(np.sort(found), np.arange(64), name)
    assert np.unique(got["i"], return_counts=True)[1].tolist() == [8] * 8
    assert sorted(got["c"].tolist()) == ["a"] * 32 + ["b"] * 32
    alone = sample(KEY, Design(64, {"l": axes["l"]}, kind))["l"]
    if kind == "latin_hypercube":
        np.testing.assert_allclose(alone, got["l"])
        other = sample(jax.random.key(1), Design(64, axes, kind))
        assert not bool(jnp.any(other["u"] == got["u"]))


def test_a_space_prints_hashes_and_compares():
    """Invariant: its text makes it again; lists, tuples and ranges of the same values are equal."""
    names = {name: getattr(sweep, name) for name in sweep.__all__}
    assert eval(repr(WHOLE), names) == WHOLE
    assert hash(Grid({"a": [1, 2]})) == hash(Grid({"a": (1, 2)})) == hash(Grid({"a": range(1, 3)}))
    assert Grid({"a": [1, 2]}) != Grid({"a": [1, 3]})


RULES = Grid({"rule": ["sgd", "momentum"]})
BAD_SPACE = {
    "no space": ({"a": [1]}, TypeError, "space must be one of Grid, Design, Product, Zip, got"),
    "empty": (Grid({}), ValueError, r"space must have at least one axis, got Grid\(\{\}\)"),
    "empty product": (Product(()), ValueError, "at least one axis"),
    "kind": (
        Design(2, {"x": Uniform(0.0, 1.0)}, "sobel"),
        ValueError,
        "unknown kind 'sobel'.*mean 'sobol'",
    ),
    "twice": (Product((RULES, RULES)), ValueError, "rule must stand in one part only"),
    "overlap": (
        Product((RULES, Grid({"b": [1]}), When("rule", "sgd", Grid({"b": [2]})))),
        ValueError,
        "b must stand in one part only",
    ),
    "unequal": (
        Zip((RULES, Grid({"b": [1, 2, 3]}))),
        ValueError,
        r"Zip must have equally many members, got \[2, 3\]",
    ),
    "condition": (
        Product((RULES, When("rul", "sgd", Grid({"b": [2]})))),
        ValueError,
        r"unknown axis of a condition 'rul' \(did you mean 'rule'",
    ),
    "value": (
        Product((RULES, When("rule", "momentom", Grid({"b": [2]})))),
        ValueError,
        r"unknown rule 'momentom' \(did you mean 'momentum'",
    ),
    "no NaN": (
        Product((RULES, When("rule", "sgd", Grid({"b": [2]})))),
        ValueError,
        r"b holds int64, which has no NaN.*otherwise=",
    ),
    "mixed": (
        Product((RULES, When("rule", "sgd", Grid({"b": [2]})),
                 When("rule", "momentum", Grid({"b": ["x"]})))),
        TypeError,
        "b must hold numbers in all its parts, or names in all",
    ),
    "many axes": (
        Design(2, {f"x{i}": Uniform(0.0, 1.0) for i in range(65)}, "sobol"),
        ValueError,
        "at most 64 axes, got 65",
    ),
    "static NaN": (Grid({"x": Choice([np.nan], True)}), ValueError, "x must not hold NaN"),
    "static list": (Grid({"x": Choice([[1]], True)}), TypeError, r"hashable values.*got \[1\]"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD_SPACE)
def test_bad_spaces_get_one_clear_message(case):
    """Oracle: the message names what is wrong, and what was meant."""
    space, error, message = BAD_SPACE[case]
    refused(lambda: sample(KEY, space), error, message, "sweep.sample")
