"""Bandwidths in all their forms: from data units to units of the bandwidth and back.

A bandwidth is one number h or one number for each feature (d,), in data units, or a symmetric
positive definite matrix H (d, d) in data units squared.  A matrix is the square of a bandwidth,
that is, for the Gaussian the covariance of the kernel, as `covariance` of SciPy's `gaussian_kde`:
h, (h, ..., h) and h² I are the same.  With S = h I, diag(h) or the Cholesky factor of H, a
difference u in units of the bandwidth is S u in data units.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks, linalg

Bandwidth = Float[Array, ""] | Float[Array, " d"] | Float[Array, "d d"]


def given(where: str, name: str, bandwidth: ArrayLike, d: int) -> Array:
    """Returns a bandwidth that the caller gave, checked."""
    if isinstance(bandwidth, int) and not isinstance(bandwidth, bool):
        bandwidth = float(bandwidth)
    width = checks.floating(where, name, bandwidth)
    check_shape(where, name, width, d)
    if width.ndim < 2:
        checks.positive(where, name, width)
        return width
    checks.finite(where, name, width)
    if not checks.concrete(width):
        return width
    near = 100 * jnp.finfo(width.dtype).eps * jnp.max(jnp.abs(width))
    if not checks.holds(lambda: jnp.abs(width - width.T) <= near):
        raise ValueError(f"{where}: {name} must be a symmetric matrix, got {width.tolist()}")
    if not checks.holds(lambda: jnp.isfinite(jnp.linalg.cholesky(width))):
        raise ValueError(
            f"{where}: {name} must be positive definite, got {width.tolist()}; "
            "add a small ridge to its diagonal, or drop features that others determine"
        )
    return width


def check_shape(where: str, name: str, bandwidth: Array, d: int) -> None:
    """Raises ValueError unless a bandwidth is (), (d,) or (d, d)."""
    ndim = jnp.ndim(bandwidth)
    if ndim > 0:
        checks.shape(where, name, bandwidth, (d,) if ndim == 1 else (d, d))


def whiten(bandwidth: Bandwidth, rows: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Returns S⁻¹ rows, clipped so that no squared distance overflows.

    Far away a log density is finite, and inf - inf is NaN.
    """
    d = rows.shape[1]
    limit = (float(jnp.finfo(rows.dtype).max) / (16 * d)) ** 0.5
    tril = jnp.linalg.cholesky(bandwidth) if bandwidth.ndim == 2 else None
    h = bandwidth if tril is None else jnp.diagonal(tril)
    scaled = jnp.clip(rows / jnp.broadcast_to(h, (d,))[None, :], -limit, limit)
    if tril is None:
        return scaled
    unit = tril / h[:, None]
    solved = lax.linalg.triangular_solve(
        unit, scaled, left_side=False, lower=True, transpose_a=True, unit_diagonal=True
    )
    return jnp.clip(solved, -limit, limit)


def colour(bandwidth: Bandwidth, steps: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Returns S steps: differences in units of the bandwidth, in data units."""
    if bandwidth.ndim == 2:
        return steps @ jnp.linalg.cholesky(bandwidth).T
    return jnp.broadcast_to(bandwidth, steps.shape[1:])[None, :] * steps


def log_det(bandwidth: Bandwidth, d: int) -> Float[Array, ""]:
    """Returns log |S|, the log of a volume in data units."""
    if bandwidth.ndim == 2:
        return linalg.log_det_tril(jnp.linalg.cholesky(bandwidth))
    return jnp.sum(jnp.log(jnp.broadcast_to(bandwidth, (d,))))


class Units(NamedTuple):
    """A density and queries in units of the bandwidth (and of the least factor of a point).

    Attributes:
        queries: where sums are asked for.
        points: where the kernels stand.
        log_weights: of the points, with the normalisers of their factors.
        inverse_squares: one over the squared factors of the points, None where all are one.
        unit: the least factor.
    """

    queries: Float[Array, "m d"]
    points: Float[Array, "n d"]
    log_weights: Float[Array, " n"]
    inverse_squares: Float[Array, " n"] | None
    unit: Float[Array, ""]


def in_units(
    bandwidth: Bandwidth,
    points: Float[Array, "n d"],
    log_weights: Float[Array, " n"],
    factors: Float[Array, " n"] | None,
    x: Float[Array, "m d"],
) -> tuple[Units, Float[Array, " d"]]:
    """Returns a density and queries in units of the bandwidth, and their origin in data units."""
    d = x.shape[1]
    dtype = jnp.result_type(points, x)
    points, x = points.astype(dtype), x.astype(dtype)
    h, log_weights = bandwidth.astype(dtype), log_weights.astype(dtype)
    # Centre before scaling: far from the origin x / h has lost what x - x_i still has.
    # Divided first: the sum of many large numbers overflows.
    centre = lax.stop_gradient(jnp.sum(points / points.shape[0], axis=0))
    points, queries = (whiten(h, rows - centre[None, :]) for rows in (points, x))
    if factors is None:
        return Units(queries, points, log_weights, None, jnp.ones((), dtype)), centre
    log_factors = jnp.log(factors.astype(dtype))
    # The least factor joins the bandwidth, so that no square grows.
    least = lax.stop_gradient(jnp.min(log_factors))
    inverse_squares = jnp.exp(2 * (least - log_factors))
    shrink = jnp.exp(-least)
    log_weights = log_weights - d * log_factors
    return Units(
        queries * shrink, points * shrink, log_weights, inverse_squares, jnp.exp(least)
    ), centre
