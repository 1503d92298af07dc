"""How good a result is: accuracy, errors, agreement of clusterings, a mean with its interval."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.stats import norm
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxnn import checks

__all__ = ["Interval", "accuracy", "adjusted_rand", "confusion", "mean_interval", "rmse"]


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
