"""The page and the pictures of `frameworks`, from the answers."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.frameworks_peers import PEERS, Answer
from experiments.page import Section, Table
from experiments.runner import Outcome
from jaxnn.plot import style

QUANTITIES = ("outputs", "gradient", "weights")
PRECISIONS = ("float32", "float64")
AGREE = 1000  # roundings that a sum over a batch and ten steps of training may gather


def relative(mine: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """Returns the largest difference, each array's relative to its own largest entry."""
    pairs = zip(mine, theirs, strict=True)
    return max(float(np.max(np.abs(a - b)) / np.max(np.abs(a))) for a, b in pairs)


def differences(mine: Answer, theirs: Answer) -> dict[str, Any]:
    """Returns how far apart two answers are: outputs, gradient, and weights after each step."""
    return {
        "outputs": relative([mine.log_probs], [theirs.log_probs]),
        "gradient": relative(mine.gradient, theirs.gradient),
        "weights": [relative(a, b) for a, b in zip(mine.steps, theirs.steps, strict=True)],
    }


def gather(answers: dict[tuple[str, str, str], Answer], name: str, precision: str) -> Any:
    """Returns the differences of a framework from jaxnn, the largest over the activations."""
    each = [
        differences(answers["jaxnn", precision, activation], answer)
        for (who, exact, activation), answer in answers.items()
        if (who, exact) == (name, precision)
    ]
    return {kind: np.max([one[kind] for one in each], axis=0) for kind in QUANTITIES}


def report(
    config: Any,
    answers: dict[tuple[str, str, str], Answer],
    versions: dict[str, str],
    missing: list[str],
) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    apart = {
        precision: {name: gather(answers, name, precision) for name in versions}
        for precision in PRECISIONS
    }
    worst = {
        precision: {
            kind: max(float(np.max(found[kind])) for found in apart[precision].values())
            for kind in QUANTITIES
        }
        for precision in PRECISIONS
    }
    strangers = [
        f"{name} ({precision})"
        for precision, found in apart.items()
        for name, kinds in found.items()
        if max(float(np.max(d)) for d in kinds.values()) > AGREE * np.finfo(precision).eps
    ]
    peers = _listed([f"{name} {version}" for name, version in versions.items()])
    exact = worst["float64"]
    finding = (
        f"{peers} {'agree' if not strangers else 'were compared'} with jaxnn: in float64 the "
        f"largest relative difference is {exact['outputs']:.0e} in outputs, "
        f"{exact['gradient']:.0e} in gradients and {exact['weights']:.0e} in the weights over "
        f"{config.steps} training steps (in float32 {worst['float32']['weights']:.0e})"
        + (f"; DISAGREEING: {_listed(strangers)}" if strangers else "")
        + (f"; not installed, hence not compared: {_listed(missing)}." if missing else ".")
    )
    table = Table(
        ["framework", "version", "precision", "outputs", "gradient", "weights after one step",
         f"after {config.steps}"],
        [
            [name, versions[name], precision, found["outputs"], found["gradient"],
             found["weights"][0], found["weights"][-1]]
            for precision in reversed(PRECISIONS)
            for name, found in apart[precision].items()
        ],
        "Largest relative differences from jaxnn, over all arrays and activations; "
        f"a rounding is {np.finfo(np.float64).eps:.0e} in float64 "
        f"and {np.finfo(np.float32).eps:.0e} in float32.",
    )  # fmt: skip
    widths = " → ".join(map(str, (64, *config.hidden, 10)))
    sections = [
        Section(
            "One network, many frameworks",
            "The lecture names PyTorch, TensorFlow, PaddlePaddle (飞桨) and MindSpore (昇思). A "
            "network is arithmetic, so each must compute the same numbers from the same weights "
            f"and rows: a network {widths}, {config.rows} digits, and {config.steps} steps of "
            f"gradient descent of length {config.learning_rate:g} on all of them, once for each "
            f"of {_listed(list(config.activations))}. jaxnn's gradients are those written by hand "
            "from the lecture's recursion.\n\n"
            f"Compared here: {peers}. "
            + (
                f"Not installed on this machine: {_listed(missing)}; once they are, "
                "running this page again compares them. "
                if missing
                else ""
            )
            + "scikit-learn shows no gradient: its own is what one step of length 1 takes away "
            "from the weights, which costs it a few digits.",
            {},
            table,
        ),
        Section(
            "Equal up to rounding",
            "Expected: addition in floating point depends on the order of the terms "
            "(Goldberg, 1991), so frameworks that sum in different orders differ by a few units "
            "in the last place, and no more; training passes each difference on to the next step. "
            + (
                f"This fails for {_listed(strangers)}."
                if strangers
                else "So it is: the points lie close to the dotted lines, where a single rounding "
                "is, for both precisions."
            ),
            {
                "differences": "Relative difference from jaxnn in float64 (filled) and float32 "
                "(hollow). The dotted lines mark one rounding ε in each precision; no difference "
                "at all is drawn at a tenth of it.",
                "steps": "Relative difference of the weights after each step, in roundings ε.",
            },
        ),
    ]
    return Outcome(
        finding=finding,
        metrics={
            "versions": versions,
            "not_installed": missing,
            "disagreeing": strangers,
            "relative_differences": apart,
        },
        arrays={
            f"{precision}|{name}|{kind}": found[kind]
            for precision, by_name in apart.items()
            for name, found in by_name.items()
            for kind in QUANTITIES
        },
        sections=sections,
        table=table,
    )


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws everything that the page shows."""
    return {"differences": _differences(outcome), "steps": _steps(outcome)}


def _looks(outcome: Outcome) -> dict[str, tuple[str, str]]:
    """Returns colour and marker of each framework, the same whoever else is installed."""
    looks = dict(zip(PEERS, zip(style.PALETTE, "osD^vP", strict=False), strict=False))
    return {name: looks[name] for name in outcome.metrics["versions"]}


def _floor(value: Any, precision: str) -> Any:
    """Returns what a logarithmic axis can show: no difference is drawn at a tenth of a rounding."""
    return np.maximum(value, np.finfo(precision).eps / 10)


def _differences(outcome: Outcome) -> Figure:
    looks = _looks(outcome)
    figure = Figure(figsize=(7.4, 0.55 * len(looks) * len(QUANTITIES) / 1.6 + 1.8))
    ax = figure.subplots()
    for i, (name, (color, marker)) in enumerate(looks.items()):
        for precision, fill in zip(PRECISIONS, ("white", color), strict=True):
            for j, kind in enumerate(QUANTITIES):
                value = _floor(np.max(outcome.arrays[f"{precision}|{name}|{kind}"]), precision)
                place = j + (i - (len(looks) - 1) / 2) * 0.7 / len(looks)
                ax.plot(value, place, marker, color=color, markerfacecolor=fill, markersize=9)
        ax.plot([], [], marker, color=color, markersize=9, label=name)
    for precision in PRECISIONS:
        eps = float(np.finfo(precision).eps)
        ax.axvline(eps, color="#666666", linestyle=":", linewidth=1.5)
        ax.annotate(f" {precision}", (eps, 1), xycoords=("data", "axes fraction"), va="bottom",
                    ha="center", fontsize=12)  # fmt: skip
    ax.set_yticks(range(len(QUANTITIES)), QUANTITIES)
    ax.set(xscale="log", xlabel="relative difference from jaxnn", xlim=(3e-18, 1e-4))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    for line in np.arange(len(QUANTITIES) - 1) + 0.5:
        ax.axhline(line, color="#e4e4e4", linewidth=1)
    figure.legend(loc="outside lower center", ncols=min(4, len(looks)))
    return figure


def _steps(outcome: Outcome) -> Figure:
    figure = Figure(figsize=(8.6, 4.0))
    panels = figure.subplots(1, 2, sharey=True)
    for ax, precision in zip(panels, reversed(PRECISIONS), strict=True):
        eps = float(np.finfo(precision).eps)
        for name, (color, marker) in _looks(outcome).items():
            values = np.asarray(outcome.arrays[f"{precision}|{name}|weights"]) / eps
            ax.plot(
                np.arange(1, len(values) + 1), values, f"{marker}-", color=color, markersize=7,
                alpha=0.85, label=name,
            )  # fmt: skip
        ax.set_title(f"{precision}, ε = {eps:.0e}")
        ax.set_xlabel("step of gradient descent")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylim(bottom=0)  # once both are drawn, or it would end where the first does
    panels[0].set_ylabel("difference of weights (ε)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
