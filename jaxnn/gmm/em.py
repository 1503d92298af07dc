"""Expectation-maximisation for Gaussian mixtures (Dempster, Laird and Rubin, 1977).

`moments` is the E-step, here are the M-step and the loop around both; `outcome` says how it ended.
Shapes: n samples, d features, k components.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks, linalg
from jaxnn.gmm import accelerate as squarem
from jaxnn.gmm import outcome, priors
from jaxnn.gmm.family import Whitened
from jaxnn.gmm.model import GMM, door
from jaxnn.gmm.moments import Moments, moments, row_weights
from jaxnn.gmm.outcome import Fit, Status
from jaxnn.gmm.priors import Prior
from jaxnn.types import Data, Scalar, Weights


def maximise(
    mixture: GMM, total: Moments, ridge: Float[Array, " d"], prior: Prior | None = None
) -> GMM:
    """Returns the M-step's mixture; see `m_step`."""
    if prior is None:
        alive = ~outcome.empty(total.counts)
        counts = jnp.where(alive, total.counts, 1.0)
        shift = jnp.where(alive[:, None], total.first / counts[:, None], 0.0)
        sums = Whitened(total.second, counts, shift, alive)
        used = total.counts > 0
        rows = jnp.sum(total.counts)
        log_weights = jnp.log(jnp.where(used, total.counts, 1.0)) - jnp.log(rows)
        log_weights = jnp.where(used, log_weights, -jnp.inf)
    else:
        sums, log_weights = priors.add_rows(mixture, prior, total.counts, total.first, total.second)
    k = mixture.means.shape[0]
    return GMM(
        log_weights=log_weights,
        means=mixture.means + mixture.cov.colour(jnp.arange(k), sums.shift),
        cov=mixture.cov.update(sums, ridge),
    )


_maximise = jax.jit(maximise)


def m_step(
    mixture: GMM,
    total: Moments,
    ridge: Scalar | Float[Array, " d"] = 0.0,
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


def _per_feature(where: str, name: str, ridge: Scalar | Array, mixture: GMM) -> Float[Array, " d"]:
    """Returns a checked number, or one per feature, as one per feature."""
    checks.non_negative(where, name, ridge)
    d = mixture.means.shape[1]
    if jnp.ndim(ridge) > 0:
        checks.shape(where, name, ridge, (d,))
    return jnp.broadcast_to(jnp.asarray(ridge, mixture.means.dtype), (d,))


class _Jump(NamedTuple):
    """What extrapolation needs: the iterate before, whether to try, and how far at most."""

    before: GMM
    ready: Bool[Array, ""]
    longest: Float[Array, ""]


class _State(NamedTuple):
    """The best iterate so far; `total` and `objective` always belong to `mixture`."""

    mixture: GMM
    total: Moments
    objective: Float[Array, ""]
    gain: Float[Array, ""]
    steps: Int[Array, ""]
    failed: Int[Array, ""]  # LOWERED or NOT_FINITE, else CONVERGED
    component: Int[Array, ""]
    jump: _Jump | None


def _rounding(objective: Float[Array, ""]) -> Float[Array, ""]:
    """Returns the change of the objective that its dtype cannot tell from none."""
    return 4 * jnp.finfo(objective.dtype).eps * (1 + jnp.abs(objective))


@partial(jax.jit, static_argnames="accelerate")
def _fit(
    mixture: GMM,
    x: Float[Array, "n d"],
    weight: Float[Array, " n"],
    prior: Prior | None,
    ridge: Float[Array, ""],
    ridge_absolute: Float[Array, " d"],
    tol: Float[Array, ""],
    max_steps: Int[Array, ""],
    accelerate: bool,
) -> Fit:
    rows = jnp.sum(weight)
    variance = linalg.mean_and_variance(x, weight)[1]
    unit = jnp.sqrt(variance)
    ridges = ridge * variance + ridge_absolute
    exact = jnp.all(ridges == 0)  # then EM cannot lower its objective

    def evaluate(mixture: GMM) -> tuple[Moments, Float[Array, ""]]:
        total = moments(mixture, x, weight)
        extra = 0.0 if prior is None else priors.log_density(mixture, prior)
        return total, (total.log_lik + extra) / rows

    def unfinished(state: _State) -> Bool[Array, ""]:
        moving = jnp.abs(state.gain) >= jnp.maximum(tol, _rounding(state.objective))
        return moving & (state.steps < max_steps) & (state.failed == Status.CONVERGED)

    def propose(state: _State) -> tuple[GMM, Bool[Array, ""], Float[Array, ""]]:
        """Returns the next mixture, whether it is a jump, and how long a jump."""
        step = maximise(state.mixture, state.total, ridges, prior)
        if state.jump is None:
            return step, jnp.array(False), jnp.ones_like(rows)
        far, length = squarem.extrapolate(
            state.jump.before, state.mixture, step, unit, state.jump.longest
        )
        jumps = state.jump.ready & (length > 1)
        return _choose(jumps, far, step), jumps, length

    def advance(state: _State) -> _State:
        mixture, jumps, length = propose(state)
        total, objective = evaluate(mixture)
        gain = objective - state.objective
        broken = outcome.not_finite(mixture)
        finite = jnp.isfinite(objective) & ~jnp.any(broken)
        falls = gain < -jnp.maximum(tol, _rounding(state.objective))
        good = finite & jnp.where(jumps, gain >= 0, ~(exact & falls))
        reason = jnp.where(finite, Status.LOWERED, Status.NOT_FINITE)
        on = state.mixture.log_weights > -jnp.inf
        jump = None
        if state.jump is not None:
            # Bolder where the bound was in the way, more careful where the likelihood was.
            longest = state.jump.longest
            longest = jnp.where(jumps & good & (length >= longest), 4 * longest, longest)
            longest = jnp.where(jumps & ~good, jnp.maximum(longest / 4, 1), longest)
            jump = _Jump(state.mixture, ~jumps, jnp.maximum(longest, 2.0))
        return _State(
            *_choose(
                good,
                (mixture, total, objective),
                (state.mixture, state.total, state.objective),
            ),
            gain=jnp.where(jumps, state.gain, gain),
            steps=state.steps + 1,
            failed=jnp.where(jumps | good, Status.CONVERGED, reason).astype(jnp.int32),
            component=jnp.where(jumps | finite, -1, outcome.at_fault(broken, on)),
            jump=jump,
        )

    total, objective = evaluate(mixture)
    broken = outcome.not_finite(mixture)
    on = mixture.log_weights > -jnp.inf
    reason = jnp.where(jnp.isfinite(objective), Status.CONVERGED, Status.NOT_FINITE)
    start = _State(
        mixture=mixture,
        total=total,
        objective=objective,
        gain=jnp.full_like(rows, jnp.inf),
        steps=jnp.zeros((), jnp.int32),
        failed=reason.astype(jnp.int32),
        component=outcome.at_fault(broken, on),
        jump=_Jump(mixture, jnp.array(False), jnp.full_like(rows, 4)) if accelerate else None,
    )
    end = jax.lax.while_loop(unfinished, advance, start)

    least = jnp.maximum(ridges, jnp.finfo(x.dtype).eps * variance)
    bad = outcome.empty(end.total.counts) | outcome.narrow(end.mixture, least)
    bad = (bad | outcome.repeated(end.mixture)) & on
    still = jnp.abs(end.gain)
    quiet = jnp.where(still <= _rounding(end.objective), Status.STALLED, Status.OUT_OF_STEPS)
    status = jnp.where(still < tol, Status.CONVERGED, quiet)
    status = jnp.where(jnp.any(bad), Status.DEGENERATE, status)
    status = jnp.where(end.failed != Status.CONVERGED, end.failed, status).astype(jnp.int32)
    blame = jnp.where(status == Status.DEGENERATE, outcome.at_fault(bad, on), end.component)
    return Fit(
        mixture=end.mixture,
        log_lik=end.total.log_lik / rows,
        objective=end.objective,
        gain=end.gain,
        converged=status == Status.CONVERGED,
        status=status,
        component=blame,
        steps=end.steps,
    )


def _choose(yes: Bool[Array, ""], a, b):
    """Returns `a` or `b`, leaf by leaf."""
    return jax.tree.map(lambda u, v: jnp.where(yes, u, v), a, b)


def fit(
    mixture: GMM,
    x: Data,
    *,
    sample_weight: Weights | None = None,
    prior: Prior | None = None,
    ridge: Scalar = 1e-6,
    ridge_absolute: Scalar | Float[Array, " d"] = 0.0,
    tol: Scalar = 1e-4,
    max_steps: int | Int[Array, ""] = 200,
    accelerate: bool = False,
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

    Returns:
        A `Fit`, which says how it ended; `describe` puts that in words. All numbers are traced:
        `vmap` over starts, data, weights, priors, ridges.

    Raises:
        TypeError, ValueError: bad rows or weights; a mixture with NaN; a negative ridge, tolerance
            or step count; a prior that does not fit.
    """
    where = "gmm.fit"
    x = door(where, mixture, x)
    if checks.concrete(mixture.log_weights) and not checks.holds(
        lambda: ~jnp.any(outcome.not_finite(mixture))
    ):
        raise ValueError(f"{where}: mixture must be finite, got NaN or infinity in its parameters")
    checks.scalar(where, "ridge", ridge)
    checks.scalar(where, "tol", tol)
    if checks.concrete(max_steps):
        max_steps = checks.count(where, "max_steps", max_steps, least=0)
    weight = row_weights(where, x, sample_weight)
    k, n = mixture.means.shape[0], x.shape[0]
    if checks.concrete(weight):
        with jax.ensure_compile_time_eval():
            n = int(jnp.sum(weight > 0))
    if k > n:
        raise ValueError(f"{where}: x must have at least {k} rows for {k} components, got {n}")
    return _fit(
        mixture,
        x,
        weight,
        None if prior is None else priors.door(where, prior, mixture),
        jnp.asarray(ridge, x.dtype),
        _per_feature(where, "ridge_absolute", ridge_absolute, mixture),
        jnp.asarray(tol, x.dtype),
        jnp.asarray(max_steps),
        accelerate,
    )
