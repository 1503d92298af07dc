"""How much of what a sweep found each hyperparameter explains: functional ANOVA, by Optuna."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

WIDE = 30.0  # ratio of largest to smallest from which a positive axis counts as logarithmic


def fanova(
    hparams: Mapping[str, Sequence[Any]], values: Sequence[float], *, seed: int = 0
) -> dict[str, float]:
    """Returns the share of the variance that each axis explains, largest first; they sum to 1.

    Functional analysis of variance over a random forest (Hutter et al., 2014), as Optuna computes
    it. Positive axes that span more than a factor of 30 are taken by their logarithms. Members
    without a finite value are left out, and so are axes that some of the others lack or that hold
    one value only: of conditional parts ask with the members that have them.

    Raises:
        ImportError: without Optuna and scikit-learn; the extra `tables` has the first.
        ValueError: fewer than two members or two different values, or no axis that varies.
    """
    where = "sweep.importance"
    try:
        import optuna
        from optuna.importance import FanovaImportanceEvaluator
    except ImportError:
        raise ImportError(f"{where} needs optuna: install jaxnn-functional[tables]") from None
    good = [i for i, value in enumerate(values) if math.isfinite(value)]
    if len({values[i] for i in good}) < 2:
        raise ValueError(f"{where}: values must hold two different finite numbers at least")
    columns = {name: _scaled([column[i] for i in good]) for name, column in hparams.items()}
    kinds = {name: _distribution(optuna.distributions, c) for name, c in columns.items()}
    kinds = {name: kind for name, kind in kinds.items() if kind is not None}
    if not kinds:
        raise ValueError(f"{where}: hparams must have an axis of different values, got none")
    trials = [
        optuna.trial.create_trial(
            params={name: columns[name][row] for name in kinds},
            distributions=kinds,
            value=float(values[i]),
        )
        for row, i in enumerate(good)
    ]
    said = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # not of a study in memory
    try:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        study.add_trials(trials)
        evaluator = FanovaImportanceEvaluator(seed=seed)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(said)
    return {name: float(share) for name, share in found.items()}


def _scaled(column: Sequence[Any]) -> list[Any]:
    """Returns numbers, the logarithms of those that span a wide range, and all else as words."""
    if any(v is None or v != v or isinstance(v, list) for v in column):
        return []
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in column):
        return [repr(v) for v in column]
    if min(column) > 0 and max(column) / min(column) > WIDE:
        return [math.log(v) for v in column]  # Optuna's forest would split the plain numbers
    return list(column)


def _distribution(kinds: Any, column: Sequence[Any]) -> Any:
    """Returns Optuna's description of an axis, None for one that does not vary or has gaps."""
    if len(set(column)) < 2:
        return None
    if isinstance(column[0], str):
        return kinds.CategoricalDistribution(sorted(set(column)))
    whole = all(isinstance(v, int) for v in column)
    return (kinds.IntDistribution if whole else kinds.FloatDistribution)(min(column), max(column))
