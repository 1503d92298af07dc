"""Sums of Gaussian kernels times polynomials of the difference: slopes and curvatures of a density.

Shapes: m queries, n points, d features, all in units of the bandwidth and centred.  Every sum runs
through the same fold as the density itself, so that the memory is O((n + m) d) and one tile.
The carries are plain sums, which reverse mode need not keep: derivatives take no more.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnn import linalg
from jaxnn.kde.exp2 import LOG2_E, exp2

# Points a step up to so many features, written out one by one: see `logsum.UNROLL`.
UNROLL = 32
BY_DIFFERENCES = 8
# Beyond, a tile of points whose sums are matrix products.
PRODUCT = 512
# Half squares from which no power is left; without it infinity would meet zero.
REACH = 2000.0


class Block(NamedTuple):
    """Some points of the fold; their exponents are to base 2, and at most 0."""

    at: Float[Array, "k d"]
    exponents: Float[Array, " k"]
    inverse_squares: Float[Array, " k"]


def _powers(exponents: Array) -> Array:
    """Returns 2^exponents, and zero, not the smallest number, where they are out of range."""
    return jnp.where(exponents > jnp.finfo(exponents.dtype).minexp, exp2(exponents), 0.0)


def _fold(
    sums_of: Callable[[Block, Float[Array, "q d"]], tuple[Array, ...]],
    queries: Float[Array, "m d"],
    points: Float[Array, "n d"],
    log_weights: Float[Array, " n"],
    inverse_squares: Float[Array, " n"] | None,
) -> tuple[tuple[Array, ...], Float[Array, ""]]:
    """Returns the sums over all points, relative to the largest weight, and its logarithm."""
    top = jax.lax.stop_gradient(jnp.max(log_weights))
    if inverse_squares is None:
        inverse_squares = jnp.ones_like(log_weights)
    rows = Block(points, (log_weights - top) * LOG2_E, inverse_squares)

    @jax.checkpoint
    def share(block: Block, fresh: Bool[Array, " k"], y: Float[Array, "q d"]) -> tuple:
        counted = jnp.where(fresh, block.exponents, -jnp.inf)
        return sums_of(block._replace(exponents=counted), y)

    def of_tile(y: Float[Array, "q d"]) -> tuple:
        step = lambda sums, block, fresh: jax.tree.map(jnp.add, sums, share(block, fresh, y))
        empty = jax.eval_shape(sums_of, jax.tree.map(lambda a: a[:1], rows), y)
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), empty)
        size = UNROLL if y.shape[1] <= BY_DIFFERENCES else PRODUCT
        return linalg.fold_rows(step, zeros, rows, size)

    return linalg.map_rows(of_tile, queries, linalg.tile_rows(queries.shape[0], UNROLL)), top


def slope_sums(
    queries: Float[Array, "m d"], points: Float[Array, "n d"], log_weights: Float[Array, " n"]
) -> tuple[Float[Array, " m"], Float[Array, "m d"]]:
    """Returns Σ_i p_i and Σ_i p_i (x_i - y) with p_i = w_i exp(-|x_i - y|²/2) over the largest w.

    Their ratio is the mean shift, that is, the gradient of the log density of the points at y.
    """
    sums, _ = _fold(_slopes, queries, points, log_weights, None)
    return sums[0], jnp.stack(sums[1:], axis=1)


def _slopes(block: Block, y: Float[Array, "q d"]) -> tuple[Array, ...]:
    d = y.shape[1]
    if d > BY_DIFFERENCES:
        squares = linalg.square_distances(y, block.at)
        powers = _powers(block.exponents[None, :] - squares * (LOG2_E / 2))
        total = jnp.sum(powers, axis=1)
        return total, *(powers @ block.at - total[:, None] * y).T
    sums = [jnp.zeros_like(y[:, 0]) for _ in range(d + 1)]
    for at, exponent in zip(block.at, block.exponents, strict=True):
        gaps = [at[j] - y[:, j] for j in range(d)]
        square = functools.reduce(jnp.add, [gap * gap for gap in gaps])
        power = _powers(exponent - square * (LOG2_E / 2))
        sums = [s + power * f for s, f in zip(sums, (1.0, *gaps), strict=True)]
    return tuple(sums)


def curved_sum(
    queries: Float[Array, "m d"],
    points: Float[Array, "n d"],
    log_weights: Float[Array, " n"],
    inverse_squares: Float[Array, " n"] | None = None,
) -> tuple[Float[Array, " m"], Float[Array, ""]]:
    """Returns Σ_i p_i (1 + (d - r_i²)/2), r_i = |x_i - y|/λ_i, and the log-weight it is times.

    That is K - ΔK/2 of the Gaussian: one factor for its Laplacian ΔK = (r² - d) K.
    """
    sums, top = _fold(_curved, queries, points, log_weights, inverse_squares)
    return sums[0], top


def _curved(block: Block, y: Float[Array, "q d"]) -> tuple[Array, ...]:
    d = y.shape[1]
    if d > BY_DIFFERENCES:
        halves = linalg.square_distances(y, block.at) * (block.inverse_squares / 2)[None, :]
        powers = _powers(block.exponents[None, :] - halves * LOG2_E)
        return (jnp.sum(powers * (1 + d / 2 - jnp.minimum(halves, REACH)), axis=1),)
    total = jnp.zeros_like(y[:, 0])
    for at, exponent, inverse in zip(*block, strict=True):
        square = functools.reduce(jnp.add, [jnp.square(at[j] - y[:, j]) for j in range(d)])
        half = square * (inverse / 2)
        power = _powers(exponent - half * LOG2_E)
        total = total + power * (1 + d / 2 - jnp.minimum(half, REACH))
    return (total,)
