"""Pictures with matplotlib, never imported by the rest of jaxnn.

Functions draw on the Axes which they are given; `image_grid`, `slices` and `parallel`, which fill a
whole picture, return a Figure.  Figures are made without pyplot, so nobody has to close them.
Inputs are anything NumPy takes.
"""

from jaxnn.plot import curves, images, parallel, style, sweeps

__all__ = ["curves", "images", "parallel", "style", "sweeps"]
