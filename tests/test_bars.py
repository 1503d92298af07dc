"""Progress bars: what is written to a terminal, against what was done."""

import io
import sys

import jax
import jax.numpy as jnp
import pytest

from jaxnn import bars, mlp, sweep, train


def last_line(file):
    return file.getvalue().replace("\n", "\r").strip("\r").split("\r")[-1]


def test_a_sweep_fills_its_bar_and_names_the_best():
    grid = {"a": jnp.array([3.0, 1.0, 2.0, 4.0, 5.0])}
    file = io.StringIO()
    sweep.run(
        lambda hp, key: hp["a"], grid, jax.random.key(0), chunk=2, score=lambda r: r,
        progress=bars.Bar("members", file=file),
    )  # fmt: skip
    assert "members: 100%" in last_line(file)
    assert "5/5" in last_line(file)
    assert "best=1" in last_line(file)
    assert file.getvalue().endswith("\n")  # it has closed itself


def test_a_training_that_stops_early_leaves_its_bar_where_it_was():
    key = jax.random.key(0)
    params, rows = (
        mlp.init(key, (2, 1)),
        train.Batch(jnp.ones((4, 2), "f4"), jnp.ones((4, 1), "f4")),
    )
    file = io.StringIO()
    with bars.Bar(total=5, file=file) as bar:
        for epochs in (2, 1):
            train.fit(key, params, rows, mlp.value_and_grad("squared"), epochs=epochs,
                      batch_size=4, progress=bar)  # fmt: skip
    assert "3/5" in last_line(file)


def test_without_tqdm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"bars.Bar needs tqdm: pip install .*\[bars\]"):
        bars.Bar()
