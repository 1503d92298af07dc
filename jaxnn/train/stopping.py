"""Early stopping as a pure state (Prechelt, 1998): patience, least gain, best parameters kept."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnn.types import Scalar


class Stopping(NamedTuple):
    """The best epoch so far: its value (lower is better) and parameters; and how long ago."""

    value: Float[Array, ""]
    params: PyTree
    epoch: Int[Array, ""]
    wait: Int[Array, ""]


def start(params: PyTree, dtype: DTypeLike) -> Stopping:
    """Returns the state before the first epoch."""
    zero = jnp.zeros((), jnp.int32)
    return Stopping(value=jnp.asarray(jnp.inf, dtype), params=params, epoch=zero, wait=zero)


def update(
    state: Stopping,
    value: Float[Array, ""],
    params: PyTree,
    epoch: Int[Array, ""],
    min_gain: Scalar = 0.0,
) -> Stopping:
    """Returns the state after an epoch that reached `value`; NaN is never an improvement.

    An epoch is better if it lowers the best value by more than `min_gain`.
    """
    better = value < state.value - min_gain
    chosen = lambda new, old: jax.tree.map(lambda a, b: jnp.where(better, a, b), new, old)
    return Stopping(
        value=jnp.where(better, value, state.value),
        params=chosen(params, state.params),
        epoch=jnp.where(better, epoch, state.epoch),
        wait=jnp.where(better, 0, state.wait + 1),
    )


def exhausted(state: Stopping, patience: Int[Array, ""]) -> Bool[Array, ""]:
    """Returns whether `patience` epochs in a row brought nothing better."""
    return state.wait >= patience
