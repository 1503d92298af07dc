"""The prior of variational Bayes: what is believed of a mixture before any row.

Shapes: n samples, d features, k components.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.gmm.missing import check_columns, fill, observed_mean_and_variance
from jaxnn.gmm.moments import row_weights, rows_to_learn
from jaxnn.gmm.weights import WEIGHT_PRIORS
from jaxnn.gmm.weights import Weights as WeightBelief
from jaxnn.linalg import mean_and_variance
from jaxnn.types import Data, Scalar, Weights


class BayesPrior(NamedTuple):
    """A belief about the weights, and one Normal-Wishart prior for all components.

    `covariance` (data units squared) is the inverse of the Wishart's scale matrix: `dof` times
    the covariance that a component is expected to have.  A number c stands for c times the
    identity, a vector for a diagonal matrix.
    """

    weights: WeightBelief
    mean: Float[Array, " d"]
    mean_precision: Float[Array, ""]
    dof: Float[Array, ""]
    covariance: Array


def prior_factor(covariance: Array, d: int) -> Float[Array, "d d"]:
    """Returns the lower Cholesky factor of a number, a vector or a matrix."""
    if covariance.ndim == 2:
        return jnp.linalg.cholesky(covariance)
    return jnp.diag(jnp.broadcast_to(jnp.sqrt(covariance), (d,)))


def _whole(centred: Array, share: Array, variance: Array, ridge: Array) -> Array:
    return (centred * share[:, None]).T @ centred + jnp.diag(ridge * variance)


def _columns(centred: Array, share: Array, variance: Array, ridge: Array) -> Array:
    return share @ jnp.square(centred) + ridge * variance


def _mean_column(centred: Array, share: Array, variance: Array, ridge: Array) -> Array:
    return jnp.mean(_columns(centred, share, variance, ridge))


# family -> the covariance of the data as far as the family can follow it
DATA_COVARIANCE = {
    "full": _whole,
    "tied": _whole,
    "diag": _columns,
    "spherical": _mean_column,
}


def bayes_prior(
    x: Data,
    n_components: int,
    *,
    family: str = "full",
    weights: str = "dirichlet process",
    concentration: Scalar | None = None,
    mean: ArrayLike | None = None,
    mean_precision: Scalar = 1.0,
    dof: Scalar | None = None,
    covariance: ArrayLike | None = None,
    ridge: Scalar | None = None,
    sample_weight: Weights | None = None,
    missing: bool = False,
) -> BayesPrior:
    """Returns a prior in the units of `x`; the defaults are those of scikit-learn.

    Args:
        x: rows of shape (n, d).
        n_components: k, the most components that the posterior may use.
        family: full, tied, diag or spherical.
        weights: a name in `WEIGHT_PRIORS`.
        concentration: of the Dirichlet, or of the process; 1 / k. Smaller: fewer components.
        mean: shape (d,); the mean of `x`.
        mean_precision: how many rows the belief about each mean is worth.
        dof: degrees of freedom of the Wishart, above d − 1; d.
        covariance: a number, (d,) or (d, d), see `BayesPrior`; the unbiased covariance of `x`.
        ridge: added to the covariance of `x` as a share of each column's variance, so that
            constant and collinear columns have a prior too; 1e-6, in float32 100 eps.
        sample_weight: shape (n,).
        missing: NaN stands for what is missing: means and variances are those of what was
            observed, correlations those of rows with the mean of the column there. Static.

    Raises:
        TypeError, ValueError: bad rows or weights; a number that is not positive; an unknown
            name; a covariance that is not positive definite.
    """
    where = "gmm.bayes_prior"
    x = rows_to_learn(where, x, missing)
    k = checks.count(where, "n_components", n_components)
    checks.in_table(where, "family", family, DATA_COVARIANCE)
    checks.in_table(where, "weights", weights, WEIGHT_PRIORS)
    d, dtype = x.shape[1], x.dtype
    weight = row_weights(where, x, sample_weight)
    given = {"concentration": 1 / k if concentration is None else concentration,
             "mean_precision": mean_precision, "dof": d if dof is None else dof}  # fmt: skip
    for name, value in given.items():
        checks.positive(where, name, value)
        checks.shape(where, name, value, ())
    checks.positive(where, f"dof minus {d - 1} (d - 1)", given["dof"] - (d - 1))
    if ridge is None:
        ridge = max(1e-6, 100 * float(jnp.finfo(dtype).eps))
    checks.scalar(where, "ridge", ridge)
    if missing:
        check_columns(where, x, weight)
        (centre, variance), (x, weight) = observed_mean_and_variance(x, weight), fill(x, weight)
        # Filled up, a column varies less than what was observed of it.
        narrowed = jnp.sqrt(variance / mean_and_variance(x, weight)[1])
    else:
        (centre, variance), narrowed = mean_and_variance(x, weight), jnp.ones(d, dtype)
    if mean is not None:
        mean = checks.floating(where, "mean", mean).astype(dtype)
        checks.shape(where, "mean", mean, (d,))
        checks.finite(where, "mean", mean)
    if covariance is None:
        rows = jnp.sum(weight)
        share = weight / jnp.where(rows > 1, rows - 1, rows)
        spread = DATA_COVARIANCE[family](
            (x - centre[None]) * narrowed[None], share, variance, jnp.asarray(ridge, dtype)
        )
    else:
        spread = checks.floating(where, "covariance", covariance).astype(dtype)
        checks.shape(where, "covariance", spread, (d, d)[: spread.ndim])
        if checks.concrete(spread) and not checks.holds(
            lambda: jnp.diagonal(prior_factor(spread, d)) > 0
        ):
            raise ValueError(f"{where}: covariance must be positive definite")
    number = lambda value: jnp.asarray(value, dtype)
    return BayesPrior(
        weights=WEIGHT_PRIORS[weights].prior(number(given["concentration"]), k),
        mean=centre if mean is None else mean,
        mean_precision=number(mean_precision),
        dof=number(given["dof"]),
        covariance=spread,
    )
