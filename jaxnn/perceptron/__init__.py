"""Rosenblatt's perceptron (1957, 1958): one output or many, and how long it learns.

`init` and `predict` are the model, `fit` is the learning rule, `bound` is Novikoff's.  The variants
live in tables: `DECISIONS` says what outputs mean, `VARIANTS` what learning returns.
"""

from jaxnn.perceptron.learning import VARIANTS, Fit, Variant, fit
from jaxnn.perceptron.model import (
    DECISIONS,
    Decision,
    Perceptron,
    bound,
    init,
    predict,
    scores,
)

__all__ = [
    "DECISIONS",
    "VARIANTS",
    "Decision",
    "Fit",
    "Perceptron",
    "Variant",
    "bound",
    "fit",
    "init",
    "predict",
    "scores",
]
