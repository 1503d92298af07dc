"""jaxnn: density estimation and many small networks in functional JAX."""

from jaxnn import (
    backend,
    dbn,
    files,
    gmm,
    hopfield,
    inspection,
    kde,
    mdn,
    metrics,
    mlp,
    neuron,
    perceptron,
    rbm,
    scale,
    sweep,
    train,
)
from jaxnn.files import load, save

__all__ = [
    "dbn",
    "files",
    "gmm",
    "hopfield",
    "inspection",
    "kde",
    "load",
    "mdn",
    "metrics",
    "mlp",
    "neuron",
    "perceptron",
    "rbm",
    "save",
    "scale",
    "sweep",
    "train",
]
__version__ = "0.1.0"

backend.guard()  # nothing above starts a backend
