"""jaxnn: density estimation and many small networks in functional JAX."""

__version__ = "0.1.0"
