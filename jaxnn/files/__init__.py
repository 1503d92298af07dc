"""Models in files: `save`, `load`, and `read`, which also returns what was said of the model."""

from jaxnn.files.store import FileError, Saved, load, read, save

__all__ = ["FileError", "Saved", "load", "read", "save"]
