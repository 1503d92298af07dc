"""How good a result is: accuracy, errors, probabilities, agreement, a mean with its interval.

Shapes: n rows, c classes, b bins.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.scipy.stats import norm
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxnn import checks
from jaxnn.types import Weights

__all__ = [
    "Interval",
    "Reliability",
    "accuracy",
    "adjusted_rand",
    "brier",
    "calibration_error",
    "confusion",
    "log_loss",
    "mean_interval",
    "reliability",
    "rmse",
]


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

    mean: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]


def _pair(where: str, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Returns both as arrays of the same shape (n,), n at least 1."""
    first, second = jnp.asarray(a), jnp.asarray(b)
    checks.shape(where, "predicted", first, (None,))
    checks.shape(where, "target", second, first.shape)
    if first.size == 0:
        raise ValueError(f"{where}: predicted must not be empty")
    return first, second


def accuracy(predicted: Int[ArrayLike, " n"], target: Int[ArrayLike, " n"]) -> Float[Array, ""]:
    """Returns the share of labels that agree.  Raises ValueError unless both have shape (n,)."""
    first, second = _pair("metrics.accuracy", predicted, target)
    return jnp.mean(first == second)


def rmse(predicted: Float[ArrayLike, " n"], target: Float[ArrayLike, " n"]) -> Float[Array, ""]:
    """Returns the root mean squared error, in the units of the target."""
    first, second = _pair("metrics.rmse", predicted, target)
    return jnp.sqrt(jnp.mean(jnp.square(first - second)))


def confusion(
    predicted: Int[ArrayLike, " n"], target: Int[ArrayLike, " n"], n_classes: int
) -> Int[Array, "c c"]:
    """Returns how often each target (row) was predicted as each class (column).

    Raises TypeError or ValueError for labels that are no whole numbers in [0, n_classes).
    """
    where = "metrics.confusion"
    n_classes = checks.count(where, "n_classes", n_classes)
    first, second = _pair(where, predicted, target)
    first = checks.labels(where, "predicted", first, first.size, n_classes)
    second = checks.labels(where, "target", second, first.size, n_classes)
    return jnp.zeros((n_classes, n_classes), jnp.int32).at[second, first].add(1)


def adjusted_rand(
    predicted: Int[ArrayLike, " n"], target: Int[ArrayLike, " n"], n_classes: int
) -> Float[Array, ""]:
    """Returns the adjusted Rand index of two clusterings (Hubert and Arabie, 1985, eq. 5).

    1 for the same partition under any names, 0 on average for random ones. `n_classes` bounds the
    labels of both. Two partitions into a single cluster agree: 1.
    """
    table = confusion(predicted, target, n_classes).astype(jnp.zeros(()).dtype)
    pairs = lambda counts: jnp.sum(counts * (counts - 1) / 2)
    both, rows, columns = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    expected = rows * columns / pairs(table.sum()[None])
    most = (rows + columns) / 2
    return jnp.where(most == expected, 1.0, (both - expected) / (most - expected))


def _forecasts(
    where: str, probabilities: Any, target: Any, sample_weight: Any
) -> tuple[Array, Array, Array]:
    """Returns probabilities (n, c), labels (n,) and each row's share in the mean, checked."""
    p = checks.data(where, "probabilities", probabilities)
    n, c = p.shape
    low = 1e-3 if p.dtype.itemsize > 2 else 1e-2
    if checks.concrete(p) and not checks.holds(
        lambda: (jnp.abs(jnp.sum(p, axis=1) - 1) < low) & jnp.all(p >= 0, axis=1)
    ):
        raise ValueError(
            f"{where}: every row of probabilities must be a distribution over classes, not "
            "negative and with a sum of one; of one column p, give both, 1 - p and p"
        )
    y = checks.labels(where, "target", target, n, c)
    if sample_weight is None:
        return p, y, jnp.full(n, 1 / n, p.dtype)
    weight = checks.weights(where, "sample_weight", sample_weight, n).astype(p.dtype)
    return p, y, weight / jnp.sum(weight)


def log_loss(
    probabilities: Float[ArrayLike, "n c"],
    target: Int[ArrayLike, " n"],
    *,
    sample_weight: Weights | None = None,
) -> Float[Array, ""]:
    """Returns -log p of the classes that came true, averaged over rows (nats).

    Probabilities below the precision of their dtype count as that, so the result is finite.
    Raises TypeError or ValueError for rows that are no distributions, labels that are no classes,
    lengths that differ, or bad weights.

    >>> round(float(log_loss(jnp.array([[0.25, 0.75]]), jnp.array([1]))), 4)
    0.2877
    """
    p, y, share = _forecasts("metrics.log_loss", probabilities, target, sample_weight)
    came_true = jnp.take_along_axis(p, y[:, None], axis=1, mode="fill", fill_value=jnp.nan)[:, 0]
    return -jnp.sum(share * jnp.log(jnp.maximum(came_true, jnp.finfo(p.dtype).eps)))


def brier(
    probabilities: Float[ArrayLike, "n c"],
    target: Int[ArrayLike, " n"],
    *,
    sample_weight: Weights | None = None,
) -> Float[Array, ""]:
    """Returns Σ_c (p_c - y_c)² averaged over rows (Brier, 1950): from 0 to 2.

    Errors are those of `log_loss`.
    """
    p, y, share = _forecasts("metrics.brier", probabilities, target, sample_weight)
    hot = (y[:, None] == jnp.arange(p.shape[1])[None, :]).astype(p.dtype)
    return jnp.sum(share * jnp.sum(jnp.square(p - hot), axis=1))


class Reliability(NamedTuple):
    """What was said and what came true, in bins of the probability of the predicted class.

    Attributes:
        edges: of the bins, from 0 to 1.
        confidence: mean probability of the predicted class; NaN in an empty bin.
        accuracy: share of predictions that came true; NaN in an empty bin.
        share: of the rows, by weight.
    """

    edges: Float[Array, " b+1"]
    confidence: Float[Array, " b"]
    accuracy: Float[Array, " b"]
    share: Float[Array, " b"]


def _binned(p: Array, y: Array, share: Array, bins: int) -> tuple[Array, Array, Array]:
    """Returns for each bin the sums of shares, of confidences and of hits."""
    confidence = jnp.max(p, axis=1)
    hit = (jnp.argmax(p, axis=1) == y).astype(p.dtype)
    place = jnp.clip(jnp.ceil(confidence * bins) - 1, 0, bins - 1).astype(jnp.int32)
    sums = jnp.stack([share, share * confidence, share * hit])
    return tuple(jnp.zeros((3, bins), p.dtype).at[:, place].add(sums))


def reliability(
    probabilities: Float[ArrayLike, "n c"],
    target: Int[ArrayLike, " n"],
    *,
    bins: int = 15,
    sample_weight: Weights | None = None,
) -> Reliability:
    """Returns a reliability diagram: equal bins of confidence, open below and closed above.

    `bins` is static; errors are those of `log_loss`.  Guo et al. (2017, section 2).
    """
    where = "metrics.reliability"
    bins = checks.count(where, "bins", bins)
    p, y, share = _forecasts(where, probabilities, target, sample_weight)
    mass, confidence, hits = _binned(p, y, share, bins)
    there = jnp.where(mass > 0, mass, jnp.nan)
    edges = jnp.linspace(0, 1, bins + 1, dtype=p.dtype)
    return Reliability(edges, confidence / there, hits / there, mass)


def calibration_error(
    probabilities: Float[ArrayLike, "n c"],
    target: Int[ArrayLike, " n"],
    *,
    bins: int = 15,
    sample_weight: Weights | None = None,
) -> Float[Array, ""]:
    """Returns the expected calibration error, Σ_b share_b |accuracy_b - confidence_b|.

    Guo et al. (2017, eq. 3); arguments and errors are those of `reliability`.
    """
    where = "metrics.calibration_error"
    bins = checks.count(where, "bins", bins)
    p, y, share = _forecasts(where, probabilities, target, sample_weight)
    _, confidence, hits = _binned(p, y, share, bins)
    return jnp.sum(jnp.abs(hits - confidence))


def mean_interval(values: Float[ArrayLike, " n"], level: float = 0.95) -> Interval:
    """Returns the mean and its normal confidence interval, mean ± z·s/√n.

    Raises ValueError for fewer than two values or a level outside (0, 1).
    """
    where = "metrics.mean_interval"
    array = checks.floating(where, "values", values)
    checks.shape(where, "values", array, (None,))
    if array.size < 2:
        raise ValueError(f"{where}: values must hold at least 2 numbers, got {array.size}")
    checks.finite(where, "values", array)
    if not 0 < level < 1:
        raise ValueError(f"{where}: level must be in (0, 1), got {level}")
    mean = jnp.mean(array)
    z = norm.ppf((1 + level) / 2).astype(array.dtype)
    half = z * jnp.std(array, ddof=1) / jnp.sqrt(array.size)
    return Interval(mean=mean, low=mean - half, high=mean + half)
