"""Variational Bayes for Gaussian mixtures (Bishop, 2006, section 10.2; Blei and Jordan, 2006).

`belief` says what is learned and holds the formulas; here are the loop and its doors.  Every step
is exact coordinate ascent for every family, so the lower bound never falls.
Shapes: n samples, d features, k components.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks, memory
from jaxnn.gmm.bayes_priors import BayesPrior, bayes_prior
from jaxnn.gmm.belief import SEEN, BayesGMM, divergence, learn, surrogate
from jaxnn.gmm.expectation import expect
from jaxnn.gmm.missing import Observed, check_columns, column_variance, observe
from jaxnn.gmm.model import GMM, door
from jaxnn.gmm.moments import Moments, row_weights
from jaxnn.gmm.outcome import (
    BayesFit,
    Status,
    check_sound,
    ending,
    narrow,
    not_finite,
    repeated,
    rounding,
    sound,
)
from jaxnn.types import Data, Scalar, Weights


class _State(NamedTuple):
    """The best iterate so far; `total` and `lower_bound` always belong to `posterior`."""

    posterior: BayesGMM
    total: Moments
    lower_bound: Float[Array, ""]
    floor: Float[Array, ""]  # the change of the bound that is rounding
    gain: Float[Array, ""]
    steps: Int[Array, ""]
    failed: Int[Array, ""]  # LOWERED or NOT_FINITE, else CONVERGED
    candidate: BayesGMM  # to be looked at next


def _floor(posterior: BayesGMM, log_lik: Float[Array, ""], rows: Array) -> Float[Array, ""]:
    """Returns the change of the bound that is rounding, given the largest terms that cancel."""
    half = 0.5 * posterior.dof
    terms = posterior.means.shape[1] * jnp.sum(half * jnp.abs(jnp.log(half)))
    return rounding((jnp.abs(log_lik) + terms) / rows)


def _faults(
    posterior: BayesGMM, counts: Float[Array, " k"], least: Float[Array, " d"]
) -> tuple[Bool[Array, " k"], Bool[Array, " k"]]:
    """Returns which components are narrow or repeated, and which are in use.

    One that is not in use has the prior's mean and covariance, like all of its kind.
    """
    on = counts > jnp.sqrt(jnp.finfo(counts.dtype).eps) * jnp.sum(counts)
    mixture = posterior.mixture()
    return narrow(mixture, least) | repeated(mixture), on


@jax.jit
def _fit(
    start: GMM | BayesGMM,
    x: Float[Array, "n d"] | Observed,
    weight: Float[Array, " n"],
    prior: BayesPrior,
    tol: Float[Array, ""],
    max_steps: Int[Array, ""],
) -> BayesFit:
    rows = jnp.sum(weight)

    def unfinished(state: _State) -> Bool[Array, ""]:
        moving = jnp.abs(state.gain) >= jnp.maximum(tol, state.floor)
        return moving & (state.steps < max_steps) & (state.failed == Status.CONVERGED)

    def advance(state: _State) -> _State:
        mixture = surrogate(state.candidate)
        total = expect(mixture, x, weight)
        bound = (total.log_lik - divergence(state.candidate, prior)) / rows
        floor = _floor(state.candidate, total.log_lik, rows)
        finite = jnp.isfinite(bound) & sound(mixture)
        gain = bound - state.lower_bound
        good = finite & ~(gain < -jnp.maximum(tol, floor))
        failed = jnp.where(finite, Status.LOWERED, Status.NOT_FINITE)
        posterior, total, bound, floor = jax.tree.map(
            lambda new, old: jnp.where(good, new, old),
            (state.candidate, total, bound, floor),
            (state.posterior, state.total, state.lower_bound, state.floor),
        )
        return _State(
            posterior=posterior,
            total=total,
            lower_bound=bound,
            floor=floor,
            gain=gain,
            steps=state.steps + 1,
            failed=jnp.where(good, Status.CONVERGED, failed).astype(jnp.int32),
            candidate=learn(surrogate(posterior), total, prior),
        )

    # The start is the first candidate, better than nothing, so that one E-step is compiled.
    base = start if isinstance(start, GMM) else surrogate(start)
    zero = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(expect, base, x, weight)
    )
    if isinstance(start, GMM):
        start = learn(start, expect(start, x, weight), prior)
    nothing = jnp.full_like(rows, -jnp.inf)
    begin = _State(
        posterior=learn(base, zero, prior),
        total=zero,
        lower_bound=nothing,
        floor=jnp.zeros_like(rows),
        gain=-nothing,
        steps=jnp.full((), -1, jnp.int32),
        failed=jnp.full((), Status.CONVERGED, jnp.int32),
        candidate=start,
    )
    end = jax.lax.while_loop(unfinished, advance, begin)
    least = jnp.finfo(rows.dtype).eps * column_variance(x, weight)
    bad, on = _faults(end.posterior, end.total.counts, least)
    # A step that is not finite is what would be looked at next: it tells who is to blame.
    broken = end.failed == Status.NOT_FINITE
    bad = jnp.where(broken, not_finite(surrogate(end.candidate)), bad)
    status, component = ending(end.failed, bad, on | broken, end.gain, tol, end.floor)
    return BayesFit(
        posterior=end.posterior,
        lower_bound=end.lower_bound,
        gain=end.gain,
        converged=status == Status.CONVERGED,
        status=status,
        component=component,
        steps=end.steps,
    )


def belief_door(where: str, start: GMM | BayesGMM, x: Data, missing: bool | None = None) -> Array:
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
    return door(where, start, x, missing)


def _check_prior(where: str, prior: BayesPrior, start: GMM | BayesGMM, x: Array) -> BayesPrior:
    """Returns the prior checked against the start, in the dtype of `x`."""
    checks.instance(where, "prior", prior, BayesPrior)
    for leaf in jax.tree.leaves(prior):
        checks.finite(where, "prior", jnp.asarray(leaf))
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


@memory.budgeted
def fit_bayes(
    start: GMM | BayesGMM,
    x: Data,
    *,
    prior: BayesPrior | None = None,
    sample_weight: Weights | None = None,
    tol: Scalar = 1e-4,
    max_steps: int | Int[Array, ""] = 200,
    missing: bool = False,
    memory_budget: memory.Budget = None,
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
        missing: NaN stands for what is missing at random, and has a posterior too: the bound is
            one of the evidence of what was observed. Rows of NaN alone take no part. Static.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Returns:
        A `BayesFit`, which says how it ended; `describe` puts that in words. All numbers are
        traced: `vmap` over starts, data, weights, priors.

    Raises:
        TypeError, ValueError: bad rows, weights or prior; a start that is not finite; a negative
            tolerance or step count; a family without a Bayesian treatment.
    """
    where = "gmm.fit_bayes"
    x = belief_door(where, start, x, missing)
    if isinstance(start, GMM):
        check_sound(where, start)
    else:
        for leaf in jax.tree.leaves(start):
            checks.finite(where, "start", jnp.asarray(leaf))
        checks.positive(where, "start.mean_precision", start.mean_precision)
        checks.positive(where, "start.dof - d + 1", start.dof - x.shape[1] + 1)
    checks.scalar(where, "tol", tol)
    max_steps = checks.steps(where, "max_steps", max_steps)
    weight = row_weights(where, x, sample_weight)
    if prior is None:
        family = type(start.cov).__name__.lower()
        prior = bayes_prior(
            x, start.means.shape[0], family=family, sample_weight=weight, missing=missing
        )
    prior, rows = _check_prior(where, prior, start, x), x
    if missing:
        check_columns(where, x, weight)
        rows, weight = observe(x, weight, start.cov, start.means.shape[0])
    return _fit(
        start,
        rows,
        weight,
        prior,
        jnp.asarray(tol, x.dtype),
        max_steps,
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
    return learn(mixture, total, _check_prior(where, prior, mixture, mixture.means))
