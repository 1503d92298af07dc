"""What a training run carries, and what it leaves behind."""

from typing import NamedTuple

import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnn.train.stopping import Stopping
from jaxnn.types import Key


class Plan(NamedTuple):
    """The traced numbers of a run."""

    learning_rate: Float[Array, ""]
    l2: Float[Array, ""]
    patience: Int[Array, ""]
    min_gain: Float[Array, ""]
    options: dict[str, Array]


class TrainState(NamedTuple):
    """What one epoch hands to the next; `halted` once patience is out or the loss not finite."""

    params: PyTree
    opt_state: optax.OptState
    best: Stopping
    key: Key
    epoch: Int[Array, ""]
    halted: Bool[Array, ""]
    diverged: Bool[Array, ""]


class History(NamedTuple):
    """Per epoch: mean training loss (without the L2 term) and validation score; NaN if not run."""

    loss: Float[Array, " epochs"]
    validation: Float[Array, " epochs"]


class Trained(NamedTuple):
    """A finished run.

    `params` are those of `best_epoch` (counted from 0) where there was a validation set, else the
    last; `value` is their validation score, else the last training loss. `epochs` ran. `diverged`:
    an epoch's loss was not finite; it was undone and the run ended.
    """

    params: PyTree
    value: Float[Array, ""]
    best_epoch: Int[Array, ""]
    epochs: Int[Array, ""]
    diverged: Bool[Array, ""]
    history: History
