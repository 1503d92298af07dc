"""One iteration of EM around an E-step that somebody else has done, and how a fit begins and ends.

Pure functions of a state and of the E-step's moments: it is all the same whether these were added
up tile by tile in memory, from a stream, or over devices.
Shapes: d features, k components.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnn.gmm import accelerate as squarem
from jaxnn.gmm import priors
from jaxnn.gmm.family import Whitened
from jaxnn.gmm.model import GMM
from jaxnn.gmm.moments import Moments
from jaxnn.gmm.outcome import Fit, Status, degenerate, empty, ending, not_finite, rounding, sound
from jaxnn.gmm.priors import Prior


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
        share = jnp.where(used, total.counts, 1.0) / jnp.sum(total.counts)
        log_weights = jnp.where(used, jnp.log(share), -jnp.inf)
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


class Plan(NamedTuple):
    """What stays the same from step to step: numbers of the data and of the call, all traced."""

    rows: Float[Array, ""]  # sum of the weights
    variance: Float[Array, " d"]  # of the columns
    ridges: Float[Array, " d"]  # added to each variance, data units squared
    on: Bool[Array, " k"]  # the components that the start uses
    prior: Prior | None
    tol: Float[Array, ""]
    max_steps: Int[Array, ""]


class State(NamedTuple):
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


def start(mixture: GMM, like: Moments, plan: Plan) -> State:
    """Returns the state before the first E-step, whose moments have the shapes of `like`.

    The start is the first candidate, better than nothing, so that one E-step is compiled.
    """
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    nothing = jnp.full_like(plan.rows, -jnp.inf)
    return State(
        mixture=mixture,
        total=zero._replace(log_lik=nothing),
        objective=nothing,
        gain=-nothing,
        steps=jnp.full((), -1, jnp.int32),
        failed=jnp.full((), Status.CONVERGED, jnp.int32),
        candidate=mixture,
        jumping=jnp.array(False),
        length=jnp.ones_like(plan.rows),
        longest=jnp.full_like(plan.rows, squarem.FIRST_BOUND),
    )


def unfinished(state: State, plan: Plan) -> Bool[Array, ""]:
    """Returns whether the candidate is worth an E-step."""
    moving = jnp.abs(state.gain) >= jnp.maximum(plan.tol, rounding(state.objective))
    return moving & (state.steps < plan.max_steps) & (state.failed == Status.CONVERGED)


def advance(state: State, total: Moments, plan: Plan, accelerate: bool) -> State:
    """Returns the state after the E-step of its candidate, whose moments `total` are."""
    exact = jnp.all(plan.ridges == 0)  # then EM cannot lower its objective
    extra = 0.0 if plan.prior is None else priors.log_density(state.candidate, plan.prior)
    objective = (total.log_lik + extra) / plan.rows
    finite = jnp.isfinite(objective) & sound(state.candidate)
    gain = objective - state.objective
    falls = gain < -jnp.maximum(plan.tol, rounding(state.objective))
    good = finite & jnp.where(state.jumping, gain >= 0, ~(exact & falls))
    failed = jnp.where(finite, Status.LOWERED, Status.NOT_FINITE)
    best, total, objective = jax.tree.map(
        lambda new, old: jnp.where(good, new, old),
        (state.candidate, total, objective),
        (state.mixture, state.total, state.objective),
    )
    candidate = maximise(best, total, plan.ridges, plan.prior)
    jumping, length, longest = jnp.array(False), state.length, state.longest
    if accelerate:
        longest = squarem.bound(state.jumping, good, length, longest)
        far, length = squarem.extrapolate(
            state.mixture, best, candidate, jnp.sqrt(plan.variance), longest
        )
        jumping = ~state.jumping & (length > 1)
        candidate = jax.tree.map(lambda a, b: jnp.where(jumping, a, b), far, candidate)
    return State(
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


def finish(end: State, plan: Plan) -> Fit:
    """Returns how the fit ended."""
    least = jnp.maximum(plan.ridges, jnp.finfo(plan.variance.dtype).eps * plan.variance)
    # A step that failed is what would be looked at next: it tells who is to blame.
    failed, broken = end.failed != Status.CONVERGED, end.failed == Status.NOT_FINITE
    looked = jax.tree.map(lambda a, b: jnp.where(failed, a, b), end.candidate, end.mixture)
    bad = jnp.where(broken, not_finite(looked), degenerate(looked, end.total.counts, least))
    floor = rounding(end.objective)
    status, component = ending(end.failed, bad, plan.on, end.gain, plan.tol, floor)
    return Fit(
        mixture=end.mixture,
        log_lik=end.total.log_lik / plan.rows,
        objective=end.objective,
        gain=end.gain,
        converged=status == Status.CONVERGED,
        status=status,
        component=component,
        steps=end.steps,
    )
