"""Recall: sᵢ ← sign(Σⱼ Wᵢⱼ sⱼ) until nothing changes (Hopfield, 1982).

A unit whose field is zero keeps its state.  The orders of updating are the entries of `UPDATES`.
Shapes: d units.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks
from jaxnn.hopfield.rules import Weights, signs
from jaxnn.types import Key

State = Float[ArrayLike, " d"]


class Recall(NamedTuple):
    """How a recall ended.

    Attributes:
        state: where it ended, (d,).
        converged: nothing changed any more (by more than the tolerance): a fixed point.
        cycle: synchronous updates alternate between `state` and another one for ever.
        steps: updates of all units, counting the last one that showed how it ends.
    """

    state: Float[Array, " d"]
    converged: Bool[Array, ""]
    cycle: Bool[Array, ""]
    steps: Int[Array, ""]


def _weights_and_state(
    where: str, weights: Float[ArrayLike, "d d"], state: State
) -> tuple[Array, Array]:
    weights = checks.data(where, "weights", weights)
    d = weights.shape[0]
    checks.shape(where, "weights", weights, (d, d))
    near = 100 * jnp.finfo(weights.dtype).eps
    if checks.concrete(weights) and not checks.holds(
        lambda: jnp.abs(weights - weights.T) <= near * jnp.max(jnp.abs(weights))
    ):
        raise ValueError(
            f"{where}: weights must be symmetric, got entries that differ from those across the "
            "diagonal; (w + w.T) / 2 is symmetric"
        )
    state = checks.floating(where, "state", state)
    checks.shape(where, "state", state, (d,))
    checks.same_dtype(where, "state", state, "weights", weights.dtype)
    signs(where, "state", state)
    return weights, state


def energy(weights: Float[ArrayLike, "d d"], state: State) -> Float[Array, ""]:
    """Returns E = -½ sᵀ W s (Hopfield, 1982, eq. 7).

    With no negative entry on the diagonal of W no asynchronous update raises it.

    Raises:
        TypeError, ValueError: weights that are not symmetric, states that are not -1 or +1, or
            widths that do not match.

    >>> float(energy(jnp.array([[0.0, 1.0], [1.0, 0.0]]), jnp.array([1.0, -1.0])))
    1.0
    """
    weights, state = _weights_and_state("hopfield.energy", weights, state)
    return -0.5 * state @ weights @ state


def overlap(state: State, pattern: State) -> Float[Array, ""]:
    """Returns s·ξ / d: 1 where they are equal, 0 on average where they are unrelated."""
    where = "hopfield.overlap"
    state, pattern = (
        checks.floating(where, name, x) for name, x in (("state", state), ("pattern", pattern))
    )
    checks.shape(where, "state", state, (None,))
    checks.shape(where, "pattern", pattern, state.shape)
    return jnp.mean(state * pattern)


class Update(NamedTuple):
    """An order of updating.

    Attributes:
        sweep: weights, state and a key to the state after one update of each unit.
        draws: whether it needs the key.
    """

    sweep: Callable[..., Float[Array, " d"]]
    draws: bool


def _sign(field: Array, otherwise: Array) -> Array:
    return jnp.where(field == 0, otherwise, jnp.sign(field))


def synchronous(weights: Weights, state: Float[Array, " d"], key: Key | None) -> Float[Array, " d"]:
    """Returns the state after all units have moved at once (Little, 1974)."""
    del key
    return _sign(weights @ state, state)


def asynchronous(weights: Weights, state: Float[Array, " d"], key: Key) -> Float[Array, " d"]:
    """Returns the state after each unit has moved once, one after another in random order."""

    def move(i: Int[Array, ""], state: Float[Array, " d"]) -> Float[Array, " d"]:
        unit = order[i]
        return state.at[unit].set(_sign(weights[unit] @ state, state[unit]))

    order = jax.random.permutation(key, state.shape[0])
    return jax.lax.fori_loop(0, state.shape[0], move, state)


UPDATES: dict[str, Update] = {
    "asynchronous": Update(asynchronous, draws=True),
    "synchronous": Update(synchronous, draws=False),
}


class _Run(NamedTuple):
    state: Float[Array, " d"]
    before: Float[Array, " d"]
    converged: Bool[Array, ""]
    cycle: Bool[Array, ""]
    steps: Int[Array, ""]


@partial(jax.jit, static_argnames="update")
def _recall(
    weights: Weights,
    state: Float[Array, " d"],
    key: Key | None,
    max_steps: Int[Array, ""],
    update: str,
) -> Recall:
    def unfinished(run: _Run) -> Bool[Array, ""]:
        return ~run.converged & ~run.cycle & (run.steps < max_steps)

    def advance(run: _Run) -> _Run:
        step_key = None if key is None else jax.random.fold_in(key, run.steps)
        new = UPDATES[update].sweep(weights, run.state, step_key)
        converged = jnp.all(new == run.state)
        # In a random order a state that comes back need not come back for ever.
        back = jnp.all(new == run.before) & (run.steps > 0) & (not UPDATES[update].draws)
        return _Run(new, run.state, converged, back & ~converged, run.steps + 1)

    no = jnp.zeros((), bool)
    end = jax.lax.while_loop(
        unfinished, advance, _Run(state, state, no, no, jnp.zeros((), jnp.int32))
    )
    return Recall(end.state, end.converged, end.cycle, end.steps)


def recall(
    weights: Float[ArrayLike, "d d"],
    state: State,
    *,
    update: str = "asynchronous",
    key: Key | None = None,
    max_steps: int | Int[Array, ""] = 100,
) -> Recall:
    """Updates `state` until it stays, in one compiled loop.

    Args:
        weights: symmetric, (d, d), as `store` returns them.
        state: where to start, -1 and +1, (d,).
        update: a name in `UPDATES`.  Asynchronous updates end in a fixed point if no entry of the
            diagonal is negative; synchronous ones there or in a cycle of two states (Goles,
            Fogelman and Pellegrin, 1985), which `cycle` tells.
        key: draws the order of the units, anew for each step; None for synchronous updates.
        max_steps: the most updates of all units; traced.

    Raises:
        TypeError, ValueError: weights that are not symmetric, states that are not -1 or +1,
            widths that do not match, or a key where none is used or none where one is needed.

    >>> pattern = jnp.array([1.0, -1.0, 1.0, -1.0, 1.0])
    >>> weights = pattern[:, None] * pattern[None] - jnp.eye(5)
    >>> end = recall(weights, pattern.at[0].set(-1.0), update="synchronous")
    >>> bool(end.converged), bool((end.state == pattern).all()), int(end.steps)
    (True, True, 2)
    """
    where = "hopfield.recall"
    weights, state = _weights_and_state(where, weights, state)
    checks.in_table(where, "update", update, UPDATES)
    checks.scalar(where, "max_steps", max_steps)
    if UPDATES[update].draws:
        checks.key(where, key)
    elif key is not None:
        raise ValueError(f"{where}: key must be None for {update} updates, which draw nothing")
    return _recall(weights, state, key, jnp.asarray(max_steps), update=update)
