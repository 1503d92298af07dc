"""Conjugate priors for maximum a posteriori EM: Dirichlet and Normal-inverse-Wishart.

A conjugate prior is data that was never seen: the M-step adds pseudo-rows to the moments and is
otherwise the same, so one prior serves every family (Bishop, 2006, section 2.4.2; Murphy, 2012,
section 11.4.2.8). They are added in the whitened coordinates of each component.
Shapes: n rows, d features, k components.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.gmm.families import COVARIANCES
from jaxnn.gmm.family import Whitened
from jaxnn.gmm.model import GMM
from jaxnn.gmm.moments import row_weights, rows_to_learn
from jaxnn.linalg import mean_and_variance
from jaxnn.types import Data, Weights


class Prior(NamedTuple):
    """What is believed of every component before any row is seen.

    The log-density at a mixture is, up to a constant and with C = LLᵀ, L = `scale_tril`,

        Σ_k (α_k − 1) log w_k − s/2 (log |Σ_k| + tr Σ_k⁻¹C) − κ/2 (m_k − m)ᵀ Σ_k⁻¹ (m_k − m).

    `concentration` α ≥ 1 of the Dirichlet, a number or one per component: α − 1 rows more for each.
    `mean` m (data units) and `shrinkage` κ ≥ 0: the pull of κ rows at m on each mean.
    `scale_tril` L (data units, lower Cholesky factor) and `strength` s ≥ 0: s rows whose covariance
    is LLᵀ, added to each component's.

    For full covariances this is the Normal-inverse-Wishart with ν = s − d − 2 degrees of freedom
    and scale matrix s LLᵀ; for the other families it is their conjugate prior. α = 1, κ = 0 and
    s = 0 are flat: maximum likelihood.
    """

    concentration: Float[Array, "*k"]
    mean: Float[Array, " d"]
    shrinkage: Float[Array, ""]
    strength: Float[Array, ""]
    scale_tril: Float[Array, "d d"]


def _seen_from(mixture: GMM, prior: Prior) -> tuple[Float[Array, "k d"], Float[Array, "k d d"]]:
    """Returns the prior's mean and factor in the whitened coordinates of each component."""
    at = mixture.cov.whitener(mixture.means)(prior.mean[None, :])[:, :, 0]
    spread = mixture.cov.whitener(jnp.zeros_like(mixture.means))(prior.scale_tril.T)
    return at, spread


def log_density(mixture: GMM, prior: Prior) -> Float[Array, ""]:
    """Returns the prior's log-density; see `log_prior`."""
    on = mixture.log_weights > -jnp.inf
    at, spread = _seen_from(mixture, prior)
    rows = prior.strength * jnp.sum(jnp.square(spread), axis=(1, 2))
    rows += prior.shrinkage * jnp.sum(jnp.square(at), axis=1)
    each = -prior.strength * mixture.cov.log_det(mixture.means) - 0.5 * rows
    each += (prior.concentration - 1) * jnp.where(on, mixture.log_weights, 0.0)
    return jnp.sum(jnp.where(on, each, 0.0))


def add_rows(
    mixture: GMM,
    prior: Prior,
    counts: Float[Array, " k"],
    first: Float[Array, "k d"],
    second: Array,
) -> tuple[Whitened, Float[Array, "k d"], Float[Array, " k"]]:
    """Returns the M-step's sums with the prior's rows among them.

    Then the shift of the means and the log-weights. The sums are about the new means (their own
    shift is zero): so a prior far from a component is never squared and taken off again.

    A component without rows goes to the prior's mode if there is one, and keeps a share eps of a
    row, so that it can come back; one that was switched off stays so.
    """
    eps = jnp.finfo(counts.dtype).eps
    on = mixture.log_weights > -jnp.inf
    has_rows = counts > eps * jnp.sum(counts)
    alive = on & (has_rows | ((prior.shrinkage > 0) & (prior.strength > 0)))
    at, spread = _seen_from(mixture, prior)
    pulled = jnp.where(alive, counts + prior.shrinkage, 1.0)
    spanned = jnp.where(alive, counts + prior.strength, 1.0)
    centre = first / jnp.where(has_rows, counts, 1.0)[:, None]
    shift = (first + prior.shrinkage * at) / pulled[:, None]
    rows = jnp.concatenate([centre[:, :, None], (centre - at)[:, :, None], spread], axis=2)
    strength = jnp.full(spread.shape[::2], prior.strength)
    apart = counts * prior.shrinkage / pulled
    weight = jnp.concatenate([-counts[:, None], apart[:, None], strength], axis=1)
    second += mixture.cov.second(rows, jnp.where(alive[:, None], weight, 0.0))
    mass = jnp.where(on, jnp.maximum(counts + prior.concentration - 1, eps), 1.0)
    log_mass = jnp.log(mass) - jnp.log(jnp.sum(jnp.where(on, mass, 0.0)))
    return (
        Whitened(second, spanned, jnp.zeros_like(shift), alive),
        jnp.where(alive[:, None], shift, 0.0),
        jnp.where(on, log_mass, -jnp.inf),
    )


def door(where: str, prior: Prior, mixture: GMM) -> Prior:
    """Returns `prior` as arrays in the dtype of `mixture`, checked."""
    checks.instance(where, "prior", prior, Prior)
    k, d = mixture.means.shape
    dtype = mixture.means.dtype
    mean = checks.floating(where, "prior.mean", prior.mean)
    scale_tril = checks.floating(where, "prior.scale_tril", prior.scale_tril)
    checks.shape(where, "prior.mean", mean, (d,))
    checks.shape(where, "prior.scale_tril", scale_tril, (d, d))
    for name, array in (("mean", mean), ("scale_tril", scale_tril)):
        checks.same_dtype(where, f"prior.{name}", array, "the mixture", dtype)
        checks.finite(where, f"prior.{name}", array)
    checks.scalar(where, "prior.shrinkage", prior.shrinkage)
    checks.scalar(where, "prior.strength", prior.strength)
    checks.positive(where, "prior.concentration", prior.concentration)
    concentration = jnp.asarray(prior.concentration, dtype)
    if concentration.ndim:
        checks.shape(where, "prior.concentration", concentration, (k,))
    if checks.concrete(concentration) and not checks.holds(lambda: concentration >= 1):
        raise ValueError(
            f"{where}: prior.concentration must be at least 1, got {prior.concentration}; "
            "below, the posterior has no mode"
        )
    return Prior(
        concentration=concentration,
        mean=mean,
        shrinkage=jnp.asarray(prior.shrinkage, dtype),
        strength=jnp.asarray(prior.strength, dtype),
        scale_tril=scale_tril,
    )


def log_prior(mixture: GMM, prior: Prior) -> Float[Array, ""]:
    """Returns the log-density of `prior` at `mixture`, up to a constant (nats); see `Prior`.

    Components that are switched off (weight zero) do not count.
    Raises TypeError or ValueError for a prior of another shape, dtype or sign.
    """
    where = "gmm.log_prior"
    checks.instance(where, "mixture", mixture, GMM)
    return log_density(mixture, door(where, prior, mixture))


# How many rows the default's inverse-Wishart weighs for a component, from its exponents, and how
# many of its traces go into one variance.
_ROWS = {
    "full": lambda k, d: (2 * d + 4, 1),
    "tied": lambda k, d: ((2 * d + 3 + k) / k, k),
    "diag": lambda k, d: (d + 5, 1),
    "spherical": lambda k, d: ((2 * d + 4) / d, d),
}


def default_prior(
    x: Data, n_components: int, *, family: str = "full", sample_weight: Weights | None = None
) -> Prior:
    """Returns the weak prior of Fraley and Raftery (2007, section 3), which prevents collapse.

    m is the mean of the data, κ = 0.01, ν = d + 2, and the inverse-Wishart's scale is the
    covariance of the data over k^(2/d): k such clusters fill the volume of the data.
    The weights have none (α = 1). A share 1e-6 of the variances (100 d eps, if that is more) keeps
    the covariance of collinear data, or of fewer rows than columns, positive definite.

    Args:
        x: rows of shape (n, d).
        n_components: k.
        family: a name in `COVARIANCES`; what is not in the paper takes the rows of "full".
        sample_weight: shape (n,).

    Raises:
        TypeError, ValueError: bad rows or weights, k < 1, an unknown family.
    """
    where = "gmm.default_prior"
    x = rows_to_learn(where, x)
    k = checks.count(where, "n_components", n_components)
    checks.in_table(where, "family", family, COVARIANCES)
    d = x.shape[1]
    rows, split = _ROWS.get(family, _ROWS["full"])(k, d)
    mean, tril = _moments_of(x, row_weights(where, x, sample_weight))
    return Prior(
        concentration=jnp.ones((), x.dtype),
        mean=mean,
        shrinkage=jnp.asarray(0.01, x.dtype),
        strength=jnp.asarray(rows, x.dtype),
        scale_tril=tril * (k ** (-1 / d) / (rows * split) ** 0.5),
    )


@jax.jit
def _moments_of(
    x: Float[Array, "n d"], weight: Float[Array, " n"]
) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Returns the mean and the Cholesky factor of the covariance, by way of correlations."""
    mean, variance = mean_and_variance(x, weight)
    unit = jnp.sqrt(variance)
    z = (x - mean[None]) / unit[None]
    correlation = (z * (weight / jnp.sum(weight))[:, None]).T @ z
    share = max(1e-6, 100 * x.shape[1] * float(jnp.finfo(x.dtype).eps))  # what Cholesky needs
    correlation += share * jnp.eye(x.shape[1], dtype=x.dtype)
    return mean, unit[:, None] * jnp.linalg.cholesky(correlation)
