"""The modern continuous Hopfield network: softmax retrieval (Ramsauer et al., 2020).

ξ ← Xᵀ softmax(β X ξ) never raises the energy of eq. 2, and keeps exponentially many patterns in d.
Shapes: n patterns (rows), d units; patterns and states hold any real numbers.
"""

import jax
import jax.numpy as jnp
from jax.nn import logsumexp, softmax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks
from jaxnn.hopfield.dynamics import Recall, State
from jaxnn.types import Data, Scalar

Active = int | Int[ArrayLike, ""] | None


def _door(
    where: str, patterns: Data, state: State, beta: Scalar, active: Active
) -> tuple[Float[Array, "n d"], Float[Array, " d"], Float[Array, ""], Int[Array, ""]]:
    patterns = checks.data(where, "patterns", patterns)
    n, d = patterns.shape
    state = checks.floating(where, "state", state)
    checks.shape(where, "state", state, (d,))
    checks.finite(where, "state", state)
    checks.same_dtype(where, "state", state, "patterns", patterns.dtype)
    checks.positive(where, "beta", beta)
    checks.shape(where, "beta", beta, ())
    if active is None:
        active = n
    checks.positive(where, "active", active)
    return patterns, state, jnp.asarray(beta, patterns.dtype), jnp.asarray(active)


def _similarities(patterns: Array, state: Array, beta: Array, active: Array) -> Float[Array, " n"]:
    return jnp.where(jnp.arange(patterns.shape[0]) < active, beta * (patterns @ state), -jnp.inf)


def _update(patterns: Array, state: Array, beta: Array, active: Array) -> Float[Array, " d"]:
    return softmax(_similarities(patterns, state, beta, active)) @ patterns


def modern_energy(
    patterns: Data, state: State, beta: Scalar, *, active: Active = None
) -> Float[Array, ""]:
    """Returns E = -lse(β, Xξ) + ½ ξᵀξ + log(n) / β + ½ max|x|² (eq. 2), never below zero.

    Arguments and exceptions are those of `modern_update`.
    """
    patterns, state, beta, active = _door("hopfield.modern_energy", patterns, state, beta, active)
    of_rows = jnp.where(jnp.arange(patterns.shape[0]) < active, jnp.sum(patterns**2, axis=1), 0.0)
    evidence = logsumexp(_similarities(patterns, state, beta, active))
    surplus = jnp.log(active.astype(beta.dtype)) - evidence
    return surplus / beta + 0.5 * (state @ state + jnp.max(of_rows))


def modern_update(
    patterns: Data, state: State, beta: Scalar, *, active: Active = None
) -> Float[Array, " d"]:
    """Returns Xᵀ softmax(β X ξ) (eq. 3): the attention of a query ξ to the patterns.

    Args:
        patterns: the rows of X, (n, d).
        state: ξ, (d,).
        beta: inverse temperature β, positive: large to pick one pattern, small to average.
        active: how many of the first rows there are, all by default; traced.

    Raises:
        TypeError, ValueError: no patterns, widths that do not match, a β that is not positive,
            NaN or infinity.

    >>> patterns = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> [round(float(v), 3) for v in modern_update(patterns, jnp.array([0.6, 0.4]), 10.0)]
    [0.881, 0.119]
    """
    return _update(*_door("hopfield.modern_update", patterns, state, beta, active))


@jax.jit
def _recall(
    patterns: Array, state: Array, beta: Array, active: Array, tol: Array, max_steps: Array
) -> Recall:
    def unfinished(run: Recall) -> Bool[Array, ""]:
        return ~run.converged & (run.steps < max_steps)

    def advance(run: Recall) -> Recall:
        new = _update(patterns, run.state, beta, active)
        converged = jnp.max(jnp.abs(new - run.state)) <= tol
        return run._replace(state=new, converged=converged, steps=run.steps + 1)

    no = jnp.zeros((), bool)
    start = Recall(state=state, converged=no, cycle=no, steps=jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, advance, start)


def modern_recall(
    patterns: Data,
    state: State,
    beta: Scalar,
    *,
    active: Active = None,
    tol: Scalar = 1e-4,
    max_steps: int | Int[Array, ""] = 100,
) -> Recall:
    """Repeats `modern_update` until no unit moves by more than `tol`, in one compiled loop.

    Arguments and exceptions are those of `modern_update`; the energy never rises, so that no state
    comes back and `cycle` is never set.  `max_steps`: the most updates; traced, like `tol`.

    >>> patterns = jnp.array([[1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])
    >>> end = modern_recall(patterns, jnp.array([1.0, -1.0, 0.2]), 4.0)
    >>> bool(end.converged), [round(float(v), 2) for v in end.state]
    (True, [1.0, -1.0, 1.0])
    """
    where = "hopfield.modern_recall"
    patterns, state, beta, active = _door(where, patterns, state, beta, active)
    checks.scalar(where, "tol", tol)
    checks.scalar(where, "max_steps", max_steps)
    tol = jnp.asarray(tol, patterns.dtype)
    return _recall(patterns, state, beta, active, tol, jnp.asarray(max_steps))
