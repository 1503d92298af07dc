"""Bayesian optimisation by Optuna: it proposes a batch of members, a sweep runs them, it is told.

The batch runs as one program, so Optuna's samplers work on many members at a time; those with
`constant_liar=True` keep the members of a batch apart.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import checks
from jaxnn.sweep.axes import Choice, Distribution, HParams, Integers, LogUniform, Uniform
from jaxnn.sweep.run import Sweep


class Asked(NamedTuple):
    """A batch: Optuna's trials, to be given back to `tell`, and their hyperparameters."""

    trials: list[Any]
    hparams: HParams


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ImportError(
            "sweep.ask and sweep.tell need Optuna: pip install 'jaxnn-functional[tables]'"
        ) from None
    return optuna


# How Optuna is told of an axis.
AXES: dict[type, Callable[[Any, Any], Any]] = {
    Uniform: lambda of, axis: of.FloatDistribution(axis.low, axis.high),
    LogUniform: lambda of, axis: of.FloatDistribution(axis.low, axis.high, log=True),
    Integers: lambda of, axis: of.IntDistribution(axis.low, axis.high - 1),
    Choice: lambda of, axis: of.CategoricalDistribution(np.asarray(axis.values).tolist()),
}


def ask(study: Any, n: int, space: Mapping[str, Distribution]) -> Asked:
    """Returns a batch of n members that a study proposes.

    Args:
        study: an `optuna.Study` that minimises, since lower scores are better.
        n: members, all to be run before the study is told of any.
        space: dict of `Uniform`, `LogUniform`, `Integers` or `Choice` by name.

    Floats have JAX's default precision. Raises ImportError without Optuna, TypeError or ValueError
    for anything but a study that minimises one value, n < 1, an empty space, or an axis that Optuna
    has no like of.
    """
    where = "sweep.ask"
    optuna = _optuna()
    checks.instance(where, "study", study, optuna.study.Study)
    if study.directions != [optuna.study.StudyDirection.MINIMIZE]:
        raise ValueError(
            f"{where}: study must minimise one value, since lower scores are better, got "
            f"{[direction.name for direction in study.directions]}"
        )
    n = checks.count(where, "n", n)
    if not space:
        raise ValueError(f"{where}: space must have at least one axis")
    axes = {}
    for name, axis in space.items():
        if type(axis) not in AXES:
            known = ", ".join(kind.__name__ for kind in AXES)
            raise TypeError(f"{where}: {name} must be one of {known}, got {type(axis).__name__}")
        axes[name] = AXES[type(axis)](optuna.distributions, axis)
    trials = [study.ask(axes) for _ in range(n)]
    hparams = {name: jnp.asarray([trial.params[name] for trial in trials]) for name in axes}
    return Asked(trials=trials, hparams=hparams)


def tell(study: Any, asked: Asked, found: Sweep | Any) -> None:
    """Tells a study how a batch did.

    Args:
        study: that was asked.
        asked: what `ask` returned.
        found: a `Sweep` with scores, or a score for each member.  Members with a score of NaN are
            told as failed, those that a rule stopped as pruned, with their last score.

    Raises TypeError or ValueError for another number of scores or a sweep without any.
    """
    where = "sweep.tell"
    optuna = _optuna()
    checks.instance(where, "asked", asked, Asked)
    stopped = None
    if isinstance(found, Sweep):
        scores, stopped = found.scores, found.stopped
        if scores is None:
            raise ValueError(f"{where}: found must have scores: give run a score, or a fit in "
                             "pieces")  # fmt: skip
    else:
        scores = found
    scores = jnp.asarray(scores)
    checks.shape(where, "scores", scores, (len(asked.trials),))
    values = np.asarray(jax.device_get(scores), float)
    early = np.zeros(len(values), bool) if stopped is None else np.asarray(stopped)
    states = optuna.trial.TrialState
    for trial, value, pruned in zip(asked.trials, values, early, strict=True):
        if np.isnan(value):
            study.tell(trial, state=states.FAIL)
        elif pruned:
            trial.report(value, step=0)
            study.tell(trial, state=states.PRUNED)
        else:
            study.tell(trial, value)
