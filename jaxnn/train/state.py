"""What a training run carries, and what it leaves behind."""

from typing import Any, NamedTuple

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
    options: dict[str, Any]


class TrainState(NamedTuple):
    """What one epoch hands to the next; `halted` once patience is out or `diverged`."""

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

    With a validation set `params` are those of `best_epoch` (counted from 0) and `value` is their
    score; if the score never was a number, `value` is infinite and they are the ones given.
    Without one, they are the last, and `value` is the training loss of the last epoch.

    `epochs` ran. `diverged`: the loss of the last of them, or the parameters after it, were not
    finite. That epoch was undone, so `params` are finite always; without a validation set `value`
    is then NaN, and `best_epoch` -1 if it was the first.
    """

    params: PyTree
    value: Float[Array, ""]
    best_epoch: Int[Array, ""]
    epochs: Int[Array, ""]
    diverged: Bool[Array, ""]
    history: History
