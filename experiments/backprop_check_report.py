"""The page and the pictures of `backprop_check`, from what it found."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.page import Section, Table, span
from experiments.runner import Outcome
from jaxnn.plot import style

EPS = {"float64": 2.0**-52, "float32": 2.0**-23}
LINES = {
    "float32 hand against float64": ("hand, float32: rounding", style.VERMILION, "o-"),
    "float32 jax.grad against float64": ("jax.grad, float32: rounding", style.BLUE, "s--"),
    "float32, hand against jax.grad": ("hand − jax.grad, float32", style.PURPLE, "^-"),
    "float64, hand against jax.grad": ("hand − jax.grad, float64", style.GREEN, "v-"),
}
FLOOR = 1e-18  # an error of exactly nothing, on a logarithmic axis


def _ratio(taken: Any) -> list[float]:
    """The median over rounds of hand over JAX, and its 95% interval by order statistics."""
    ratios = np.sort(taken[0] / taken[1])
    n = len(ratios)
    low = max(0, int(np.floor(n / 2 - 0.98 * n**0.5)))  # binomial, in its normal approximation
    return [float(np.median(ratios)), float(ratios[low]), float(ratios[n - 1 - low])]


def report(
    config: Any, middle: tuple[int, int], errors: Any, by_activation: Any, times: Any
) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    worst = {name: max(float(cell[name].max()) for cell in errors.values()) for name in LINES}
    worst64 = max(worst["float64, hand against jax.grad"],
                  *(float(e.max()) for e in by_activation.values()))  # fmt: skip
    worst32 = worst["float32, hand against jax.grad"]
    cells = list(errors)
    ratios = {cell: _ratio(times[cell]) for cell in cells}
    together = _ratio(np.concatenate([times[cell] for cell in cells], axis=1))
    rows = []
    for depth, width, activation in cells:
        cell = (depth, width, activation)
        hand, peer = (float(np.median(t)) * 1e6 for t in times[cell])
        rows.append(
            [depth, width, *(float(errors[cell][name].max()) for name in LINES), hand, peer,
             span(ratios[cell], ".2f")]
        )  # fmt: skip
    table = Table(
        ["hidden layers", "width", "hand f32", "jax.grad f32", "difference f32", "difference f64",
         "hand (µs)", "jax.grad (µs)", "time ratio"],
        rows,
        f"Relative errors, the largest of {config.seeds} networks: of both float32 gradients "
        "against float64, and between the two. Medians of the time of one call in float32, and "
        "the median of hand over jax.grad in the same round with its 95% interval.",
    )  # fmt: skip
    networks = config.seeds * (len(cells) + len(by_activation))
    finding = (
        f"Over {networks} networks and {len(by_activation)} activations the gradient by hand "
        f"differs from jax.grad by at most {worst64:.1e} of its norm in float64 and {worst32:.1e} "
        f"in float32, where rounding alone costs {worst['float32 jax.grad against float64']:.1e}; "
        f"it takes {span(together, '.2f')} times as long."
    )
    bound = 100 * EPS["float64"]
    verdict = "as they should" if worst64 < bound else "which they should NOT: a fault"
    faster = (
        "it holds here: the interval of the ratio lies within 10% of one"
        if together[1] >= 0.9 and together[2] <= 1.1
        else f"here the ratio is {span(together, '.2f')}"
    )
    same = [name for name, e in by_activation.items() if e.max() == 0]
    activations = Table(
        ["activation", "largest relative difference", "in units of 2⁻⁵²"],
        [[name, float(e.max()), float(e.max()) / EPS["float64"]]
         for name, e in by_activation.items()],
        f"float64, {middle[0]} hidden layers of {middle[1]}, {config.seeds} networks each.",
    )  # fmt: skip
    return Outcome(
        finding=finding,
        metrics={
            "largest_relative_error": worst,
            "largest_float64": worst64,
            "by_activation": {name: float(e.max()) for name, e in by_activation.items()},
            "time_ratio": together,
            "time_ratios": {f"{d} x {w}": ratios[d, w, a] for d, w, a in cells},
            "middle": middle,
            "depths": sorted(config.depths),
            "widths": sorted(config.widths),
        },
        arrays={
            **{f"error_{d}_{w}_{name}": e for (d, w, _), cell in errors.items()
               for name, e in cell.items()},
            **{f"seconds_{d}_{w}": t for (d, w, _), t in times.items()},
        },
        sections=[
            Section(
                "The same gradient",
                "The lecture derives back-propagation from the conservation of differentials; "
                "`mlp.backward` is that derivation written out. `jax.grad` differentiates the "
                "program of the loss on its own (reverse-mode automatic differentiation). Both "
                "compute the same sums in another order, so they may differ by rounding only: "
                "some units of 2⁻⁵² in float64 and of 2⁻²³ in float32 "
                f"(Griewank and Walther, 2008, chapter 3). They do, {verdict}.\n\n"
                "The two are compiled as two programs: in one, the compiler would see that they "
                "are the same and compute the gradient once.",
                {"errors": "Relative error, the largest of all networks of a size; dotted 2⁻²³ "
                 "and 2⁻⁵²."},
                table,
            ),
            Section(
                "Every activation",
                f"The difference is exactly zero for {', '.join(same) or 'none'}: there both ways "
                "do the very same operations; elsewhere JAX writes σ′ in another form.",
                {},
                activations,
            ),
            Section(
                "The same time",
                "Reverse mode costs a small multiple of the loss, whoever writes it (the cheap "
                "gradient principle; Baur and Strassen, 1983). XLA sees the same matrix products "
                f"from both, so neither is expected to win; {faster}. Timings are taken in turn, "
                f"{config.rounds} rounds in changing order, so that what else the machine does "
                "falls on both.",
                {"times": "Time of one gradient; the band holds half of the rounds."},
            ),
        ],
        table=table,
    )  # fmt: skip


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws everything that the page shows."""
    return {"errors": _errors(outcome), "times": _times(outcome)}


def _axes(outcome: Outcome, figure: Figure) -> Any:
    """Yields for each panel its axes, the places on the x axis, and the cells."""
    depth, width = outcome.metrics["middle"]
    depths, widths = outcome.metrics["depths"], outcome.metrics["widths"]
    panels = figure.subplots(1, 2, sharey=True)
    for ax, label, places, cells in (
        (panels[0], f"hidden layers (width {width})", depths, [(d, width) for d in depths]),
        (panels[1], f"width ({depth} hidden layers)", widths, [(depth, w) for w in widths]),
    ):
        ax.set(xscale="log", yscale="log", xlabel=label)
        ax.set_xticks(places, list(map(str, places)))
        ax.minorticks_off()
        yield ax, places, cells


def _errors(outcome: Outcome) -> Figure:
    figure = Figure(figsize=(11, 5.4))
    for i, (ax, places, cells) in enumerate(_axes(outcome, figure)):
        for name, (label, color, line) in LINES.items():
            worst = [max(FLOOR, outcome.arrays[f"error_{d}_{w}_{name}"].max()) for d, w in cells]
            ax.plot(places, worst, line, color=color, label=label, markersize=7)
        for name, eps in EPS.items():
            ax.axhline(eps, color="#777777", linestyle=":", linewidth=1.5)
            if i == 1:
                ax.text(places[-1], eps / 1.5, f"one unit, {name}", ha="right", va="top",
                        color="#555555", fontsize=11)  # fmt: skip
        ax.set_ylim(1e-17, 1e-5)
        if i == 0:
            ax.set_ylabel("relative error of the gradient")
            figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _times(outcome: Outcome) -> Figure:
    figure = Figure(figsize=(11, 4.6))
    shown = [
        1e6 * np.median(seconds)
        for name, seconds in outcome.arrays.items()
        if name.startswith("seconds_")
    ]
    for i, (ax, places, cells) in enumerate(_axes(outcome, figure)):
        for m, (label, color, line) in enumerate(
            (("by hand", style.VERMILION, "o-"), ("jax.grad", style.BLUE, "s--"))
        ):
            taken = [1e6 * outcome.arrays[f"seconds_{d}_{w}"][m] for d, w in cells]
            low, middle, high = np.quantile(taken, [0.25, 0.5, 0.75], axis=1)
            ax.plot(places, middle, line, color=color, label=label, markersize=7)
            ax.fill_between(places, low, high, color=color, alpha=0.2, linewidth=0)
        if i == 0:
            ax.set_ylabel("time of one gradient (µs)")
            ax.legend(loc="upper left")
    ticks = [20, 50, 100, 200, 500, 1000, 2000]
    last = figure.axes[-1]
    last.set_yticks(ticks, list(map(str, ticks)))  # the panels share it, and the scale resets it
    last.set_ylim(0.8 * min(shown), 1.4 * max(shown))
    last.tick_params(labelleft=False)
    return figure
