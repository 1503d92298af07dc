"""Leave-one-out sums: each point under the kernels of all the others.

One computation of the distances serves all bandwidths.  Shapes: n points, d features,
B bandwidths.  The memory is O(n (d + B)) and one tile.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxnn import linalg
from jaxnn.kde.exp2 import LN_2, LOG2_E, exp2
from jaxnn.kde.gaussian import log_gaussian_tangent
from jaxnn.kde.kernels import Kernel
from jaxnn.kde.logsum import UNROLL, log_kernel_sum

# Bandwidths from which the distances are kept for all: for fewer a product makes them again.
SHARED_FROM = 3

Block = tuple[Float[Array, "k d"], Float[Array, " k"], Int[Array, " k"]]  # at, log-weight, row


def leave_one_out_sum(
    points: Float[Array, "n d"],
    log_weights: Float[Array, " n"],
    kernel: Kernel,
    scales: Float[Array, " B"],
) -> Float[Array, "B n"]:
    """Returns log Σ_{j≠i} exp(log_weights_j + log_profile(|x_i - x_j|² / s²)) for all s and i.

    Rows should be centred; derivatives of all orders take O(tile) memory.
    """
    shared = kernel.name == "gaussian" and points.dtype.itemsize >= 4
    if shared and scales.shape[0] >= SHARED_FROM:
        return _gaussian(points, log_weights, scales)
    rows = jnp.arange(points.shape[0])

    def one(scale: Float[Array, ""]) -> Float[Array, " n"]:
        scaled = points / scale
        # What did not depend on the scale JAX would compute before the loop, under `grad`, and keep
        # for all pairs: who leaves out whom is made to look so.
        own = rows + jnp.isnan(scaled[0, 0])
        return log_kernel_sum(kernel, scaled, scaled, log_weights, own=own)

    return lax.map(one, scales)


@jax.custom_jvp
def _gaussian(
    points: Float[Array, "n d"], log_weights: Float[Array, " n"], scales: Float[Array, " B"]
) -> Float[Array, "B n"]:
    n = points.shape[0]
    unit = (LOG2_E / 2) ** 0.5
    rows = (points * unit, log_weights * LOG2_E, jnp.arange(n))
    sums = linalg.map_rows(
        functools.partial(_log2_sums, rows, 1 / (scales * scales)),
        (rows[0], rows[2]),
        linalg.tile_rows(n, max(UNROLL, scales.shape[0])),
    )
    return LN_2 * sums.T


def _log2_sums(
    rows: Block, inverses: Float[Array, " B"], queries: tuple[Array, Array]
) -> Float[Array, "q B"]:
    """Returns log2 Σ_j 2^(a_j - r²_ij / s²) of a tile of queries, as `gaussian` does for one s."""
    dtype = rows[0].dtype
    info = jnp.finfo(dtype)
    top = jnp.max(rows[1])
    top = jnp.where(jnp.isneginf(top), 0.0, top)

    def radii(block: Block, fresh: Bool[Array, " k"]) -> Float[Array, "k q"]:
        counts = fresh & ~jnp.isneginf(block[1])
        r2 = linalg.square_distances(block[0], queries[0])
        return jnp.where(counts[:, None] & (block[2][:, None] != queries[1][None, :]), r2, jnp.inf)

    def nearest(least: Array, block: Block, fresh: Array) -> Array:
        return functools.reduce(jnp.minimum, list(radii(block, fresh)), least)

    def sums(shifts: Float[Array, "B q"]) -> Float[Array, "B q"]:
        """Returns the sums of 2^(exponent - shift)."""

        def step(total: Array, block: Block, fresh: Array) -> Array:
            each = jax.tree.map(lambda a: a[:, None], (block, fresh))
            # A loop: else XLA would make the distances again for every bandwidth.
            r2 = lax.map(lambda one: radii(*one)[0], each)
            weights = jnp.where(jnp.isneginf(block[1]), 0.0, block[1])  # their radius is infinite
            for weight, row in zip(weights, r2, strict=True):
                total += exp2((weight - shifts) - row[None, :] * inverses[:, None])
            return total

        return linalg.fold_rows(step, jnp.zeros_like(shifts), rows, UNROLL)

    def highest(peaks: Float[Array, "B q"], block: Block, fresh: Array) -> Float[Array, "B q"]:
        """Returns the largest exponents so far."""
        weights = jnp.where(jnp.isneginf(block[1]), 0.0, block[1])[:, None]
        r2 = radii(block, fresh)
        one = lambda s: jnp.maximum(s[0], jnp.max(weights - r2 * s[1], axis=0))
        return lax.map(one, (peaks, inverses))

    infinite = jnp.full_like(queries[0][:, 0], jnp.inf)
    least = linalg.fold_rows(nearest, infinite, rows, UNROLL)
    least = jnp.where(jnp.isinf(least), 0.0, least)
    shifts = top - least[None, :] * inverses[:, None] - (info.maxexp - 32)
    totals = sums(shifts)
    low = float(info.tiny) / float(info.eps) * rows[0].shape[0]

    # Only where weights differ by more than the range of the dtype: about the exact peaks.
    def unfinished(state: tuple[Array, Array, Array]) -> Bool[Array, ""]:
        return ~state[2] & jnp.any(state[0] < low)

    def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        # -inf, but XLA must not see it: it would run what ignores the state before the loop.
        start = jnp.where(state[0] >= 0, -jnp.inf, state[0])
        peaks = linalg.fold_rows(highest, start, rows, UNROLL)
        peaks = jnp.where(jnp.isneginf(peaks), 0.0, peaks)
        return sums(peaks), peaks, jnp.array(True)

    totals, shifts, _ = lax.while_loop(unfinished, again, (totals, shifts, jnp.array(False)))
    return jnp.where(totals < low, -jnp.inf, shifts + jnp.log2(totals)).T


@_gaussian.defjvp
def _gaussian_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    points, log_weights, scales = primals
    dpoints, dlog_weights, dscales = tangents
    value = _gaussian(points, log_weights, scales)
    own = jnp.arange(points.shape[0])

    @jax.checkpoint
    def one(of_scale: tuple[Array, Array, Array]) -> Float[Array, " n"]:
        value, scale, dscale = of_scale
        scaled = points / scale
        dscaled = (dpoints - scaled * dscale) / scale
        rows, drows = (scaled, scaled, log_weights, own), (dscaled, dscaled, dlog_weights, None)
        return log_gaussian_tangent(value, rows, drows)

    return value, lax.map(one, (value, scales, dscales))
