"""Exact sums of Gaussian kernels, in base 2 and without a running peak.

With points and queries multiplied by sqrt(log2(e)/2), a sum of Gaussian kernels is
Σ_i 2^(a_i - |y - x_i|²).  One constant shift of the exponents serves all queries within a hundred
nats (float32; eight hundred in float64) of the nearest kernel, so that the inner loop has neither
peak nor logarithm.  A tile with a query beyond that is summed again about each query's exact peak.

Shapes: m queries, n points, d features.  The memory is O((n + m) d) and one tile.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxnn import linalg
from jaxnn.kde.exp2 import LN_2, LOG2_E, exp2

# Points a step, written out one by one: see `logsum.UNROLL`.
UNROLL = 32
# From this many features on squared distances come from a matrix product ...
PRODUCT_FROM = 7
# ... for rows of at most this square length: its error is eps times that, in powers of two.
PRODUCT_REACH = 2.0**12
# Points in a tile of the softmax, of which derivatives are products: after differences, and after a
# matrix product.
SOFTMAX, SOFTMAX_PRODUCT = 512, 128


class Centres(NamedTuple):
    """Points of the fold; `row` numbers them."""

    at: Float[Array, "n d"]
    log_weights: Float[Array, " n"]  # to base 2
    row: Int[Array, " n"]


class Tile(NamedTuple):
    """Queries of one tile; `own` is the row each leaves out, or None."""

    at: Float[Array, "q d"]
    own: Int[Array, " q"] | None


@jax.custom_jvp
def log_gaussian_sum(
    queries: Float[Array, "m d"],
    points: Float[Array, "n d"],
    log_weights: Float[Array, " n"],
    own: Int[Array, " m"] | None = None,
) -> Float[Array, " m"]:
    """Returns log Σ_i exp(log_weights_i - |query - point_i|²/2) for every query.

    Finite however far a query is; -inf only where no point has any weight.  `own` names for each
    query a point that is left out.  Rows should be centred: see `PRODUCT_REACH`.
    """
    unit = (LOG2_E / 2) ** 0.5
    centres = Centres(points * unit, log_weights * LOG2_E, jnp.arange(points.shape[0]))
    size = linalg.tile_rows(queries.shape[0], UNROLL // 2)
    sums = linalg.map_rows(lambda t: _log2_sums(t, centres), Tile(queries * unit, own), size)
    return LN_2 * sums


def _log2_sums(tile: Tile, centres: Centres) -> Float[Array, " q"]:
    queries, dtype = tile.at.T, tile.at.dtype
    info = jnp.finfo(dtype)
    top = jnp.max(centres.log_weights)
    # Sums of up to 2^31 terms of at most 2^headroom cannot overflow.
    headroom = info.maxexp - 32
    shift = jnp.where(jnp.isneginf(top), 0.0, top) - headroom
    n, d = centres.at.shape
    # `exp2` has a floor: a sum must stand 1/eps above n times that.
    low = float(info.tiny) / float(info.eps) * n

    if d >= PRODUCT_FROM:
        # A query or a point far out, and the product has lost the distances of them all.
        square_lengths = jnp.sum(queries * queries, axis=0)
        farthest = jnp.max(jnp.sum(centres.at * centres.at, axis=1))
        far = jnp.maximum(square_lengths, farthest) > PRODUCT_REACH
        totals = jnp.where(far, 0.0, _totals_by_product(tile, centres, shift, square_lengths))
    else:
        totals = _totals(tile, centres, shift)
    start = totals, jnp.broadcast_to(shift, totals.shape), jnp.array(False)

    # At most one pass; a `while_loop`, since `vmap` makes a `cond` take both branches.
    def unfinished(state: tuple[Array, Array, Array]) -> Bool[Array, ""]:
        totals, _, done = state
        return ~done & jnp.any(totals < low)

    def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        # Begin at -inf, but seen from XLA at something of the state: what does not depend on
        # the state it would run before the loop, always.
        start = jnp.where(state[0] >= 0, -jnp.inf, state[0])
        return *_about_the_peak(tile, centres, start), jnp.array(True)

    totals, shift, _ = lax.while_loop(unfinished, again, start)
    return jnp.where(totals < low, -jnp.inf, shift + jnp.log2(totals))


def _mask(tile: Tile, row: Int[Array, ""], exponent: Float[Array, " q"]) -> Float[Array, " q"]:
    return exponent if tile.own is None else jnp.where(tile.own == row, -jnp.inf, exponent)


def _totals(tile: Tile, centres: Centres, shift: Float[Array, ""]) -> Float[Array, " q"]:
    def step(total: Array, block: Centres, fresh: Array) -> Array:
        weights = jnp.where(fresh, block.log_weights, -jnp.inf) - shift
        part = 0.0  # of its own, since a term is lost beside a sum of 1/eps terms
        for i in range(block.row.shape[0]):
            square = jnp.square(tile.at[:, 0] - block.at[i, 0])
            for j in range(1, block.at.shape[1]):
                square += jnp.square(tile.at[:, j] - block.at[i, j])
            part += exp2(_mask(tile, block.row[i], weights[i] - square))
        return total + part

    return linalg.fold_rows(step, jnp.zeros_like(tile.at[:, 0]), centres, UNROLL)


def _about_the_peak(
    tile: Tile, centres: Centres, peak: Float[Array, " q"]
) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
    """Returns the sums and the largest exponents that they are about: exact wherever a query is."""

    def step(sums: tuple[Array, Array], block: Centres, fresh: Array) -> tuple[Array, Array]:
        total, peak = sums
        weights = jnp.where(fresh, block.log_weights, -jnp.inf)
        square = jnp.square(block.at[:, 0, None] - tile.at[None, :, 0])
        for j in range(1, block.at.shape[1]):
            square += jnp.square(block.at[:, j, None] - tile.at[None, :, j])
        exponents = weights[:, None] - square
        if tile.own is not None:
            exponents = jnp.where(block.row[:, None] == tile.own[None, :], -jnp.inf, exponents)
        new = jnp.maximum(peak, jnp.max(exponents, axis=0))
        shift = jnp.where(jnp.isneginf(new), 0.0, new)
        powers = jnp.exp2(exponents - shift[None, :])
        return total * jnp.exp2(peak - shift) + jnp.sum(powers, axis=0), new

    total, peak = linalg.fold_rows(step, (jnp.zeros_like(peak), peak), centres, UNROLL)
    return total, jnp.where(jnp.isneginf(peak), 0.0, peak)


def _totals_by_product(
    tile: Tile, centres: Centres, shift: Float[Array, ""], square_lengths: Float[Array, " q"]
) -> Float[Array, " q"]:
    # 2 x·y + (a - shift - |x|²) - |y|²: the last two ride along as two more features.
    ones = jnp.ones_like(square_lengths)
    right = jnp.concatenate([2 * tile.at.T, ones[None], -square_lengths[None]])
    constants = centres.log_weights - shift - jnp.sum(jnp.square(centres.at), axis=1)
    left = jnp.concatenate(
        [centres.at, constants[:, None], jnp.ones_like(constants)[:, None]], axis=1
    )

    def step(total: Array, block: tuple[Array, Array], fresh: Array) -> Array:
        exponents = jnp.matmul(block[0], right, precision=lax.Precision.HIGHEST)
        part = 0.0
        for i in range(exponents.shape[0]):
            part += exp2(_mask(tile, block[1][i], jnp.where(fresh[i], exponents[i], -jnp.inf)))
        return total + part

    return linalg.fold_rows(step, jnp.zeros_like(square_lengths), (left, centres.row), UNROLL)


def _square_distances(y: Float[Array, "q d"], x: Float[Array, "k d"]) -> Float[Array, "q k"]:
    """Returns |y - x|² as fast as derivatives can use it; `linalg.square_distances` is exact."""
    if x.shape[1] < PRODUCT_FROM:
        return linalg.square_distances(x, y).T  # along the queries the loops run faster
    return linalg.product_distances(y, x)


@log_gaussian_sum.defjvp
def _log_gaussian_sum_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    value = log_gaussian_sum(*primals)
    return value, log_gaussian_tangent(value, primals, tangents)


def log_gaussian_tangent(value: Float[Array, " m"], primals: tuple, tangents: tuple) -> Array:
    """Returns the derivative of `log_gaussian_sum`, of known value, along `tangents`.

    With the softmax P of the exponents it is Σ_i P_i (da_i - (y - x_i)·(dy - dx_i)), whose sums
    over points are products of P with x, dx and da - x·dx.  In reverse mode `checkpoint` makes P
    again, so that no more than a tile of it ever exists.
    """
    queries, points, log_weights, own = primals
    dqueries, dpoints, dlog_weights, _ = tangents
    some = ~jnp.isneginf(value)
    shift = jnp.where(some, value, 0.0)

    @jax.checkpoint
    def share(rows: tuple, tile: tuple, fresh: Bool[Array, " k"]) -> Float[Array, " q"]:
        y, dy, shift, own = rows
        x, dx, a, da, row = tile
        a = jnp.where(fresh, a, -jnp.inf)
        exponents = a[None, :] - _square_distances(y, x) / 2 - shift[:, None]
        if own is not None:
            exponents = jnp.where(own[:, None] == row[None, :], -jnp.inf, exponents)
        softmax = exp2(exponents * LOG2_E)
        moved = softmax @ jnp.concatenate([dx, (da - jnp.sum(x * dx, axis=1))[:, None]], axis=1)
        mean = softmax @ x
        return jnp.sum(y * moved[:, :-1], axis=1) + moved[:, -1] + jnp.sum(mean * dy, axis=1)

    @jax.checkpoint
    def of_tile(rows: tuple) -> Float[Array, " q"]:
        step = lambda total, tile, fresh: total + share(rows, tile, fresh)
        tiles = (points, dpoints, log_weights, dlog_weights, jnp.arange(points.shape[0]))
        return linalg.fold_rows(step, jnp.zeros_like(rows[2]), tiles, block)

    block = SOFTMAX if points.shape[1] < PRODUCT_FROM else SOFTMAX_PRODUCT
    size = linalg.tile_rows(queries.shape[0], block)
    tangent = linalg.map_rows(of_tile, (queries, dqueries, shift, own), size)
    return tangent - jnp.where(some, jnp.sum(queries * dqueries, axis=1), 0.0)
