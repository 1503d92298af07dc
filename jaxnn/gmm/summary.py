"""What a mixture is like as a whole: mean, covariance, and in one dimension cdf and quantiles.

Shapes: k components, d features, m query points.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float, Int

from jaxnn import checks
from jaxnn.gmm.model import GMM, door, log_prob
from jaxnn.types import Data, Weights


def mean(mixture: GMM) -> Float[Array, " d"]:
    """Returns the mean of the whole mixture (data units)."""
    checks.instance("gmm.mean", "mixture", mixture, GMM)
    return jnp.exp(mixture.log_weights) @ mixture.means


def covariance(mixture: GMM) -> Float[Array, "d d"]:
    """Returns the covariance of the whole mixture (data units squared).

    Within plus between: Σ_k w_k (Σ_k + (m_k − m)(m_k − m)ᵀ), about the mean m.
    """
    checks.instance("gmm.covariance", "mixture", mixture, GMM)
    weights = jnp.exp(mixture.log_weights)
    apart = mixture.means - mean(mixture)[None]
    within = jnp.einsum("k,kij->ij", weights, mixture.cov.covariances(mixture.means))
    return within + jnp.einsum("ki,kj->ij", weights[:, None] * apart, apart)


def _deviations(mixture: GMM) -> Float[Array, " k"]:
    return jnp.sqrt(mixture.cov.covariances(mixture.means)[:, 0, 0])


def _one_dimensional(where: str, mixture: GMM) -> None:
    checks.instance(where, "mixture", mixture, GMM)
    if mixture.means.shape[-1] != 1:
        raise ValueError(
            f"{where}: mixture must have one column, got {mixture.means.shape[-1]}; "
            "gmm.marginal picks one"
        )


@jax.jit
def _cdf(mixture: GMM, x: Float[Array, "m 1"]) -> Float[Array, " m"]:
    def add(total: Array, component: tuple[Array, Array, Array]) -> tuple[Array, None]:
        log_weight, mean, deviation = component
        return total + jnp.exp(log_weight) * ndtr((x[:, 0] - mean) / deviation), None

    parts = (mixture.log_weights, mixture.means[:, 0], _deviations(mixture))
    return jax.lax.scan(add, jnp.zeros_like(x[:, 0]), parts)[0]


def cdf(mixture: GMM, x: Data) -> Float[Array, " m"]:
    """Returns P(X <= x) of a mixture in one dimension, for each row of `x`, shape (m, 1).

    Raises TypeError or ValueError for a mixture of more columns and for bad rows.
    """
    where = "gmm.cdf"
    _one_dimensional(where, mixture)
    return _cdf(mixture, door(where, mixture, x))


@jax.jit
def _quantile(mixture: GMM, p: Float[Array, " m"]) -> Float[Array, "m 1"]:
    eps = jnp.finfo(p.dtype).eps

    def bisect(_: Int[Array, ""], ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = low + 0.5 * (high - low)
        below = _cdf(fixed, middle) < level
        return jnp.where(below[:, None], middle, low), jnp.where(below[:, None], high, middle)

    fixed, level = jax.lax.stop_gradient((mixture, p))
    alive = (fixed.log_weights > -jnp.inf)[None]
    # Between the smallest and the largest of the components' own quantiles.
    own = fixed.means[:, 0][None] + _deviations(fixed)[None] * ndtri(level)[:, None]
    low = jnp.min(jnp.where(alive, own, jnp.inf), axis=1, keepdims=True)
    high = jnp.max(jnp.where(alive, own, -jnp.inf), axis=1, keepdims=True)
    halvings = 64 if p.dtype == jnp.float64 else 32
    low, high = jax.lax.fori_loop(0, halvings, bisect, (low, high))
    x = low + 0.5 * (high - low)
    # One Newton step carries the derivative of the implicit function; where the density has
    # underflowed, in a gap between components, the quantile has none.
    density = jnp.exp(log_prob(fixed, x))
    tail = jnp.minimum(level, 1 - level)
    steep = density > 100 * eps * tail * jnp.max(jnp.where(alive[0], 1 / _deviations(fixed), 0))
    step = (_cdf(mixture, x) - p) / jnp.where(steep, density, 1)
    step = jnp.where(steep, step - jax.lax.stop_gradient(step), 0)
    return x - step[:, None]


def quantile(mixture: GMM, p: Weights) -> Float[Array, "m 1"]:
    """Returns the points x with P(X <= x) = p, in one dimension, by bisection.

    Args:
        mixture: of one column.
        p: shape (m,), strictly between 0 and 1.

    Differentiable in both, except where p falls into a gap in which the density underflows: the
    quantile jumps there, and its derivative is given as zero.

    Raises:
        TypeError, ValueError: a mixture of more columns; a p outside (0, 1).
    """
    where = "gmm.quantile"
    _one_dimensional(where, mixture)
    p = checks.floating(where, "p", p)
    checks.shape(where, "p", p, (None,))
    checks.same_dtype(where, "p", p, "the mixture", mixture.means.dtype)
    if checks.concrete(p) and not checks.holds(lambda: (p > 0) & (p < 1)):
        raise ValueError(f"{where}: p must lie strictly between 0 and 1, "
                         f"got values from {min(p.tolist())} to {max(p.tolist())}")  # fmt: skip
    return _quantile(mixture, p)
