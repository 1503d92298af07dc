"""Curves of many members over steps: the middle, the spread, and the best one."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from jaxnn.plot import style


def learning_curves(
    ax: Axes,
    steps: ArrayLike,
    values: ArrayLike,
    *,
    label: str = "",
    best: int | None = None,
    band: tuple[float, float] = (0.1, 0.9),
    color: str | None = None,
    log_x: bool = False,
    log_y: bool = False,
) -> Axes:
    """Draws the median of `values` over members, and the band between two quantiles.

    Args:
        ax: Where to draw; call again for another group of members.
        steps: Places on the x axis, (s,).
        values: One row a member, (m, s), or one curve, (s,).  NaN and infinities, left by
            members that diverged or stopped, are passed over.
        label: Name of the group in the legend.
        best: Row drawn as a line of its own.
        band: The two quantiles, as fractions.
        color: Colour of the group; the next one of the cycle unless given.
        log_x: Whether the x axis is logarithmic.
        log_y: Whether the y axis is logarithmic.
    """
    x, rows = np.asarray(steps, float), np.atleast_2d(np.asarray(values, float))
    if rows.shape[1:] != x.shape:
        raise ValueError(
            f"plot.learning_curves: values must have shape (any, {x.size}), got {rows.shape}"
        )
    rows = np.where(np.isfinite(rows), rows, np.nan)
    seen = ~np.all(np.isnan(rows), axis=0)  # elsewhere there is no quantile
    low, middle, high = np.nanquantile(rows[:, seen], [band[0], 0.5, band[1]], axis=0)

    (line,) = ax.plot(x[seen], middle, color=color, label=label or None)
    if len(rows) > 1:
        ax.fill_between(x[seen], low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    if best is not None:
        name = f"{label}, best" if label else "best"
        ax.plot(x, rows[best], color=line.get_color(), linestyle="--", linewidth=1.5, label=name)
    if log_x:
        ax.set_xscale("log")
    if log_y:
        ax.set_yscale("log")
    if label or best is not None:
        ax.legend()
    return ax


FAN = ((0.05, 0.95), (0.15, 0.85), (0.25, 0.75), (0.35, 0.65))


def fan(
    ax: Axes,
    steps: ArrayLike,
    values: ArrayLike,
    *,
    label: str = "",
    best: int | None = None,
    bands: Sequence[tuple[float, float]] = FAN,
    color: str | None = None,
    log_y: bool = False,
) -> Axes:
    """Draws the median of `values` over members, and bands between quantiles, darker inwards.

    Args:
        ax: Where to draw.
        steps: Places on the x axis, (s,).
        values: One row a member, (m, s); NaN and infinities, left by members that diverged or
            stopped, are passed over.
        label: Name of the group in the legend.
        best: Row drawn as a line of its own.
        bands: Pairs of quantiles, as fractions, from the outermost.
        color: Colour of the fan; the next one of the cycle unless given.
        log_y: Whether the y axis is logarithmic.
    """
    x, rows = np.asarray(steps, float), np.asarray(values, float)
    if rows.ndim != 2 or rows.shape[1:] != x.shape:
        raise ValueError(f"plot.fan: values must have shape (any, {x.size}), got {rows.shape}")
    rows = np.where(np.isfinite(rows), rows, np.nan)
    seen = ~np.all(np.isnan(rows), axis=0)
    middle = np.nanmedian(rows[:, seen], axis=0)
    (line,) = ax.plot(x[seen], middle, color=color, label=f"{label} median".strip(), zorder=3)
    for i, ends in enumerate(bands):
        low, high = np.nanquantile(rows[:, seen], ends, axis=0)
        name = f"{ends[0] * 100:.0f} to {ends[1] * 100:.0f} %" if i == 0 else None
        ax.fill_between(
            x[seen], low, high, color=line.get_color(), alpha=0.16, linewidth=0, label=name
        )
    if best is not None:
        # Where the best one is done, its curve ends.
        ax.plot(x, rows[best], color=style.VERMILION, linewidth=2.4, label="best", zorder=4)
    if log_y:
        ax.set_yscale("log")
    ax.legend()
    return ax
