"""What every bandwidth rule needs first: checked data in units of their range, and their spread.

Deviations are taken from the middle of the range in units of the range, so that neither an offset
nor the scale of the data costs precision, and a feature that does not vary is found exactly.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxnn import checks
from jaxnn.types import Data, Weights


class Spread(NamedTuple):
    """Data in units of their range.

    Attributes:
        z: the data minus their mean in units of `span`; 0 in rows of weight zero.
        weights: weights of the rows, which add up to one.
        span: the range of each feature in data units; a tiny number where it does not vary.
        sigma: the standard deviation of each feature in units of `span`.
        size: the effective number of rows, (Σw)² / Σw².
        varies: which features vary.
    """

    z: Float[Array, "n d"]
    weights: Float[Array, " n"]
    span: Float[Array, " d"]
    sigma: Float[Array, " d"]
    size: Float[Array, ""]
    varies: Bool[Array, " d"]

    def bessel(self) -> Float[Array, ""]:
        """Returns 1 - Σw², for n equal weights (n - 1) / n; 1 for a single row."""
        inverse = 1 / self.size
        return jnp.where(inverse < 1, 1 - inverse, 1.0)


def spread(where: str, x: Data, sample_weight: Weights | None) -> Spread:
    """Returns the data of a rule; raises for bad input and for a feature that does not vary."""
    x = checks.data(where, "x", x)
    checks.precise(where, "x", x)
    checks.room(where, "x", x, 1)
    n = x.shape[0]
    weights = jnp.ones(n, x.dtype)
    if sample_weight is not None:
        weights = checks.weights(where, "sample_weight", sample_weight, n)
    found, low = _spread(x, weights)
    if checks.concrete(low) and not checks.holds(lambda: found.varies):
        j = int(jnp.argmin(found.varies))
        raise ValueError(
            f"{where}: feature {j} of x must vary, got {float(low[j])} in every row (of positive "
            "weight); drop it, or give the bandwidth as a number"
        )
    return found


@jax.jit
def _spread(
    x: Float[Array, "n d"], weights: Float[Array, " n"]
) -> tuple[Spread, Float[Array, " d"]]:
    """Returns the spread and the least value of each feature."""
    # By the largest first, in their own dtype: sums overflow, and a cast may leave zeros.
    weights = (weights / lax.stop_gradient(jnp.max(weights))).astype(x.dtype)
    weights = weights / jnp.sum(weights)
    counts = (weights > 0)[:, None]
    low = jnp.min(jnp.where(counts, x, jnp.inf), axis=0)
    high = jnp.max(jnp.where(counts, x, -jnp.inf), axis=0)
    low, high = lax.stop_gradient((low, high))
    # Under a trace nothing can be raised: a feature that does not vary gets the smallest spread
    # that its numbers can show, so that nothing becomes zero or NaN.
    smallest = jnp.finfo(x.dtype).eps * jnp.maximum(jnp.abs(high), 1.0)
    varies = high > low
    span = jnp.where(varies, high - low, smallest)
    middle = low + (high - low) / 2
    z = jnp.where(counts, (x - middle[None, :]) / span[None, :], 0.0)
    z = jnp.where(counts, z - jnp.sum(weights[:, None] * z, axis=0)[None, :], 0.0)

    inverse = jnp.sum(weights * weights)  # 1/n for equal weights
    variance = jnp.sum(weights[:, None] * z * z, axis=0)
    found = Spread(z, weights, span, span, 1 / inverse, varies)
    sigma = jnp.sqrt(jnp.where(varies, variance, 1.0) / found.bessel())
    return found._replace(sigma=sigma), low


def middle_half(z: Float[Array, " n"], weights: Float[Array, " n"]) -> Float[Array, ""]:
    """Returns the interquartile range, for equal weights as R and NumPy compute it (type 7).

    Row k of the sorted rows stands at the share of weight before its middle.
    """
    present = weights > 0
    order = jnp.argsort(jnp.where(present, z, jnp.inf))  # rows of weight zero come last
    z, weights = z[order], weights[order]
    last = jnp.sum(present) - 1
    z = jnp.where(jnp.arange(z.shape[0]) > last, z[last], z)
    before = jnp.cumsum(weights) - weights / 2 - weights[0] / 2
    total = before[last]
    share = before / jnp.where(total > 0, total, 1.0)
    low, high = jnp.interp(jnp.array([0.25, 0.75], z.dtype), share, z)
    return high - low
