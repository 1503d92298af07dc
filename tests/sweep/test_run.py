"""Oracles: the same fit run alone, closed forms, and counting of programs that are compiled."""

import logging
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn import mlp, sweep, train

KEYS = jax.random.split(jax.random.key(3), 3)
KEY = KEYS[0]
X = jax.random.normal(KEYS[1], (10, 3))
BATCH = train.Batch(x=X, y=(X[:, 0] * X[:, 1] > 0).astype(int))
HPARAMS = sweep.grid(rate=[0.01, 0.1], l2=[0.0, 1e-2], keep=[0.6, 1.0], seed=[0, 1])
N = 16


def train_one(hparams, key, batch):
    """A network of its own for each member; it stops at an epoch of its own."""
    start, fit = jax.random.split(key)
    descend = mlp.value_and_grad(activation="tanh", keep_prob=hparams["keep"])
    return train.fit(
        fit,
        mlp.init(start, (3, 4, 2), activation="tanh", dtype=jnp.float64),
        batch,
        descend,
        epochs=12,
        learning_rate=hparams["rate"],
        l2=hparams["l2"],
        batch_size=4,
        validation=batch._replace(x=batch.x + 0.5),
        patience=3,
    )


@pytest.fixture(scope="module")
def alone():
    """Every member, trained by itself in a loop."""
    keys = sweep.member_keys(KEY, HPARAMS)
    one = jax.jit(train_one)
    runs = [one({k: v[i] for k, v in HPARAMS.items()}, keys[i], BATCH) for i in range(N)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)


def close(a, b):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), a, b)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def compiled(caplog, function):
    """How many chunks or training segments `function` compiles."""
    caplog.clear()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        jax.block_until_ready(function())
    names = ("Compiling jit(_chunk)", "Compiling jit(run)")
    return sum(record.getMessage().startswith(names) for record in caplog.records)


# --- members ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "chunk"),
    [("vmap", None), ("vmap", 7), ("vmap", 16), ("vmap", 99), ("map", 1)],
)
def test_every_member_is_the_same_fit_run_alone(alone, layout, chunk):
    """Oracle: a loop over members, with dropout, batches and early stopping of each at its own."""
    assert len(set(alone.epochs.tolist())) > 1
    got = sweep.run(train_one, HPARAMS, KEY, BATCH, chunk=chunk, layout=layout)
    close(got.results, alone)
    equal(got.hparams, HPARAMS)


def test_one_compilation_serves_the_grid_and_the_next(caplog):
    """Invariant: one program for all chunks, a ragged last one too; none for another grid, keys
    and data of the same shapes, nor for other numbers of members in chunks of the same size.
    """
    traces = []

    def fit_one(hparams, key, batch):
        traces.append(None)
        return hparams["rate"] * jnp.sum(batch.x) + jax.random.normal(key)

    run = partial(sweep.run, fit_one, chunk=6)
    assert compiled(caplog, lambda: run(HPARAMS, KEY, BATCH)) == 1
    other = {name: values[::-1] for name, values in HPARAMS.items()}
    moved = BATCH._replace(x=2 * X)
    assert compiled(caplog, lambda: run(other, KEYS[2], moved)) == 0
    few = {name: values[:7] for name, values in HPARAMS.items()}
    assert compiled(caplog, lambda: run(few, KEY, BATCH)) == 0
    assert len(traces) == 1


def test_chunks_cost_no_compilation_each(caplog):
    """Invariant: forty chunks compile no more programs than four, of any name."""
    programs = []
    for members in (5, 40, 4):  # the first compiles what all share
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            hparams = {"x": jnp.arange(float(members) + 0.5)}
            sweep.run(lambda hp, key: {"x": hp["x"] ** 2}, hparams, KEY, chunk=1)
        programs.append(sum("Compiling" in r.getMessage() for r in caplog.records))
    # One more a chunk would be 36; some shapes of four members other tests have compiled before.
    assert 0 < programs[1] <= programs[2] + 15


def test_nothing_leaks():
    """Invariant: JAX's leak checker is silent, though `fit_one` closes over traced numbers."""

    def fit_one(hparams, key):
        start, step = jax.random.split(key)
        descend = mlp.value_and_grad(activation="tanh", keep_prob=hparams["keep"])
        params = mlp.init(start, (3, 4, 2), activation="tanh", dtype=jnp.float64)
        return descend(params, BATCH._replace(weight=jnp.ones(10)), step)

    few = {name: values[:3] for name, values in HPARAMS.items()}
    with jax.checking_leaks():
        sweep.run(fit_one, few, KEY)


@pytest.mark.parametrize("layout", sweep.LAYOUTS)
def test_a_member_that_fails_harms_nobody(layout):
    """Oracle: squares in closed form; and a network whose learning rate is absurd."""
    root = lambda hp, key: jnp.sqrt(hp["x"])
    got = sweep.run(root, {"x": jnp.array([4.0, -1.0, 9.0])}, KEY, layout=layout).results
    np.testing.assert_array_equal(got, [2, np.nan, 3])

    def fit_one(hp, key):
        loss = lambda p, batch, key: (p["w"] ** 2, {"w": 2 * p["w"]})
        start = {"w": jnp.array(1.0)}
        options = {"epochs": 300, "optimizer": "sgd", "learning_rate": hp["rate"]}
        return train.fit(key, start, BATCH, loss, **options)

    runs = sweep.run(fit_one, {"rate": jnp.array([0.1, 1e9, 0.2])}, KEY, layout=layout).results
    assert runs.diverged.tolist() == [False, True, False]
    np.testing.assert_allclose(runs.params["w"][::2], [0.8**300, 0.6**300], rtol=1e-9)
    assert bool(jnp.isfinite(runs.params["w"][1]))


# --- the rest of the interface ----------------------------------------------------------------


@pytest.mark.parametrize(("chunk", "steps"), [(None, [16]), (5, [5, 5, 5, 1]), (99, [16])])
def test_progress_sums_to_the_number_of_members(chunk, steps):
    """Oracle: counting."""
    seen = []
    sweep.run(lambda hp, key: hp["rate"], HPARAMS, KEY, chunk=chunk, progress=seen.append)
    assert [report.new for report in seen] == steps
    assert [report.done for report in seen] == np.cumsum(steps).tolist()


def test_shared_data_reach_every_member():
    """Closed form; several shared trees, in order."""
    fit_one = lambda hp, key, a, b: hp["x"] * a["one"] + b
    got = sweep.run(fit_one, {"x": jnp.arange(3.0)}, KEY, {"one": 10.0}, jnp.arange(2.0), chunk=2)
    np.testing.assert_array_equal(got.results, [[0, 1], [10, 11], [20, 21]])


def test_axes_may_hold_vectors_and_results_any_tree():
    """Oracle: NumPy; one vector a member, and a result that no member changes."""
    table = jnp.arange(12.0).reshape(6, 2)
    fit_one = lambda hp, key: {"sum": jnp.sum(hp["v"]), "none": None, "one": 1}
    got = sweep.run(fit_one, {"v": table}, KEY, chunk=4).results
    np.testing.assert_array_equal(got["sum"], np.sum(table, axis=1))
    np.testing.assert_array_equal(got["one"], np.ones(6))


def test_a_sweep_of_one_member():
    """Closed form."""
    got = sweep.run(lambda hp, key: hp["x"] + 1, {"x": jnp.array([2.0])}, KEY)
    assert got.results.tolist() == [3]


def test_float32_stays_float32_under_x64():
    """Invariant: axes and shared data keep their dtypes."""
    hparams = {"x": jnp.ones(3, jnp.float32)}
    got = sweep.run(lambda hp, key, c: hp["x"] * c, hparams, KEY, jnp.float32(2), chunk=2)
    assert got.results.dtype == got.hparams["x"].dtype == jnp.float32


def test_the_best_network_has_the_least_score(alone):
    """Oracle: NumPy over the members run alone."""
    done = sweep.run(train_one, HPARAMS, KEY, BATCH)
    got = sweep.best(done, lambda results: results.value)
    assert int(got.member) == int(np.argmin(alone.value))
    close(got.result, jax.tree.map(lambda leaf: leaf[got.member], alone))


# --- bad input --------------------------------------------------------------------------------

ONE = lambda hp, key: hp["x"]
AXIS = {"x": jnp.ones(2)}
BAD = {
    "I1 no axes": (sweep.run, (ONE, {}, KEY), {}, ValueError, "hparams must have at least one"),
    "I1 no members": (
        sweep.run,
        (ONE, {"x": jnp.ones(0)}, KEY),
        {},
        ValueError,
        r"x must have one value for each member, got \(0,\)",
    ),
    "a number": (sweep.run, (ONE, {"x": 1.0}, KEY), {}, ValueError, r"x must have one.*got \(\)"),
    "I5 lengths": (
        sweep.run,
        (ONE, AXIS | {"y": jnp.ones(3)}, KEY),
        {},
        ValueError,
        "same length, got x with 2 and y with 3",
    ),
    "I7 strings": (
        sweep.run,
        (ONE, {"optimizer": ["adam", "sgd"]}, KEY),
        {},
        TypeError,
        "optimizer must hold numbers.*names and shapes are static: run one sweep for each",
    ),
    "misspelt": (
        sweep.run,
        (lambda hp, key: hp["rate"], {"raet": jnp.ones(2)}, KEY),
        {},
        ValueError,
        "fit_one reads 'rate', which hparams lacks.*did you mean 'raet'",
    ),
    "chunk 0": (sweep.run, (ONE, AXIS, KEY), {"chunk": 0}, ValueError, "chunk must be at least 1"),
    "chunk < 0": (sweep.run, (ONE, AXIS, KEY), {"chunk": -3}, ValueError, "chunk.*got -3"),
    "chunk 1.5": (sweep.run, (ONE, AXIS, KEY), {"chunk": 1.5}, TypeError, "chunk.*whole.*1.5"),
    "layout": (
        sweep.run,
        (ONE, AXIS, KEY),
        {"layout": "vmpa"},
        ValueError,
        r"unknown layout 'vmpa' \(did you mean 'vmap'\?\); choose from vmap, map, auto",
    ),
    "H1 int key": (sweep.run, (ONE, AXIS, 0), {}, TypeError, "key must be a PRNG key.*got int"),
    "H4 keys": (
        sweep.run,
        (ONE, AXIS, jax.random.split(KEY)),
        {},
        TypeError,
        r"single key, got keys of shape \(2,\)",
    ),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message_before_compilation(case, caplog):
    """Oracle: the message names the argument, what was given and what to do; no chunk compiles."""
    function, args, options, error, message = BAD[case]
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        refused(lambda: function(*args, **options), error, message, "sweep.")
    assert "Compiling jit(_chunk)" not in caplog.text
