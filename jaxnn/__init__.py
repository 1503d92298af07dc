"""jaxnn: density estimation and many small networks in functional JAX."""

from jaxnn import (
    backend,
    dbn,
    gmm,
    hopfield,
    kde,
    metrics,
    mlp,
    neuron,
    perceptron,
    rbm,
    sweep,
    train,
)

__all__ = [
    "dbn",
    "gmm",
    "hopfield",
    "kde",
    "metrics",
    "mlp",
    "neuron",
    "perceptron",
    "rbm",
    "sweep",
    "train",
]
__version__ = "0.1.0"

backend.guard()  # nothing above starts a backend
