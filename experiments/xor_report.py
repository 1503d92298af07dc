"""The page and the pictures of `xor`, from what it found."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.page import Section, Table
from experiments.runner import Outcome
from jaxnn.plot import style

KNOWN = (4, 14, 104, 1882)  # linearly separable Boolean functions: OEIS A000609
CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
XOR = np.array([0, 1, 1, 0])


def report(
    config: Any,
    lines: Any,
    counts: list[tuple[int, int, int]],
    right: dict[str, np.ndarray],
    share: dict[str, np.ndarray],
    regions: dict[str, np.ndarray],
) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    converged = sum(int(fit.converged.sum()) for fit in lines.values())
    tried = sum(fit.converged.size for fit in lines.values())
    widths = list(config.widths)
    two, tanh = widths.index(2), share["tanh"]
    safe = {
        activation: next((w for w, row in zip(widths, rows, strict=True) if row[0] == 1), None)
        for activation, rows in share.items()
    }
    words = [
        f"{'no width tried' if width is None else f'width {width} on'} with {activation}"
        for activation, width in safe.items()
    ]
    finding = (
        f"None of {tried} perceptrons learns XOR in {config.passes} passes"
        if converged == 0
        else f"AGAINST the theorem, {converged} of {tried} perceptrons claim to have learned XOR"
    ) + (
        f"; with one hidden unit {tanh[widths.index(1)][0]:.0%} of {config.seeds} tanh networks "
        f"do, with two {tanh[two][0]:.0%} (95% interval {tanh[two][1]:.0%} to {tanh[two][2]:.0%}), "
        f"and all of them from {' and from '.join(words)}."
    )
    agree = [learned == known for (_, learned, _), known in zip(counts, KNOWN, strict=False)]
    functions = Table(
        ["inputs", "Boolean functions", "learned by one neuron", "known to be separable",
         "most passes needed"],
        [[n + 1, total, learned, KNOWN[n], passes]
         for n, (total, learned, passes) in enumerate(counts)],
        "Every truth table, learned at once by vmap; OEIS A000609 has the known counts.",
    )  # fmt: skip
    table = Table(
        ["hidden units", *(f"{name}: {what}" for name in share
                           for what in ("solved", "95% from", "to", "stuck at 3 of 4"))],
        [
            [width, *(cell for name, rows in share.items()
                      for cell in (*rows[i], float(np.mean(right[name][i] == 3))))]
            for i, width in enumerate(widths)
        ],
        f"Share of {config.seeds} networks with all four rows right after {config.epochs} steps. "
        f"Where all or none are, the interval is empty; the exact one reaches "
        f"{3 / config.seeds:.1%} further.",
    )  # fmt: skip
    pocket = int(lines["pocket"].errors.min())
    sections = [
        Section(
            "One layer",
            "No line has (0,1) and (1,0) on one side, (0,0) and (1,1) on the other (Minsky and "
            "Papert, 1969). Rosenblatt's rule then never stops, and what it returns depends on "
            "where it is cut off: the result says so by a flag, converged = False, in "
            f"{tried - converged} of {tried} runs. The pocket variant keeps the best line it has "
            f"met, which gets {4 - pocket} of 4 rows right; no line can do better.\n\n"
            "XOR is no exception, but the rule: of two inputs one neuron learns all functions but "
            "XOR and its negation, of four inputs less than three in a hundred. The counts found "
            + ("by learning are the known ones." if all(agree) else
               "by learning DIFFER from the known ones."),
            table=functions,
        ),
        Section(
            "Two layers",
            "A hidden layer bends the boundary. Two hidden units are enough to write XOR down "
            "(OR and NAND, then AND). Whether gradient descent finds those two is a matter of "
            "luck: it can halt where three rows are right, or where two rows share one answer. "
            "One hidden unit cannot do it at all, since its output is monotone along one "
            "direction. Units to spare are what makes learning reliable, more than are needed to "
            "represent the function.",
            {
                "boundaries": "Answers after learning: blue says 0, orange says 1, white is "
                "undecided; dark edges mark rows that are wrong.",
                "widths": "Share of networks that learn XOR, with 95% intervals.",
            },
            table,
        ),
    ]  # fmt: skip
    return Outcome(
        finding=finding,
        metrics={
            "perceptrons": tried,
            "perceptrons_converged": converged,
            "pocket_errors": pocket,
            "separable_functions": [learned for _, learned, _ in counts],
            "separable_functions_agree": agree,
            "widths": widths,
            "solved": share,
            "always_solved_from_width": safe,
        },
        arrays={
            "widths": np.array(widths),
            **{f"right_{name}": hits for name, hits in right.items()},
            **{f"share_{name}": rows for name, rows in share.items()},
            **{f"region_{name}": region for name, region in regions.items()},
        },
        sections=sections,
        table=table,
    )


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws everything that the page shows."""
    return {"boundaries": _boundaries(outcome), "widths": _widths(outcome)}


def _boundaries(outcome: Outcome) -> Figure:
    found = outcome.arrays
    titles = {
        "perceptron": "one layer:\nthe best line",
        "stuck": "2 hidden units,\nstuck",
        "solved": "2 hidden units,\nsolved",
        "wide": f"{found['widths'].max()} hidden units,\nsolved",
    }
    shown = {name: title for name, title in titles.items() if f"region_{name}" in found}
    figure = Figure(figsize=(2.75 * len(shown) + 0.3, 3.9))
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    cmap = style_map()
    for ax, (name, title) in zip(panels, shown.items(), strict=True):
        region = found[f"region_{name}"]
        edge = np.linspace(-0.5, 1.5, len(region))
        ax.pcolormesh(edge, edge, region, cmap=cmap, vmin=0, vmax=1, shading="gouraud")
        ax.contour(edge, edge, region, [0.5], colors=style.INK, linewidths=2)
        at = np.round((CORNERS + 0.5) / 2 * (len(region) - 1)).astype(int)
        said = region[at[:, 1], at[:, 0]] > 0.5
        for corner, truth, answer in zip(CORNERS, XOR, said, strict=True):
            ax.plot(
                *corner, "s" if truth else "o", markersize=17, clip_on=False,
                color=style.ORANGE if truth else style.BLUE,
                markeredgecolor=style.INK if truth != answer else "white",
                markeredgewidth=4 if truth != answer else 1.5,
            )  # fmt: skip
            ax.annotate(str(truth), corner, color="white", ha="center", va="center",
                        weight="bold")  # fmt: skip
        ax.set_title(title)
        ax.set(xlabel="input 1", xticks=[0, 1], yticks=[0, 1], aspect="equal")
        ax.grid(False)
    panels[0].set_ylabel("input 2")
    return figure


def style_map() -> Any:
    """Blue for 0, orange for 1, pale, and white between."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("answers", ["#7fb8d8", "#ffffff", "#f3c667"])


def _widths(outcome: Outcome) -> Figure:
    figure, found = Figure(), outcome.arrays
    ax = figure.subplots()
    widths = found["widths"]
    shares = [name for name in found if name.startswith("share_")]
    for i, name in enumerate(shares):
        mean, low, high = 100 * found[name].T
        ax.errorbar(
            np.arange(len(widths)) + 0.06 * (2 * i - len(shares) + 1), mean,
            yerr=[mean - low, high - mean], fmt="os"[i % 2] + "-", capsize=4, markersize=7,
            color=style.PALETTE[i], label=name.removeprefix("share_"),
        )  # fmt: skip
    ax.set_xticks(range(len(widths)), [str(w) for w in widths])
    ax.set(xlabel="hidden units", ylabel="networks that learn XOR (%)", ylim=(-4, 104))
    ax.legend(title="hidden units are", loc="lower right")
    return figure
