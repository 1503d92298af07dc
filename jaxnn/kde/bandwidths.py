"""Rules that pick a bandwidth from the data, in the units of the data.

Both are the best bandwidth of a Gaussian kernel for data from a normal distribution, feature by
feature: a standard deviation times a power of the number of points.  On data of several clusters
they smooth too much.  A new rule is one more entry of `BANDWIDTHS`.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.types import Data, Weights


def scott(x: Data, sample_weight: Weights | None = None) -> Float[Array, " d"]:
    """Returns Scott's bandwidths, σ_j n^(-1/(d+4)) (Scott 1992, eq. 6.42).

    σ_j is the standard deviation of feature j with n - 1 in the denominator.  With weights, n is
    the effective number of points (Σw)² / Σw² and σ_j is weighted, both as in SciPy; so weights
    are importances here, not repetitions.  In one dimension the result is that of
    `scipy.stats.gaussian_kde`; in more, SciPy takes the whole covariance matrix, of which this is
    the diagonal.  (scikit-learn's rule of this name leaves σ_j out.)

    Args:
        x: data, (n, d), with n at least 2.
        sample_weight: weights of the rows, (n,), not negative; None for equal ones.

    Returns:
        Bandwidths (d,) in the units and the dtype of `x`.

    Raises:
        ValueError: for a feature that does not vary, or bad shapes or values.
        TypeError: unless `x` and `sample_weight` hold floating-point numbers.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[0.0, 0.0], [1.0, 100.0], [2.0, 200.0]])
    >>> [round(float(h), 3) for h in scott(x)]
    [0.833, 83.268]
    """
    sigma, n = _spread("kde.scott", x, sample_weight)
    d = sigma.shape[0]
    return sigma * n ** (-1 / (d + 4))


def silverman(x: Data, sample_weight: Weights | None = None) -> Float[Array, " d"]:
    """Returns Silverman's bandwidths, σ_j (n (d+2)/4)^(-1/(d+4)) (Silverman 1986, eq. 4.14).

    σ_j, n, arguments and exceptions are those of `scott`.  In two dimensions the rules agree.

    >>> import jax.numpy as jnp
    >>> [round(float(h), 3) for h in silverman(jnp.array([[0.0], [1.0], [2.0]]))]
    [0.85]
    """
    sigma, n = _spread("kde.silverman", x, sample_weight)
    d = sigma.shape[0]
    return sigma * (n * (d + 2) / 4) ** (-1 / (d + 4))


def _spread(
    where: str, x: Data, sample_weight: Weights | None
) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """Returns the standard deviation of each feature and the effective number of points."""
    x = checks.data(where, "x", x)
    n = x.shape[0]
    weights = jnp.ones(n, x.dtype)
    if sample_weight is not None:
        weights = checks.weights(where, "sample_weight", sample_weight, n)
        # By the largest first, in their own dtype: sums overflow, and a cast may leave zeros.
        weights = (weights / lax.stop_gradient(jnp.max(weights))).astype(x.dtype)
    weights = weights / jnp.sum(weights)

    # Deviations from the middle of the range, in units of the range: neither an offset nor the
    # scale of the data costs precision, and a feature that does not vary is found exactly.
    counts = (weights > 0)[:, None]
    low = jnp.min(jnp.where(counts, x, jnp.inf), axis=0)
    high = jnp.max(jnp.where(counts, x, -jnp.inf), axis=0)
    low, high = lax.stop_gradient((low, high))
    _check_varies(where, low, high)
    # Under a trace nothing can be raised: a feature that does not vary gets the smallest spread
    # that its numbers can show, so that nothing becomes zero or NaN.
    smallest = jnp.finfo(x.dtype).eps * jnp.maximum(jnp.abs(high), 1.0)
    varies = high > low
    span = jnp.where(varies, high - low, smallest)
    middle = low + (high - low) / 2
    z = jnp.where(counts, (x - middle[None, :]) / span[None, :], 0.0)
    z = z - jnp.sum(weights[:, None] * z, axis=0)[None, :]

    inverse = jnp.sum(weights * weights)  # 1/n for equal weights
    variance = jnp.sum(weights[:, None] * z * z, axis=0)
    freedom = jnp.where(inverse < 1, 1 - inverse, 1.0)
    sigma = span * jnp.sqrt(jnp.where(varies, variance, 1.0) / freedom)
    return sigma, 1 / inverse


def _check_varies(where: str, low: Float[Array, " d"], high: Float[Array, " d"]) -> None:
    if not checks.concrete(low) or bool(jnp.all(high > low)):
        return
    j = int(jnp.argmax(high <= low))
    raise ValueError(
        f"{where}: feature {j} of x must vary, got {float(low[j])} in every row (of positive "
        "weight); drop it, or give the bandwidth as a number"
    )


BANDWIDTHS: dict[str, Callable[[Data, Weights | None], Float[Array, " d"]]] = {
    "scott": scott,
    "silverman": silverman,
}
