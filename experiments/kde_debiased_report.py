"""The page and the pictures of `kde_debiased`, from the errors it found."""

from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

from experiments.page import Section, Table
from experiments.runner import Outcome
from jaxnn import metrics
from jaxnn.plot import style

METHODS = ("plain", "score-debiased", "Laplace-corrected", "reflected")
COLORS = dict(zip(METHODS, (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE), strict=True))
mean_interval = jax.jit(metrics.mean_interval)  # one program, not one for each operation
MARKERS = dict(zip(METHODS, "os^D", strict=True))


def interval(values: Any) -> list[float]:
    """Returns the mean and the ends of its 95% interval."""
    return [float(v) for v in mean_interval(np.asarray(values, np.float32))]


def span(ends: list[float], form: str = ".2f") -> str:
    """Returns a mean with its interval in words."""
    return f"{ends[0]:{form}} [{ends[1]:{form}}, {ends[2]:{form}}]"


def slope(samples: Any, errors: np.ndarray) -> list[float]:
    """Returns the power of N of errors (sizes, seeds): a line for each seed, and their interval."""
    return interval(np.polyfit(np.log(samples), np.log(errors), 1)[0])


def report(config: Any, found: dict[str, Any], widths: Any, scene: dict[str, Any]) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    rows, measured, arrays = [], {}, {"samples": np.array(config.samples), **scene}
    for name, errors in found.items():  # (sizes, seeds, bandwidths, methods)
        best = errors.mean(axis=1).argmin(axis=1)  # one bandwidth for all data sets of a size
        at_best = np.stack(
            [errors[i, :, b, m] for i in range(errors.shape[0]) for m, b in enumerate(best[i])]
        ).reshape(errors.shape[0], errors.shape[3], -1)
        arrays[f"{name} errors"] = at_best
        arrays[f"{name} bandwidths"] = np.asarray(widths)[best]
        for m in range(at_best.shape[1]):
            power = slope(config.samples, at_best[:, m])
            # Paired on the same data sets: 1 - ratio of the errors, in logarithms.
            gain = np.exp(interval(np.log(at_best[-1, 0] / at_best[-1, m]))).tolist()
            measured[f"{name}, {METHODS[m]}"] = {
                "slope": power, "times_less_than_plain": gain, "error": interval(at_best[-1, m]),
            }  # fmt: skip
            rows.append([name, METHODS[m], at_best[-1, m].mean() * 1e4, *gain, *power])
    most, names = config.samples[-1], list(found)
    better = {
        method: [n for n in names if measured[f"{n}, {method}"]["times_less_than_plain"][1] > 1]
        for method in METHODS[1:3]
    }
    gains = lambda method: ", ".join(
        f"{n} {span(measured[f'{n}, {method}']['times_less_than_plain'])}" for n in names
    )
    finding = (
        f"With {most:,} samples and each density at its own best bandwidth, score-debiasing has "
        f"less squared error than the plain density, by intervals that exclude equality, on "
        f"{len(better['score-debiased'])} of {len(names)} truths, and the Laplace correction on "
        f"{len(better['Laplace-corrected'])}; times less error by debiasing: "
        f"{gains('score-debiased')}; by the Laplace correction: {gains('Laplace-corrected')}."
    )
    if "exponential" in found:
        wall = measured["exponential, reflected"]["times_less_than_plain"]
        finding = finding[:-1] + f"; by reflection at the wall of the exponential: {span(wall)}."
    powers = "; ".join(
        f"{n} " + ", ".join(
            f"{m} {span(measured[f'{n}, {m}']['slope'])}" for m in METHODS[:3]
        )
        for n in names
    )  # fmt: skip
    table = Table(
        ["truth", "density", "error × 10⁴", "times less than plain", "95% from", "to",
         "power of N", "95% from", "to"],
        rows,
        f"Integrated squared error with {most:,} samples, {config.seeds} data sets each; "
        "ratios are geometric means, paired. A power of -0.8 is the best of a plain density in "
        "one dimension, -0.89 that of a fourth-order one; -0.67 and -0.8 in two.",
    )  # fmt: skip
    sections = [
        Section(
            "The bias can be taken back",
            "A kernel density is the truth blurred by the kernel: its bias grows with h², and the "
            "best trade with variance gives an error of N^(-4/5) in one dimension. Moving each "
            "point by h²/2 times the score of a pilot (SD-KDE, 2025) or subtracting h²/2 times the "
            "Laplacian takes that bias away and leaves one of h⁴, so that N^(-8/9) can be "
            "reached (Wand and Jones, 1995). The Laplace correction is clipped at zero.",
            {"errors": "Mean integrated squared error against N, each at its own best bandwidth; "
             "bars are 95% intervals over data sets."},
            table,
        ),
        Section(
            "What the powers are",
            f"Fitted powers of N, with intervals over data sets: {powers}.",
        ),
    ]  # fmt: skip
    if scene:
        sections += [Section(
            "A wall is another bias",
            "At the edge of an exponential half of every kernel leaks outside, and the density is "
            "half of what it should be, however many samples there are. Reflection puts it back.",
            {"wall": "The exponential density under h near 0.3, the largest sample."},
        )]  # fmt: skip
    return Outcome(finding=finding, metrics=measured, arrays=arrays, sections=sections, table=table)


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws errors against N for each truth, and the estimates at a wall."""
    figures = {"errors": _errors(outcome)}
    return {**figures, "wall": _wall(outcome)} if "shown" in outcome.arrays else figures


def _errors(outcome: Outcome) -> Figure:
    found, figure = outcome.arrays, Figure(figsize=(13.0, 7.4))
    axes = figure.subplots(2, 3, sharex=True).ravel()
    names = [key.removesuffix(" errors") for key in found if key.endswith(" errors")]
    for ax, name in zip(axes, names, strict=False):
        for m, errors in enumerate(np.moveaxis(found[f"{name} errors"], 1, 0)):
            ends = np.array([interval(row) for row in errors])
            label = METHODS[m]
            bars = np.maximum([ends[:, 0] - ends[:, 1], ends[:, 2] - ends[:, 0]], 0)
            bars[0] = np.minimum(bars[0], 0.9 * ends[:, 0])
            ax.errorbar(found["samples"], ends[:, 0], bars, color=COLORS[label], label=label,
                        marker=MARKERS[label], markersize=6, linewidth=1.8)  # fmt: skip
        ax.set(xscale="log", yscale="log", title=name)
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        ax.yaxis.set_major_formatter(LogFormatterSciNotation(labelOnlyBase=False))
        ax.yaxis.set_minor_formatter(NullFormatter())
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    with_most = axes[names.index("exponential") if "exponential" in names else 0]
    handles, labels = with_most.get_legend_handles_labels()
    axes[-1].legend(handles, labels, loc="center", fontsize=14)
    for ax in axes[: len(names)]:
        ax.set_xlabel("samples N")
        ax.tick_params(labelbottom=True)
    for ax in axes[::3]:
        ax.set_ylabel("integrated squared error")
    return figure


def _wall(outcome: Outcome) -> Figure:
    found, figure = outcome.arrays, Figure(figsize=(8.0, 4.6))
    ax = figure.subplots()
    ax.plot(found["places"], found["truth"], color=style.INK, linestyle="--", label="truth")
    for label, curve in zip(METHODS, found["shown"], strict=True):
        ax.plot(found["places"], curve, color=COLORS[label], linewidth=1.8, label=label)
    ax.set(xlim=(0, 3), xlabel="x", ylabel="density", ylim=(0, 1.15))
    ax.legend()
    return figure
