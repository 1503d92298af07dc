"""Sums of kernels over all points but those of a query's own group, for many bandwidths at once.

With contiguous groups this is k-fold cross-validation; `leave_one_out` has faster sums for groups
of one point.  Own points are masked, never subtracted, and every squared distance is computed
once for all bandwidths.  Shapes: n points, d features, b bandwidths.  The memory is O(n (b + d))
and one tile, forwards and backwards.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnn import linalg
from jaxnn.kde.kernels import Kernel
from jaxnn.kde.leave_one_out import leave_one_out_sum
from jaxnn.kde.logsum import LogSum

UNROLL = 16  # points a step, as in `logsum`; each has a term for every bandwidth


def _exponents(
    kernel: Kernel,
    queries: tuple[Float[Array, "q d"], Int[Array, " q"]],
    tile: tuple[Float[Array, "k d"], Float[Array, " k"], Int[Array, " k"]],
    scales: Float[Array, " b"],
    fresh: Bool[Array, " k"],
) -> Float[Array, "k b q"]:
    points, log_weights, groups = tile
    squares = kernel.squares(points, queries[0])
    of = lambda scale: kernel.exponents_of(squares * scale**-2, points.shape[1])
    exponents = jax.vmap(of, out_axes=1)(scales)
    others = fresh[:, None] & (groups[:, None] != queries[1][None, :])
    return jnp.where(others[:, None, :], exponents + log_weights[:, None, None], -jnp.inf)


def _query_tile(n: int, b: int) -> int:
    return linalg.tile_rows(n, UNROLL * b)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def held_out_sum(
    kernel: Kernel,
    points: Float[Array, "n d"],
    log_weights: Float[Array, " n"],
    scales: Float[Array, " b"],
    groups: Int[Array, " n"],
) -> Float[Array, "b n"]:
    """Returns log Σ_j exp(log_weights_j + exponent((x_i - x_j) / scale)) over j of other groups.

    `points` are in units of a bandwidth of which `scales` are multiples.  -inf where no kernel
    reaches; the gradient is zero there.
    """

    def of(queries: tuple[Array, Array]) -> Float[Array, "q b"]:
        step = lambda sums, tile, fresh: sums.add(_exponents(kernel, queries, tile, scales, fresh))
        empty = LogSum.empty((scales.shape[0], queries[1].shape[0]), points.dtype)
        rows = (points, log_weights, groups)
        return linalg.fold_rows(step, empty, rows, UNROLL).value().T

    tile = _query_tile(points.shape[0], scales.shape[0])
    return linalg.map_rows(of, (points, groups), tile).T


@held_out_sum.defjvp
def _held_out_sum_jvp(kernel: Kernel, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # As for `log_kernel_sum`: the derivative of Σ exp(exponent - value) with `value` held.
    *moving, groups = primals
    value = held_out_sum(kernel, *primals)
    shift = jnp.where(jnp.isneginf(value), 0.0, value)

    def shares(points: Array, log_weights: Array, scales: Array) -> Array:
        @jax.checkpoint
        def share(queries: tuple[Array, Array, Array], tile: tuple, fresh: Array) -> Array:
            exponents = _exponents(kernel, queries[:2], tile, scales, fresh)
            return jnp.sum(jnp.exp(exponents - queries[2].T[None]), axis=0)

        @jax.checkpoint
        def of(queries: tuple[Array, Array, Array]) -> Array:
            step = lambda total, tile, fresh: total + share(queries, tile, fresh)
            rows = (points, log_weights, groups)
            return linalg.fold_rows(step, jnp.zeros_like(queries[2].T), rows, UNROLL).T

        tile = _query_tile(points.shape[0], scales.shape[0])
        return linalg.map_rows(of, (points, groups, shift.T), tile).T

    return value, jax.jvp(shares, tuple(moving), tuple(tangents[:3]))[1]


def held_out_log_prob(
    kernel: Kernel,
    points: Float[Array, "n d"],
    weights: Float[Array, " n"],
    scales: Float[Array, " b"],
    groups: Int[Array, " n"] | None = None,
) -> Float[Array, "b n"]:
    """Returns the log density at each point of the kernel density of the other groups.

    Without `groups` each point is one, by the faster sums of `leave_one_out`.
    `weights` add up to one, and those of the other groups are divided by their sum.  Densities are
    per volume in the units of `points`.
    """
    n, d = points.shape
    some = weights > 0
    log_weights = jnp.where(some, jnp.log(jnp.where(some, weights, 1.0)), -jnp.inf)
    own = weights if groups is None else jax.ops.segment_sum(weights, groups, n)[groups]
    rest = jnp.maximum(1 - own, jnp.finfo(weights.dtype).eps)
    if groups is None:
        sums = leave_one_out_sum(points, log_weights, kernel, scales)
    else:
        sums = held_out_sum(kernel, points, log_weights, scales, groups)
    return sums - (kernel.log_norm(d) + jnp.log(rest))[None, :] - d * jnp.log(scales)[:, None]


def mean_over(weights: Float[Array, " n"], values: Float[Array, "b n"]) -> Float[Array, " b"]:
    """Returns Σ weights values, where a weight of zero counts nothing, times whatever it is."""
    some = (weights > 0)[None, :]
    return jnp.sum(jnp.where(some, weights[None, :] * jnp.where(some, values, 0.0), 0.0), axis=1)
