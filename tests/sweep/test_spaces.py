"""Oracles: itertools, closed-form moments with bands of 5 standard errors, and invariants."""

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
    random,
    sample,
)

KEY = jax.random.key(0)
N = 200_000
SPACE = {
    "rate": LogUniform(1e-4, 1e-1),
    "keep": Uniform(0.5, 1.0),
    "seed": Integers(-2, 3),
    "depth": Choice([1.0, 2.0, 4.0]),
}
SAMPLE = random(KEY, N, SPACE)


def within(values, mean, std):
    """Whether the mean of independent values lies within 5 standard errors of the true one."""
    return abs(np.mean(values) - mean) < 5 * std / np.sqrt(len(values))


def test_a_grid_has_every_combination_the_last_axis_fastest():
    """Oracle: itertools.product."""
    axes = {"a": [0.1, 0.2], "b": [1, 2, 3], "c": [True, False]}
    got = grid(**axes)
    assert list(got) == ["a", "b", "c"]
    rows = list(zip(*(got[name].tolist() for name in axes), strict=True))
    assert rows == list(itertools.product(*axes.values()))
    kinds = [jnp.float64, jnp.int64, jnp.bool_]
    assert [values.dtype for values in got.values()] == kinds


@pytest.mark.parametrize(
    "values", [[1.0, 2.0], (1.0, 2.0), np.array([1, 2], np.float32), jnp.arange(2), range(2)]
)
def test_an_axis_is_anything_that_holds_numbers(values):
    """Invariant: the values and the dtype of an array stay."""
    got = grid(x=values)["x"]
    np.testing.assert_array_equal(got, np.asarray(values))
    assert got.dtype == np.asarray(values).dtype


def test_a_large_grid_has_the_product_of_the_sizes():
    """Oracle: counting."""
    got = grid(a=jnp.arange(100), b=jnp.arange(200), c=[1, 2])
    assert {values.shape for values in got.values()} == {(40_000,)}
    assert len(np.unique(np.stack(list(got.values())), axis=1).T) == 40_000


def test_samples_lie_in_their_range_and_have_one_entry_a_member():
    """Oracle: the definitions."""
    assert {values.shape for values in SAMPLE.values()} == {(N,)}
    assert 1e-4 <= float(jnp.min(SAMPLE["rate"])) <= float(jnp.max(SAMPLE["rate"])) <= 1e-1
    assert 0.5 <= float(jnp.min(SAMPLE["keep"])) < float(jnp.max(SAMPLE["keep"])) <= 1
    assert sorted(set(SAMPLE["seed"].tolist())) == [-2, -1, 0, 1, 2]
    assert sorted(set(SAMPLE["depth"].tolist())) == [1, 2, 4]


def test_samples_have_the_moments_of_their_distributions():
    """Closed form: uniform on [a, b] has mean (a+b)/2 and variance (b-a)²/12; 5 standard errors."""
    log_rate, keep = np.log10(SAMPLE["rate"]), SAMPLE["keep"]
    assert within(log_rate, -2.5, 3 / np.sqrt(12))
    assert within((log_rate + 2.5) ** 2, 9 / 12, 9 / np.sqrt(180))
    assert within(log_rate < -3, 1 / 3, np.sqrt(2) / 3)
    assert within(keep, 0.75, 0.5 / np.sqrt(12))
    assert within((keep - 0.75) ** 2, 0.25 / 12, 0.25 / np.sqrt(180))
    for value in range(-2, 3):
        assert within(SAMPLE["seed"] == value, 0.2, 0.4)
    for value in (1, 2, 4):
        assert within(SAMPLE["depth"] == value, 1 / 3, np.sqrt(2) / 3)


def test_axes_are_independent_of_each_other():
    """Statistics: sample correlations lie within 5 / sqrt(n) of zero."""
    columns = np.stack([np.log(SAMPLE["rate"]), *(SAMPLE[name] for name in list(SPACE)[1:])])
    correlation = np.corrcoef(columns)
    off = correlation[~np.eye(4, dtype=bool)]
    assert np.all(np.abs(off) < 5 / np.sqrt(N))


def test_an_axis_depends_on_its_name_and_the_key_alone():
    """Invariant: bit for bit; other axes, their order and other keys."""
    alone = random(KEY, 50, {"keep": SPACE["keep"]})["keep"]
    turned = random(KEY, 50, dict(reversed(SPACE.items())))["keep"]
    np.testing.assert_array_equal(alone, turned)
    other = random(jax.random.key(1), 50, {"keep": SPACE["keep"]})["keep"]
    assert not bool(jnp.any(alone == other))


@pytest.mark.parametrize(
    ("one", "other"), [("ab", "ba"), ("Cb", "ba"), ("a", "aa"), ("lr1", "lr2"), ("β1", "β2")]
)
def test_names_do_not_collide(one, other):
    """Invariant: axes of other names draw other numbers."""
    got = random(KEY, 50, {one: Uniform(0.0, 1.0), other: Uniform(0.0, 1.0)})
    assert not bool(jnp.any(got[one] == got[other]))


def test_dtypes_and_keys():
    """Invariant: JAX's own defaults with and without x64; both kinds of key draw the same."""
    assert [values.dtype for values in SAMPLE.values()] == [
        jnp.float64,
        jnp.float64,
        jnp.int64,
        jnp.float64,
    ]
    with jax.enable_x64(False):
        kinds = [values.dtype for values in random(KEY, 3, SPACE).values()]
        assert kinds == [jnp.float32, jnp.float32, jnp.int32, jnp.float32]
    old = random(jax.random.PRNGKey(0), 50, SPACE)
    jax.tree.map(np.testing.assert_array_equal, old, random(KEY, 50, SPACE))
    assert random(KEY, 3, {"n": Choice([1, 2])})["n"].dtype == jnp.int64


@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("low", [1e-5, 1e-4, 0.003, 0.7])
def test_a_narrow_log_uniform_stays_within_its_ends(low, x64):
    """Invariant: the rounding of exp(log(low)) does not lead outside."""
    high = low * (1 + 1e-6)
    with jax.enable_x64(x64):
        values = np.asarray(LogUniform(low, high).sample(KEY, 1000))
    assert values.dtype.type(low) <= values.min() <= values.max() <= values.dtype.type(high)


def test_a_distribution_is_anything_that_samples():
    """Oracle: a distribution of the caller's own."""

    class Two:
        def sample(self, key, n):
            return jnp.full(n, 2.0)

    assert random(KEY, 3, {"x": Two()})["x"].tolist() == [2, 2, 2]


def draw(**space):
    return random(KEY, 3, space)


BAD = {
    "no axes": (grid, {}, ValueError, "sweep.grid: at least one axis must be given"),
    "I1 empty axis": (grid, {"a": [1], "rate": []}, ValueError, "rate must hold at least one"),
    "I13 lists": (
        grid,
        {"sizes": [[8], "no"]},
        TypeError,
        r"sizes must hold numbers, got \(\[8\], 'no'\); names and shapes are static.*as tuples",
    ),
    "I7 string": (grid, {"optimizer": "adam"}, TypeError, "optimizer must hold numbers, got 'ad"),
    "None": (grid, {"rate": None}, TypeError, "rate must hold numbers, got None"),
    "number": (grid, {"rate": 0.1}, ValueError, r"rate must have shape \(any,\), got \(\)"),
    "two axes": (grid, {"rate": jnp.ones((2, 2))}, ValueError, r"rate must.*got \(2, 2\)"),
    "ragged": (grid, {"size": [[1], [1, 2]]}, TypeError, "size must hold numbers"),
    "no space": (draw, {}, ValueError, "sweep.random: space must have at least one axis"),
    "list": (draw, {"rate": [1, 2]}, TypeError, r"rate must be a distribution.*got \(1, 2\)"),
    "turned": (draw, {"x": Uniform(2.0, 1.0)}, ValueError, "Uniform: low must be below.*2.0 and 1"),
    "equal": (draw, {"x": Uniform(1.0, 1.0)}, ValueError, "low must be below high"),
    "infinite": (draw, {"x": Uniform(0.0, np.inf)}, ValueError, "both finite, got 0.0 and inf"),
    "NaN": (draw, {"x": Uniform(0.0, np.nan)}, ValueError, "both finite, got 0.0 and nan"),
    "log of 0": (draw, {"x": LogUniform(0.0, 1.0)}, ValueError, "low must be positive.*got 0.0"),
    "log turned": (draw, {"x": LogUniform(0.1, 0.01)}, ValueError, "LogUniform: low must be below"),
    "halves": (draw, {"x": Integers(0.5, 2.5)}, TypeError, "low must be a whole number, got 0.5"),
    "no integers": (draw, {"x": Integers(3, 3)}, ValueError, "Integers: low must be below high"),
    "large": (draw, {"x": Integers(0, 2**40)}, ValueError, "high must be between"),
    "no choice": (draw, {"x": Choice([])}, ValueError, "values must hold at least one value"),
    "two keys": (
        random,
        {"key": jax.random.split(KEY), "n": 3, "space": SPACE},
        TypeError,
        "single key",
    ),
    "std": (draw, {"x": Normal(0.0, 0.0)}, ValueError, "Normal: std must be positive"),
    "mean": (draw, {"x": Normal(np.inf, 1.0)}, ValueError, "Normal: mean must be finite, got inf"),
    "H1 int key": (random, {"key": 0, "n": 3, "space": SPACE}, TypeError, "key must.*got int"),
    "n 0": (random, {"key": KEY, "n": 0, "space": SPACE}, ValueError, "n must be at least 1"),
    "n 1.5": (random, {"key": KEY, "n": 1.5, "space": SPACE}, TypeError, "n must be a whole"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the argument, what was given, and what to do."""
    function, options, error, message = BAD[case]
    refused(lambda: function(**options), error, message, "sweep.")


def test_every_distribution_is_one():
    """Invariant: the protocol holds for all that the package offers."""
    for axis in (*SPACE.values(), Normal(0.0, 1.0)):
        assert isinstance(axis, sweep.Distribution)


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


def test_normal_axes_have_their_moments():
    """Closed form; a band of 5 standard errors."""
    z = random(KEY, N, {"z": Normal(1.0, 2.0)})["z"]
    assert within(z, 1, 2)
    assert within((z - 1) ** 2, 4, 4 * np.sqrt(2))


def test_a_space_prints_hashes_and_compares():
    """Invariant: its text makes it again; lists, tuples and ranges of the same values are equal."""
    names = {name: getattr(sweep, name) for name in sweep.__all__}
    assert eval(repr(WHOLE), names) == WHOLE
    assert hash(Grid({"a": [1, 2]})) == hash(Grid({"a": (1, 2)})) == hash(Grid({"a": range(1, 3)}))
    assert Grid({"a": [1, 2]}) != Grid({"a": [1, 3]})


def test_static_values_that_are_equal_and_hash_alike_stay_apart():
    """I14: 1, 1.0 and True are one key of a dict."""
    column = grid(x=["a", 1, True, 1.0, "a"])["x"]
    assert [repr(v) for v in column.tolist()] == ["'a'", "1", "True", "1.0", "'a'"]


def test_wide_numbers_are_refused_where_they_would_wrap():
    """B2: with x64 off JAX takes 2**40 for 0."""
    with jax.enable_x64(False):
        for wide in ([2**40], np.array([2**40])):
            with pytest.raises(ValueError, match="seed must fit into 32 bits, or jax_enable_x64"):
                grid(seed=wide)
        assert grid(seed=np.array([2**30]))["seed"].dtype == jnp.int32


RULES = Grid({"rule": ["sgd", "momentum"]})
BAD_SPACE = {
    "no space": ({"a": [1]}, TypeError, "space must be one of Grid, Design, Product, Zip, got"),
    "empty": (Grid({}), ValueError, r"space must have at least one axis, got Grid\(\{\}\)"),
    "empty product": (Product(()), ValueError, "at least one axis"),
    "kind": (Design(2, SPACE, "sobel"), ValueError, "unknown kind 'sobel'.*mean 'sobol'"),
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
