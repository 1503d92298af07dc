"""A belief about a mixture: what variational Bayes learns (Bishop, 2006, section 10.2).

The model: weights from a Dirichlet or a Dirichlet process, and for each component a mean and a
full precision matrix Λ_k from one Normal-Wishart prior.  The posterior has the same form.  A
family constrains the scale matrices of its Wisharts, not the model: tied has one for all
components, diag diagonal ones, spherical multiples of the identity.

With E[Λ_k] = (S_k S_kᵀ)⁻¹ kept as a covariance family, the variational E-step is the E-step of an
ordinary mixture, `surrogate`, with weights that do not sum to 1: the fold, the whitened moments
and their precision are those of `moments`.  Priors enter the M-step as pseudo-rows.
Shapes: n samples, d features, k components.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float

from jaxnn.gmm.bayes_priors import BayesPrior, prior_factor
from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.family import Covariances, Whitened
from jaxnn.gmm.model import GMM
from jaxnn.gmm.moments import Moments
from jaxnn.gmm.weights import Weights

# Rows that each Wishart has seen: a tied one sees the mean over the components, since the k
# precision matrices of the model share its posterior.
SEEN: dict[type[Covariances], Callable[[Float[Array, " k"]], Float[Array, " k"]]] = {
    Full: lambda counts: counts,
    Tied: lambda counts: jnp.broadcast_to(jnp.mean(counts), counts.shape),
    Diag: lambda counts: counts,
    Spherical: lambda counts: counts,
}


class BayesGMM(NamedTuple):
    """A belief about a mixture: q(w) Π_k N(μ_k | means, (mean_precision Λ_k)⁻¹) W(Λ_k | dof).

    The scale of each Wishart is kept as `cov`, the inverse of E[Λ_k], data units squared.
    """

    weights: Weights
    means: Float[Array, "k d"]
    mean_precision: Float[Array, " k"]
    dof: Float[Array, " k"]
    cov: Covariances

    def mixture(self) -> GMM:
        """Returns the mixture at the mean weights, means and precision matrices."""
        return GMM(self.weights.log_mean(), self.means, self.cov)


def _log_det_bias(dof: Float[Array, " k"], d: int) -> Float[Array, " k"]:
    """Returns E[log|Λ|] − log|E[Λ]| (eq. 10.65): Σ_i ψ((ν − i)/2) − d log(ν/2)."""
    half = 0.5 * (dof[:, None] - jnp.arange(d, dtype=dof.dtype)[None])
    return jnp.sum(digamma(half), axis=1) - d * jnp.log(0.5 * dof)


def _log_norm(dof: Float[Array, " k"], d: int) -> Float[Array, " k"]:
    """Returns the part of log B (eq. B.79) that depends on ν alone, given E[Λ]."""
    half = 0.5 * (dof[:, None] - jnp.arange(d, dtype=dof.dtype)[None])
    return 0.5 * d * dof * jnp.log(0.5 * dof) - jnp.sum(gammaln(half), axis=1)


def surrogate(posterior: BayesGMM) -> GMM:
    """Returns the mixture whose E-step is the variational one (Bishop, 2006, eq. 10.46).

    Its log joint is E[log w_k + log N(x | k)] under the posterior, so its responsibilities are
    those of the posterior; its weights do not sum to 1.
    """
    d = posterior.means.shape[1]
    spread = _log_det_bias(posterior.dof, d) - d / posterior.mean_precision
    return GMM(
        log_weights=posterior.weights.expected_log() + 0.5 * spread,
        means=posterior.means,
        cov=posterior.cov,
    )


def divergence(posterior: BayesGMM, prior: BayesPrior) -> Float[Array, ""]:
    """Returns KL(posterior ‖ prior): eqs. 10.73, 10.74, 10.76 and 10.77."""
    k, d = posterior.means.shape
    beta, dof = posterior.mean_precision, posterior.dof
    factor = prior_factor(prior.covariance, d)
    seen = posterior.cov.whitener(jnp.zeros_like(posterior.means))(factor.T)
    trace = jnp.sum(seen * seen, axis=(1, 2))
    away = posterior.cov.whitener(posterior.means)(prior.mean[None])[:, :, 0]
    ratio = prior.mean_precision / beta
    of_means = 0.5 * (d * (ratio - 1 - jnp.log(ratio)))
    of_means += 0.5 * prior.mean_precision * jnp.sum(away * away, axis=1)
    log_det_prior = jnp.sum(jnp.log(jnp.diag(factor))) - 0.5 * d * jnp.log(prior.dof)
    first = jnp.broadcast_to(prior.dof, (k,))
    of_precisions = (
        first * (posterior.cov.log_det(posterior.means) - log_det_prior)
        + _log_norm(dof, d)
        - _log_norm(first, d)
        + 0.5 * (dof - first) * _log_det_bias(dof, d)
        + 0.5 * (trace - d * dof)
    )
    return jnp.sum(of_means + of_precisions) + posterior.weights.divergence(prior.weights)


def learn(mixture: GMM, total: Moments, prior: BayesPrior) -> BayesGMM:
    """Returns the posterior given moments in the whitened coordinates of `mixture`."""
    means, cov = mixture.means, mixture.cov
    k, d = means.shape
    counts = total.counts
    beta = prior.mean_precision + counts
    dof = prior.dof + SEEN[type(cov)](counts)
    shift = jnp.where(
        (counts > 0)[:, None], total.first / jnp.where(counts > 0, counts, 1.0)[:, None], 0.0
    )
    rows_mean = means + cov.colour(jnp.arange(k), shift)
    share = prior.mean_precision / beta
    # Scatter about the rows' own mean, then only positive terms: nothing cancels.
    away = cov.whitener(means)(prior.mean[None]) - shift[:, :, None]
    scale = cov.whitener(jnp.zeros_like(means))(prior_factor(prior.covariance, d).T)
    pseudo = cov.second(
        jnp.concatenate([away, scale], axis=2),
        jnp.concatenate([(share * counts)[:, None], jnp.ones((k, d), share.dtype)], axis=1),
    )
    sums = Whitened(
        second=total.second + pseudo,
        counts=dof,
        shift=shift * jnp.sqrt(counts / dof)[:, None],
        alive=jnp.ones(k, bool),
    )
    return BayesGMM(
        weights=prior.weights.observe(counts),
        means=rows_mean + share[:, None] * (prior.mean[None] - rows_mean),
        mean_precision=beta,
        dof=dof,
        cov=cov.update(sums, jnp.zeros(d, means.dtype)),
    )
