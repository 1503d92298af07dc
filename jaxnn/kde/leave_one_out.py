"""Leave-one-out sums and likelihoods: each point under the kernels of all the others.

One computation of the distances serves all bandwidths.  Shapes: n points, d features,
B bandwidths.  The memory is O(n (d + B)) and one tile.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks, linalg
from jaxnn.kde.exp2 import LN_2, LOG2_E, exp2
from jaxnn.kde.gaussian import log_gaussian_tangent
from jaxnn.kde.kernels import KERNELS, Kernel
from jaxnn.kde.logsum import UNROLL, log_kernel_sum
from jaxnn.types import Data, Weights

# Bandwidths from which the distances are kept for all: for fewer a product makes them again.
SHARED_FROM = 3

Block = tuple[Float[Array, "k d"], Float[Array, " k"], Int[Array, " k"]]  # at, log-weight, row


def leave_one_out(
    x: Data,
    bandwidths: Float[Array, " B"] | Float[Array, "B d"],
    *,
    kernel: str = "gaussian",
    sample_weight: Weights | None = None,
) -> Float[Array, " B"]:
    """Returns the mean log density of the rows of `x`, each under the kernels of all the others.

    For candidate h it is Σ_i w_i log( Σ_{j≠i} w_j K_h(x_i - x_j) / (1 - w_i) ) with the weights
    scaled to sum to one (Duin 1976): what one maximises over h.  The self term is masked, not
    subtracted.  All candidates share the distances of a Gaussian kernel with one number each.

    A row that occurs twice is its own neighbour, so that with *only* such rows the likelihood
    grows without bound as h goes to zero; with a few of them it may have a second, useless maximum
    there.  Count such rows once, with a weight.  A row that no other kernel of compact support
    reaches makes the mean -inf.

    Args:
        x: data, (n, d), with n at least 2.
        bandwidths: candidates in data units, positive: one number each (B,), or one for each
            feature (B, d).
        kernel: a name in `KERNELS`.
        sample_weight: weights of the rows, (n,), not negative; None for equal ones.

    Returns:
        The mean log density for each candidate, (B,), in nats and the dtype of `x`.

    Raises:
        ValueError: for fewer than 2 rows of positive weight, bad shapes or values, unknown names.
        TypeError: for arguments that do not hold floating-point numbers.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[0.0], [1.0], [2.0]])
    >>> [round(float(v), 3) for v in leave_one_out(x, jnp.array([0.5, 1.0, 2.0]))]
    [-2.686, -1.747, -1.85]
    """
    where = "kde.leave_one_out"
    x = checks.data(where, "x", x)
    checks.in_table(where, "kernel", kernel, KERNELS)
    n, d = x.shape
    if n < 2:
        raise ValueError(
            f"{where}: x must have at least 2 rows, got {n}; leaving it out, none is left"
        )
    widths = checks.floating(where, "bandwidths", bandwidths).astype(x.dtype)
    checks.shape(where, "bandwidths", widths, (None,) if widths.ndim == 1 else (None, d))
    checks.positive(where, "bandwidths", widths)
    weights = jnp.ones(n, x.dtype)
    if sample_weight is not None:
        weights = checks.weights(where, "sample_weight", sample_weight, n)
        if checks.concrete(weights) and not checks.holds(lambda: jnp.sum(weights > 0) > 1):
            raise ValueError(f"{where}: sample_weight must be positive for at least 2 rows, got 1")
        weights = (weights / lax.stop_gradient(jnp.max(weights))).astype(x.dtype)
    return _leave_one_out(x, widths, weights / jnp.sum(weights), KERNELS[kernel])


@functools.partial(jax.jit, static_argnames="kernel")
def _leave_one_out(
    x: Float[Array, "n d"], widths: Array, weights: Float[Array, " n"], kernel: Kernel
) -> Float[Array, " B"]:
    d = x.shape[1]
    x = x - lax.stop_gradient(jnp.mean(x, axis=0))[None, :]
    some = weights > 0
    log_weights = jnp.where(some, jnp.log(jnp.where(some, weights, 1.0)), -jnp.inf)
    if widths.ndim == 1:
        # In units of a middle bandwidth, so that no square overflows.
        unit = lax.stop_gradient(jnp.exp(jnp.mean(jnp.log(widths))))
        sums = leave_one_out_sum(x / unit, log_weights, kernel, widths / unit)
        log_volumes = d * jnp.log(widths)
    else:
        one = lambda h: leave_one_out_sum(x / h[None, :], log_weights, kernel, jnp.ones_like(h[:1]))
        sums = lax.map(one, widths)[:, 0]
        log_volumes = jnp.sum(jnp.log(widths), axis=1)
    others = jnp.log1p(-jnp.where(some, weights, 0.0))
    log_densities = jnp.where(some[None, :], sums - others[None, :], 0.0)
    return log_densities @ weights - log_volumes - kernel.log_norm(d)


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
