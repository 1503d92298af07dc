"""How a fit ended: its status in one number, and in one sentence.

The policy, which `em` and `bayes` follow and tests hold: nothing is repaired silently.
- A component whose rows are gone keeps its mean and covariance (with a proper prior it goes to the
  prior's mode); its weight says that it is empty.  In a belief that is no fault.
- A component that collapses is held up by the ridge. Without one it shrinks until its numbers end.
- Both, and components that coincide, are `Status.DEGENERATE`, whatever the likelihood did.
- A step that would lead to NaN or infinity is not taken: the last finite mixture comes back.
"""

from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks
from jaxnn.gmm.belief import BayesGMM
from jaxnn.gmm.model import GMM
from jaxnn.linalg import map_rows, tile_rows


class Status(IntEnum):
    """Why a fit ended, worst last; of several reasons the worst is told.

    CONVERGED: the last step changed the objective by less than the tolerance.
    STALLED: it changed by no more than the dtype can tell, which is above the tolerance.
    OUT_OF_STEPS: it still changed.
    DEGENERATE: some component has no rows, is as narrow as the ridge (or as the dtype can tell
        beside the spread of the data), or equals another; then k is in effect smaller.  Of a
        belief: some component in use is as narrow as the dtype can tell, or equals another.
    LOWERED: EM without ridge, or variational Bayes, lowered its objective by more than rounding
        should, and no component is to blame, which tells of a bug; the step was not taken.
    NOT_FINITE: the next mixture, or its likelihood, was NaN or infinite; the step was not taken.
    """

    CONVERGED = 0
    STALLED = 1
    OUT_OF_STEPS = 2
    DEGENERATE = 3
    LOWERED = 4
    NOT_FINITE = 5


class Fit(NamedTuple):
    """How a fit ended; `log_lik` (nats per sample) is that of the returned `mixture`.

    `objective` is what was climbed: `log_lik`, with a prior plus its log-density over the number of
    rows (up to a constant). `gain` is its change in the last step of EM. `status` is a `Status` as
    a number, `converged` whether it is CONVERGED. `steps` counts the passes over the data after the
    first: M-steps, and jumps if accelerated; where the status is LOWERED or NOT_FINITE the last of
    them failed. `component` is the one at fault: -1 if none is, or all are.
    """

    mixture: GMM
    log_lik: Float[Array, ""]
    objective: Float[Array, ""]
    gain: Float[Array, ""]
    converged: Bool[Array, ""]
    status: Int[Array, ""]
    component: Int[Array, ""]
    steps: Int[Array, ""]


class BayesFit(NamedTuple):
    """How variational Bayes ended; `lower_bound` (nats per sample) is that of `posterior`.

    Times the number of rows it bounds the log evidence log p(x) from below, all constants
    included.  `gain` is the last step's increase.  `status` is a `Status` as a number, `converged`
    whether it is CONVERGED, `component` the one at fault: -1 if none is, or all are.  A component
    that is not in use is no fault.  `steps` counts M-steps; where the status is LOWERED or
    NOT_FINITE the last of them failed, and where none succeeded `posterior` is the prior.
    """

    posterior: BayesGMM
    lower_bound: Float[Array, ""]
    gain: Float[Array, ""]
    converged: Bool[Array, ""]
    status: Int[Array, ""]
    component: Int[Array, ""]
    steps: Int[Array, ""]

    @property
    def mixture(self) -> GMM:
        """Returns the mixture at the mean of the posterior."""
        return self.posterior.mixture()


def rounding(objective: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Returns the change of the objective that its dtype cannot tell from none.

    At fixed points of EM it was seen to flicker by up to 2.3 eps (1 + |objective|).
    """
    return 4 * jnp.finfo(objective.dtype).eps * (1 + jnp.abs(objective))


def unfinished(fit: Fit, tol: Float[Array, "*batch"]) -> Bool[Array, "*batch"]:
    """Returns whether another step of EM is worth while: the last one changed enough."""
    moving = jnp.abs(fit.gain) >= jnp.maximum(tol, rounding(fit.objective))
    return moving & (fit.status < Status.LOWERED)


@jax.jit
def sound(mixture: GMM) -> Bool[Array, ""]:
    """Returns whether means and covariances are finite, and no log-weight is NaN or +inf."""
    numbers = [jnp.ravel(leaf) for leaf in jax.tree.leaves(mixture)[1:]]
    weights = jnp.where(mixture.log_weights == -jnp.inf, 0.0, mixture.log_weights)
    return jnp.all(jnp.isfinite(jnp.concatenate([weights, *numbers])))


def not_finite(mixture: GMM) -> Bool[Array, " k"]:
    """Returns which components have a NaN or an infinity (a log-weight of −inf is fine)."""
    weights = jnp.isnan(mixture.log_weights) | (mixture.log_weights == jnp.inf)
    means = ~jnp.all(jnp.isfinite(mixture.means), axis=1)
    return weights | means | ~jnp.isfinite(mixture.cov.log_det(mixture.means))


def empty(counts: Float[Array, " k"]) -> Bool[Array, " k"]:
    """Returns which components have no more than a share eps of all rows."""
    return counts <= jnp.finfo(counts.dtype).eps * jnp.sum(counts)


# Up to so many features the largest eigenvalue is looked for, beyond that the sum of all bounds it:
# families for many features never form a matrix of d by d.
FEW_FEATURES = 64


def narrow(mixture: GMM, least: Float[Array, " d"]) -> Bool[Array, " k"]:
    """Returns which components owe half of their variance in some direction to `least`.

    Half of the largest eigenvalue of Σ⁻¹ diag(least): up to 64 features from the trace of its
    eighth power, at most d^(1/8) times too much; beyond, from the trace itself.
    """
    d = least.shape[0]
    whiten = mixture.cov.whitener(jnp.zeros_like(mixture.means))
    if d > FEW_FEATURES:

        def share(features: Int[Array, " c"]) -> Float[Array, "c k"]:
            rows = jax.nn.one_hot(features, d, dtype=least.dtype) * jnp.sqrt(least)[None, :]
            return jnp.sum(jnp.square(whiten(rows)), axis=1).T

        size = tile_rows(d, mixture.means.size)
        return ~(jnp.sum(map_rows(share, jnp.arange(d), size), axis=0) < 0.5)
    rows = whiten(jnp.diag(jnp.sqrt(least)))
    gram = jnp.einsum("kij,kil->kjl", rows, rows)
    fourth = jnp.linalg.matrix_power(gram, 4)
    largest = jnp.sum(jnp.square(fourth), axis=(1, 2)) ** (1 / 8)
    return ~(largest < 0.5)  # NaN, where squares overflow, is as narrow as it gets


@jax.jit
def repeated(mixture: GMM) -> Bool[Array, " k"]:
    """Returns which components have the mean and the volume of an earlier one that is on.

    Up to √eps standard deviations, and a share √eps of the volume: EM never parts them again.
    """
    eps = jnp.finfo(mixture.means.dtype).eps
    log_det = mixture.cov.log_det(mixture.means)
    on = mixture.log_weights > -jnp.inf
    apart = mixture.cov.whitener(mixture.means)(mixture.means)  # [i, :, j] from i to j
    same = jnp.sum(jnp.square(apart), axis=1) <= eps
    same &= jnp.square(log_det[:, None] - log_det[None, :]) <= eps
    return jnp.any(jnp.tril(same & on[None, :], -1), axis=1)


def degenerate(
    mixture: GMM, counts: Float[Array, " k"], least: Float[Array, " d"]
) -> Bool[Array, " k"]:
    """Returns which components are empty, narrow or repeated."""
    return empty(counts) | narrow(mixture, least) | repeated(mixture)


def at_fault(bad: Bool[Array, " k"], on: Bool[Array, " k"]) -> Int[Array, ""]:
    """Returns the first bad component of those that are on; -1 if none is, or all are."""
    bad = bad & on
    some = jnp.any(bad) & jnp.any(on & ~bad)
    return jnp.where(some, jnp.argmax(bad), -1).astype(jnp.int32)


def ending(
    failed: Int[Array, ""],
    bad: Bool[Array, " k"],
    on: Bool[Array, " k"],
    gain: Float[Array, ""],
    tol: Float[Array, ""],
    floor: Float[Array, ""],
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Returns the status of a fit, and the component at fault.

    `failed` is LOWERED or NOT_FINITE, else CONVERGED; `bad` components count where `on`; `floor`
    is the change of the objective that its dtype cannot tell from none.
    """
    change = jnp.abs(gain)
    status = jnp.select(
        [
            failed == Status.NOT_FINITE,
            jnp.any(bad & on),
            failed != Status.CONVERGED,
            change < tol,
            change <= floor,
        ],
        [Status.NOT_FINITE, Status.DEGENERATE, Status.LOWERED, Status.CONVERGED, Status.STALLED],
        Status.OUT_OF_STEPS,
    )
    return status.astype(jnp.int32), at_fault(bad, on)


def check_sound(where: str, mixture: GMM) -> None:
    """Raises ValueError for a mixture with a NaN, or an infinity that is no log-weight."""
    known = all(map(checks.concrete, jax.tree.leaves(mixture)))
    if known and not checks.holds(lambda: sound(mixture)):
        raise ValueError(f"{where}: mixture must be finite, got NaN or infinity in its parameters")


def describe(fit: Fit | BayesFit) -> str:
    """Returns one sentence that tells how one fit ended, and what to do about it.

    Args:
        fit: what `fit` or `fit_bayes` returned.

    Raises TypeError for anything else or what is traced, ValueError for a batch: index it first.
    """
    where = "gmm.describe"
    if not isinstance(fit, Fit | BayesFit):
        raise TypeError(f"{where}: fit must be a Fit or a BayesFit, got {type(fit).__name__}")
    if not checks.concrete(fit.status):
        raise TypeError(f"{where}: fit must not be traced; inside jit or vmap look at fit.status")
    checks.shape(where, "fit.status (of one fit: index the batch)", fit.status, ())
    status, steps, gain = Status(int(fit.status)), int(fit.steps), float(fit.gain)
    k = int(fit.component)
    who = "every component" if k < 0 else f"component {k}"
    change = f"the last one changed the objective by {gain:.1e} nats per sample"
    if status is Status.DEGENERATE and k >= 0:
        with jax.ensure_compile_time_eval():
            share = float(jnp.exp(fit.mixture.log_weights[k]))
            why = f"component {k}, of weight {share:.1e},"
            twin = bool(repeated(fit.mixture)[k])
        who = f"{why} {'equals another' if twin else 'is empty or collapsed'}"
    elif status is Status.DEGENERATE:
        who = "every component has collapsed in some direction"
    return {
        Status.CONVERGED: f"converged after {steps} steps: {change}",
        Status.STALLED: f"stalled after {steps} steps at the rounding floor of "
        f"{fit.mixture.means.dtype}: {change}, above the tolerance",
        Status.OUT_OF_STEPS: f"out of steps after {steps}: {change}; raise max_steps or tol",
        Status.DEGENERATE: f"degenerate after {steps} steps: {who}; use fewer components, a larger "
        "ridge or a stronger prior, drop constant or collinear columns",
        Status.LOWERED: f"step {steps} would have lowered the objective by {-gain:.1e} nats per "
        "sample, which no step should, and was not taken",
        Status.NOT_FINITE: f"not finite: step {steps} made {who} NaN or infinite, and the mixture "
        "before it is returned; use a ridge or a prior, or scale the data",
    }[status]
