"""Sums of kernels over points: a fold over tiles that stores no tile.

Shapes: m queries, n points, d features, all in units of the bandwidth.  The memory is
O((n + m) d) and one tile, whatever n × m is, forwards and backwards.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float, Int

from jaxnn import linalg
from jaxnn.kde.gaussian import log_gaussian_sum
from jaxnn.kde.kernels import Kernel

# Points a step: their terms are written out one by one, and XLA fuses distances, profile, peak and
# sum into one loop over the queries.  On CPU a reduction over an axis is three times slower with
# two features; 8 and 64 points a step are up to twice slower.
UNROLL = 32


class LogSum(NamedTuple):
    """A sum of exponentials, `total` · exp(`peak`), that cannot overflow or underflow.

    It adds up: the sum over all points is the `merge` of the sums over parts of them, in any
    order, whether the parts are tiles, chunks of a stream or shards on devices.

    Attributes:
        peak: the largest exponent so far, -inf where nothing has been added.
        total: the sum of exp(exponent - peak).
    """

    peak: Float[Array, "*batch"]
    total: Float[Array, "*batch"]

    @staticmethod
    def empty(shape: Sequence[int], dtype: DTypeLike) -> "LogSum":
        """Returns sums of nothing, of the given shape."""
        return LogSum(peak=jnp.full(shape, -jnp.inf, dtype), total=jnp.zeros(shape, dtype))

    def add(self, exponents: Sequence[Array] | Array) -> "LogSum":
        """Returns the sums with exp of every row of `exponents` added; the rows are unrolled."""
        rows = list(exponents)
        peak = functools.reduce(jnp.maximum, rows, self.peak)
        shift = _finite_or_zero(peak)
        part = sum(jnp.exp(row - shift) for row in rows)  # of its own: see `gaussian`
        return LogSum(peak=peak, total=self.total * jnp.exp(self.peak - shift) + part)

    def merge(self, other: "LogSum") -> "LogSum":
        """Returns the sums of the terms of both."""
        peak = jnp.maximum(self.peak, other.peak)
        shift = _finite_or_zero(peak)
        total = self.total * jnp.exp(self.peak - shift) + other.total * jnp.exp(other.peak - shift)
        return LogSum(peak=peak, total=total)

    def value(self) -> Float[Array, "*batch"]:
        """Returns the logs of the sums, -inf where nothing was added; the gradient is finite."""
        some = self.total > 0
        log = _finite_or_zero(self.peak) + jnp.log(jnp.where(some, self.total, 1.0))
        return jnp.where(some | jnp.isnan(self.total), log, -jnp.inf)


def _finite_or_zero(peak: Array) -> Array:
    """Returns `peak` with 0 for -inf, of which the difference with itself would be NaN."""
    return jnp.where(jnp.isneginf(peak), 0.0, peak)


class Points(NamedTuple):
    """What the fold runs over: one kernel a row.

    Attributes:
        at: where the kernels stand, in units of the bandwidth.
        log_weights: logs of their weights; -inf for none.
        inverse_squares: one over the square of each kernel's own factor on the bandwidth (its
            normaliser is part of the weight); None where all factors are one.
        row: the number of the row, which tells a query's own point from the others.
    """

    at: Float[Array, "n d"]
    log_weights: Float[Array, " n"]
    inverse_squares: Float[Array, " n"] | None
    row: Int[Array, " n"]


class Queries(NamedTuple):
    """Where sums are asked for; `own` is the point that a query leaves out, None for no point."""

    at: Float[Array, "m d"]
    own: Int[Array, " m"] | None


def _weights(tile: Points, queries: Queries, fresh: Bool[Array, " k"]) -> Float[Array, "k m"]:
    """Returns the log-weights of a tile for each query, -inf where a term does not count."""
    log_weights = jnp.where(fresh, tile.log_weights, -jnp.inf)[:, None]
    if queries.own is None:
        return log_weights
    return jnp.where(tile.row[:, None] == queries.own[None, :], -jnp.inf, log_weights)


def _exponents(
    kernel: Kernel, queries: Queries, tile: Points, fresh: Bool[Array, " k"]
) -> Float[Array, "k m"]:
    exponents = kernel.exponents(tile.at, queries.at, tile.inverse_squares)
    return _weights(tile, queries, fresh) + exponents


def log_kernel_sum(
    kernel: Kernel,
    queries: Float[Array, "m d"],
    points: Float[Array, "n d"],
    log_weights: Float[Array, " n"],
    inverse_squares: Float[Array, " n"] | None = None,
    own: Int[Array, " m"] | None = None,
) -> Float[Array, " m"]:
    """Returns log Σ_i exp(log_weights_i + exponent of the kernel of point_i) for every query.

    -inf where no kernel reaches; the gradient is zero there.

    Args:
        kernel: an entry of `KERNELS`, in one of its forms.
        queries: where, in units of the bandwidth.
        points: the centres of the kernels, in units of the bandwidth.
        log_weights: of the points.
        inverse_squares: factors on the squared distances from each point, for bandwidths that
            differ from point to point; their normalisers belong into `log_weights`.
        own: for each query the index of a point whose term is left out.
    """
    if kernel.name == "gaussian" and inverse_squares is None and queries.dtype.itemsize >= 4:
        return log_gaussian_sum(queries, points, log_weights, own)
    row = jnp.arange(points.shape[0])
    rows = Points(points, log_weights, inverse_squares, row)
    return _log_kernel_sum(kernel, Queries(queries, own), rows)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log_kernel_sum(kernel: Kernel, queries: Queries, points: Points) -> Float[Array, " m"]:
    f = functools.partial(_of_exponents if kernel.profile is None else _of_values, kernel, points)
    return linalg.map_rows(f, queries, linalg.tile_rows(queries.at.shape[0], UNROLL))


def _of_exponents(kernel: Kernel, points: Points, queries: Queries) -> Float[Array, " q"]:
    step = lambda sums, tile, fresh: sums.add(_exponents(kernel, queries, tile, fresh))
    empty = LogSum.empty(queries.at.shape[:1], queries.at.dtype)
    return linalg.fold_rows(step, empty, points, UNROLL).value()


def _of_values(kernel: Kernel, points: Points, queries: Queries) -> Float[Array, " q"]:
    # A profile with an edge cannot underflow, so the largest weight is peak enough, and no pair
    # costs a logarithm and an exponential.
    peak = jnp.max(points.log_weights)

    def step(total: Float[Array, " q"], tile: Points, fresh: Bool[Array, " k"]) -> Array:
        weights = jnp.exp(_weights(tile, queries, fresh) - _finite_or_zero(peak))
        values = kernel.values(tile.at, queries.at, tile.inverse_squares)
        return total + sum(weight * row for weight, row in zip(weights, values, strict=True))

    total = linalg.fold_rows(step, jnp.zeros_like(queries.at[:, 0]), points, UNROLL)
    return LogSum(peak=jnp.broadcast_to(peak, total.shape), total=total).value()


@_log_kernel_sum.defjvp
def _log_kernel_sum_jvp(
    kernel: Kernel, primals: tuple[Queries, Points], tangents: tuple[Queries, Points]
) -> tuple[Array, Array]:
    # The derivative of a log-sum-exp is the softmax-weighted sum of the derivatives, that is, the
    # derivative of Σ exp(exponent - value) where `value` does not move: a plain sum, whose fold
    # needs no running peak.  `checkpoint` computes its tiles again in reverse mode, where the
    # fold itself would keep all of them.
    value = _log_kernel_sum(kernel, *primals)
    shift = _finite_or_zero(value)

    @jax.checkpoint
    def share(queries: Queries, shift: Array, tile: Points, fresh: Bool[Array, " k"]) -> Array:
        return jnp.sum(jnp.exp(_exponents(kernel, queries, tile, fresh) - shift[None, :]), axis=0)

    def shares(queries: Queries, points: Points) -> Array:
        @jax.checkpoint
        def of_tile(rows: tuple[Queries, Array]) -> Array:
            step = lambda total, tile, fresh: total + share(*rows, tile, fresh)
            return linalg.fold_rows(step, jnp.zeros_like(rows[1]), points, UNROLL)

        return linalg.map_rows(
            of_tile, (queries, shift), linalg.tile_rows(queries.at.shape[0], UNROLL)
        )

    return value, jax.jvp(shares, primals, tangents)[1]
