"""Sums of kernels over points: a fold over tiles that stores no tile.

Shapes: m queries, n points, d features, all in units of the bandwidth.  The memory is
O((n + m) d) and one tile, whatever n × m is, forwards and backwards.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float

from jaxnn import linalg
from jaxnn.kde.kernels import Kernel, Profile

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
        total = self.total * jnp.exp(self.peak - shift)
        for row in rows:
            total = total + jnp.exp(row - shift)
        return LogSum(peak=peak, total=total)

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


def _exponents(
    kernel: Kernel,
    queries: Float[Array, "m d"],
    tile: tuple[Float[Array, "k d"], Float[Array, " k"]],
    fresh: Bool[Array, " k"],
) -> Float[Array, "k m"]:
    points, log_weights = tile
    log_weights = jnp.where(fresh, log_weights, -jnp.inf)
    return log_weights[:, None] + kernel.log_profile(linalg.square_distances(points, queries))


def _query_tile(m: int) -> int:
    """Returns the rows of a tile of queries, with tiles of (nearly) the same size."""
    tiles = -(-m // linalg.tile_rows(m, UNROLL))
    return -(-m // tiles)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def log_kernel_sum(
    kernel: Kernel,
    queries: Float[Array, "m d"],
    points: Float[Array, "n d"],
    log_weights: Float[Array, " n"],
) -> Float[Array, " m"]:
    """Returns log Σ_i exp(log_weights_i + log_profile(|query - point_i|²)) for every query.

    -inf where no kernel reaches; the gradient is zero there.
    """
    if kernel.profile is None:
        f = functools.partial(_of_exponents, kernel, points, log_weights)
    else:
        f = functools.partial(_of_values, kernel.profile, points, log_weights)
    return linalg.map_rows(f, queries, _query_tile(queries.shape[0]))


def _of_exponents(
    kernel: Kernel,
    points: Float[Array, "n d"],
    log_weights: Float[Array, " n"],
    queries: Float[Array, "q d"],
) -> Float[Array, " q"]:
    step = lambda sums, tile, fresh: sums.add(_exponents(kernel, queries, tile, fresh))
    empty = LogSum.empty(queries.shape[:1], queries.dtype)
    return linalg.fold_rows(step, empty, (points, log_weights), UNROLL).value()


def _of_values(
    profile: Profile,
    points: Float[Array, "n d"],
    log_weights: Float[Array, " n"],
    queries: Float[Array, "q d"],
) -> Float[Array, " q"]:
    # A profile with an edge cannot underflow, so the largest weight is peak enough, and no pair
    # costs a logarithm and an exponential.
    peak = jnp.max(log_weights)
    weights = jnp.exp(log_weights - _finite_or_zero(peak))

    def step(
        total: Float[Array, " q"],
        tile: tuple[Float[Array, "k d"], Float[Array, " k"]],
        fresh: Bool[Array, " k"],
    ) -> Float[Array, " q"]:
        rows = profile(linalg.square_distances(tile[0], queries))
        for weight, row in zip(jnp.where(fresh, tile[1], 0.0), rows, strict=True):
            total = total + weight * row
        return total

    total = linalg.fold_rows(step, jnp.zeros_like(queries[:, 0]), (points, weights), UNROLL)
    return LogSum(peak=jnp.broadcast_to(peak, total.shape), total=total).value()


@log_kernel_sum.defjvp
def _log_kernel_sum_jvp(
    kernel: Kernel, primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    # The derivative of a log-sum-exp is the softmax-weighted sum of the derivatives, that is, the
    # derivative of Σ exp(exponent - value) where `value` does not move: a plain sum, whose fold
    # needs no running peak.  `checkpoint` computes its tiles again in reverse mode, where the
    # fold itself would keep all of them.
    value = log_kernel_sum(kernel, *primals)
    shift = _finite_or_zero(value)

    @jax.checkpoint
    def share(
        queries: Array, shift: Array, tile: tuple[Array, Array], fresh: Bool[Array, " k"]
    ) -> Array:
        return jnp.sum(jnp.exp(_exponents(kernel, queries, tile, fresh) - shift[None, :]), axis=0)

    def shares(queries: Array, points: Array, log_weights: Array) -> Array:
        @jax.checkpoint
        def of_tile(rows: tuple[Array, Array]) -> Array:
            step = lambda total, tile, fresh: total + share(*rows, tile, fresh)
            empty = jnp.zeros_like(rows[1])
            return linalg.fold_rows(step, empty, (points, log_weights), UNROLL)

        return linalg.map_rows(of_tile, (queries, shift), _query_tile(queries.shape[0]))

    return value, jax.jvp(shares, primals, tangents)[1]
