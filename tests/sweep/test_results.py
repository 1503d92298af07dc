"""Oracles: NumPy over the members, pandas and JSON as their readers give them back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from refusals import refused

from jaxnn import sweep
from jaxnn.sweep import Sweep, collect

HPARAMS = sweep.grid(rate=[0.1, 0.2, 0.4], rule=["sgd", "adam"], seed=[0, 1])
N = 12
rng = np.random.default_rng(0)
LOSS = rng.uniform(size=N)
LOSS[4] = np.nan
CURVES = rng.uniform(size=(N, 5))
WEIGHTS = rng.normal(size=(N, 3))
DONE = Sweep(HPARAMS, {"loss": jnp.asarray(LOSS), "curve": jnp.asarray(CURVES),
                       "w": jnp.asarray(WEIGHTS)})  # fmt: skip
RESULTS = collect(
    DONE,
    {"loss": lambda r: r["loss"], "hits": lambda r: -r["loss"]},
    history={"curve": lambda r: r["curve"]},
    params=lambda r: {"w": r["w"]},
    keep=4,
)
RULES = np.array(HPARAMS["rule"].tolist())


@pytest.mark.parametrize(
    ("where", "mask"),
    [
        (None, np.ones(N, bool)),
        ({"rule": "adam"}, RULES == "adam"),
        ({"rule": "sgd", "rate": 0.2}, (RULES == "sgd") & (np.asarray(HPARAMS["rate"]) == 0.2)),
        (lambda hp: hp["rate"] > 0.1, np.asarray(HPARAMS["rate"]) > 0.1),
    ],
)
def test_the_best_where(where, mask):
    """Oracle: NumPy; NaN is never the best; by another metric it is the other end."""
    expected = np.nanargmin(np.where(mask, LOSS, np.nan))
    got = RESULTS.best(where=where)
    assert int(got.member) == expected
    assert got.hparams["rule"].tolist() == RULES[expected]
    assert float(got.result["loss"]) == LOSS[expected]
    most = np.nanargmax(np.where(mask, LOSS, np.nan))
    assert int(RESULTS.best(by="hits", where=where).member) == most
    assert np.isnan(LOSS[RESULTS.order()[-1]])
    largest = collect(DONE, {"loss": lambda r: r["loss"]}, mode="max")
    assert int(largest.best(where=where).member) == most


def test_the_parameters_of_the_best_are_kept_and_predict():
    """Oracle: NumPy; one member, and the mean of an ensemble."""
    best = np.argsort(LOSS)[:4]
    np.testing.assert_array_equal(RESULTS.kept, best)
    np.testing.assert_array_equal(RESULTS.params["w"], WEIGHTS[best])
    x = rng.normal(size=(7, 3))
    apply = lambda params, x: jnp.tanh(x @ params["w"])
    each = np.tanh(x @ WEIGHTS[best].T)
    np.testing.assert_allclose(RESULTS.predict(apply, x), each[:, 0], rtol=1e-12)
    np.testing.assert_allclose(RESULTS.predict(apply, x, count=4), each.mean(1), rtol=1e-12)


def test_it_prints_as_a_table_best_first():
    """Invariant: a line a member, sorted, columns in line, long ones cut with a count."""
    lines = repr(RESULTS).splitlines()
    assert lines[0].split() == ["member", "rate", "rule", "seed", "loss", "hits"]
    members = [int(line.split()[0]) for line in lines[1:]]
    assert members == [*np.argsort(LOSS).tolist()]
    assert lines[1].endswith("  *")
    assert {len(line) for line in [lines[0], *lines[2:]]} == {len(lines[0])}
    many = Sweep({"x": jnp.arange(50)}, jnp.arange(50.0))
    text = repr(collect(many, {"loss": lambda r: r}))
    assert text.splitlines()[-1] == "... 50 members, sorted by loss"


def test_pandas_parquet_and_json(tmp_path):
    """Oracle: what pandas and json read again."""
    frame = RESULTS.to_pandas()
    assert frame["rule"].tolist() == RULES.tolist()
    np.testing.assert_array_equal(frame["loss"], LOSS)
    RESULTS.to_parquet(tmp_path / "table.parquet")
    again = pd.read_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(again[list(frame)], frame)
    np.testing.assert_array_equal(np.stack(again["curve"].tolist()), CURVES)
    text = RESULTS.to_json(tmp_path / "table.json")
    rows = json.loads(text, parse_constant=pytest.fail)
    assert (tmp_path / "table.json").read_text() == text
    assert rows[4]["loss"] is None
    assert rows[5] == {"rate": 0.2, "rule": "sgd", "seed": 1, "loss": LOSS[5], "hits": -LOSS[5],
                       "curve": CURVES[5].tolist()}  # fmt: skip


def test_a_pivot_is_that_of_pandas():
    """Oracle: pandas.pivot_table; mean over what is not shown, NaN where there is nothing."""
    got = RESULTS.pivot("rate", "rule")
    expected = RESULTS.to_pandas().dropna().pivot_table("loss", "rule", "rate").loc[got.y]
    assert got.x == [0.1, 0.2, 0.4]
    rule, rate = RULES[4], float(HPARAMS["rate"][4])
    failed = np.array([[y == rule and x == rate for x in got.x] for y in got.y])
    assert np.all(np.isnan(got.value) == failed)
    np.testing.assert_allclose(got.value[~failed], expected.to_numpy()[~failed])
    part = jax.tree.map(lambda a: a[:3], DONE)
    assert np.isnan(collect(part, {"l": lambda r: r["loss"]}).pivot("seed", "rule").value[1, 1])


def test_results_are_a_pytree():
    """Invariant: a map over its leaves keeps it."""
    same = jax.tree.map(lambda a: a, RESULTS)
    assert same.order().tolist() == RESULTS.order().tolist()
    assert int(same.best("hits").member) == int(RESULTS.best("hits").member)


PICK = {"loss": lambda r: r["loss"]}
BAD = {
    "no sweep": (lambda: collect(3, PICK), TypeError, "sweep must be a Sweep, got int"),
    "no metrics": (lambda: collect(DONE, {}), ValueError, "metrics must name at least one"),
    "by": (lambda: collect(DONE, PICK, by="los"), ValueError, "unknown metric 'los'.*'loss'"),
    "mode": (lambda: collect(DONE, PICK, mode="mx"), ValueError, "unknown mode 'mx'"),
    "shape": (
        lambda: collect(DONE, {"curve": lambda r: r["curve"]}),
        ValueError,
        r"curve must have shape \(12,\), got \(12, 5\)",
    ),
    "history": (
        lambda: collect(DONE, PICK, history=PICK | {"l": lambda r: r["loss"]}),
        ValueError,
        r"loss must have shape \(12, any\)",
    ),
    "clash": (lambda: collect(DONE, {"rate": PICK["loss"]}), ValueError, "got the axis 'rate'"),
    "keep": (
        lambda: collect(DONE, PICK, params=lambda r: r["w"], keep=13),
        ValueError,
        "keep must be between 1 and 12, got 13",
    ),
    "axis": (lambda: RESULTS.best(where={"rat": 1}), ValueError, "unknown axis 'rat'.*'rate'"),
    "none": (lambda: RESULTS.best(where={"rate": 9.0}), ValueError, "whose loss is a number, got"),
    "mask": (lambda: RESULTS.best(where=lambda hp: True), ValueError, r"where\(hparams\) must"),
    "no params": (
        lambda: collect(DONE, PICK).predict(lambda p: p),
        ValueError,
        "params must be kept",
    ),
    "count": (lambda: RESULTS.predict(lambda p: p, count=5), ValueError, "between 1 and 4, got 5"),
    "pivot": (lambda: RESULTS.pivot("rate", "rue"), ValueError, "unknown axis 'rue'.*'rule'"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message."""
    call, error, message = BAD[case]
    refused(call, error, message, "sweep.")
