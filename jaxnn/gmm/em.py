"""Expectation-maximisation for Gaussian mixtures (Dempster, Laird and Rubin, 1977).

`moments` is the E-step, here are the M-step and the loop around both.
Shapes: n samples, d features, k components.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks
from jaxnn.gmm.family import Whitened
from jaxnn.gmm.model import GMM, door
from jaxnn.gmm.moments import Moments, moments, row_weights
from jaxnn.linalg import mean_and_variance
from jaxnn.types import Data, Scalar, Weights


class Fit(NamedTuple):
    """How a fit ended; `log_lik` (nats per sample) is that of the returned `mixture`.

    `gain` is the last step's increase of `log_lik`.  `converged`: the gain fell below the
    tolerance, and it was no decrease beyond it.  `steps` counts M-steps.
    """

    mixture: GMM
    log_lik: Float[Array, ""]
    gain: Float[Array, ""]
    converged: Bool[Array, ""]
    steps: Int[Array, ""]


def maximise(mixture: GMM, total: Moments, ridge: Float[Array, " d"]) -> GMM:
    """Returns the M-step's mixture; see `m_step`."""
    rows = jnp.sum(total.counts)
    alive = total.counts > jnp.finfo(total.counts.dtype).eps * rows
    counts = jnp.where(alive, total.counts, 1.0)
    shift = jnp.where(alive[:, None], total.first / counts[:, None], 0.0)
    k = mixture.means.shape[0]
    used = total.counts > 0
    log_weights = jnp.log(jnp.where(used, total.counts, 1.0)) - jnp.log(rows)
    return GMM(
        log_weights=jnp.where(used, log_weights, -jnp.inf),
        means=mixture.means + mixture.cov.colour(jnp.arange(k), shift),
        cov=mixture.cov.update(Whitened(total.second, counts, shift, alive), ridge),
    )


_maximise = jax.jit(maximise)


def m_step(mixture: GMM, total: Moments, ridge: Scalar | Float[Array, " d"] = 0.0) -> GMM:
    """Returns the mixture that maximises the expected log-likelihood (eqs. 9.24 to 9.26).

    Args:
        mixture: the one whose E-step made `total`.
        total: the moments of all rows.
        ridge: added to each variance, data units squared; a number or one per feature.

    A component with less than a share eps of the rows is dead: it keeps its mean and covariance,
    and its weight tells. Raises ValueError for a negative ridge.
    """
    where = "gmm.m_step"
    checks.instance(where, "mixture", mixture, GMM)
    checks.instance(where, "total", total, Moments)
    checks.non_negative(where, "ridge", ridge)
    d = mixture.means.shape[1]
    if jnp.ndim(ridge) > 0:
        checks.shape(where, "ridge", ridge, (d,))
    return _maximise(
        mixture, total, jnp.broadcast_to(jnp.asarray(ridge, mixture.means.dtype), (d,))
    )


@jax.jit
def _fit(
    mixture: GMM,
    x: Float[Array, "n d"],
    weight: Float[Array, " n"],
    ridge: Float[Array, ""],
    tol: Float[Array, ""],
    max_steps: Int[Array, ""],
) -> Fit:
    rows = jnp.sum(weight)
    ridges = ridge * mean_and_variance(x, weight)[1]

    class State(NamedTuple):
        mixture: GMM
        total: Moments
        gain: Float[Array, ""]
        steps: Int[Array, ""]

    def unfinished(state: State) -> Bool[Array, ""]:
        return (state.gain >= tol) & (state.steps < max_steps)

    def advance(state: State) -> State:
        new = maximise(state.mixture, state.total, ridges)
        total = moments(new, x, weight)
        gain = (total.log_lik - state.total.log_lik) / rows
        return State(new, total, gain, state.steps + 1)

    total = moments(mixture, x, weight)
    start = State(mixture, total, jnp.full_like(rows, jnp.inf), jnp.zeros((), jnp.int32))
    end = jax.lax.while_loop(unfinished, advance, start)
    return Fit(
        mixture=end.mixture,
        log_lik=end.total.log_lik / rows,
        gain=end.gain,
        converged=(end.gain < tol) & (end.gain > -tol),
        steps=end.steps,
    )


def fit(
    mixture: GMM,
    x: Data,
    *,
    sample_weight: Weights | None = None,
    ridge: Scalar = 1e-6,
    tol: Scalar = 1e-4,
    max_steps: int | Int[Array, ""] = 200,
) -> Fit:
    """Runs EM from `mixture` until a step gains less than `tol`, in one compiled loop.

    Args:
        mixture: where to start, for example from `init`; its family is kept.
        x: rows of shape (n, d), float32 or float64.
        sample_weight: shape (n,); an integer weight is a repetition, zero an absence.
        ridge: added to each variance, as a share of the variance of that column of `x`, so that
            a change of units changes nothing. Zero is plain EM, which never lowers the likelihood.
        tol: least gain of a step worth another one, nats per sample.
        max_steps: the most M-steps; zero only evaluates the start.

    Returns:
        A `Fit`. All numbers are traced: `vmap` over starts, data, weights, ridges.

    Raises:
        TypeError, ValueError: bad rows or weights; a negative ridge, tolerance or step count.
    """
    where = "gmm.fit"
    x = door(where, mixture, x)
    checks.scalar(where, "ridge", ridge)
    checks.scalar(where, "tol", tol)
    if checks.concrete(max_steps):
        max_steps = checks.count(where, "max_steps", max_steps, least=0)
    k = mixture.means.shape[0]
    if k > x.shape[0]:
        raise ValueError(f"{where}: x must have at least {k} rows for {k} components, "
                         f"got {x.shape[0]}")  # fmt: skip
    return _fit(
        mixture,
        x,
        row_weights(where, x, sample_weight),
        jnp.asarray(ridge, x.dtype),
        jnp.asarray(tol, x.dtype),
        jnp.asarray(max_steps),
    )
