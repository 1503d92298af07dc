"""Rows as grey images: samples, means, weights, reconstructions."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

GAP = 1  # pixels between images


def mosaic(images: ArrayLike, shape: tuple[int, int], columns: int) -> np.ndarray:
    """Returns one array of all images, row by row; gaps and missing images are NaN.

    Args:
        images: Rows of pixels, (n, height * width).
        shape: Height and width of an image.
        columns: Images side by side.
    """
    pixels = np.asarray(images, float)
    height, width = shape
    if pixels.ndim != 2 or pixels.shape[1] != height * width:
        raise ValueError(
            f"plot.images: images must have shape (any, {height * width}), got {pixels.shape}"
        )
    rows = -(-len(pixels) // columns)
    tiles = np.full((rows * columns, height + GAP, width + GAP), np.nan)
    tiles[: len(pixels), :height, :width] = pixels.reshape(-1, height, width)
    tiles = tiles.reshape(rows, columns, height + GAP, width + GAP).swapaxes(1, 2)
    return tiles.reshape(rows * (height + GAP), columns * (width + GAP))[:-GAP, :-GAP]


def draw_images(
    ax: Axes,
    images: ArrayLike,
    shape: tuple[int, int],
    *,
    columns: int = 10,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    limits: tuple[float | int, float | int] | None = None,
    cmap: str = "gray_r",
) -> Axes:
    """Draws `images` as a grid on `ax`, all on one scale: `limits`, or the least and the most.

    One picture of all images, not one Axes each, which would take seconds for a hundred.
    """
    whole = mosaic(images, shape, columns)
    low, high = limits or (np.nanmin(whole), np.nanmax(whole))
    ax.imshow(whole, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    height, width = shape[0] + GAP, shape[1] + GAP
    ax.set_yticks([i * height + (shape[0] - 1) / 2 for i in range(len(row_titles))], row_titles)
    ax.set_xticks(
        [i * width + (shape[1] - 1) / 2 for i in range(len(column_titles))], column_titles
    )
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.grid(False)
    ax.set_facecolor("#d0d0d0" if cmap.startswith("gray") else "white")  # seen in the gaps
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def image_grid(
    images: ArrayLike,
    shape: tuple[int, int],
    *,
    columns: int = 10,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    limits: tuple[float | int, float | int] | None = None,
    cmap: str = "gray_r",
    title: str = "",
    width: float = 7.0,
) -> Figure:
    """Returns a figure, `width` inches wide, of nothing but the grid; see `draw_images`."""
    rows = -(-len(np.asarray(images)) // columns)
    margin = 0.1 + 0.1 * max(map(len, row_titles), default=0)  # a letter takes 0.1 inches
    tall = (width - margin) * (rows * shape[0]) / (columns * shape[1])
    figure = Figure(figsize=(width, 0.1 + tall + 0.4 * bool(title) + 0.3 * bool(column_titles)))
    ax = draw_images(
        figure.subplots(),
        images,
        shape,
        columns=columns,
        row_titles=row_titles,
        column_titles=column_titles,
        limits=limits,
        cmap=cmap,
    )
    ax.set_title(title)
    return figure
