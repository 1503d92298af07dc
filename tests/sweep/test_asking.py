"""Oracles: Optuna's own record of its trials, and a bowl whose lowest point is known."""

import builtins

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from refusals import refused

from jaxnn import sweep

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.ERROR)
KEY = jax.random.key(0)
SPACE = {
    "rate": sweep.LogUniform(1e-3, 1.0),
    "shift": sweep.Uniform(-2.0, 2.0),
    "size": sweep.Integers(1, 9),
    "keep": sweep.Choice([0.5, 1.0]),
}


def study(seed=0):
    return optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=16))


def bowl(hp, key):
    """Least, 0, at rate 0.1, shift 1, size 5, keep 1."""
    far = (jnp.log10(hp["rate"]) + 1) ** 2 + (hp["shift"] - 1) ** 2
    return far + 0.1 * (hp["size"] - 5) ** 2 + (1 - hp["keep"])


def test_batches_go_to_and_fro():
    """Oracle: Optuna's record: the trials are the members, with their scores."""
    it = study()
    asked = sweep.ask(it, 6, SPACE)
    for name, values in asked.hparams.items():
        assert [trial.params[name] for trial in asked.trials] == values.tolist()
    assert jnp.issubdtype(asked.hparams["size"].dtype, jnp.integer)
    size = asked.hparams["size"]
    assert int(size.min()) >= 1
    assert int(size.max()) <= 8
    got = sweep.run(bowl, asked.hparams, KEY, score=lambda r: r)
    sweep.tell(it, asked, got)
    np.testing.assert_array_equal([trial.value for trial in it.trials], got.scores)
    again = sweep.ask(it, 2, SPACE)
    sweep.tell(it, again, [0.5, jnp.nan])
    assert [trial.state.name for trial in it.trials[6:]] == ["COMPLETE", "FAIL"]
    assert it.best_value == min(0.5, float(got.scores.min()))


def test_members_that_were_stopped_are_told_as_pruned():
    """Oracle: Optuna's states, and the scores that it was told."""
    it = study()
    space = {"rate": sweep.Uniform(0.05, 0.5)}
    asked = sweep.ask(it, 6, space)
    hp = toys.members(6) | asked.hparams
    got = sweep.halving(toys.TOY, hp, KEY, 0.9, most=3)
    sweep.tell(it, asked, got)
    names = np.array([trial.state.name for trial in it.trials])
    np.testing.assert_array_equal(names == "PRUNED", got.stopped)
    np.testing.assert_array_equal(names == "COMPLETE", ~got.stopped)
    last = [trial.intermediate_values.get(0, trial.value) for trial in it.trials]
    np.testing.assert_array_equal(last, got.scores)


def test_it_searches_better_than_chance():
    """Invariant: after eight batches the best of as many random members is beaten, for all seeds:
    by luck alone one time in eight.
    """
    wins = 0
    for seed in range(3):
        it = study(seed)
        for _ in range(8):
            asked = sweep.ask(it, 8, SPACE)
            sweep.tell(it, asked, jax.vmap(bowl, (0, None))(asked.hparams, None))
        chance = sweep.random(jax.random.key(seed), 64, SPACE)
        wins += it.best_value < float(jnp.min(jax.vmap(bowl, (0, None))(chance, None)))
    assert wins == 3


UP = optuna.create_study(direction="maximize")
BAD = {
    "upwards": (lambda: sweep.ask(UP, 2, SPACE), ValueError, r"must minimise one.*'MAXIMIZE'"),
    "no study": (lambda: sweep.ask(None, 2, SPACE), TypeError, "study must be a Study, got None"),
    "n 0": (lambda: sweep.ask(study(), 0, SPACE), ValueError, "n must be at least 1, got 0"),
    "I1 no axis": (lambda: sweep.ask(study(), 2, {}), ValueError, "space must have at least one"),
    "axis": (
        lambda: sweep.ask(study(), 2, {"x": [1, 2]}),
        TypeError,
        "x must be one of Uniform, LogUniform, Integers, Choice, got list",
    ),
    "no scores": (
        lambda: sweep.tell(None, sweep.Asked([], {}), sweep.Sweep({}, ())),
        ValueError,
        "found must have scores: give run a score",
    ),
    "I5 too few": (
        lambda: sweep.tell(None, sweep.Asked([1, 2], {}), [1.0]),
        ValueError,
        r"scores must have shape \(2,\), got \(1,\)",
    ),
    "not asked": (lambda: sweep.tell(None, [], [1.0]), TypeError, "asked must be a Asked, got"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the argument and what is expected."""
    call, error, message = BAD[case]
    refused(call, error, message, ("sweep.ask: ", "sweep.tell: "))


def test_without_optuna_the_extra_is_named(monkeypatch):
    """Oracle: the message says what to install."""
    real = builtins.__import__

    def missing(name, *rest):
        if name == "optuna":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"jaxnn-functional\[tables\]"):
        sweep.ask(None, 1, SPACE)
