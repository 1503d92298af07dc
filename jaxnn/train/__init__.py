"""Training: `fit` for any `ValueAndGrad`, optimizers by name, batches, early stopping."""

from jaxnn.train.data import Batch, Standardiser, as_float, epoch_batches, split
from jaxnn.train.optimizers import OPTIMIZERS, optimizer
from jaxnn.train.state import History, Trained, TrainState
from jaxnn.train.stopping import Stopping
from jaxnn.train.trainer import add_l2, fit, segment

__all__ = [
    "OPTIMIZERS",
    "Batch",
    "History",
    "Standardiser",
    "Stopping",
    "TrainState",
    "Trained",
    "add_l2",
    "as_float",
    "epoch_batches",
    "fit",
    "optimizer",
    "segment",
    "split",
]
