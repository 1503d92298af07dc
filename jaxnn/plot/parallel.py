"""Parallel coordinates: every member of a sweep a line across its hyperparameters."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from jaxnn.plot import style
from jaxnn.plot.sweeps import Better, best_index

INSIDE = (0.07, 0.93)  # heights of the ends of an axis


def _numeric(column: np.ndarray) -> bool:
    return np.issubdtype(column.dtype, np.number) and len(np.unique(column)) > 8


def _scaled(name: str, column: np.ndarray, log: bool) -> tuple[np.ndarray, list[Any], list[str]]:
    """Returns heights in [0, 1] and where an axis has its ticks, with their labels."""
    low, high = INSIDE
    if not _numeric(column):
        distinct, place = np.unique(column, return_inverse=True)
        ticks = np.linspace(low, high, len(distinct)) if len(distinct) > 1 else np.array([0.5])
        words = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in distinct.tolist()]
        # Strewn a little, so that lines through one value do not hide one another.
        room = 0.3 * (high - low) / max(len(distinct) - 1, 2)
        strewn = np.random.default_rng(0).uniform(-room / 2, room / 2, len(column))
        return ticks[place] + strewn, ticks.tolist(), words
    if log and np.min(column) <= 0:
        raise ValueError(f"plot.parallel: {name} must be positive to be drawn logarithmically")
    value = np.log10(column) if log else column.astype(float)
    if log:
        marks = np.arange(np.floor(np.min(value)), np.ceil(np.max(value)) + 1)
        words = [f"$10^{{{int(mark)}}}$" for mark in marks]
    else:
        marks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(np.min(value), np.max(value))
        words = [f"{mark:.6g}" for mark in marks]
    place = lambda v: low + (high - low) * (v - marks[0]) / (marks[-1] - marks[0])
    return place(value), place(marks).tolist(), words


def parallel(
    hparams: Mapping[str, ArrayLike],
    value: ArrayLike,
    *,
    label: str,
    log: Collection[str] = (),
    better: Better = "max",
    share: float = 0.1,
) -> Figure:
    """Returns a figure with an axis for each hyperparameter and a line for each member.

    The best members are coloured by their value and drawn last, the best of all on top; the others
    stay grey. Members without a finite value are left out.

    Args:
        hparams: For each name the values of all members, (m,), numbers or words. An axis with few
            different values has a place for each.
        value: What the members reached, (m,).
        label: Name of `value`.
        log: Names drawn on a logarithmic axis, if they have many values.
        better: Which end is good.
        share: Fraction of the members that is coloured.
    """
    reached = np.asarray(value, float)
    columns = {name: np.asarray(column) for name, column in hparams.items()}
    for name, column in columns.items():
        if column.shape != reached.shape:
            raise ValueError(
                f"plot.parallel: {name} must have shape {reached.shape}, got {column.shape}"
            )
    best = best_index(reached, better)[0]
    finite = np.flatnonzero(np.isfinite(reached))
    order = finite[np.argsort(reached[finite] * (1 if better == "max" else -1), kind="stable")]
    count = max(2, round(share * len(order)))
    good = order[-count:]  # worst of them first
    drawn = {name: _scaled(name, c[finite], name in log) for name, c in columns.items()}
    heights = np.full((len(reached), len(columns)), np.nan)
    for i, (height, _, _) in enumerate(drawn.values()):
        heights[finite, i] = height

    figure = Figure(figsize=(1.9 * len(columns) + 2.2, 4.8), layout="constrained")
    ax = figure.subplots()
    across = np.arange(len(columns))
    ax.plot(across, heights[order[:-count]].T, color="#b5b5b5", alpha=0.35, linewidth=0.8)
    colours = Normalize(np.min(reached[good]), np.max(reached[good]))
    scale = ScalarMappable(colours, "cividis" if better == "max" else "cividis_r")
    for member in good:
        ax.plot(across, heights[member], color=scale.to_rgba(reached[member]), linewidth=1.8)
    ax.plot(across, heights[best], color="white", linewidth=6)
    (star,) = ax.plot(across, heights[best], color=style.VERMILION, linewidth=3.2)
    behind = {"facecolor": "white", "alpha": 0.75, "pad": 0.8, "linewidth": 0}
    for i, (_, ticks, words) in enumerate(drawn.values()):
        ax.plot([i, i], INSIDE, color="#666666", linewidth=1.2, zorder=3)
        for tick, word in zip(ticks, words, strict=True):
            ax.plot([i - 0.03, i], [tick, tick], color="#666666", linewidth=1.2, zorder=3)
            ax.text(i - 0.05, tick, word, ha="right", va="center", zorder=4, bbox=behind)
    ax.set_xticks(across, [name.replace("_", " ") for name in columns])
    ax.tick_params(axis="x", length=0, labelsize=13)
    ax.set_yticks([])
    ax.set_xlim(-0.45, len(columns) - 0.85)
    ax.set_ylim(0, 1)  # strewn lines pass the ends of an axis a little
    ax.grid(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    figure.colorbar(scale, ax=ax, label=f"{label}, best {count}", pad=0.02)
    ax.legend([star], [f"best: {reached[best]:.3g}"], loc="lower left", bbox_to_anchor=(0, 1))
    return figure
