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
    kinds = {
        name: _distribution(optuna.distributions, [column[i] for i in good])
        for name, column in hparams.items()
    }
    kinds = {name: kind for name, kind in kinds.items() if kind is not None}
    if not kinds:
        raise ValueError(f"{where}: hparams must have an axis of different values, got none")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={name: _plain(hparams[name][i], kind) for name, kind in kinds.items()},
                distributions=kinds,
                value=float(values[i]),
            )
            for i in good
        ]
    )
    evaluator = FanovaImportanceEvaluator(seed=seed)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _plain(value: Any, kind: Any) -> Any:
    return repr(value) if hasattr(kind, "choices") else value


def _distribution(kinds: Any, column: Sequence[Any]) -> Any:
    """Returns Optuna's description of an axis, None for one that does not vary or has gaps."""
    if any(v is None or v != v or isinstance(v, list) for v in column):
        return None
    if len(set(map(repr, column))) < 2:
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in column):
        return kinds.CategoricalDistribution(sorted(set(map(repr, column))))
    low, high = min(column), max(column)
    log = low > 0 and high / low > WIDE
    whole = all(isinstance(v, int) for v in column)
    return (kinds.IntDistribution if whole else kinds.FloatDistribution)(low, high, log=log)
