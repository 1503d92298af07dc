"""Oracles: SciPy's distributions, moments within 5 standard errors, columns taken apart by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy import stats

from jaxnn import sweep
from jaxnn.sweep import Choice, Integers, LogUniform, Normal, Uniform, axes, grid, random

KEY = jax.random.key(0)
U = jnp.array([0.001, 0.25, 0.5, 0.83, 0.999])
QUANTILES = {
    "uniform": (Uniform(2.0, 5.0), stats.uniform(2, 3)),
    "log-uniform": (LogUniform(1e-3, 10.0), stats.loguniform(1e-3, 10)),
    "normal": (Normal(-1.0, 3.0), stats.norm(-1, 3)),
    "integers": (Integers(-2, 9), stats.randint(-2, 9)),
}


@pytest.mark.parametrize("name", QUANTILES)
def test_quantiles(name):
    """Oracle: scipy.stats."""
    axis, peer = QUANTILES[name]
    np.testing.assert_allclose(axis.quantile(U), peer.ppf(np.asarray(U)), rtol=1e-12)


def test_quantiles_of_a_choice_go_through_its_values_in_order():
    """Oracle: counting; names as names, numbers with their dtype."""
    u = (jnp.arange(6) + 0.5) / 6
    assert Choice(["b", (1, 2), "a"]).quantile(u).tolist() == [*"bb", (1, 2), (1, 2), *"aa"]
    half = Choice((1, 2), dtype="float16").quantile(u)
    assert half.dtype == jnp.float16
    assert half.tolist() == [1, 1, 1, 2, 2, 2]


def test_a_static_column_is_indexed_through_its_leaf():
    """Oracle: the list it was made of; vmap, jit and concatenation see codes only."""
    given = ["b", None, "a", "b"]
    column = axes.column("here", "x", given)
    assert column.shape == (4,)
    assert column.tolist() == given
    assert repr(column) == "Static(['b', None, 'a', 'b'])"
    assert "('b', None, 'a')" in str(jax.eval_shape(lambda c: c, column))  # codes not known
    assert [jax.tree.map(lambda a, i=i: a[i], column).tolist() for i in range(4)] == given
    assert jax.jit(lambda c: jax.tree.map(lambda a: a[::-1], c))(column).tolist() == given[::-1]
    assert sweep.Static(("x",), jnp.array([0, -1])).tolist() == ["x", None]


@pytest.mark.parametrize("values", [["a", "b"], ("a", "b"), np.array(["a", "b"])], ids=type)
def test_names_in_any_sequence_are_static(values):
    """Oracle: the list."""
    assert grid(x=values)["x"].tolist() == ["a", "b"]


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


def test_every_distribution_is_one():
    """Invariant: the protocol holds for all that the package offers."""
    for axis in (*SPACE.values(), Normal(0.0, 1.0)):
        assert isinstance(axis, sweep.Distribution)


def test_normal_axes_have_their_moments():
    """Closed form; a band of 5 standard errors."""
    z = random(KEY, N, {"z": Normal(1.0, 2.0)})["z"]
    assert within(z, 1, 2)
    assert within((z - 1) ** 2, 4, 4 * np.sqrt(2))


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


@pytest.mark.parametrize(
    "values", [[1.0, 2.0], (1.0, 2.0), np.array([1, 2], np.float32), jnp.arange(2), range(2)]
)
def test_an_axis_is_anything_that_holds_numbers(values):
    """Invariant: the values and the dtype of an array stay."""
    got = grid(x=values)["x"]
    np.testing.assert_array_equal(got, np.asarray(values))
    assert got.dtype == np.asarray(values).dtype
