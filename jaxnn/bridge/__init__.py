"""Bridges to other libraries, imported by name: `from jaxnn.bridge import linen, nnx, torch`.

`linen` and `nnx` need flax (extra `flax`); nothing here is imported by the rest of jaxnn.
"""
