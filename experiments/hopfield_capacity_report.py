"""The page and the pictures of `hopfield_capacity`."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.page import Section, Table, span
from experiments.runner import Outcome
from jaxnn.plot import style

THEORY = 0.138  # Amit, Gutfreund and Sompolinsky (1985)
LOOKS = {
    "hebb": ("Hebb", style.BLUE, "o"),
    "storkey": ("Storkey", style.GREEN, "s"),
    "pseudo-inverse": ("pseudo-inverse", style.VERMILION, "^"),
    "modern": ("modern", style.BLACK, "D"),
}


def load(mark: Any) -> str:
    """A load with its interval in words."""
    return span(mark) if math.isfinite(mark[0]) else "no load tried"


def report(
    config: Any, curves: Any, marks: Any, sizes: Any, breaks: Any, extrapolated: Any
) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    limit, slope = extrapolated
    modern_loads, (_, modern_damaged) = curves["modern"]
    agrees = limit[1] <= THEORY <= limit[2]
    verdict = "theory says" if agrees else "which misses theory's"
    finding = (
        f"Hebb's rule breaks at P/N = {load(breaks[max(sizes)])} with {max(sizes)} units and, "
        f"extrapolated to infinitely many, at {load(limit)} ({verdict} {THEORY}); damaged by "
        f"{config.damage:.0%}, patterns come back (overlap above 0.9) up to "
        f"{load(marks['hebb'][1])} with Hebb, {load(marks['storkey'][1])} with Storkey and "
        f"{load(marks['pseudo-inverse'][1])} with the pseudo-inverse, while the modern network at "
        f"P/N = {modern_loads[-1]:g} still reaches an overlap of "
        f"{span(modern_damaged[:, -1])}."
    )
    names = {"hebb": "Hebb", "storkey": "Storkey", "pseudo-inverse": "pseudo-inverse"}
    known = {"hebb": "0.138 for N → ∞", "storkey": None, "pseudo-inverse": "1 from the pattern"}
    cell = lambda mark: span(mark) if math.isfinite(mark[0]) else "none of those tried"
    table = Table(
        ["rule", "from the pattern", f"from a copy damaged by {config.damage:.0%}", "literature"],
        [[names[r], cell(marks[r][0]), cell(marks[r][1]), known[r] or "–"] for r in names],
        f"Load P/N at which the mean overlap falls below 0.9; N = {config.units}, "
        f"{config.seeds} networks a load, 95% intervals by bootstrap over networks.",
    )
    expectation = (
        "The expectation holds: the interval covers 0.138."
        if agrees
        else "The expectation fails: the interval misses 0.138, perhaps because a straight line "
        "in 1/N is only the simplest law that fits."
    )
    sections = [
        Section(
            "Four memories side by side",
            "Asynchronous updates from a stored pattern, or from a copy of it with a share of the "
            "units flipped, until nothing changes. Overlap 1 is perfect recall. Hebb's sum of "
            "products (Hopfield, 1982) suffers from the crosstalk of all other patterns; Storkey "
            "(1997) subtracts what the network already says, still pattern by pattern and local; "
            "the pseudo-inverse (Personnaz, Guyon and Dreyfus, 1986) removes the crosstalk between "
            "stored patterns altogether, so that they are fixed points up to P/N = 1. But a fixed "
            "point that attracts nothing is no memory: from a damaged copy it breaks earlier "
            "(Kanter and Sompolinsky, 1987). The modern network keeps the patterns themselves and "
            "recalls by softmax attention (Ramsauer et al., 2020): the number it can keep grows "
            f"exponentially with N. Here β = {config.beta:g}.",
            {"rules": "Overlap after recall against load; bands are 95% intervals over networks."},
            table,
        ),
        Section(
            "The break at 0.138 N",
            "Amit, Gutfreund and Sompolinsky (1985) found by statistical mechanics that random "
            "patterns stop being states of an infinite network at once when P/N passes 0.138: the "
            "overlap jumps from 0.97 to about 0.35. In finite networks the jump is smeared and "
            "comes later, the smaller the later. Where the overlap falls below 0.9 is the break of "
            f"a size; a straight line in 1/N through all of them ends at {load(limit)} for "
            f"1/N = 0. {expectation}",
            {"break": "Left: Hebb's rule, started from the stored pattern, for networks of several "
             "sizes. Right: where each curve falls below 0.9, and the line to infinite N."},
        ),
    ]  # fmt: skip
    arrays = {"breaks": np.array(list(breaks.values())), "limit": np.array([*limit, slope])}
    for name, (loads, parts) in curves.items():
        arrays |= {f"loads {name}": loads, f"kept {name}": parts[0], f"damaged {name}": parts[1]}
    for d, (loads, values) in sizes.items():
        arrays |= {f"break loads {d}": loads, f"break {d}": values}
    return Outcome(
        finding=finding,
        metrics={
            "break_of_hebb": limit,
            "break_of_hebb_by_units": breaks,
            "theory": THEORY,
            "theory_in_interval": agrees,
            "loads_at_overlap_0.9": marks,
            "units": config.units,
            "damage": config.damage,
            "break_units": list(sizes),
        },
        arrays=arrays,
        sections=sections,
        table=table,
    )


def _band(ax: Axes, loads: Any, values: Any, label: str, color: str, marker: str) -> None:
    middle, low, high = values
    ax.fill_between(loads, low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(loads, middle, color=color, marker=marker, markersize=5, label=label)


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws the rules side by side, and the break."""
    return {"rules": _rules(outcome), "break": _break(outcome)}


def _rules(outcome: Outcome) -> Figure:
    found, figure = outcome.arrays, Figure(figsize=(11.0, 4.6))
    left, right = figure.subplots(1, 2, sharey=True)
    for ax, kind in ((left, "kept"), (right, "damaged")):
        for name, look in LOOKS.items():
            _band(ax, found[f"loads {name}"], found[f"{kind} {name}"], *look)
        ax.axvline(THEORY, color=style.BLUE, linestyle=":", linewidth=1.5)
        ax.set(xscale="log", ylim=(0, 1.06), xlabel="load: patterns per unit, P/N")
        ax.set_xticks([0.03, 0.1, 0.3, 1, 3, 10, 30], ["0.03", "0.1", "0.3", "1", "3", "10", "30"])
        ax.minorticks_off()
    left.set(title="from the pattern itself", ylabel="overlap after recall")
    left.text(THEORY * 0.92, 0.04, f"{THEORY}", color=style.BLUE, ha="right")
    right.set_title(f"from a copy with {outcome.metrics['damage']:.0%} flipped")
    right.legend(loc="center right", bbox_to_anchor=(1.0, 0.45))
    return figure


def _break(outcome: Outcome) -> Figure:
    found, figure = outcome.arrays, Figure(figsize=(11.0, 4.6))
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    colors = (style.SKY, style.GREEN, style.BLUE, style.PURPLE, style.VERMILION)
    units = outcome.metrics["break_units"]
    left.axvline(THEORY, color=style.BLACK, linestyle="--", linewidth=1.5)
    for color, marker, d in zip(colors, "os^Dv", units, strict=False):
        _band(left, found[f"break loads {d}"], found[f"break {d}"], f"N = {d}", color, marker)
    left.set(ylim=(0, 1.03), xlabel="load: patterns per unit, P/N", ylabel="overlap after recall")
    left.legend(loc="lower left")

    limit, slope = found["limit"][:3], found["limit"][3]
    for color, marker, d, (middle, low, high) in zip(
        colors, "os^Dv", units, found["breaks"], strict=False
    ):
        right.errorbar(1 / d, middle, [[middle - low], [high - middle]], color=color,
                       fmt=marker, markersize=8, capsize=4)  # fmt: skip
    ends = np.array([0, 1.1 / min(units)])
    right.plot(ends, limit[0] + slope * ends, color="#777777", linewidth=1.5, zorder=0)
    right.axhline(THEORY, color=style.BLACK, linestyle="--", linewidth=1.5,
                  label=f"theory, N → ∞: {THEORY}")  # fmt: skip
    if math.isfinite(limit[0]):
        right.errorbar(0, limit[0], [[limit[0] - limit[1]], [limit[2] - limit[0]]],
                       color=style.VERMILION, fmt="*", markersize=16, capsize=4, clip_on=False,
                       label=f"extrapolated: {limit[0]:.3f}")  # fmt: skip
    right.set_xticks([0, *(1 / d for d in units)], ["0", *(f"1/{d}" for d in units)])
    right.tick_params(axis="x", rotation=45)
    right.set(xlabel="1/N", ylabel="load where overlap < 0.9")
    right.legend(loc="upper left")
    return figure
