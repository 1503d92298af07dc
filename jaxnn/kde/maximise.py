"""The bandwidth vector or matrix of the highest leave-one-out likelihood, by gradient.

The score is Σ_i w_i log f̂₋ᵢ(x_i), nats (Duin, 1976).  Its gradient is exact, in O(n d) memory and
one tile.  The search is BFGS with backtracking (Nocedal and Wright, 2006, algorithms 3.1 and 6.1)
on the logs of the bandwidths, or on a triangular factor with the log of its diagonal.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks, linalg, memory
from jaxnn.kde.held_out import held_out_log_prob, mean_over
from jaxnn.kde.kernels import Kernel, in_form
from jaxnn.kde.spread import Spread, spread
from jaxnn.types import Data, Weights

FLOOR = 0.01  # of Silverman's bandwidth


class Maximum(NamedTuple):
    """Where the search for a bandwidth ended.

    Attributes:
        bandwidth: (d,) in data units, or (d, d) in data units squared.
        log_prob: mean leave-one-out log density under it, nats.
        steps: evaluations of the score.
        converged: whether the gradient vanished.
        floored: whether the floor, not the data, holds some bandwidth up: rows repeat.
    """

    bandwidth: Array
    log_prob: Float[Array, ""]
    steps: Int[Array, ""]
    converged: Bool[Array, ""]
    floored: Bool[Array, ""]


@memory.budgeted
def maximise_leave_one_out(
    x: Data,
    *,
    full: bool = False,
    kernel: str | Kernel = "gaussian",
    form: str = "radial",
    sample_weight: Weights | None = None,
    max_steps: int | Int[Array, ""] = 200,
    memory_budget: memory.Budget = None,
) -> Maximum:
    """Returns the bandwidths of the highest leave-one-out likelihood, from Silverman's on.

    The likelihood of repeated rows grows without bound as the bandwidth shrinks.  So no variance of
    a kernel is below that of a hundredth of Silverman's bandwidth; `floored` tells where that
    decided.

    Args:
        x: data, (n, d), n at least 2.
        full: whether to search all matrices (in the coordinates where the data are white) or a
            bandwidth for each feature; static.
        kernel: as for `fit`, without a compact support: its score would be -inf.
        form: as for `fit`.
        sample_weight: weights of the rows, (n,); importances, as in `scott`.
        max_steps: the most evaluations; traced.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for a compact kernel, a feature that does not vary, or bad shapes or values.
        TypeError: for arguments that do not hold floating-point numbers.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (50, 2)) * jax.numpy.array([[1.0, 100.0]])
    >>> found = maximise_leave_one_out(x)
    >>> bool(found.converged), bool(found.bandwidth[1] > 20 * found.bandwidth[0])
    (True, True)
    """
    where = "kde.maximise_leave_one_out"
    shape = in_form(where, kernel, form)
    if shape.compact:
        raise ValueError(
            f"{where}: kernel must have infinite support, got {shape.name!r}, which gives a row "
            "out of reach of all others density zero"
        )
    found = lax.stop_gradient(spread(where, x, sample_weight))
    return _maximise(shape, found, checks.steps(where, "max_steps", max_steps), full)


class _Search(NamedTuple):
    """One iterate of BFGS and the step that it tries next; costs and gradients are finite."""

    theta: Float[Array, " p"]
    cost: Float[Array, ""]
    gradient: Float[Array, " p"]
    inverse: Float[Array, "p p"]  # of the Hessian
    direction: Float[Array, " p"]
    length: Float[Array, ""]
    step: Int[Array, ""]
    converged: Bool[Array, ""]


def _factor(theta: Float[Array, " p"], d: int, full: bool) -> Float[Array, "d d"]:
    """Returns the triangular square root of the matrix that theta stands for, floor included."""
    if not full:
        return jnp.diag(jnp.sqrt(jnp.exp(2 * theta) + FLOOR**2))
    tril = jnp.zeros((d, d), theta.dtype).at[jnp.tril_indices(d)].set(theta)
    diagonal = jnp.diagonal(tril)
    tril = tril - jnp.diag(diagonal) + jnp.diag(jnp.exp(diagonal))
    return jnp.linalg.cholesky(tril @ tril.T + FLOOR**2 * jnp.eye(d, dtype=theta.dtype))


@functools.partial(jax.jit, static_argnames="full")
def _maximise(kernel: Kernel, found: Spread, max_steps: Int[Array, ""], full: bool) -> Maximum:
    """Searches in the coordinates where Silverman's bandwidth is the identity."""
    d = found.z.shape[1]
    unit = jnp.diag(found.sigma)
    if full:
        ridge = jnp.diag(jnp.square(found.sigma) * d * jnp.finfo(unit.dtype).eps)
        covariance = (found.weights[:, None] * found.z).T @ found.z / found.bessel()
        unit = jnp.linalg.cholesky(covariance + ridge)
    unit = unit * (found.size * (d + 2) / 4) ** (-1 / (d + 4))
    points = found.z @ linalg.inverse_tril(unit).T
    end = _search(kernel, points, found.weights, max_steps, full)
    root = _factor(end.theta, d, full)
    least = jnp.min(jnp.linalg.eigvalsh(root @ root.T))
    scale = found.span[:, None] * (unit @ root)
    return Maximum(
        bandwidth=scale @ scale.T if full else jnp.diagonal(scale),
        log_prob=-end.cost - jnp.sum(jnp.log(found.span)) - linalg.log_det_tril(unit),
        steps=end.step,
        converged=end.converged,
        floored=least < 2 * FLOOR**2,
    )


def _search(
    kernel: Kernel,
    points: Float[Array, "n d"],
    weights: Float[Array, " n"],
    max_steps: Int[Array, ""],
    full: bool,
) -> _Search:
    """Maximises the score from a bandwidth of one in the units of `points`."""
    d = points.shape[1]
    tolerance = 20 * float(jnp.finfo(points.dtype).eps) ** (2 / 3)

    def minus_score(theta: Float[Array, " p"]) -> Float[Array, ""]:
        tril = _factor(theta, d, full)
        white = points @ linalg.inverse_tril(tril).T
        one = jnp.ones(1, points.dtype)
        log_prob = held_out_log_prob(kernel, white, weights, one)
        return linalg.log_det_tril(tril) - mean_over(weights, log_prob)[0]

    def unfinished(state: _Search) -> Bool[Array, ""]:
        return ~state.converged & (state.step < max_steps) & (state.length > 1e-6)

    def advance(state: _Search) -> _Search:
        # The first evaluation, of no step, only finds the gradient.
        first = state.step == 0
        theta = state.theta + state.length * state.direction
        cost, gradient = jax.value_and_grad(minus_score)(theta)
        slope = state.length * jnp.vdot(state.gradient, state.direction)
        rounding = 50 * jnp.finfo(cost.dtype).eps * (1 + jnp.abs(state.cost))
        good = first | (cost <= state.cost + 1e-4 * slope + rounding)
        moved, bent = theta - state.theta, gradient - state.gradient
        inverse = jnp.where(first, state.inverse, _updated(state.inverse, moved, bent))
        direction = -inverse @ gradient
        # In logs of bandwidths a step beyond one is a leap.
        direction = direction / jnp.maximum(jnp.max(jnp.abs(direction)), 1.0)
        taken = _Search(
            theta, cost, gradient, inverse, direction, jnp.ones_like(cost), state.step + 1,
            jnp.max(jnp.abs(gradient)) < tolerance,
        )  # fmt: skip
        refused = state._replace(length=state.length / 2, step=state.step + 1)
        return jax.tree.map(lambda a, b: jnp.where(good, a, b), taken, refused)

    p = d * (d + 1) // 2 if full else d
    zero = jnp.zeros(p, points.dtype)
    infinite = jnp.array(jnp.inf, points.dtype)
    eye = jnp.eye(p, dtype=points.dtype)
    start = _Search(
        zero, infinite, zero, eye, zero, jnp.ones_like(infinite), jnp.array(0), jnp.array(False)
    )
    return lax.while_loop(unfinished, advance, start)


def _updated(
    inverse: Float[Array, "p p"], moved: Float[Array, " p"], bent: Float[Array, " p"]
) -> Float[Array, "p p"]:
    """Returns the BFGS update of an inverse Hessian (Nocedal and Wright, 2006, eq. 6.17)."""
    curvature = jnp.vdot(moved, bent)
    safe = curvature > 0
    rho = 1 / jnp.where(safe, curvature, 1.0)
    left = jnp.eye(moved.shape[0], dtype=moved.dtype) - rho * moved[:, None] * bent[None, :]
    updated = left @ inverse @ left.T + rho * moved[:, None] * moved[None, :]
    return jnp.where(safe, updated, inverse)
