"""One look for all pictures: readable from the last row and by the colour-blind."""

from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from cycler import cycler

# Okabe and Ito (2008), darkest first: the last ones are too pale for thin lines on white.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, YELLOW, BLACK = "#E69F00", "#56B4E9", "#F0E442", "#000000"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, YELLOW, BLACK)

INK = "#222222"
RC: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 13,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "figure.figsize": (7.0, 4.2),
    "figure.titlesize": 15,
    "font.size": 13,
    "grid.color": "#e4e4e4",
    "image.cmap": "cividis",  # even in lightness, and the same to all eyes
    "image.interpolation": "nearest",
    "legend.frameon": False,
    "legend.fontsize": 12,
    "lines.linewidth": 2.0,
    "savefig.dpi": 150,
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 12,
    "ytick.color": INK,
    "ytick.labelsize": 12,
}


def context() -> AbstractContextManager[None]:
    """Returns the context in which figures are made and saved: `with style.context(): ...`."""
    return matplotlib.rc_context(RC)
