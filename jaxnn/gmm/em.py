"""Expectation-maximisation for Gaussian mixtures (Dempster, Laird and Rubin, 1977).

The E-step is in `expectation`, the M-step and the iteration around both in `loop`; here are their
public doors, and the loop in one compiled program.  `outcome` says how it ended.
Shapes: n samples, d features, k components.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxnn import checks, memory
from jaxnn.gmm import loop, priors
from jaxnn.gmm.expectation import expect
from jaxnn.gmm.loop import maximise
from jaxnn.gmm.missing import Observed, check_columns, column_variance, observe
from jaxnn.gmm.model import GMM, door
from jaxnn.gmm.moments import Moments, row_weights
from jaxnn.gmm.outcome import Fit, check_sound
from jaxnn.gmm.priors import Prior
from jaxnn.types import Data, Scalar, Weights

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
        per_feature(where, "ridge", ridge, mixture),
        None if prior is None else priors.door(where, prior, mixture),
    )


def per_feature(where: str, name: str, ridge: ArrayLike, mixture: GMM) -> Float[Array, " d"]:
    """Returns a checked number, or one per feature, as one per feature."""
    checks.non_negative(where, name, ridge)
    d = mixture.means.shape[1]
    if jnp.ndim(ridge) > 0:
        checks.shape(where, name, ridge, (d,))
    return jnp.broadcast_to(jnp.asarray(ridge, mixture.means.dtype), (d,))


@partial(jax.jit, static_argnames="accelerate")
def climb(
    mixture: GMM,
    x: Float[Array, "n d"] | Observed,
    weight: Float[Array, " n"],
    prior: Prior | None,
    ridge: Float[Array, ""],
    ridge_absolute: Float[Array, " d"],
    tol: Float[Array, ""],
    max_steps: Int[Array, ""],
    accelerate: bool = False,
) -> Fit:
    """Returns `fit` of what its door has checked."""
    variance = column_variance(x, weight)
    plan = loop.Plan(
        rows=jnp.sum(weight),
        variance=variance,
        ridges=ridge * variance + ridge_absolute,
        on=mixture.log_weights > -jnp.inf,
        prior=prior,
        tol=tol,
        max_steps=max_steps,
    )

    def advance(state: loop.State) -> loop.State:
        return loop.advance(state, expect(state.candidate, x, weight), plan, accelerate)

    start = loop.start(mixture, jax.eval_shape(expect, mixture, x, weight), plan)
    return loop.finish(
        jax.lax.while_loop(lambda state: loop.unfinished(state, plan), advance, start), plan
    )


@memory.budgeted
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
    memory_budget: memory.Budget = None,
) -> Fit:
    """Runs EM from `mixture` until a step gains less than `tol`, in one compiled loop.

    Beside complete rows the memory is two numbers a row and one tile, for any number of components.

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
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

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
    return climb(
        mixture,
        rows,
        weight,
        None if prior is None else priors.door(where, prior, mixture),
        jnp.asarray(ridge, x.dtype),
        per_feature(where, "ridge_absolute", ridge_absolute, mixture),
        jnp.asarray(tol, x.dtype),
        max_steps,
        accelerate,
    )
