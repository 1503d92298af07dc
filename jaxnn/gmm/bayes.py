"""Variational Bayes for Gaussian mixtures (Bishop, 2006, section 10.2; Blei and Jordan, 2006).

The model: weights from a Dirichlet or a Dirichlet process, and for each component a mean and a
full precision matrix Λ_k from one Normal-Wishart prior.  The posterior has the same form.  A
family constrains the scale matrices of its Wisharts, not the model: tied has one for all
components, diag diagonal ones, spherical multiples of the identity.  So every step is exact
coordinate ascent for every family, and the lower bound never falls.

With E[Λ_k] = (S_k S_kᵀ)⁻¹ kept as a covariance family, the variational E-step is the E-step of an
ordinary mixture, `surrogate`, with weights that do not sum to 1: the fold, the whitened moments
and their precision are those of `moments`.  Priors enter the M-step as pseudo-rows.
Shapes: n samples, d features, k components.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks
from jaxnn.gmm.bayes_priors import BayesPrior, bayes_prior, prior_factor
from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.family import Covariances, Whitened
from jaxnn.gmm.model import GMM, door
from jaxnn.gmm.moments import Moments, moments, row_weights
from jaxnn.gmm.weights import Weights as WeightBelief
from jaxnn.types import Data, Scalar, Weights

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

    weights: WeightBelief
    means: Float[Array, "k d"]
    mean_precision: Float[Array, " k"]
    dof: Float[Array, " k"]
    cov: Covariances


class BayesFit(NamedTuple):
    """How a fit ended; `lower_bound` (nats per sample) is that of the returned `posterior`.

    Times the number of rows it bounds the log evidence log p(x) from below, all constants
    included.  `gain` is the last step's increase; `converged`: it fell below the tolerance, and
    it was no decrease beyond it.  `steps` counts M-steps.
    """

    posterior: BayesGMM
    lower_bound: Float[Array, ""]
    gain: Float[Array, ""]
    converged: Bool[Array, ""]
    steps: Int[Array, ""]


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


def _divergence(posterior: BayesGMM, prior: BayesPrior) -> Float[Array, ""]:
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


def _observe(mixture: GMM, total: Moments, prior: BayesPrior) -> BayesGMM:
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


@jax.jit
def _fit(
    start: GMM | BayesGMM,
    x: Float[Array, "n d"],
    weight: Float[Array, " n"],
    prior: BayesPrior,
    tol: Float[Array, ""],
    max_steps: Int[Array, ""],
) -> BayesFit:
    rows = jnp.sum(weight)

    class State(NamedTuple):
        posterior: BayesGMM
        total: Moments
        lower_bound: Float[Array, ""]
        gain: Float[Array, ""]
        steps: Int[Array, ""]

    def evaluate(posterior: BayesGMM, before: Array, steps: Array) -> State:
        total = moments(surrogate(posterior), x, weight)
        bound = (total.log_lik - _divergence(posterior, prior)) / rows
        return State(posterior, total, bound, bound - before, steps)

    def unfinished(state: State) -> Bool[Array, ""]:
        return (state.gain >= tol) & (state.steps < max_steps)

    def advance(state: State) -> State:
        new = _observe(surrogate(state.posterior), state.total, prior)
        return evaluate(new, state.lower_bound, state.steps + 1)

    if isinstance(start, GMM):
        start = _observe(start, moments(start, x, weight), prior)
    first = evaluate(start, jnp.full_like(rows, -jnp.inf), jnp.zeros((), jnp.int32))
    end = jax.lax.while_loop(unfinished, advance, first)
    converged = (end.gain < tol) & (end.gain > -tol)
    return BayesFit(end.posterior, end.lower_bound, end.gain, converged, end.steps)


def belief_door(where: str, start: GMM | BayesGMM, x: Data) -> Array:
    """Returns `x` checked against a mixture or a belief about one."""
    if isinstance(start, BayesGMM):
        k = jnp.shape(start.means)[:1]
        checks.shape(where, "mean_precision", start.mean_precision, k)
        checks.shape(where, "dof", start.dof, k)
        start = GMM(start.mean_precision, start.means, start.cov)
    elif not isinstance(start, GMM):
        raise TypeError(f"{where}: start must be a GMM or a BayesGMM, got {type(start).__name__}")
    if type(start.cov) not in SEEN:
        raise TypeError(
            f"{where}: the family must be one of {', '.join(f.__name__ for f in SEEN)}, "
            f"got {type(start.cov).__name__}"
        )
    return door(where, start, x)


def _check_prior(where: str, prior: BayesPrior, start: GMM | BayesGMM, x: Array) -> BayesPrior:
    """Returns the prior checked against the start, in the dtype of `x`."""
    checks.instance(where, "prior", prior, BayesPrior)
    if isinstance(start, BayesGMM):
        checks.instance(where, "prior.weights", prior.weights, type(start.weights))
    k = start.means.shape[0]
    d = x.shape[1]
    checks.shape(where, "prior.mean", prior.mean, (d,))
    for leaf in jax.tree.leaves(prior.weights):
        checks.shape(where, "prior.weights", leaf, (k,))
    checks.positive(where, "prior.mean_precision", prior.mean_precision)
    checks.positive(where, "prior.dof - d + 1", prior.dof - d + 1)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, x.dtype), prior)


def fit_bayes(
    start: GMM | BayesGMM,
    x: Data,
    *,
    prior: BayesPrior | None = None,
    sample_weight: Weights | None = None,
    tol: Scalar = 1e-4,
    max_steps: int | Int[Array, ""] = 200,
) -> BayesFit:
    """Learns a posterior over mixtures from `x`, until a step gains less than `tol`.

    Args:
        start: a posterior, or a mixture (from `init` or `fit`) whose responsibilities make the
            first one; its family is kept.
        x: rows of shape (n, d), float32 or float64.
        prior: from `bayes_prior`; the one with all defaults if none is given.
        sample_weight: shape (n,); an integer weight is a repetition, zero an absence.
        tol: least gain of a step worth another one, nats per sample.
        max_steps: the most M-steps; zero only evaluates the first posterior.

    Returns:
        A `BayesFit`. All numbers are traced: `vmap` over starts, data, weights, priors.

    Raises:
        TypeError, ValueError: bad rows, weights or prior; a negative tolerance or step count; a
            family without a Bayesian treatment.
    """
    where = "gmm.fit_bayes"
    x = belief_door(where, start, x)
    checks.scalar(where, "tol", tol)
    if checks.concrete(max_steps):
        max_steps = checks.count(where, "max_steps", max_steps, least=0)
    weight = row_weights(where, x, sample_weight)
    if prior is None:
        family = type(start.cov).__name__.lower()
        prior = bayes_prior(x, start.means.shape[0], family=family, sample_weight=weight)
    return _fit(
        start,
        x,
        weight,
        _check_prior(where, prior, start, x),
        jnp.asarray(tol, x.dtype),
        jnp.asarray(max_steps),
    )


def bayes_step(mixture: GMM, total: Moments, prior: BayesPrior) -> BayesGMM:
    """Returns the posterior given the moments of all rows (Bishop, 2006, eqs. 10.58 to 10.63).

    Args:
        mixture: the one whose E-step made `total`: `surrogate(posterior)`, or any start.
        total: the moments of all rows, added up over batches, streams or devices.
        prior: from `bayes_prior`.
    """
    where = "gmm.bayes_step"
    checks.instance(where, "mixture", mixture, GMM)
    checks.instance(where, "total", total, Moments)
    return _observe(mixture, total, _check_prior(where, prior, mixture, mixture.means))
