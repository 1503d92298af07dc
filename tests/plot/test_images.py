"""Oracle: the pixels of each image, looked up where it must lie in the grid."""

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxnn.plot import images

ROWS = np.arange(5 * 6, dtype=float).reshape(5, 6)


def test_mosaic_puts_each_image_in_its_place():
    whole = images.mosaic(ROWS, (2, 3), columns=2)
    assert whole.shape == (3 * 2 + 2, 3 + 1 + 3)
    for i, row in enumerate(ROWS):
        top, left = 3 * (i // 2), 4 * (i % 2)
        np.testing.assert_array_equal(whole[top : top + 2, left : left + 3], row.reshape(2, 3))
    assert np.isnan(whole).sum() == whole.size - ROWS.size
    assert np.all(np.isnan(whole[6:, 4:]))  # a sixth image is missing


def test_wrong_width_is_refused():
    with pytest.raises(ValueError, match=r"images must have shape \(any, 4\), got \(5, 6\)"):
        images.mosaic(ROWS, (2, 2), columns=2)


def test_grid_has_one_scale_and_titles_at_the_middle_of_rows():
    figure = images.image_grid(
        ROWS, (2, 3), columns=2, row_titles=["a", "b", "c"], column_titles=["x", "y"], title="t"
    )
    (ax,) = figure.axes
    (picture,) = ax.images
    assert picture.get_clim() == (0.0, 29.0)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]
    np.testing.assert_allclose(ax.get_yticks(), [0.5, 3.5, 6.5])
    np.testing.assert_allclose(ax.get_xticks(), [1, 5])
    assert ax.get_title() == "t"


def test_limits_and_colours_are_the_callers():
    ax = images.draw_images(Figure().subplots(), ROWS, (2, 3), limits=(-1, 1), cmap="RdBu")
    assert ax.images[0].get_clim() == (-1.0, 1.0)
    assert ax.images[0].get_cmap().name == "RdBu"
    assert matplotlib.colors.same_color(ax.get_facecolor(), "white")
