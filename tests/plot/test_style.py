"""Oracle: contrast and distance of the colours, computed here; the context leaves no trace."""

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from jaxnn.plot import style


def test_context_sets_and_restores():
    before = dict(matplotlib.rcParams)
    with style.context():
        figure = Figure()
        figure.subplots()
        assert figure.dpi == 150
        assert matplotlib.rcParams["font.size"] >= 12
    assert dict(matplotlib.rcParams) == before


def test_first_colours_stand_out_on_white_and_from_each_other():
    colours = np.array([to_rgb(colour) for colour in style.PALETTE])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    contrast = 1.05 / (linear @ np.array([0.2126, 0.7152, 0.0722]) + 0.05)  # WCAG 2
    assert np.all(contrast[:3] >= 3)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert apart[~np.eye(len(colours), dtype=bool)].min() > 0.25
