"""Oracles: the same fit of each member, run alone in a loop; counting of programs; brute force."""

import logging
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn import gmm, sweep
from jaxnn.sweep import Choice, Grid, Product, When

KEY = jax.random.key(3)
X = jax.random.normal(KEY, (10, 3))


def fit_net(hparams, key, x):
    """Names, a depth, a momentum where there is one; results of one shape."""
    weights = jax.random.normal(key, (hparams["depth"], 3, 3))
    push = hparams["momentum"] if hparams["rule"] == "momentum" else 0.0

    def loss(weights):
        return jnp.mean(jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, weights)[0] ** 2)

    def step(carry, _):
        weights, speed = carry
        speed = push * speed - hparams["rate"] * jax.grad(loss)(weights)
        return (weights + speed, speed), loss(weights)

    return jax.lax.scan(step, (weights, jnp.zeros_like(weights)), length=4)[1]


SPACE = Product(
    (
        Grid({"rate": [0.1, 0.5], "rule": ["plain", "momentum"]}),
        When("rule", "momentum", Grid({"momentum": [0.5, 0.9]})),
        Grid({"depth": Choice([1, 2], static=True)}),
    )
)


def alone(fit_one, hparams, keys, *shared):
    """Every member by itself, from a dict of Python's names and one number each."""
    columns = {name: values.tolist() for name, values in hparams.items()}
    results = []
    for i in range(len(keys)):
        one = {name: values[i] for name, values in columns.items()}
        results.append(fit_one(one, keys[i], *shared))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *results)


def test_members_of_all_groups_are_the_same_fits_run_alone():
    """Oracle: a loop; in the order of the sweep, with the keys of the whole; names come back."""
    hparams = sweep.sample(KEY, SPACE)
    keys = sweep.member_keys(KEY, {"rate": hparams["rate"]})
    got = sweep.run_groups(fit_net, hparams, KEY, X, chunk=3)
    np.testing.assert_allclose(got.results, alone(fit_net, hparams, keys, X), rtol=1e-9)
    assert got.hparams["rule"].tolist() == hparams["rule"].tolist()
    winner = sweep.best(got, lambda loss: loss[:, -1])
    assert winner.hparams["rule"].tolist() == hparams["rule"].tolist()[int(winner.member)]


def test_names_that_a_group_lacks_are_not_handed_to_its_fits():
    """Oracle: the dict each fit should see; None that is a value of the axis is handed on."""
    seen = {}

    def fit_one(hp, key):
        seen[hp["rule"]] = {name: hp[name] for name in hp if name not in ("x", "seed")}
        return hp["x"]

    space = Product((Grid({"rule": ["a", "b"], "x": [1.0]}),
                     When("rule", "b", Grid({"how": ["u", None]}))))  # fmt: skip
    sweep.run_groups(fit_one, sweep.sample(KEY, space), KEY, ahead=0)
    assert seen["a"] == {"rule": "a"}
    assert seen["b"] == {"rule": "b", "how": None}


def test_seeds_pair_members_across_groups():
    """Invariant: equal seeds draw the same numbers whatever the names say; results keep order."""
    draw = lambda hp, key: jax.random.normal(key) * (1 if hp["sign"] == "+" else -1)
    hparams = sweep.grid(seed=[4, 9], sign=["+", "-"])
    a, b, c, d = sweep.run_groups(draw, hparams, KEY).results.tolist()
    assert (a, c) == (-b, -d)
    assert a != c
    seen = lambda hp, key: hp["seed"] + 0 * (hp["sign"] == "+")
    assert sweep.run_groups(seen, hparams, KEY).results.tolist() == [4, 4, 9, 9]


def test_each_program_compiles_once_and_the_next_call_compiles_none(caplog):
    """I12: four programs for four groups, none for other numbers in groups of the same sizes."""
    traces = []

    def fit_one(hp, key):
        traces.append(hp["rule"])
        return hp["x"] * len(hp["rule"])

    hparams = sweep.grid(rule=["a", "bb", "ccc", "dddd"], x=[1.0, 2.0])
    first = sweep.run_groups(fit_one, hparams, KEY)
    np.testing.assert_array_equal(first.results, [1, 2, 2, 4, 3, 6, 4, 8])
    before = len(traces)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        again = sweep.run_groups(fit_one, hparams | {"x": 2 * hparams["x"]}, KEY)
    assert not any("Compiling jit(_chunk)" in r.getMessage() for r in caplog.records)
    np.testing.assert_array_equal(again.results, 2 * first.results)
    assert len(traces) - before <= 4  # of the look at structures, which compiles nothing


def test_groups_compile_while_another_runs():
    """Oracle: a barrier that two groups must reach together; alone, neither would pass it."""
    barrier = threading.Barrier(2, timeout=60)

    def fit_one(hp, key):
        x = hp["x"]
        if not isinstance(x, jax.core.Tracer) or threading.current_thread() is not main:
            barrier.wait()
        return x + len(hp["rule"])

    main = threading.current_thread()
    hparams = sweep.grid(rule=["a", "bb"], x=[1.0])
    assert sweep.run_groups(fit_one, hparams, KEY).results.tolist() == [2, 3]


def test_threads_are_told_the_settings_of_the_caller():
    """B7: precision switched for the caller's thread alone is that of every group."""
    with jax.enable_x64(False):
        hparams = sweep.grid(rule=["a", "bb"], x=[1.0])
        got = sweep.run_groups(lambda hp, key: hp["x"] * len(hp["rule"]) + jnp.zeros(()), hparams,
                               KEY)  # fmt: skip
        assert got.results.dtype == jnp.float32
        assert got.results.tolist() == [1, 2]


def test_names_may_be_plain_lists():
    """I7: strings in a vmapped axis; oracle: closed form, with vectors beside them."""
    hparams = {"rule": ["bb", "a"], "v": jnp.arange(4.0).reshape(2, 2)}
    fit_one = lambda hp, key: jnp.sum(hp["v"]) * len(hp["rule"])
    assert sweep.run_groups(fit_one, hparams, KEY).results.tolist() == [2, 5]


def test_equal_hashes_do_not_share_a_program():
    """I14: 1, 1.0 and True are equal and hash alike, and are three programs."""
    hparams = sweep.grid(kind=Choice([1, True, 1.0], static=True), x=[0])
    names = {"int": 1, "bool": 2, "float": 3}
    fit_one = lambda hp, key: hp["x"] + names[type(hp["kind"]).__name__]
    for _ in range(2):
        assert sweep.run_groups(fit_one, hparams, KEY).results.tolist() == [1, 2, 3]


def test_a_result_without_names_is_that_of_run():
    """I2, I8: one group, one member; NaN harms nobody; a sweep inside jit has no threads."""
    root = lambda hp, key: jnp.sqrt(hp["x"])
    x = jnp.array([4.0, -1.0, 9.0])
    np.testing.assert_array_equal(sweep.run_groups(root, {"x": x}, KEY).results, [2, np.nan, 3])
    assert sweep.run_groups(root, {"x": x[:1]}, KEY).results.tolist() == [2]
    rules = sweep.grid(rule=["a", "bb", "ccc"])
    scaled = lambda hp, key: hp["x"] * len(hp["rule"])
    traced = jax.jit(lambda x: sweep.run_groups(scaled, rules | {"x": x}, KEY).results)(x)
    assert traced.tolist() == [4, -2, 27]


def test_a_list_that_changes_after_the_first_call_is_not_captured():
    """I15: what a fit closes over is read when it is traced; a new function sees the new value."""
    scales = [2.0]

    def make():
        return lambda hp, key: hp["x"] * scales[0]

    hparams = sweep.grid(x=[1.0, 3.0])
    assert sweep.run_groups(make(), hparams, KEY).results.tolist() == [2, 6]
    scales[0] = 5.0
    assert sweep.run_groups(make(), hparams, KEY).results.tolist() == [5, 15]


# --- padding ----------------------------------------------------------------------------------


def fit_masked(hparams, key, x):
    """Sums over the first `width` of so many random columns: of any program the same."""
    n = hparams["max_width"]
    columns = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i)))(jnp.arange(n))
    lives = jnp.arange(n) < hparams["width"]
    rows = jnp.where(lives, columns, 0)[None, :] * x[:, None]
    return jnp.sum(rows @ rows.T), jnp.asarray(n)


@pytest.mark.parametrize(("seconds", "programs"), [(0.0, [2, 3, 5, 9]), (1e9, [9]), (3e-7, None)])
def test_padded_members_are_the_same_whatever_program_they_share(seconds, programs):
    """I3: ragged widths; oracle: a program for each width, and brute force for which pay."""
    hparams = sweep.grid(width=[9, 2, 5, 3], seed=range(2))
    x = jnp.ones(4)
    got = sweep.run_groups(fit_masked, hparams, KEY, x, padded=["width"], compile_seconds=seconds)
    own = [
        fit_masked({"width": w, "max_width": w}, key, x)[0]
        for w, key in zip(hparams["width"].tolist(), sweep.member_keys(KEY, hparams), strict=True)
    ]
    np.testing.assert_allclose(got.results[0], np.stack(own), rtol=1e-12)
    sizes = got.results[1]
    assert bool(jnp.all(sizes >= hparams["width"]))
    if programs is None:
        assert 1 < len(set(sizes.tolist())) < 4
    else:
        assert sorted(set(sizes.tolist())) == programs


def test_numbers_of_components_in_one_program():
    """Oracle: each mixture fitted alone with its own number of components, none of them dead."""
    x = jnp.concatenate([X, X + 4, 2 * X - 5])
    starts = gmm.init(KEY, x, 4, family="diag")

    def fit_one(hparams, key, x):
        k = hparams["max_k"]
        lives = jnp.arange(k) < hparams["k"]
        mixture = jax.tree.map(lambda a: a[:k], starts)
        weights = jax.nn.log_softmax(jnp.where(lives, mixture.log_weights, -jnp.inf))
        fit = gmm.fit(mixture._replace(log_weights=weights), x, max_steps=20)
        return gmm.log_prob(fit.mixture, x)

    got = sweep.run_groups(fit_one, {"k": jnp.array([1, 2, 4])}, KEY, x, padded=["k"])
    for i, k in enumerate((1, 2, 4)):
        np.testing.assert_allclose(got.results[i], fit_one({"k": k, "max_k": k}, KEY, x), rtol=1e-8)


def test_numbers_of_steps_are_traced_and_need_no_padding():
    """I4: members with steps of their own; oracle: closed form."""
    grow = lambda hp, key: jax.lax.fori_loop(0, hp["steps"], lambda i, a: a * 2, 1)
    hparams = sweep.grid(steps=[0, 3, 10], rule=["a"])
    ignore = lambda hp, key: grow(hp, key) * len(hp["rule"])
    assert sweep.run_groups(ignore, hparams, KEY).results.tolist() == [1, 8, 1024]


# --- bad input --------------------------------------------------------------------------------

ONE = lambda hp, key: hp["x"]
RULES = sweep.grid(rule=["a", "bb"], x=[1.0])
BY_RULE = lambda hp, key: hp["x"] * len(hp["rule"])
HOLES = {"rule": RULES["rule"], "x": jnp.array([1.0, jnp.nan])}
BAD = {
    "I1 no axes": (ONE, {}, {}, ValueError, "hparams must have at least one axis"),
    "I1 no members": (ONE, {"x": jnp.ones(0)}, {}, ValueError, r"x must have one value.*\(0,\)"),
    "I5 lengths": (
        BY_RULE,
        RULES | {"x": jnp.ones(3)},
        {},
        ValueError,
        "same length, got rule with 2 and x with 3",
    ),
    "I13 lists": (BY_RULE, {"rule": ["u", ["v"]]}, {}, TypeError, "rule must hold numbers.*tuple"),
    "I7 in run": (
        lambda hp, key: sweep.run(BY_RULE, RULES, KEY),
        {"x": jnp.ones(1)},
        {},
        TypeError,
        r"rule must hold numbers, got \['a', 'bb'\]; names and shapes are static.*run_groups",
    ),
    "I6 shapes": (
        lambda hp, key: jnp.zeros(hp["n"]),
        {"n": jnp.array([1, 2])},
        {},
        TypeError,
        "(?s)Shapes must be 1D sequences of concrete values",
    ),
    "unread": (
        lambda hp, key: hp.get("rate", 1.0) + len(hp["rule"]),
        RULES | {"raet": jnp.ones(2)},
        {},
        ValueError,
        r"unknown hyperparameter 'raet' \(did you mean 'rate'\?\)|unknown hyperparameter 'x'",
    ),
    "lacking": (lambda hp, key: hp["xx"], RULES, {}, ValueError, "reads 'xx'.*did you mean 'x'"),
    "structure": (
        lambda hp, key: [hp["x"]] * len(hp["rule"]),
        RULES,
        {},
        ValueError,
        "same structure.*got 1 arrays with rule='a' and 2 arrays with rule='bb'",
    ),
    "shape": (
        lambda hp, key: {"w": jnp.full(len(hp["rule"]), hp["x"])},
        RULES,
        {},
        ValueError,
        r"got \['w'\] float64\[1\] with rule='a' and \['w'\] float64\[2\] with rule='bb'",
    ),
    "dtype": (
        lambda hp, key: hp["x"].astype(f"float{32 * len(hp['rule'])}"),
        RULES,
        {},
        ValueError,
        r"got result float32\[\] with rule='a' and result float64\[\]",
    ),
    "holes": (
        BY_RULE,
        {"x": jnp.array([1.0, jnp.nan]), "rule": sweep.grid(rule=["a", "a"])["rule"]},
        {},
        ValueError,
        r"x must be a number for all.*NaN for 1 of 2; give When\(..., otherwise",
    ),
    "padded name": (BY_RULE, RULES, {"padded": ["y"]}, ValueError, "unknown padded axis 'y'"),
    "padded kind": (BY_RULE, RULES, {"padded": ["x"]}, TypeError, "x must hold whole numbers"),
    "padded 0": (ONE, {"x": jnp.arange(2)}, {"padded": ["x"]}, ValueError, "x must be at least 1"),
    "ahead": (BY_RULE, RULES, {"ahead": -1}, ValueError, "ahead must be at least 0, got -1"),
    "seconds": (BY_RULE, RULES, {"compile_seconds": -1.0}, ValueError, "compile_seconds must be"),
    "no function": (3, RULES, {}, TypeError, "fit_one must be a function, got int"),
    "of run": (BY_RULE, RULES, {"layout": "vmpa"}, ValueError, "did you mean 'vmap'"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the argument and what was meant."""
    fit_one, hparams, options, error, message = BAD[case]
    call = lambda: sweep.run_groups(fit_one, hparams, KEY, **options)
    if case.startswith("I6"):  # JAX's own words, in more than one line
        with pytest.raises(error, match=message):
            call()
    else:
        refused(call, error, message, "sweep.")


@pytest.mark.usefixtures("unchecked_types")
def test_the_key_is_checked():
    """H1."""
    refused(lambda: sweep.run_groups(BY_RULE, RULES, 0), TypeError, "key must be a PRNG", "sweep.")


def test_a_failing_group_ends_the_sweep():
    """Oracle: the error of the group itself, though others have begun."""

    def fit_one(hp, key):
        if hp["rule"] == "bb" and threading.current_thread() is not main:
            raise RuntimeError("as planned")
        return hp["x"]

    main = threading.current_thread()
    hparams = sweep.grid(rule=["a", "bb", "ccc"], x=[1.0])
    with pytest.raises(RuntimeError, match="as planned"):
        sweep.run_groups(fit_one, hparams, KEY)
