"""Densities of less bias: points moved by the score, and kernels minus their Laplacian.

The expectation of a kernel density is the true density p blurred by the kernel, to second order
p + σ²/2 ∇·(H ∇p), with H the bandwidth squared and σ² the variance of the kernel.  Both estimators
here take that term away and are left with a bias of the order of the fourth power of the bandwidth;
so both want a larger bandwidth than a plain density of as many points, and gain with many of them.
Shapes: n points, d features, m queries.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.kde import scaling
from jaxnn.kde.model import KDE
from jaxnn.kde.moments import curved_sum, slope_sums
from jaxnn.types import Data, Scalar


def debias(
    model: KDE, pilot: Scalar | Float[ArrayLike, " d"] | Float[ArrayLike, "d d"] | None = None
) -> KDE:
    """Returns the score-debiased density: each point moves along the score before it is blurred.

    x_i becomes x_i + σ²/2 H s(x_i), where the score s is the gradient of the log of a pilot, the
    Gaussian kernel density of the same points (Epstein et al., 2025, SD-KDE, arXiv 2504.19084).
    The drift against the blur takes its second-order term away: the bias is O(h⁴), and the result
    is a density, of which `log_prob` and `sample` work as always.  With the default pilot and the
    Gaussian kernel the move is half a step of mean shift.

    Args:
        model: what `fit` returns, without factors.
        pilot: bandwidth of the pilot in data units, in any form that `fit` takes; None for that
            of the model, so that pilot and kernel have the same variance.  Traced.

    Raises:
        TypeError: unless `model` is a `KDE`; ValueError for factors, a kernel of infinite
            variance, or a bad bandwidth.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> model = debias(kde.fit(jnp.array([[-1.0], [0.0], [1.0]]), bandwidth=1.0))
    >>> bool(model.points[0, 0] > -1), abs(float(model.points[1, 0])) < 1e-6
    (True, True)
    """
    where = "kde.debias"
    checks.instance(where, "model", model, KDE)
    checks.shape(where, "model.points", model.points, (None, None))
    d = model.points.shape[1]
    variance = model.kernel.variance(d)
    if not math.isfinite(variance):
        raise ValueError(
            f"{where}: the kernel must have a finite variance, which {model.kernel.name} "
            f"has not in {d} features; fit with kernel='gaussian'"
        )
    if model.factors is not None:
        raise ValueError(
            f"{where}: model must have one bandwidth for all points, got factors; "
            "debias the model first, or use kde.laplace_corrected"
        )
    dtype = model.points.dtype
    if pilot is None:
        square = model.bandwidth.ndim == 2
        width = model.bandwidth * jnp.asarray(variance if square else variance**0.5, dtype)
    else:
        width = scaling.given(where, "pilot", pilot, d).astype(dtype)
    return _debias(model, width)


@jax.jit
def _debias(model: KDE, pilot: scaling.Bandwidth) -> KDE:
    x, h = model.points, model.bandwidth
    centred = x - lax.stop_gradient(jnp.mean(x, axis=0))[None, :]
    at = scaling.whiten(pilot, centred)
    total, first = slope_sums(at, at, model.log_weights)
    # A point whose own weight is beyond the range of the dtype stays; nothing depends on it.
    some = total > jnp.finfo(x.dtype).tiny / jnp.finfo(x.dtype).eps
    shift = jnp.where(some[:, None], first / jnp.where(some, total, 1.0)[:, None], 0.0)
    if pilot.ndim == 2:
        score = lax.linalg.triangular_solve(
            jnp.linalg.cholesky(pilot), shift, left_side=False, lower=True
        )
    else:
        score = shift / jnp.broadcast_to(pilot, x.shape[1:])[None, :]
    moved = score @ h if h.ndim == 2 else score * jnp.broadcast_to(h * h, x.shape[1:])[None, :]
    return model._replace(points=x + model.kernel.variance(x.shape[1]) / 2 * moved)


def laplace_corrected(model: KDE, x: Data) -> Float[Array, " m"]:
    """Returns the Laplace-corrected density of each row of `x`: of less bias, but *signed*.

    Each kernel K becomes K - 1/2 ∇·(H ∇K), a kernel of fourth order (Wand and Jones, 1995, section
    2.8; Epstein, Dwaraknath and Winnicki, 2026, Flash-SD-KDE, arXiv 2602.10378):
    Σ_i w_i K(u_i) (1 + (d - |u_i|²)/2).  It integrates to one and has a bias of O(h⁴), but is
    negative where |u|² exceeds d + 2 for all near points, that is, in tails and gaps.  So it
    returns the density and no logarithm, and has no `sample`: clip it at zero, which only lowers
    the error, and divide by the integral where a density is needed.

    Args:
        model: what `fit` returns, with the Gaussian kernel; factors of the points are fine.
        x: queries, (m, d).

    Returns:
        The density in the dtype of the data, (m,); zero where it is beneath the range of that.

    Raises:
        TypeError: unless `model` is a `KDE` and `x` holds floating-point numbers.
        ValueError: for another kernel than the Gaussian, bad shapes or values.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> model = kde.fit(jnp.array([[0.0]]), bandwidth=1.0)
    >>> [round(float(v), 3) for v in laplace_corrected(model, jnp.array([[0.0], [1.0], [2.0]]))]
    [0.598, 0.242, -0.027]
    """
    where = "kde.laplace_corrected"
    checks.instance(where, "model", model, KDE)
    if model.kernel.name != "gaussian":
        raise ValueError(
            f"{where}: only the Gaussian kernel is corrected, "
            f"got {model.kernel.name!r}; fit with kernel='gaussian'"
        )
    checks.shape(where, "model.points", model.points, (None, None))
    return _laplace_corrected(model, checks.data(where, "x", x, width=model.points.shape[1]))


@jax.jit
def _laplace_corrected(model: KDE, x: Float[Array, "m d"]) -> Float[Array, " m"]:
    d = x.shape[1]
    dtype = jnp.result_type(model.points, x)
    h, log_weights = model.bandwidth.astype(dtype), model.log_weights.astype(dtype)
    centre = lax.stop_gradient(jnp.mean(model.points.astype(dtype), axis=0))
    points, queries = (
        scaling.whiten(h, rows.astype(dtype) - centre[None, :]) for rows in (model.points, x)
    )
    inverse_squares = None
    if model.factors is not None:
        factors = model.factors.astype(dtype)
        log_weights = log_weights - d * jnp.log(factors)
        inverse_squares = factors**-2
    total, top = curved_sum(queries, points, log_weights, inverse_squares)
    return total * jnp.exp(top - model.kernel.log_norm(d) - scaling.log_det(h, d))
