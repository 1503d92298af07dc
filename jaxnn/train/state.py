"""What a training run is told, what it carries, and what it leaves behind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnn.train.augment import Augmentation
from jaxnn.train.averages import Average, Averaging
from jaxnn.train.data import Batch
from jaxnn.train.optimizers import Factory
from jaxnn.train.schedules import Schedule
from jaxnn.train.stopping import Stopping
from jaxnn.types import Key, ValueAndGrad

Score = Callable[[PyTree, Batch], Float[Array, ""]]


class Plan(NamedTuple):
    """The traced numbers of a run; a schedule and other rules are pytrees of numbers.

    `stop_at` is None where all epochs are run, `order_key` where the run's own key orders rows.
    """

    learning_rate: Float[Array, ""] | Schedule
    l2: Float[Array, ""] | None
    max_norm: Float[Array, ""] | None
    average: Averaging | None
    augment: Augmentation | None
    patience: Int[Array, ""]
    stop_at: Int[Array, ""] | None
    order_key: Key | None
    min_gain: Float[Array, ""]
    options: dict[str, Array]


@dataclass(frozen=True)
class Choices:
    """The static choices of a run; `finite` where JAX looks for NaN (see `epochs.blank`)."""

    value_and_grad: ValueAndGrad
    optimizer: str | Factory
    flavour: str
    epochs: int
    batch_size: int
    accumulate: int
    shuffle: bool
    validate_every: int
    score: Score | None
    metrics: tuple[tuple[str, Score], ...]
    finite: bool


class Rows(NamedTuple):
    """All rows of a run: `batch` without its weights, `validation` with them; None for none."""

    batch: Batch
    weight: Float[Array, " n"] | None
    sampling: Float[Array, " n"] | None
    validation: Batch | None


class History(NamedTuple):
    """Per epoch: mean training loss (without the L2 term), validation score and metrics.

    NaN where an epoch was not run or not validated; infinity while `jax_debug_nans` is on, since
    JAX then refuses every NaN.
    """

    loss: Float[Array, " epochs"]
    validation: Float[Array, " epochs"]
    metrics: dict[str, Float[Array, " epochs"]]


class Moving(NamedTuple):
    """What a step changes; `average` is None where nothing is averaged."""

    params: PyTree
    opt_state: optax.OptState
    average: Average | None

    @property
    def judged(self) -> PyTree:
        """The parameters that are validated and returned."""
        return self.params if self.average is None else self.average.params


class TrainState(NamedTuple):
    """What one epoch hands to the next.

    `halted` once nothing is left to do: all epochs ran, patience is out, or it `diverged`, and
    then `bad_batch` and `bad_leaf` say where (see `Trained`). `best` is None without validation.
    """

    at: Moving
    best: Stopping | None
    key: Key
    epoch: Int[Array, ""]
    halted: Bool[Array, ""]
    diverged: Bool[Array, ""]
    bad_batch: Int[Array, ""]
    bad_leaf: Int[Array, ""]
    history: History


class Trained(NamedTuple):
    """A finished run, or the state of one that goes on.

    With a validation set `params` are those of `best_epoch` (counted from 0) and `value` is their
    score; if the score never was a number, `value` is infinite and they are the ones given.
    Without one, they are the last, and `value` is the training loss of the last epoch.

    `epochs` ran, the last of them perhaps in part: `diverged` says that the loss, the gradient or
    the parameters after a step of it were not finite. That step was undone, so `params` are
    finite always; it is number `bad_batch` of epoch `epochs - 1`, and `bad_leaf` is the first
    array of the parameters that was not finite, in the order of `jax.tree.leaves` (-1: the loss
    alone). Both are -1 for a run that did not diverge. `describe` makes a sentence of it. Without
    a validation set `value` is then NaN, and `best_epoch` the last complete one, or -1.
    """

    params: PyTree
    value: Float[Array, ""]
    best_epoch: Int[Array, ""]
    epochs: Int[Array, ""]
    diverged: Bool[Array, ""]
    bad_batch: Int[Array, ""]
    bad_leaf: Int[Array, ""]
    history: History
