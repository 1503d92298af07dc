"""Averages under the kernels that reach a query: one fold that stores no tile.

With P_i(q) = w_i K(q - x_i) / Σ_j w_j K(q - x_j), what people do with a density is mostly a sum
Σ_i P_i(q) v_i: a regression of v, a step of mean shift, a score.  The fold carries the largest
exponent beside the sums, so that nothing underflows however far a query is.

Shapes: m queries, n points, d features, F sums.  The memory is O((n + m)(d + F)) and one tile,
for derivatives as well.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks, linalg
from jaxnn.kde import scaling
from jaxnn.kde.exp2 import LOG2_E, exp2
from jaxnn.kde.kernels import Kernel
from jaxnn.kde.model import KDE, check_model
from jaxnn.kde.scaling import Units
from jaxnn.types import Data

# Points in a tile, of which the sums are a matrix product; queries in a tile by `tile_rows`.
BLOCK = 512


class Tile(NamedTuple):
    """Points of one step of the fold; `row` numbers them, `values` are the caller's."""

    at: Float[Array, "k d"]
    log_weights: Float[Array, " k"]
    inverse_squares: Float[Array, " k"] | None
    values: Any
    row: Int[Array, " k"]


Share = Callable[[Float[Array, "k q"], Tile, Float[Array, "q d"]], Float[Array, "q F"]]


def door(where: str, model: KDE, x: Data | None = None) -> Array:
    """Returns `x` as rows that fit `model`; raises unless `model` is one kernel density."""
    check_model(where, model)
    return model.points if x is None else checks.data(where, "x", x, width=model.points.shape[1])


def in_units(model: KDE, x: Float[Array, "m d"]) -> tuple[Units, Float[Array, " d"]]:
    """Returns a density and queries in units of the bandwidth, and their origin in data units."""
    return scaling.in_units(model.bandwidth, model.points, model.log_weights, model.factors, x)


def softmax_sums(
    kernel: Kernel,
    units: Units,
    values: Any,
    share: Share,
    width: int,
    own: Int[Array, " m"] | None = None,
) -> tuple[Float[Array, " m"], Float[Array, "m F"]]:
    """Returns the largest exponent (-inf where no kernel reaches) and the sums of `share` about it.

    Args:
        kernel: a kernel in one of its forms.
        units: what `in_units` returns.
        values: a pytree with a leading axis of n, cut into tiles beside the points.
        share: (exp(exponent - peak), tile, queries) to the tile's part of the sums.
        width: F, how many sums.
        own: for each query a point that is left out.
    """
    n = units.points.shape[0]
    rows = Tile(units.points, units.log_weights, units.inverse_squares, values, jnp.arange(n))

    @jax.checkpoint
    def step(asked: tuple, sums: tuple, tile: Tile, fresh: Bool[Array, " k"]) -> tuple:
        queries, own = asked
        peak, total = sums
        exponents = kernel.exponents(tile.at, queries, tile.inverse_squares)
        exponents += jnp.where(fresh, tile.log_weights, -jnp.inf)[:, None]
        if own is not None:
            exponents = jnp.where(tile.row[:, None] == own[None, :], -jnp.inf, exponents)
        # The sums about one peak are proportional to those about another: it need not move.
        new = jnp.maximum(peak, lax.stop_gradient(jnp.max(exponents, axis=0)))
        shift = jnp.where(jnp.isneginf(new), 0.0, new)
        softmax = exp2((exponents - shift[None, :]) * LOG2_E)
        if kernel.compact:  # the least power of two is none of zero
            softmax = jnp.where(jnp.isneginf(exponents), 0.0, softmax)
        part = share(softmax, tile, queries)
        return new, total * jnp.exp(peak - shift)[:, None] + part

    @jax.checkpoint
    def of_tile(asked: tuple) -> tuple[Array, Array]:
        q = asked[0].shape[0]
        dtype = units.queries.dtype
        start = (jnp.full(q, -jnp.inf, dtype), jnp.zeros((q, width), dtype))
        return linalg.fold_rows(lambda *a: step(asked, *a), start, rows, BLOCK)

    size = linalg.tile_rows(units.queries.shape[0], 4 * BLOCK)
    return linalg.map_rows(of_tile, (units.queries, own), size)


def weighted(weights: Float[Array, "k q"], values: Float[Array, "k F"]) -> Float[Array, "q F"]:
    """Returns Σ_k weights_kq values_k in the full precision of the dtype, on accelerators too.

    The long axis last: the other way round the product is up to twice slower on CPU.
    """
    return jnp.matmul(values.T, weights, precision=lax.Precision.HIGHEST).T


def to_data(model: KDE, unit: Float[Array, ""], gradient: Float[Array, "m d"]) -> Array:
    """Returns gradients by data units from gradients by units of the bandwidth, S⁻ᵀ g."""
    h = model.bandwidth.astype(gradient.dtype)
    gradient = gradient / unit
    if h.ndim < 2:
        return gradient / jnp.broadcast_to(h, gradient.shape[1:])[None, :]
    tril = jnp.linalg.cholesky(h)
    return lax.linalg.triangular_solve(tril, gradient, left_side=False, lower=True)


def means(
    kernel: Kernel,
    units: Units,
    values: Float[Array, "n F"],
    otherwise: Float[Array, " F"],
) -> tuple[Float[Array, "m F"], Bool[Array, " m"]]:
    """Returns Σ_i P_i v_i, with `otherwise` where no kernel reaches, and where one does."""
    ones = jnp.ones_like(values[:, :1])
    share = lambda softmax, tile, _: weighted(softmax, tile.values)
    rows = jnp.concatenate([values, ones], axis=1)
    _, sums = softmax_sums(kernel, units, rows, share, rows.shape[1])
    reached = sums[:, -1] > 0
    total = jnp.where(reached, sums[:, -1], 1.0)[:, None]
    return jnp.where(reached[:, None], sums[:, :-1] / total, otherwise[None, :]), reached


def slopes(
    kernel: Kernel, units: Units
) -> tuple[Float[Array, " m"], Float[Array, "m d"], Float[Array, "m d"]]:
    """Returns log Σ_i, and Σ_i P_i c_i and Σ_i P_i c_i (x_i - q), c_i = -2 dlogK/d(r²) at point i.

    The second is the score in units of the bandwidth; over the first it is the step of mean shift.
    In product form each feature has its own c.
    """
    d = units.points.shape[1]

    def pulls(squares: Array, inverse: Array | None) -> Array:
        scale = jnp.ones(()) if inverse is None else inverse[:, None]
        scale = scale.astype(squares.dtype)
        features = d if kernel.form == "radial" else 1
        profile = lambda r2: kernel.log_profile(r2, features)
        scaled = squares * scale
        return -2 * scale * jax.jvp(profile, (scaled,), (jnp.ones_like(scaled),))[1]

    def share(softmax: Array, tile: Tile, queries: Array) -> Array:
        squares = kernel.squares(tile.at, queries)
        if kernel.form == "radial":
            weights = softmax * pulls(squares, tile.inverse_squares)
            total = jnp.sum(weights, axis=0)[:, None]
            moved = weighted(weights, tile.at) - total * queries
            total = jnp.broadcast_to(total, moved.shape)
        else:
            each = [softmax * pulls(s, tile.inverse_squares) for s in squares]
            total = jnp.stack([jnp.sum(w, axis=0) for w in each], axis=1)
            steps = tile.at.T[:, :, None] - queries.T[:, None, :]
            parts = zip(each, steps, strict=True)
            moved = jnp.stack([jnp.sum(w * s, axis=0) for w, s in parts], axis=1)
        return jnp.concatenate([total, moved, jnp.sum(softmax, axis=0)[:, None]], axis=1)

    peak, sums = softmax_sums(kernel, units, None, share, 2 * d + 1)
    some = sums[:, -1] > 0
    total = jnp.where(some, sums[:, -1], 1.0)
    log_sum = jnp.where(some, jnp.where(some, peak, 0.0) + jnp.log(total), -jnp.inf)
    return log_sum, sums[:, :d] / total[:, None], sums[:, d : 2 * d] / total[:, None]
