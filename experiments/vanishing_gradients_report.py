"""The page and the pictures of `vanishing_gradients`, from what it found."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.page import Section, Table, span
from experiments.runner import Outcome
from jaxnn import metrics
from jaxnn.plot import style

STARTS = {
    "plain": "1/√fan-in",
    "gain": "gain/√fan-in",
    "orthogonal": "orthogonal",
}
COLORS = {"plain": style.ORANGE, "gain": style.BLUE, "orthogonal": style.GREEN}
SLACK = 1e-4  # of rounding, relative


def _ends(values: Any) -> list[float]:
    return [float(end) for end in metrics.mean_interval(np.asarray(values, np.float64))]


def report(config: Any, found: dict[str, Any], theory: dict[str, Any]) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    factors: dict[str, Any] = {}
    above = checked = 0
    rows = []
    for name, norms in found.items():
        logs = np.log(np.maximum(norms, 1e-38))
        factor = np.exp((logs[..., -1] - logs[..., 0]) / (config.depth - 1))
        factors[name] = {s: _ends(v) for s, v in zip(STARTS, factor, strict=True)}
        bound = theory[name]["steepest"] ** np.arange(1, config.depth + 1)
        reached = norms[list(STARTS).index("orthogonal")]
        above += int((reached > bound[None] * (1 + SLACK)).sum())
        checked += reached.size
        ends = lambda s: span(factors[name][s])  # noqa: B023
        rows.append(
            [name, f"{theory[name]['steepest']:.3f}", ends("plain"), f"{theory[name]['plain']:.3f}",
             ends("gain"), f"{theory[name]['gain']:.3f}", ends("orthogonal")]
        )  # fmt: skip
    table = Table(
        ["activation", "σ′max", "1/√fan-in", "theory", "gain/√fan-in", "theory", "orthogonal"],
        rows,
        f"Factor of the gradient's norm a layer, over {config.depth} hidden layers: mean over "
        f"{config.seeds} networks and 95% interval; theory is √χ of an infinitely wide network.",
    )
    past = config.depth - 1
    shown = [n for n in ("sigmoid", "tanh", "relu") if n in factors]
    words = [
        f"{n} {factors[n]['gain'][0]:.3f} [{factors[n]['gain'][1]:.3f}, "
        f"{factors[n]['gain'][2]:.3f}]"
        for n in shown
    ]
    total = {n: factors[n]["gain"][0] ** past for n in shown}
    finding = (
        "A layer back, with weights scaled by the activation's gain, the gradient is multiplied "
        f"by {', '.join(words)} (mean and 95% interval of {config.seeds} networks), so that "
        f"{past} layers leave "
        f"{', '.join(f'{total[n]:.2g} of it for {n}' for n in shown)}; with orthogonal weights "
        f"the bound (σ′max)^L is exceeded {above} times in {checked}."
    )
    return Outcome(
        finding=finding,
        metrics={
            "factor_a_layer": factors,
            "theory": theory,
            "bound_exceeded": above,
            "bound_checked": checked,
            "depth": config.depth,
        },
        arrays={f"norms_{name}": norms for name, norms in found.items()},
        sections=_sections(config, factors, above, checked, table),
        table=table,
    )


def _sections(config: Any, factors: Any, above: int, checked: int, table: Table) -> list[Section]:
    kept = "holds" if above == 0 else "fails"
    relu = factors.get("relu")
    verdict = ""
    if relu:
        low, high = relu["gain"][1:]
        inside = "does" if low <= 1 <= high else "does not quite"
        verdict = (
            "\n\nWith the gain √2 the ReLU's factor should be exactly one in an infinitely wide "
            f"network (He et al., 2015); the interval [{low:.3f}, {high:.3f}] at width 64 "
            f"{inside} hold one."
        )
    return [
        Section(
            "The claim",
            "Back-propagation multiplies the gradient by Wᵀ and by σ′(a) at each layer, and "
            "lim aᵖ is 0, 1 or ∞. The sigmoid's derivative is at most 1/4, so if no W "
            "stretches, L layers leave at most (1/4)^L. The lecture concludes: ReLU, whose "
            "derivative is 1 wherever it is not 0, relieves vanishing and exploding gradients.\n\n"
            f"Networks of {config.depth} hidden layers, 64 units each, read standardised digits. "
            "Shown is the norm of the gradient at each layer's pre-activations, relative to the "
            "gradient that the last hidden layer receives. Orthogonal weights keep every length, "
            f"so that (σ′max)^L is a true bound: over {checked} measured norms it {kept} (exceeded "
            f"{above} times). Normal weights have a largest singular value near 2: the curves of "
            "the other starts may pass above.",
            {"profile": "Gradient norm against the layers passed; dashed the bound (σ′max)^L."},
        ),
        Section(
            "One factor a layer",
            "The slopes of those lines, against the theory of infinitely wide networks "
            "(Schoenholz et al., 2017): √χ, where χ = g² E[σ′(√q z)²] and q is the size of the "
            "signals.\n\n"
            "Two things have to come together: a derivative that does not shrink, and a scale of "
            "the weights that fits it. The ReLU without its gain loses √2 a layer; the sigmoid "
            "with its gain still loses more than half, for the gain rescues the signals on the "
            "way up and not the gradient on the way down. For the ReLU both are rescued at once, "
            "since σ(a)² and σ′(a)² are halved alike. The tanh with its gain errs to the other "
            "side, and its gradient grows." + verdict,
            {"factors": "Factor a layer for each activation and start; diamonds are the theory."},
            table,
        ),
    ]


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws everything that the page shows."""
    return {"profile": _profile(outcome), "factors": _factors(outcome)}


def _profile(outcome: Outcome) -> Figure:
    names = list(outcome.metrics["theory"])
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(11, 0.9 + 2.7 * lines))
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    passed = np.arange(1, outcome.metrics["depth"] + 1)
    for ax, name in zip(panels.flat, names, strict=False):
        norms = np.maximum(outcome.arrays[f"norms_{name}"], 1e-38)
        for values, (start, label) in zip(norms, STARTS.items(), strict=True):
            low, high = np.quantile(values, [0.1, 0.9], axis=0)
            wide = 6 if start == "plain" else 2  # seen under the orthogonal line, on which it lies
            middle = np.median(values, axis=0)
            ax.plot(passed, middle, color=COLORS[start], label=label, linewidth=wide)
            ax.fill_between(passed, low, high, color=COLORS[start], alpha=0.2, linewidth=0)
        steepest = outcome.metrics["theory"][name]["steepest"]
        ax.plot(passed, steepest**passed, "--", color="#333333", linewidth=1.5, label="(σ′max)^L")
        ax.set(yscale="log", ylim=(1e-22, 1e4))
        ax.set_yticks([1e-20, 1e-15, 1e-10, 1e-5, 1])
        ax.minorticks_off()
        ax.text(0.03, 0.06, f"{name}, σ′max = {steepest:.3g}", transform=ax.transAxes,
                weight="bold")  # fmt: skip
    for ax in panels.flat[len(names) :]:
        ax.remove()
    figure.supxlabel("layers passed on the way back", fontsize=13)
    figure.supylabel("gradient norm, relative", fontsize=13)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def _factors(outcome: Outcome) -> Figure:
    figure = Figure(figsize=(10, 4.8))
    ax = figure.subplots()
    factors, theory = outcome.metrics["factor_a_layer"], outcome.metrics["theory"]
    places = np.arange(len(factors))
    for (start, label), off in zip(STARTS.items(), (-0.2, 0, 0.2), strict=True):
        ends = np.array([f[start] for f in factors.values()])
        bars = np.abs(ends[:, 1:] - ends[:, :1]).T
        ax.errorbar(places + off, ends[:, 0], bars, fmt="o", color=COLORS[start], label=label,
                    capsize=4, markersize=8)  # fmt: skip
        if start in ("plain", "gain"):
            expected = [t[start] for t in theory.values()]
            ax.plot(places + off, expected, "D", color="#333333", markersize=13, fillstyle="none",
                    markeredgewidth=1.2, label="theory" if start == "gain" else None)  # fmt: skip
    ax.axhline(1, color="#666666", linestyle=":", linewidth=1.5)
    ax.text(len(factors) + 0.35, 1.02, "explodes", ha="right", va="bottom", color="#555555")
    ax.text(len(factors) + 0.35, 0.98, "vanishes", ha="right", va="top", color="#555555")
    ax.set_xticks(places, list(factors), rotation=20)
    ax.set(ylabel="factor of the gradient a layer", yscale="log", ylim=(0.15, 1.6),
           xlim=(-0.6, len(factors) + 0.4))  # fmt: skip
    ax.set_yticks([0.2, 0.3, 0.5, 0.7, 1, 1.4], ["0.2", "0.3", "0.5", "0.7", "1", "1.4"])
    ax.minorticks_off()
    ax.legend(loc="lower left", bbox_to_anchor=(0.22, 0.0), ncols=2)
    return figure
