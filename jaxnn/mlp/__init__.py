"""Fully connected networks, with back-propagation by hand.

`init` and `apply` are the model; `value_and_grad` is what a trainer descends.  The variants live in
tables: `ACTIVATIONS`, `LOSSES`, `STARTS`, `CONVENTIONS` of dropout, and the layer types `Dense`,
`Residual`, `Maxout`.
"""

from jaxnn.mlp.activations import ACTIVATIONS, Activation
from jaxnn.mlp.autodiff import autodiff
from jaxnn.mlp.backprop import backward, deltas, mean_loss, value_and_grad
from jaxnn.mlp.calibration import Temperature, fit_temperature, predict_proba
from jaxnn.mlp.diagnosis import Diagnosis, diagnose, layer_norms
from jaxnn.mlp.gradient_check import GradientCheck, check_gradient
from jaxnn.mlp.layers import Dense, Layer, Maxout, Params, Residual, Stack
from jaxnn.mlp.losses import LOSSES, Loss, loss
from jaxnn.mlp.model import apply, init, predict
from jaxnn.mlp.narrow import narrow
from jaxnn.mlp.per_sample import (
    PerSample,
    clipped_value_and_grad,
    per_sample,
    sample_products,
)
from jaxnn.mlp.starts import STARTS
from jaxnn.mlp.structure import stack, unstack
from jaxnn.mlp.tape import Tape, forward
from jaxnn.mlp.targets import balanced
from jaxnn.mlp.thinning import CONVENTIONS, Convention, dropout
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
    "STARTS",
    "Activation",
    "ClassUncertainty",
    "Convention",
    "Dense",
    "Diagnosis",
    "GradientCheck",
    "Layer",
    "Loss",
    "Maxout",
    "Params",
    "PerSample",
    "Residual",
    "Stack",
    "Tape",
    "Temperature",
    "ValueUncertainty",
    "apply",
    "autodiff",
    "backward",
    "balanced",
    "check_gradient",
    "class_uncertainty",
    "clipped_value_and_grad",
    "deltas",
    "diagnose",
    "dropout",
    "dropout_outputs",
    "ensemble_outputs",
    "fit_temperature",
    "forward",
    "init",
    "layer_norms",
    "loss",
    "mean_loss",
    "narrow",
    "per_sample",
    "predict",
    "predict_proba",
    "sample_products",
    "stack",
    "unstack",
    "value_and_grad",
    "value_uncertainty",
]
