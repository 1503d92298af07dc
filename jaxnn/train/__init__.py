"""Training: `fit` for any `ValueAndGrad`, optimizers by name, batches, early stopping."""

from jaxnn.train.augment import AUGMENTATIONS, augmentation
from jaxnn.train.averages import AVERAGES, Average, averaging
from jaxnn.train.data import Batch, Standardiser, as_float, epoch_batches, split
from jaxnn.train.decay import add_l2
from jaxnn.train.norms import max_norm
from jaxnn.train.opt_state import OptimizerState, check_state
from jaxnn.train.optimizers import FLAVOURS, OPTIMIZERS, optimizer
from jaxnn.train.report import describe
from jaxnn.train.schedules import SCHEDULES, schedule
from jaxnn.train.segments import segments
from jaxnn.train.state import History, Trained, TrainState
from jaxnn.train.stopping import Stopping
from jaxnn.train.stream import Midway, fit_stream
from jaxnn.train.trainer import fit

__all__ = [
    "AUGMENTATIONS",
    "AVERAGES",
    "FLAVOURS",
    "OPTIMIZERS",
    "SCHEDULES",
    "Average",
    "Batch",
    "History",
    "Midway",
    "OptimizerState",
    "Standardiser",
    "Stopping",
    "TrainState",
    "Trained",
    "add_l2",
    "as_float",
    "augmentation",
    "averaging",
    "check_state",
    "describe",
    "epoch_batches",
    "fit",
    "fit_stream",
    "max_norm",
    "optimizer",
    "schedule",
    "segments",
    "split",
]
