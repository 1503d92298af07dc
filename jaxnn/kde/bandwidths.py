"""Rules that pick a bandwidth from the data, in the units of the data.

Those of this file are the best bandwidth of a Gaussian kernel for data from a normal distribution,
feature by feature: a standard deviation times a power of the number of points.  On data of several
clusters they smooth too much; the searches of `sheather_jones`, `botev`, `cross_validation` and
`likelihood` do not.  A new rule is one more entry of `BANDWIDTHS`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.kde.botev import improved_sheather_jones
from jaxnn.kde.cross_validation import least_squares, likelihood
from jaxnn.kde.sheather_jones import plug_in, sheather_jones
from jaxnn.kde.spread import Spread, middle_half, spread
from jaxnn.types import Data, Weights

Rule = Callable[[Data, Weights | None], Float[Array, " d"]]


def scott(
    x: Data, sample_weight: Weights | None = None, *, full: bool = False
) -> Float[Array, " d"] | Float[Array, "d d"]:
    """Returns Scott's bandwidths, σ_j n^(-1/(d+4)) (Scott 1992, eq. 6.42).

    σ_j is the standard deviation of feature j with n - 1 in the denominator.  With weights, n is
    the effective number of points (Σw)² / Σw² and σ_j is weighted, both as in SciPy; so weights
    are importances here, not repetitions.  In one dimension the result is that of
    `scipy.stats.gaussian_kde`; in more, SciPy takes the whole covariance matrix, as `full` does
    here.  (scikit-learn's rule of this name leaves σ_j out.)

    Args:
        x: data, (n, d), with n at least 2.
        sample_weight: weights of the rows, (n,), not negative; None for equal ones.
        full: whether to return the covariance matrix of the data times n^(-2/(d+4)); static.

    Returns:
        Bandwidths (d,) in the units of `x`, or a matrix (d, d) in squared units, in its dtype.

    Raises:
        ValueError: for a feature that does not vary, a singular covariance matrix, or bad shapes
            or values.
        TypeError: unless `x` and `sample_weight` hold floating-point numbers.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[0.0, 0.0], [1.0, 100.0], [2.0, 200.0]])
    >>> [round(float(h), 3) for h in scott(x)]
    [0.833, 83.268]
    """
    where = "kde.scott"
    found = spread(where, x, sample_weight)
    return _scaled(where, found, found.size ** (-1 / (found.z.shape[1] + 4)), full)


def silverman(
    x: Data, sample_weight: Weights | None = None, *, full: bool = False
) -> Float[Array, " d"] | Float[Array, "d d"]:
    """Returns Silverman's bandwidths, σ_j (n (d+2)/4)^(-1/(d+4)) (Silverman 1986, eq. 4.14).

    σ_j, n, arguments and exceptions are those of `scott`.  In two dimensions the rules agree.

    >>> import jax.numpy as jnp
    >>> [round(float(h), 3) for h in silverman(jnp.array([[0.0], [1.0], [2.0]]))]
    [0.85]
    """
    where = "kde.silverman"
    found = spread(where, x, sample_weight)
    d = found.z.shape[1]
    return _scaled(where, found, (found.size * (d + 2) / 4) ** (-1 / (d + 4)), full)


def normal_reference(x: Data, sample_weight: Weights | None = None) -> Float[Array, " d"]:
    """Returns 0.9 min(σ_j, IQR_j / 1.34) n^(-1/5), one feature at a time (Silverman 1986, 3.31).

    R's `bw.nrd0`.  The interquartile range makes it robust to tails and second clusters; where it
    is zero, σ_j alone counts.  σ_j, n, arguments and exceptions are those of `scott`.

    >>> import jax.numpy as jnp
    >>> [round(float(h), 3) for h in normal_reference(jnp.array([[0.0], [1.0], [2.0]]))]
    [0.539]
    """
    return _normal_reference(spread("kde.normal_reference", x, sample_weight))


@jax.jit
def _normal_reference(found: Spread) -> Float[Array, " d"]:
    iqr = jax.vmap(middle_half, in_axes=(1, None))(found.z, found.weights) / 1.34
    sigma = jnp.where(iqr > 0, jnp.minimum(found.sigma, iqr), found.sigma)
    return 0.9 * found.span * sigma * found.size**-0.2


def _scaled(
    where: str, found: Spread, factor: Float[Array, ""], full: bool
) -> Float[Array, " d"] | Float[Array, "d d"]:
    """Returns the spread of the data times a factor: standard deviations, or the covariance."""
    if not full:
        return found.span * found.sigma * factor
    covariance, eigen = _covariance(found)
    least = covariance.shape[0] * jnp.finfo(covariance.dtype).eps
    if checks.concrete(eigen) and not checks.holds(lambda: eigen > least):
        n, d = found.z.shape
        raise ValueError(
            f"{where}: the covariance of x must not be singular, got rank "
            f"{int(jnp.sum(eigen > least))} of {d} features from {n} rows; drop features that "
            "others determine, take more rows, or take full=False"
        )
    return covariance * factor**2 * found.span[:, None] * found.span[None, :]


@jax.jit
def _covariance(found: Spread) -> tuple[Float[Array, "d d"], Float[Array, " d"]]:
    """Returns the covariance in units of the span, and the eigenvalues of the correlations."""
    covariance = (found.weights[:, None] * found.z).T @ found.z / found.bessel()
    size = lax.stop_gradient(jnp.where(found.varies, found.sigma, 1.0))
    correlation = lax.stop_gradient(covariance) / size[:, None] / size[None, :]
    return covariance, jnp.linalg.eigvalsh(correlation)


BANDWIDTHS: dict[str, Rule] = {
    "scott": scott,
    "silverman": silverman,
    "normal_reference": normal_reference,
    "sheather_jones": sheather_jones,
    "plug_in": plug_in,
    "improved_sheather_jones": lambda x, w=None: improved_sheather_jones(x, w).bandwidth,
    "least_squares": lambda x, w=None: least_squares(x, w).bandwidth,
    "likelihood": lambda x, w=None: likelihood(x, w).bandwidth,
}
