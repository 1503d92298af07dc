"""The page and the pictures of `kde_debiased`, from the errors it found."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy import stats

from experiments.page import Section, Table, span
from experiments.runner import Outcome
from jaxnn.plot import style

METHODS = ("plain", "score-debiased", "Laplace-corrected", "reflected")
TRUTHS = ("Gaussian", "skewed", "bimodal", "exponential", "two dimensions")
GUIDE = "best power of a plain\ndensity, $N^{-4/(4+d)}$"
COLORS = dict(zip(METHODS, (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE), strict=True))
MARKERS = dict(zip(METHODS, "os^D", strict=True))


def interval(values: Any) -> list[float]:
    """Returns the mean and the ends of its 95% interval, Student's: data sets may be few."""
    n = len(values)
    half = stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / n**0.5
    return [float(np.mean(values) + side * half) for side in (0, -1, 1)]


def slope(samples: Any, errors: Any) -> list[float]:
    """Returns the power of N of the errors of each size, and its interval.

    A line by least squares through the mean logarithms: its slope is a sum of independent means,
    with the degrees of freedom of Welch and Satterthwaite.
    """
    away = np.log(samples) - np.mean(np.log(samples))
    shares = away / np.sum(away**2)
    logs, sizes = [np.log(e) for e in errors], np.array([len(e) for e in errors])
    power = shares @ np.array([np.mean(e) for e in logs])
    parts = shares**2 * np.array([np.var(e, ddof=1) for e in logs]) / sizes
    freedom = np.sum(parts) ** 2 / np.sum(parts**2 / (sizes - 1))
    half = stats.t.ppf(0.975, freedom) * np.sum(parts) ** 0.5
    return [float(power + side * half) for side in (0, -1, 1)]


def report(config: Any, found: dict[str, Any], tried: Any, scene: dict[str, Any]) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    rows, measured, arrays = [], {}, {"samples": np.array(config.samples), **scene}
    for name, errors in found.items():  # for each size (sets, bandwidths, methods)
        # One bandwidth for all data sets of a size.
        best = np.stack([e.mean(axis=0).argmin(axis=0) for e in errors])
        at_best = [
            np.stack([e[:, b, m] for m, b in enumerate(chosen)])
            for e, chosen in zip(errors, best, strict=True)
        ]
        arrays |= {f"{name} errors at {n}": e for n, e in zip(config.samples, at_best, strict=True)}
        arrays[f"{name} bandwidths"] = tried[name][best]
        last = at_best[-1]
        for m in range(len(last)):
            power = slope(config.samples, [e[m] for e in at_best])
            # Paired on the same data sets: the ratio of the errors, in logarithms.
            gain = np.exp(interval(np.log(last[0] / last[m]))).tolist()
            measured[f"{name}, {METHODS[m]}"] = {
                "slope": power, "times_less_than_plain": gain, "error": interval(last[m]),
            }  # fmt: skip
            rows.append([name, METHODS[m], last[m].mean() * 1e4, *gain, *power])
    most, names = config.samples[-1], list(found)
    sets = len(found[names[0]][-1])
    better = {
        method: [n for n in names if measured[f"{n}, {method}"]["times_less_than_plain"][1] > 1]
        for method in METHODS[1:3]
    }
    gains = lambda method: ", ".join(
        f"{n} {span(measured[f'{n}, {method}']['times_less_than_plain'], '.2f')}" for n in names
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
        finding = (
            finding[:-1] + f"; by reflection at the wall of the exponential: {span(wall, '.2f')}."
        )
    powers = "; ".join(
        f"{n} " + ", ".join(
            f"{m} {span(measured[f'{n}, {m}']['slope'], '.2f')}" for m in METHODS[:3]
        )
        for n in names
    )  # fmt: skip
    table = Table(
        ["truth", "density", "error × 10⁴", "times less than plain", "95% from", "to",
         "power of N", "95% from", "to"],
        rows,
        f"Integrated squared error with {most:,} samples, {sets} data sets each; "
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
            {"errors": "Integrated squared error against N, each at its own best bandwidth: "
             "geometric means with 95% intervals over data sets."},
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
    found, figure = outcome.arrays, Figure(figsize=(11.5, 6.9))
    axes = figure.subplots(2, 3, sharex=True).ravel()
    names = [name for name in TRUTHS if f"{name} bandwidths" in found]
    samples = np.asarray(found["samples"], float)
    for ax, name in zip(axes, names, strict=False):
        sizes = [found[f"{name} errors at {n}"] for n in found["samples"]]
        for m, label in enumerate(METHODS[: len(sizes[0])]):
            ends = np.exp([interval(np.log(errors[m])) for errors in sizes])
            bars = [ends[:, 0] - ends[:, 1], ends[:, 2] - ends[:, 0]]
            aside = 1.12 ** (m - 1)  # so that bars stand beside one another
            ax.errorbar(samples * aside, ends[:, 0], bars, color=COLORS[label], label=label,
                        marker=MARKERS[label], markersize=7, linewidth=2.2)  # fmt: skip
            if m == 0:
                power = -4 / (5 + (name == "two dimensions"))
                guide = ends[0, 0] * (samples / samples[0]) ** power
                ax.plot(samples / 1.12, guide, color="#888888", linestyle=":", zorder=1,
                        label=GUIDE)  # fmt: skip
        ax.set(xscale="log", yscale="log", title=name)
        ax.yaxis.set_major_locator(LogLocator())
        ax.yaxis.set_minor_formatter(NullFormatter())
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    with_most = axes[names.index("exponential") if "exponential" in names else 0]
    handles, labels = with_most.get_legend_handles_labels()
    axes[-1].legend(handles, labels, loc="center", fontsize=14)
    for ax in axes[max(0, len(names) - 3) : len(names)]:  # nothing, or the legend, is below
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
