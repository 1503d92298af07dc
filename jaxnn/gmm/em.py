"""Expectation-maximisation for Gaussian mixtures (Dempster, Laird and Rubin, 1977).

The E-step is in `expectation`, here are the M-step and the loop around both; `outcome` says how it
ended.
Shapes: n samples, d features, k components.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks
from jaxnn.gmm import accelerate as squarem
from jaxnn.gmm import priors
from jaxnn.gmm.expectation import expect
from jaxnn.gmm.family import Whitened
from jaxnn.gmm.missing import Observed, check_columns, column_variance, observe
from jaxnn.gmm.model import GMM, door
from jaxnn.gmm.moments import Moments, row_weights
from jaxnn.gmm.outcome import (
    Fit,
    Status,
    check_sound,
    degenerate,
    empty,
    ending,
    not_finite,
    rounding,
    sound,
)
from jaxnn.gmm.priors import Prior
from jaxnn.types import Data, Scalar, Weights


def maximise(
    mixture: GMM, total: Moments, ridge: Float[Array, " d"], prior: Prior | None = None
) -> GMM:
    """Returns the M-step's mixture; see `m_step`."""
    if prior is None:
        alive = ~empty(total.counts)
        counts = jnp.where(alive, total.counts, 1.0)
        shift = jnp.where(alive[:, None], total.first / counts[:, None], 0.0)
        sums = Whitened(total.second, counts, shift, alive)
        used = total.counts > 0
        rows = jnp.sum(total.counts)
        log_weights = jnp.log(jnp.where(used, total.counts, 1.0)) - jnp.log(rows)
        log_weights = jnp.where(used, log_weights, -jnp.inf)
    else:
        sums, shift, log_weights = priors.add_rows(
            mixture, prior, total.counts, total.first, total.second
        )
    k = mixture.means.shape[0]
    return GMM(
        log_weights=log_weights,
        means=mixture.means + mixture.cov.colour(jnp.arange(k), shift),
        cov=mixture.cov.update(sums, ridge),
    )


_maximise = jax.jit(maximise)


def m_step(
    mixture: GMM,
    total: Moments,
    ridge: Scalar | Float[ArrayLike, " d"] = 0.0,
    *,
    prior: Prior | None = None,
) -> GMM:
    """Returns the mixture that maximises the expected log-likelihood (eqs. 9.24 to 9.26).

    Args:
        mixture: the one whose E-step made `total`.
        total: the moments of all rows.
        ridge: added to each variance, data units squared; a number or one per feature.
        prior: its log-density is maximised too (Murphy, 2012, section 11.4.2.8).

    A component with less than a share eps of the rows is dead: it keeps its mean and covariance,
    and its weight tells. Raises ValueError for a negative ridge, TypeError or ValueError for a
    prior that does not fit.
    """
    where = "gmm.m_step"
    checks.instance(where, "mixture", mixture, GMM)
    checks.instance(where, "total", total, Moments)
    return _maximise(
        mixture,
        total,
        _per_feature(where, "ridge", ridge, mixture),
        None if prior is None else priors.door(where, prior, mixture),
    )


def _per_feature(where: str, name: str, ridge: ArrayLike, mixture: GMM) -> Float[Array, " d"]:
    """Returns a checked number, or one per feature, as one per feature."""
    checks.non_negative(where, name, ridge)
    d = mixture.means.shape[1]
    if jnp.ndim(ridge) > 0:
        checks.shape(where, name, ridge, (d,))
    return jnp.broadcast_to(jnp.asarray(ridge, mixture.means.dtype), (d,))


class _State(NamedTuple):
    """The best iterate so far; `total` and `objective` always belong to `mixture`."""

    mixture: GMM
    total: Moments
    objective: Float[Array, ""]
    gain: Float[Array, ""]
    steps: Int[Array, ""]
    failed: Int[Array, ""]  # LOWERED or NOT_FINITE, else CONVERGED
    candidate: GMM  # to be looked at next
    jumping: Bool[Array, ""]  # whether it is a jump rather than a step of EM,
    length: Float[Array, ""]  # of this length,
    longest: Float[Array, ""]  # and what bounded it


@partial(jax.jit, static_argnames="accelerate")
def _fit(
    mixture: GMM,
    x: Float[Array, "n d"] | Observed,
    weight: Float[Array, " n"],
    prior: Prior | None,
    ridge: Float[Array, ""],
    ridge_absolute: Float[Array, " d"],
    tol: Float[Array, ""],
    max_steps: Int[Array, ""],
    accelerate: bool,
) -> Fit:
    rows = jnp.sum(weight)
    variance = column_variance(x, weight)
    ridges = ridge * variance + ridge_absolute
    exact = jnp.all(ridges == 0)  # then EM cannot lower its objective
    on = mixture.log_weights > -jnp.inf

    def unfinished(state: _State) -> Bool[Array, ""]:
        moving = jnp.abs(state.gain) >= jnp.maximum(tol, rounding(state.objective))
        return moving & (state.steps < max_steps) & (state.failed == Status.CONVERGED)

    def advance(state: _State) -> _State:
        total = expect(state.candidate, x, weight)
        extra = 0.0 if prior is None else priors.log_density(state.candidate, prior)
        objective = (total.log_lik + extra) / rows
        finite = jnp.isfinite(objective) & sound(state.candidate)
        gain = objective - state.objective
        falls = gain < -jnp.maximum(tol, rounding(state.objective))
        good = finite & jnp.where(state.jumping, gain >= 0, ~(exact & falls))
        failed = jnp.where(finite, Status.LOWERED, Status.NOT_FINITE)
        best, total, objective = jax.tree.map(
            lambda new, old: jnp.where(good, new, old),
            (state.candidate, total, objective),
            (state.mixture, state.total, state.objective),
        )
        candidate = maximise(best, total, ridges, prior)
        jumping, length, longest = jnp.array(False), state.length, state.longest
        if accelerate:
            longest = squarem.bound(state.jumping, good, length, longest)
            far, length = squarem.extrapolate(
                state.mixture, best, candidate, jnp.sqrt(variance), longest
            )
            jumping = ~state.jumping & (length > 1)
            candidate = jax.tree.map(lambda a, b: jnp.where(jumping, a, b), far, candidate)
        return _State(
            mixture=best,
            total=total,
            objective=objective,
            gain=jnp.where(state.jumping, state.gain, gain),
            steps=state.steps + 1,
            failed=jnp.where(state.jumping | good, Status.CONVERGED, failed).astype(jnp.int32),
            candidate=candidate,
            jumping=jumping,
            length=length,
            longest=longest,
        )

    zero = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(expect, mixture, x, weight),
    )
    # The start is the first candidate, better than nothing, so that one E-step is compiled.
    nothing = jnp.full_like(rows, -jnp.inf)
    start = _State(
        mixture=mixture,
        total=zero._replace(log_lik=nothing),
        objective=nothing,
        gain=-nothing,
        steps=jnp.full((), -1, jnp.int32),
        failed=jnp.full((), Status.CONVERGED, jnp.int32),
        candidate=mixture,
        jumping=jnp.array(False),
        length=jnp.ones_like(rows),
        longest=jnp.full_like(rows, squarem.FIRST_BOUND),
    )
    end = jax.lax.while_loop(unfinished, advance, start)
    least = jnp.maximum(ridges, jnp.finfo(variance.dtype).eps * variance)
    # A step that failed is what would be looked at next: it tells who is to blame.
    failed, broken = end.failed != Status.CONVERGED, end.failed == Status.NOT_FINITE
    looked = jax.tree.map(lambda a, b: jnp.where(failed, a, b), end.candidate, end.mixture)
    bad = jnp.where(broken, not_finite(looked), degenerate(looked, end.total.counts, least))
    status, component = ending(end.failed, bad, on, end.gain, tol, rounding(end.objective))
    return Fit(
        mixture=end.mixture,
        log_lik=end.total.log_lik / rows,
        objective=end.objective,
        gain=end.gain,
        converged=status == Status.CONVERGED,
        status=status,
        component=component,
        steps=end.steps,
    )


def fit(
    mixture: GMM,
    x: Data,
    *,
    sample_weight: Weights | None = None,
    prior: Prior | None = None,
    ridge: Scalar = 1e-6,
    ridge_absolute: Scalar | Float[ArrayLike, " d"] = 0.0,
    tol: Scalar = 1e-4,
    max_steps: int | Int[Array, ""] = 200,
    accelerate: bool = False,
    missing: bool = False,
) -> Fit:
    """Runs EM from `mixture` until a step gains less than `tol`, in one compiled loop.

    Args:
        mixture: where to start, for example from `init`; its family is kept.
        x: rows of shape (n, d), float32 or float64.
        sample_weight: shape (n,); an integer weight is a repetition, zero an absence.
        prior: what to believe before the data, for example from `default_prior`; EM then climbs
            the log posterior.
        ridge: added to each variance, as a share of the variance of that column of `x`, so that
            a change of units changes nothing. Zero is plain EM, which never lowers the objective.
        ridge_absolute: added too, data units squared; a number or one per feature.
        tol: least change of the objective in a step that is worth another one, nats per sample.
        max_steps: the most passes over the data after the first; zero only evaluates the start.
        accelerate: jumps ahead between steps where that does not lower the objective (SQUAREM;
            Varadhan and Roland, 2008): the same optimum in fewer passes where EM is slow. Static.
        missing: NaN stands for what is missing at random, and the likelihood is that of what was
            observed (Little and Rubin, 2002, section 11.2); rows of NaN alone take no part. Rows
            with the same gaps share their matrices, unless `x` is traced. Static.

    Returns:
        A `Fit`, which says how it ended; `describe` puts that in words. All numbers are traced:
        `vmap` over starts, data, weights, priors, ridges.

    Raises:
        TypeError, ValueError: bad rows or weights; a mixture with NaN; a negative ridge, tolerance
            or step count; a prior that does not fit; a column without any observed value; gaps in
            a family that knows none.
    """
    where = "gmm.fit"
    x = door(where, mixture, x, missing)
    check_sound(where, mixture)
    checks.scalar(where, "ridge", ridge)
    checks.scalar(where, "tol", tol)
    max_steps = checks.steps(where, "max_steps", max_steps)
    weight = row_weights(where, x, sample_weight)
    k, n = mixture.means.shape[0], x.shape[0]
    if sample_weight is not None and checks.concrete(weight):
        with jax.ensure_compile_time_eval():
            n = int(jnp.sum(weight > 0))
    if k > n:
        raise ValueError(f"{where}: x must have at least {k} rows for {k} components, got {n}")
    rows = x
    if missing:
        check_columns(where, x, weight)
        rows, weight = observe(x, weight, mixture.cov, k)
    return _fit(
        mixture,
        rows,
        weight,
        None if prior is None else priors.door(where, prior, mixture),
        jnp.asarray(ridge, x.dtype),
        _per_feature(where, "ridge_absolute", ridge_absolute, mixture),
        jnp.asarray(tol, x.dtype),
        max_steps,
        accelerate,
    )
