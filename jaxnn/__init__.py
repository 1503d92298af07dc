"""jaxnn: density estimation and many small networks in functional JAX."""

from jaxnn import dbn, gmm, hopfield, kde, metrics, mlp, neuron, perceptron, rbm, sweep, train

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
