"""jaxnn: density estimation and many small networks in functional JAX."""

from jaxnn import gmm, kde, metrics, mlp, sweep, train

__all__ = ["gmm", "kde", "metrics", "mlp", "sweep", "train"]
__version__ = "0.1.0"
