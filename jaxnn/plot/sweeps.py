"""What a sweep found: the value over two hyperparameters, or against each of many."""

from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from jaxnn.plot import style

Better = Literal["max", "min"]


FEW = 8  # so many different values still have room for a label each


def best_index(value: ArrayLike, better: Better) -> tuple[int, ...]:
    """Returns the place of the best finite entry; raises ValueError if there is none."""
    array = np.asarray(value, float)
    ranked = np.where(np.isfinite(array), array if better == "max" else -array, -np.inf)
    if not np.any(np.isfinite(ranked)):
        raise ValueError("plot.sweeps: value must have a finite entry, got none")
    return tuple(int(i) for i in np.unravel_index(np.argmax(ranked), ranked.shape))


def _ticks(values: ArrayLike) -> list[str]:
    return [f"{v:.3g}" if isinstance(v, float) else str(v) for v in np.asarray(values).tolist()]


def heatmap(
    ax: Axes,
    x: ArrayLike,
    y: ArrayLike,
    value: ArrayLike,
    *,
    x_label: str,
    y_label: str,
    label: str,
    better: Better = "max",
) -> Axes:
    """Draws `value` in cells of equal size, so that grids may be logarithmic or of names.

    The best cell is framed and says its number; cells without a finite value stay grey.

    Args:
        ax: Where to draw; the colour bar takes a part of it.
        x: Values of one hyperparameter, (a,), to the right.
        y: Values of the other, (b,), upwards.
        value: (b, a).
        x_label: Name of `x`.
        y_label: Name of `y`.
        label: Name of `value`.
        better: Which end is good.
    """
    cells = np.asarray(value, float)
    sizes = (len(np.asarray(y)), len(np.asarray(x)))
    if cells.shape != sizes:
        raise ValueError(f"plot.heatmap: value must have shape {sizes}, got {cells.shape}")
    row, column = best_index(cells, better)
    image = ax.imshow(
        np.ma.masked_invalid(cells),
        origin="lower",
        aspect="auto",
        cmap="cividis" if better == "max" else "cividis_r",
    )
    frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=style.VERMILION, lw=3)
    ax.add_patch(frame)
    ax.text(column, row, f"{cells[row, column]:.3g}", ha="center", va="center", weight="bold")
    names = _ticks(x)
    tilt = 45 if len("".join(names)) > 30 else 0  # long names side by side would overlap
    ax.set_xticks(range(sizes[1]), names, rotation=tilt)
    ax.set_yticks(range(sizes[0]), _ticks(y))
    ax.set(xlabel=x_label, ylabel=y_label, facecolor="#cccccc")
    ax.grid(False)
    ax.figure.colorbar(image, ax=ax, label=label)
    return ax


def slices(
    hparams: Mapping[str, ArrayLike],
    value: ArrayLike,
    *,
    label: str,
    log: Collection[str] = (),
    better: Better = "max",
    best: int | None = None,
    columns: int = 3,
) -> Figure:
    """Returns small multiples: `value` of each member against each of its hyperparameters.

    A hyperparameter with few different values, as on a grid, gets a place of equal width for each,
    and its members are strewn about it a little, so that equal ones do not hide one another.

    Args:
        hparams: For each name the values of all members, (m,), numbers or words.
        value: What the members reached, (m,); those without a finite value are left out.
        label: Name of `value`.
        log: Names drawn on a logarithmic axis, if they have many values.
        better: Which end is good; the best member stands out in every panel.
        best: The member that stands out, where ties were broken otherwise.
        columns: Panels side by side at most.
    """
    reached = np.asarray(value, float)
    chosen = best_index(reached, better)[0] if best is None else best
    finite = np.isfinite(reached)
    rows = -(-len(hparams) // columns)
    columns = -(-len(hparams) // rows)  # four panels are two by two
    figure = Figure(figsize=(3.4 * columns + 0.6, 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for ax, (name, column) in zip(panels.flat, hparams.items(), strict=False):
        members = np.asarray(column)
        if members.shape != reached.shape:
            raise ValueError(
                f"plot.slices: {name} must have shape {reached.shape}, got {members.shape}"
            )
        distinct, place = np.unique(members, return_inverse=True)
        if len(distinct) <= FEW:
            ax.set_xticks(range(len(distinct)), _ticks(distinct))
            strewn = place + np.random.default_rng(0).uniform(-0.18, 0.18, len(place))
        else:
            place = strewn = members
            if name in log:
                ax.set_xscale("log")
        ax.scatter(strewn[finite], reached[finite], s=14, alpha=0.45, linewidths=0)
        ax.scatter(place[[chosen]], reached[[chosen]], s=150, marker="*", color=style.VERMILION)
        ax.set_xlabel(name.replace("_", " "))
    for ax in panels[:, 0]:
        ax.set_ylabel(label)
    for ax in panels.flat[len(hparams) :]:
        ax.remove()
    return figure
