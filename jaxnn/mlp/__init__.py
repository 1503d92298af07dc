"""Fully connected networks, with back-propagation by hand.

`init` and `apply` are the model; `value_and_grad` is what a trainer descends.  The variants live in
tables: `ACTIVATIONS`, `LOSSES`, `CONVENTIONS` of dropout, and the layer types `Dense`, `Maxout`.
"""

from jaxnn.mlp.activations import ACTIVATIONS, Activation
from jaxnn.mlp.backprop import backward, mean_loss, value_and_grad
from jaxnn.mlp.calibration import Temperature, fit_temperature, predict_proba
from jaxnn.mlp.layers import CONVENTIONS, Convention, Dense, Layer, Maxout, Params, dropout
from jaxnn.mlp.losses import LOSSES, Loss, loss
from jaxnn.mlp.model import apply, init, predict
from jaxnn.mlp.narrow import narrow
from jaxnn.mlp.tape import Tape, forward
from jaxnn.mlp.targets import balanced
from jaxnn.mlp.uncertainty import (
    ClassUncertainty,
    ValueUncertainty,
    class_uncertainty,
    dropout_outputs,
    ensemble_outputs,
    value_uncertainty,
)

__all__ = [
    "ACTIVATIONS",
    "CONVENTIONS",
    "LOSSES",
    "Activation",
    "ClassUncertainty",
    "Convention",
    "Dense",
    "Layer",
    "Loss",
    "Maxout",
    "Params",
    "Tape",
    "Temperature",
    "ValueUncertainty",
    "apply",
    "backward",
    "balanced",
    "class_uncertainty",
    "dropout",
    "dropout_outputs",
    "ensemble_outputs",
    "fit_temperature",
    "forward",
    "init",
    "loss",
    "mean_loss",
    "narrow",
    "predict",
    "predict_proba",
    "value_and_grad",
    "value_uncertainty",
]
