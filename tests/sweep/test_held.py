"""Oracle: each member and fold run alone, with weights made by hand; counting of programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn import sweep
from jaxnn.types import Segments

KEY = jax.random.key(1)
X = jnp.array([1.0, 2.0, 6.0, 9.0, 4.0, 0.5])
FOLDS = sweep.k_fold(6, 3, key=KEY, repeats=2)
HPARAMS = sweep.grid(rule=["pull", "push"], rate=[0.1, 0.5], stop=[3])


def pieces_of(traces):
    """Gradient steps towards the weighted mean, or away from it; noise of the key at the start."""

    def init(hp, key, train, held, x):
        zero = jnp.zeros(())
        return {"m": jax.random.normal(key), "t": 0, "error": zero, "hp": hp}

    def advance(state, train, held, x):
        traces.append(None)
        hp = state["hp"]
        sign = 1 if hp["rule"] == "pull" else -1
        m = state["m"] + sign * hp["rate"] * (train @ x / train.sum() - state["m"])
        error = held @ (x - m) ** 2 / held.sum()
        return state | {"m": m, "t": state["t"] + 1, "error": error}

    return Segments(
        init=init,
        advance=advance,
        score=lambda state: state["error"],
        halted=lambda state: state["t"] >= state["hp"]["stop"],
        result=lambda state: (state["m"], state["error"]),
    )


def test_folds_in_pieces_are_fits_run_alone():
    """Oracle: NumPy in a loop; and no call compiles anew."""
    traces = []
    fit = pieces_of(traces)
    got = sweep.cross_validate(fit, HPARAMS, KEY, FOLDS, X)
    columns = {name: values.tolist() for name, values in got.hparams.items()}
    keys = sweep.member_keys(KEY, HPARAMS)
    for i in range(len(got.scores)):
        one = {name: values[i] for name, values in columns.items()}
        key = jax.random.fold_in(jax.random.fold_in(keys[i // 6], one["repeat"]), one["fold"])
        held = np.asarray(FOLDS)[one["repeat"]] == one["fold"]
        sign = 1 if one["rule"] == "pull" else -1
        x, m = np.asarray(X), float(jax.random.normal(key))
        for _ in range(one["stop"]):
            m += sign * one["rate"] * (x[~held].mean() - m)
        np.testing.assert_allclose(got.results[0][i], m, rtol=1e-10)
        np.testing.assert_allclose(got.results[1][i], np.mean((x[held] - m) ** 2), rtol=1e-10)
    np.testing.assert_array_equal(got.pieces, got.hparams["stop"])
    assert sweep.average(got, lambda r: r[1]).results.members.tolist() == [6] * 4
    count = len(traces)
    sweep.cross_validate(fit, HPARAMS | {"rate": HPARAMS["rate"] / 2}, KEY, FOLDS, X)
    assert len(traces) - count <= 2  # a look at each group, which compiles nothing


@pytest.mark.usefixtures("unchecked_types")
def test_a_name_that_is_lacking_is_told():
    """Oracle: the message."""
    hparams = sweep.grid(raet=[0.1], rule=["pull"], stop=[2])
    call = lambda: sweep.cross_validate(pieces_of([]), hparams, KEY, FOLDS, X)
    refused(call, ValueError, "reads 'rate', which hparams lacks.*mean 'raet'", "sweep.")
