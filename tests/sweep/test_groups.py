"""Oracles: the same fit of each member, run alone in a loop; counting of programs; brute force."""

import json
import logging
import signal
import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxnn import sweep
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


def alone(hparams, keys):
    """Every member by itself, from a dict of Python's names and one number each."""
    columns = {name: values.tolist() for name, values in hparams.items()}
    fit = jax.jit(
        lambda rate, momentum, key, rule, depth: fit_net(
            {"rate": rate, "momentum": momentum, "rule": rule, "depth": depth}, key, X
        ),
        static_argnames=("rule", "depth"),
    )
    ones = [{name: values[i] for name, values in columns.items()} for i in range(len(keys))]
    return np.stack([fit(key=key, **one) for key, one in zip(keys, ones, strict=True)])


def test_members_of_all_groups_are_the_same_fits_run_alone():
    """Oracle: a loop; in the order of the sweep, with the keys of the whole; names come back."""
    hparams = sweep.sample(KEY, SPACE)
    keys = sweep.member_keys(KEY, {"rate": hparams["rate"]})
    got = sweep.run_groups(fit_net, hparams, KEY, X, chunk=3)
    np.testing.assert_allclose(got.results, alone(hparams, keys), rtol=1e-9)
    assert got.hparams["rule"].tolist() == hparams["rule"].tolist()
    winner = sweep.best(got, lambda loss: loss[:, -1])
    assert winner.hparams["rule"].tolist() == hparams["rule"].tolist()[int(winner.member)]


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


# --- fits in pieces, Ctrl-C, and going on -----------------------------------------------------

STOPS = [3, 1, 2, 4, 2, 5]


def named_start(hparams, key, scale):
    """A toy that keeps its hyperparameters, names too, from which `advance` takes its step."""
    return toys.init(hparams, key, scale)


def named_advance(state, scale):
    return toys.advance(state, scale * (2 if state.hp["rule"] == "double" else 1))


NAMED = toys.TOY._replace(init=named_start, advance=named_advance)
RULED = toys.members(6, stop=STOPS) | {"rule": ["double", "plain", "plain"] * 2}
HALF = RULED | {"rule": ["half", "plain", "plain"] * 2}


def test_pieces_in_groups_are_fits_run_alone():
    """Oracle: closed forms of each member; reports are of the whole sweep, whoever makes them."""
    seen = []
    got = sweep.run_groups(NAMED, RULED, KEY, 0.9, chunk=2, progress=seen.append)
    hp = {name: v for name, v in RULED.items() if name != "rule"}
    keys = sweep.member_keys(KEY, hp)
    for rule, scale in (("double", 1.8), ("plain", 0.9)):
        want = toys.alone(hp, keys, scale, STOPS)
        mine = np.array(RULED["rule"]) == rule
        jax.tree.map(
            lambda a, b, m=mine: np.testing.assert_allclose(np.asarray(a)[m], b[m], rtol=1e-12),
            got.results, want,
        )  # fmt: skip
    assert got.pieces.tolist() == STOPS
    assert bool(got.done.all())
    assert sum(report.new for report in seen) == seen[-1].done == 6
    assert {report.members for report in seen} == {6}
    assert seen[-1].best == float(got.scores.min())


def test_ctrl_c_leaves_a_sweep_that_goes_on():
    """Oracle: the sweep that nobody stopped, bit for bit; pressed after two rounds of the first
    group, whose members have run them, and the other group has not begun.
    """
    whole = sweep.run_groups(NAMED, RULED, KEY, 0.9)
    before, rounds, saved = signal.getsignal(signal.SIGINT), [], []

    def press(paused):
        saved.append(paused)
        if len(saved) == 2:
            signal.raise_signal(signal.SIGINT)

    run = partial(sweep.run_groups, NAMED, RULED, KEY, 0.9, ahead=0)
    with pytest.warns(UserWarning, match="sweep.run_groups: interrupted with 0 of 6 members done"):
        part = run(save=press, progress=rounds.append)
    assert signal.getsignal(signal.SIGINT) is before
    assert part.pieces.tolist() == [2, 0, 0, 2, 0, 0]
    assert not bool(part.done.any() | part.failed.any())
    np.testing.assert_allclose(part.results["w"][3], (1.8 * (1 - RULED["rate"][3])) ** 2)
    assert np.isnan(part.results["w"][1])
    equal = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
    rest = []
    equal(run(resume=saved[-1], save=rest.append), whole)
    assert len(rest) == 2 + 5  # rounds that were left to the first group, and those of the other
    json.dumps(saved[-1].facts)
    run(save=saved.append)
    for paused in saved[2::3]:
        equal(run(resume=paused), whole)
    other = RULED | {"rate": RULED["rate"] / 2}
    for hparams, message in ((other, "got other hparams"), (HALF, "of the groups.*half")):
        with pytest.raises(ValueError, match=f"run_groups: resume must belong to .*{message}"):
            sweep.run_groups(NAMED, hparams, KEY, 0.9, resume=saved[-1])


def test_ctrl_c_leaves_the_whole_fits_that_are_done():
    """Oracle: closed form of the first group; the others have not begun."""

    def press(report):
        if report.done == 2:
            signal.raise_signal(signal.SIGINT)

    fit_one = lambda hp, key: hp["x"] * len(hp["rule"])
    hparams = sweep.grid(rule=["a", "bb", "ccc"], x=[1.0, 2.0])
    saved = []
    run = partial(sweep.run_groups, fit_one, hparams, KEY, score=lambda r: -r, save=saved.append)
    with pytest.warns(UserWarning, match="interrupted with 2 of 6 members done"):
        got = run(ahead=0, progress=press)
    assert got.done.tolist() == [True] * 2 + [False] * 4
    np.testing.assert_array_equal(got.results, [1, 2] + [np.nan] * 4)
    np.testing.assert_array_equal(got.scores, [-1, -2] + [np.nan] * 4)
    assert not bool(got.failed.any())
    assert int(sweep.best(got, lambda r: r).member) == 0
    assert run(resume=saved[-1]).results.tolist() == [1, 2, 2, 4, 3, 6]


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
