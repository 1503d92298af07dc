"""Bandwidths by cross-validation: many candidates, judged in one pass over all distances."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks, memory
from jaxnn.kde import scaling
from jaxnn.kde.held_out import held_out_log_prob, mean_over
from jaxnn.kde.kernels import KERNELS, Kernel, in_form
from jaxnn.kde.selection import Selection, told
from jaxnn.kde.spread import Spread, spread
from jaxnn.types import Data, Scalar, Weights

CANDIDATES, LEAST, MOST = 60, 0.05, 2.0  # of the rules, in Silverman's bandwidths


class CrossValidation(NamedTuple):
    """How well each candidate predicts held-out rows.

    Attributes:
        bandwidth: the candidate of the highest score; the first of several.
        scores: mean log density of the held-out rows, nats, for each candidate (b,).
        found: whether any score is above -inf.
    """

    bandwidth: Float[Array, ""]
    scores: Float[Array, " b"]
    found: Bool[Array, ""]


@memory.budgeted
def cross_validate(
    x: Data,
    bandwidths: Float[ArrayLike, " b"],
    *,
    folds: int | None = None,
    kernel: str | Kernel = "gaussian",
    form: str = "radial",
    unit: Scalar | Float[ArrayLike, " d"] | Float[ArrayLike, "d d"] = 1.0,
    sample_weight: Weights | None = None,
    memory_budget: memory.Budget = None,
) -> CrossValidation:
    """Scores bandwidths by the log density of rows that the density has not seen.

    All candidates share one computation of the distances.  Compact kernels score -inf wherever a
    held-out row is out of reach of all others.

    Args:
        x: data, (n, d), n at least 2.
        bandwidths: candidates, (b,), positive multiples of `unit`.
        folds: how many blocks of consecutive rows to leave out in turn, static, as scikit-learn's
            `KFold` without shuffling; None leaves out one row at a time.
        kernel: as for `fit`.
        form: as for `fit`.
        unit: a bandwidth in any form: 1.0, for candidates in data units, or one for each feature
            or a matrix, as `scott` gives.
        sample_weight: weights of the rows, (n,), for the densities and the mean of the scores.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Returns:
        `CrossValidation`; its `bandwidth` is a multiple of `unit`.

    Raises:
        ValueError: for bad shapes or values, unknown names, one row, or no candidate.
        TypeError: for arguments that do not hold floating-point numbers.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[0.0], [1.0], [2.0], [3.0]])
    >>> round(float(cross_validate(x, jnp.array([0.01, 1.0, 100.0])).bandwidth), 3)
    1.0
    """
    where = "kde.cross_validate"
    x, weights = _rows(where, x, sample_weight)
    shape = in_form(where, kernel, form)
    n, d = x.shape
    folds = n if folds is None else checks.count(where, "folds", folds, least=2, most=n)
    scales = checks.floating(where, "bandwidths", bandwidths).astype(x.dtype)
    checks.shape(where, "bandwidths", scales, (None,))
    _candidates(where, scales)
    width = scaling.given(where, "unit", unit, d).astype(x.dtype)
    return _cross_validate(x, weights, scales, width, shape, folds)


@memory.budgeted
def leave_one_out(
    x: Data,
    bandwidths: Float[ArrayLike, " b"] | Float[ArrayLike, "b d"],
    *,
    kernel: str | Kernel = "gaussian",
    form: str = "radial",
    sample_weight: Weights | None = None,
    memory_budget: memory.Budget = None,
) -> Float[Array, " b"]:
    """Returns the mean log density of the rows of `x`, each under the kernels of all the others.

    For candidate h it is Σ_i w_i log( Σ_{j≠i} w_j K_h(x_i - x_j) / (1 - w_i) ) with the weights
    scaled to sum to one (Duin 1976): what one maximises over h.  The self term is masked, not
    subtracted.  All candidates of one number each share the distances of a Gaussian kernel: they
    are the scores of `cross_validate`, which has one unit for all candidates.

    A row that occurs twice is its own neighbour, so that with *only* such rows the likelihood
    grows without bound as h goes to zero; with a few of them it may have a second, useless maximum
    there.  Count such rows once, with a weight.  A row that no other kernel of compact support
    reaches makes the mean -inf.

    Args:
        x: data, (n, d), with n at least 2.
        bandwidths: candidates in data units, positive: one number each (b,), or one for each
            feature (b, d).
        kernel: as for `fit`.
        form: as for `fit`.
        sample_weight: weights of the rows, (n,), not negative; None for equal ones.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Returns:
        The mean log density for each candidate, (b,), in nats and the dtype of `x`.

    Raises:
        ValueError: for fewer than 2 rows of positive weight, bad shapes or values, unknown names.
        TypeError: for arguments that do not hold floating-point numbers.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[0.0], [1.0], [2.0]])
    >>> [round(float(v), 3) for v in leave_one_out(x, jnp.array([0.5, 1.0, 2.0]))]
    [-2.686, -1.747, -1.85]
    """
    where = "kde.leave_one_out"
    x, weights = _rows(where, x, sample_weight)
    shape = in_form(where, kernel, form)
    d = x.shape[1]
    widths = checks.floating(where, "bandwidths", bandwidths).astype(x.dtype)
    checks.shape(where, "bandwidths", widths, (None,) if widths.ndim == 1 else (None, d))
    _candidates(where, widths)
    return _leave_one_out(x, weights, widths, shape)


def _rows(where: str, x: Data, sample_weight: Weights | None) -> tuple[Array, Float[Array, " n"]]:
    """Returns rows and their weights, which add up to one, of which one can be left out."""
    x = checks.data(where, "x", x)
    checks.precise(where, "x", x)
    n = x.shape[0]
    if n < 2:
        raise ValueError(f"{where}: x must have at least 2 rows, to leave one out, got {n}")
    if sample_weight is None:
        return x, jnp.full(n, 1 / n, x.dtype)
    weights = checks.weights(where, "sample_weight", sample_weight, n)
    if checks.concrete(weights) and not checks.holds(lambda: jnp.sum(weights > 0) > 1):
        raise ValueError(f"{where}: sample_weight must be positive for at least 2 rows, got 1")
    weights = (weights / lax.stop_gradient(jnp.max(weights))).astype(x.dtype)
    return x, weights / jnp.sum(weights)


def _candidates(where: str, bandwidths: Array) -> None:
    if bandwidths.size == 0:
        raise ValueError(f"{where}: bandwidths must not be empty, got shape {bandwidths.shape}")
    checks.positive(where, "bandwidths", bandwidths)


@functools.partial(jax.jit, static_argnames="folds")
def _cross_validate(
    x: Float[Array, "n d"],
    weights: Float[Array, " n"],
    scales: Float[Array, " b"],
    unit: scaling.Bandwidth,
    kernel: Kernel,
    folds: int,
) -> CrossValidation:
    n, d = x.shape
    groups = None if folds == n else blocks(n, folds)
    points = scaling.whiten(unit, x - lax.stop_gradient(jnp.mean(x, axis=0))[None, :])
    log_prob = held_out_log_prob(kernel, points, weights, scales, groups)
    scores = mean_over(weights, log_prob) - scaling.log_det(unit, d)
    return CrossValidation(scales[jnp.argmax(scores)], scores, jnp.max(scores) > -jnp.inf)


@jax.jit
def _leave_one_out(
    x: Float[Array, "n d"], weights: Float[Array, " n"], widths: Array, kernel: Kernel
) -> Float[Array, " b"]:
    scores = lambda scales, unit: _cross_validate(x, weights, scales, unit, kernel, x.shape[0])[1]
    if widths.ndim == 1:
        # In units of a middle bandwidth, so that no square overflows.
        middle = lax.stop_gradient(jnp.exp(jnp.mean(jnp.log(widths))))
        return scores(widths / middle, middle)
    return lax.map(lambda h: scores(jnp.ones_like(h[:1]), h)[0], widths)


def blocks(n: int, folds: int) -> Int[Array, " n"]:
    """Returns the block of each of n rows, the first n % folds of them one row longer."""
    short, longer = divmod(n, folds)
    row, edge = jnp.arange(n), longer * (short + 1)
    return jnp.where(row < edge, row // (short + 1), longer + (row - edge) // short)


def likelihood(x: Data, sample_weight: Weights | None = None) -> Selection:
    """Returns the multiple of Silverman's bandwidths of the best leave-one-out log-likelihood.

    The largest local maximum among 60 multiples from 0.05 to 2, refined by a parabola (Habbema,
    Hermans and van den Broek, 1974; Duin, 1976).  Repeated rows predict one another ever better as
    the bandwidth shrinks; if that leaves no local maximum, the bandwidth is Silverman's: `found`
    says so, and outside of a trace a warning does.  For a Gaussian kernel; a constant to
    differentiation.  `maximise_leave_one_out` has a bandwidth of its own for each feature.

    Args:
        x: data, (n, d), with n at least 2.
        sample_weight: weights of the rows, (n,); importances, as in `scott`.

    Returns:
        `Selection` with bandwidths (d,) in the units and the dtype of `x`.

    Raises:
        ValueError: for a feature that does not vary, or bad shapes or values.
        TypeError: unless `x` and `sample_weight` hold floating-point numbers.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (200, 1))
    >>> 0.2 < float(likelihood(x).bandwidth[0]) < 0.6
    True
    """
    return _searched("kde.likelihood", x, sample_weight, _minus_log_likelihood)


def least_squares(x: Data, sample_weight: Weights | None = None) -> Selection:
    """Returns the multiple of Silverman's bandwidths of the least cross-validated squared error.

    ∫ f̂² - 2 Σ_i w_i f̂₋ᵢ(x_i), an unbiased estimate of the integrated squared error but for a
    constant (Rudemo, 1982; Bowman, 1984).  Its largest local minimum, found as the maximum of
    `likelihood` is; with the same arguments, fallback and exceptions.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (200, 1))
    >>> 0.1 < float(least_squares(x).bandwidth[0]) < 0.6
    True
    """
    return _searched("kde.least_squares", x, sample_weight, _squared_error)


def _searched(
    where: str, x: Data, sample_weight: Weights | None, cost: Callable[..., Float[Array, " b"]]
) -> Selection:
    found = lax.stop_gradient(spread(where, x, sample_weight))
    return told(
        where,
        _search(found, cost),
        "no local optimum between 0.05 and 2 of Silverman's bandwidths (do rows repeat?); "
        "fell back to kde.silverman",
    )


@functools.partial(jax.jit, static_argnames="cost")
def _search(found: Spread, cost: Callable[..., Float[Array, " b"]]) -> Selection:
    d = found.z.shape[1]
    reference = found.sigma * (found.size * (d + 2) / 4) ** (-1 / (d + 4))
    logs = jnp.linspace(jnp.log(LEAST), jnp.log(MOST), CANDIDATES).astype(found.z.dtype)
    costs = cost(found.z / reference[None, :], found.weights, jnp.exp(logs))
    least = (costs[1:-1] <= costs[:-2]) & (costs[1:-1] < costs[2:])
    i = CANDIDATES - 2 - jnp.argmax(least[::-1])  # the largest
    left, right = costs[i - 1] - costs[i], costs[i + 1] - costs[i]
    shift = 0.5 * (left - right) / jnp.where(left + right > 0, left + right, 1.0)
    factor = jnp.exp(logs[i] + shift * (logs[1] - logs[0]))
    good = jnp.any(least)
    return Selection(found.span * reference * jnp.where(good, factor, 1.0), good)


def _minus_log_likelihood(
    points: Float[Array, "n d"], weights: Float[Array, " n"], scales: Float[Array, " b"]
) -> Float[Array, " b"]:
    log_prob = held_out_log_prob(KERNELS["gaussian"], points, weights, scales)
    return -mean_over(weights, log_prob)


def _squared_error(
    points: Float[Array, "n d"], weights: Float[Array, " n"], scales: Float[Array, " b"]
) -> Float[Array, " b"]:
    d = points.shape[1]
    gaussian = KERNELS["gaussian"]
    # The convolution of a Gaussian with itself is one of √2 its bandwidth.
    wide = 2**0.5 * scales
    both = jnp.concatenate([scales, wide])
    log_prob = held_out_log_prob(gaussian, points, weights, both)
    others, products = jnp.exp(log_prob[: scales.size]), jnp.exp(log_prob[scales.size :])
    peak = jnp.exp(-gaussian.log_norm(d)) * wide**-d
    square = mean_over(
        weights, (1 - weights)[None, :] * products + weights[None, :] * peak[:, None]
    )
    return square - 2 * mean_over(weights, others)
