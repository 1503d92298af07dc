"""Expectation-maximisation for Gaussian mixtures (Dempster, Laird and Rubin, 1977).

The E-step folds rows into moments that add up, tile by tile: no responsibilities of all rows are
kept, and data that is streamed or spread over devices only changes who adds.  Moments are taken in
the whitened coordinates of the mixture that made them (see `covariances`), so they belong to it.
Shapes: n samples, d features, k components.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks
from jaxnn.gmm.family import Whitened
from jaxnn.gmm.model import GMM, door, joint_rows, tile_of
from jaxnn.linalg import fold_rows, mean_and_variance
from jaxnn.types import Data, Scalar, Weights


class Moments(NamedTuple):
    """Sums over rows, weighted by responsibilities; add them leaf by leaf.

    `counts` Σ r, `first` Σ r y and `second` Σ r yyᵀ (as far as the family needs it) with
    y = S⁻¹(x − m) of the mixture they belong to; `log_lik` is the log-likelihood (nats).
    """

    counts: Float[Array, " k"]
    first: Float[Array, "k d"]
    second: Array
    log_lik: Float[Array, ""]


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


def moments(
    mixture: GMM, x: Float[Array, "n d"], weight: Float[Array, " n"], hard: bool = False
) -> Moments:
    """Returns the E-step's moments; `hard` gives each row wholly to its best component.

    The hard form is the classification EM of Celeux and Govaert (1992).
    """
    joint_of = joint_rows(mixture)
    k = mixture.means.shape[0]

    def of_tile(rows: Float[Array, "c d"], w: Float[Array, " c"]) -> Moments:
        y, joint = joint_of(rows)
        evidence = jax.nn.logsumexp(joint, axis=0)
        if hard:
            resp = jax.nn.one_hot(jnp.argmax(joint, axis=0), k, dtype=y.dtype, axis=0)
        else:
            resp = jnp.exp(joint - evidence[None])
        resp *= w[None]
        return Moments(
            counts=jnp.sum(resp, axis=1),
            first=jnp.sum(y * resp[:, None, :], axis=2),
            second=mixture.cov.second(y, resp),
            log_lik=jnp.sum(w * evidence),
        )

    def step(total: Moments, tile: tuple[Array, Array], fresh: Bool[Array, " c"]) -> Moments:
        rows, w = tile
        return jax.tree.map(jnp.add, total, of_tile(rows, w * fresh))

    zero = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(of_tile, x[:1], weight[:1]),
    )
    return fold_rows(step, zero, (x, weight), tile_of(mixture, x.shape[0]))


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


_moments = jax.jit(moments, static_argnames="hard")
_maximise = jax.jit(maximise)


def row_weights(where: str, x: Array, sample_weight: Weights | None) -> Float[Array, " n"]:
    """Returns the checked weights of the rows of `x`, in its dtype; ones where there are none."""
    if sample_weight is None:
        return jnp.ones(x.shape[0], x.dtype)
    return checks.weights(where, "sample_weight", sample_weight, x.shape[0]).astype(x.dtype)


def e_step(mixture: GMM, x: Data, sample_weight: Weights | None = None) -> Moments:
    """Returns the additive moments of `x` under `mixture` (Bishop, 2006, eq. 9.23).

    Moments of parts of the data, under the same mixture, add up to the moments of the whole.
    Raises TypeError or ValueError for bad rows or weights.
    """
    x = door("gmm.e_step", mixture, x)
    return _moments(mixture, x, row_weights("gmm.e_step", x, sample_weight))


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
