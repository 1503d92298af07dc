"""The page and the pictures of `mixture_density`, from the log densities it found."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from experiments.page import Section, Table, span
from experiments.runner import Outcome
from jaxnn.plot import style

METHODS = ("mixture density network", "Gaussian network", "conditional of a mixture",
           "conditional of kernels", "mixture without inputs")  # fmt: skip
SHOWN = (0, 1, 3)  # panels
COLORS = (style.VERMILION, style.BLUE, style.GREEN, style.PURPLE, "#777777")


def interval(values: Any) -> list[float]:
    """Returns the mean and the ends of its 95% interval, Student's, over splits."""
    n = len(values)
    half = stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / n**0.5
    return [float(np.mean(values) + side * half) for side in (0, -1, 1)]


def _verdict(gain: list[float], other: str) -> str:
    if gain[1] > 0:
        return f"{span(gain, '+.2f')} nats a row more than {other}"
    if gain[2] < 0:
        return f"{span(gain, '+.2f')} nats a row, less than {other}"
    return f"{span(gain, '+.2f')} nats a row against {other}, which is no difference"


def _the(name: str) -> str:
    return name if name == "diabetes" else f"the {name}"


def report(config: Any, nats: dict[str, np.ndarray], arrays: dict[str, Any]) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    measured: dict[str, Any] = {}
    rows = []
    for name, found in nats.items():  # splits by methods
        for m, method in enumerate(METHODS):
            measured[f"{name}, {method}"] = {
                "nats": interval(found[:, m]),
                "network_gains": interval(found[:, 0] - found[:, m]) if m else None,
            }
            gains = interval(found[:, 0] - found[:, m]) if m else [None] * 3
            rows.append([name, method, float(found[:, m].mean()), *gains])
    best = {name: int(found.mean(axis=0).argmax()) for name, found in nats.items()}
    left = interval(arrays["truth"] - nats["inverse problem"][:, 0])
    measured["inverse problem, truth"] = interval(arrays["truth"])
    measured["inverse problem, nats below the truth"] = left
    gain = {name: measured[f"{name}, {METHODS[1]}"]["network_gains"] for name in nats}
    finding = (
        f"On Bishop's inverse problem the network that returns a mixture gives rows left out "
        f"{_verdict(gain['inverse problem'], 'the same network with a single Gaussian')}, and is "
        f"{span(left, '.2f')} nats from the truth"
    )
    if "diabetes" in nats:
        finding += f"; on diabetes it has {_verdict(gain['diabetes'], 'the Gaussian network')}"
    kernels = {name: interval(found[:, 3] - found[:, 0]) for name, found in nats.items()}
    words = " and ".join(f"{span(ends, '+.3f')} on {_the(name)}" for name, ends in kernels.items())
    finding += f"; kernels on all columns, conditioned, have {words} against it"
    finding += "."
    table = Table(
        ["data", "method", "left-out nats a row", "network's gain", "95% from", "to"],
        rows,
        f"Means over {config.splits} random splits, gains paired on the same splits: nats that the "
        "mixture density network has more. Targets in their own units.",
        best=[i * len(METHODS) + best[name] for i, name in enumerate(nats)],
    )
    sections = [
        Section(
            "One question, several answers",
            "x = t + 0.3 sin(2πt) + noise is easy to compute, and hard to undo: in the middle, "
            "three different t lead to the same x. A network that learns t from x by squares "
            "gives their mean, which is none of them (Bishop, 1994). One with a single Gaussian "
            "adds an error bar around that mean. A network whose outputs are the weights, means "
            "and widths of a mixture can name all three.",
            {"inverse": "p(t | x) of the inverse problem (its power 0.4, darker is denser), and "
             "300 of the rows: the network with a mixture, the same one with a Gaussian, and "
             "kernels on all rows."},
        ),
        Section(
            "Rows left out decide",
            "Beside both networks stand densities of all columns at once, conditioned on the "
            "inputs: a mixture fitted by EM, its number of components chosen by validation, and "
            "kernels, their two widths chosen the same way. A mixture of the targets alone looks "
            "at no inputs. Diabetes (442 patients, ten inputs) has one answer with much noise: "
            "there is less for a mixture to gain. On few inputs kernels are hard to beat, but they "
            "keep every row.",
            {"nats": "Left-out log density of each method less that of the mixture density "
             "network: means and 95% intervals over splits, paired."},
            table,
        ),
    ]  # fmt: skip
    stacked = {f"nats {name}": found for name, found in nats.items()}
    return Outcome(
        finding=finding, metrics=measured, arrays={**arrays, **stacked}, sections=sections,
        table=table,
    )  # fmt: skip


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws the conditional densities of the inverse problem, and who predicts best."""
    return {"inverse": _inverse(outcome), "nats": _nats(outcome)}


def _inverse(outcome: Outcome) -> Figure:
    found, figure = outcome.arrays, Figure(figsize=(12.0, 4.4))
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    places = np.asarray(found["places"])
    top = np.quantile(found["densities"][0], 0.995)
    for ax, m in zip(axes, SHOWN, strict=True):
        # A root of the density, or the three thin branches drown beside the ends.
        shade = np.minimum(found["densities"][m], top) ** 0.4
        ax.pcolormesh(places, places, shade, cmap="Purples", vmin=0, vmax=top**0.4,
                      shading="nearest", rasterized=True)  # fmt: skip
        ax.plot(found["x"][:300], found["t"][:300], ".", color=style.INK, markersize=3, alpha=0.5)
        ax.set_title(METHODS[m], fontsize=13)
        ax.set(xlabel="x", xlim=places[[0, -1]], ylim=places[[0, -1]])
        ax.grid(visible=False)
    axes[0].set_ylabel("t")
    return figure


def _nats(outcome: Outcome) -> Figure:
    found, figure = outcome.arrays, Figure(figsize=(10.5, 3.9))
    axes = figure.subplots(1, 2, sharey=True)
    names = [name for name in ("inverse problem", "diabetes") if f"nats {name}" in found]
    for ax, name in zip(axes, names, strict=False):
        nats = found[f"nats {name}"]
        for m in range(1, len(METHODS)):
            middle, low, high = interval(nats[:, m] - nats[:, 0])
            ax.errorbar(middle, m, xerr=[[middle - low], [high - middle]], fmt="o", markersize=8,
                        color=COLORS[m], capsize=4)  # fmt: skip
        ax.axvline(0, color=COLORS[0], linestyle="--")
        ax.set_title(name, fontsize=13)
        ax.set_xlabel("nats a row against the mixture network")
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    if "truth" in found:
        middle = float(np.mean(found["truth"] - found["nats inverse problem"][:, 0]))
        axes[0].plot(middle, 0, "*", color=style.INK, markersize=14)
    axes[0].set_yticks(range(len(METHODS)), ["truth", *METHODS[1:]])
    axes[0].invert_yaxis()
    return figure
