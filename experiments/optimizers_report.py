"""The page and the pictures of `optimizers`, from what the races found."""

from typing import Any

import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.figure import Figure

from experiments import digits_nets as nets
from experiments.page import Section, Table
from experiments.runner import Outcome
from jaxnn.plot import style

FRAMES = 48
TAIL = 25  # steps of a path that stay visible
LABELS = {
    "sgd": "SGD", "momentum": "momentum", "nesterov": "Nesterov", "adagrad": "AdaGrad",
    "rmsprop": "RMSprop", "adadelta": "Adadelta", "adam": "Adam", "adamax": "AdaMax",
    "nadam": "Nadam", "amsgrad": "AMSGrad",
}  # fmt: skip
FAMILIES = ("sgd", "momentum", "nesterov")  # no scaling of each coordinate; drawn dashed
LOOKS = {
    name: {
        "color": style.PALETTE[[7, 4, 5, 2, 1, 3, 0, 5, 4, 2][i]],
        "linestyle": ["-", "-", "-", "-", "-", "-", "-", "--", "--", "--"][i],
        "marker": "osD^v<>PXd"[i],
    }
    for i, name in enumerate(LABELS)
}


def report(config: Any, surfaces: Any, digits: Any, grids: Any) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    names, kinds = list(config.optimizers), list(grids)
    needed = np.stack([surfaces["steps"][name] for name in names])  # optimizer, surface, start
    solved = needed <= config.steps
    medians = np.median(needed, axis=-1)
    rows = []
    for i, name in enumerate(names):
        cells = []
        for j in range(len(kinds)):
            low, high = np.quantile(needed[i, j], [0.025, 0.975])
            word = f"{medians[i, j]:.0f} [{low:.0f}, {high:.0f}]"
            never = "not within the steps" if not solved[i, j].any() else word
            cells += [f"{surfaces['chosen'][name][j]:.2g}", never]
        rows.append([LABELS[name], *cells])
    columns = [c for kind in kinds for c in (f"{kind}: rate", "steps to solve")]
    winners = medians.argmin(axis=0)
    table_surfaces = Table(
        ["optimizer", *columns], rows,
        f"Median steps and the middle 95 % of {needed.shape[-1]} starts; solved: within "
        f"{config.tolerance:g} of the minimum, {config.steps} steps at most.",
        best=sorted({int(w) for w in winners}),
    )  # fmt: skip

    last = np.stack([digits["loss"][name][:, -1] for name in names])
    loss = nets.intervals(last)
    accuracy = nets.intervals(np.stack([digits["accuracy"][name] for name in names]), 100)
    epochs = np.stack([_epochs_to(digits["loss"][name], config.target) for name in names])
    order = np.argsort(loss[:, 0])
    first = int(order[0])
    plain = names.index("sgd")
    behind = nets.intervals(last - last[first][None])  # paired by seed
    table_digits = Table(
        ["optimizer", "rate", "final training loss", "95% from", "to",
         f"epochs to {config.target:g} nats", "test accuracy"],
        [[LABELS[names[i]], f"{digits['chosen'][names[i]]:g}", *loss[i], str(epochs[i]),
          nets.percent(accuracy[i])] for i in order],
        f"{config.rows} digits, {config.epochs} epochs, {last.shape[1]} seeds; best first.",
        best=[0],
    )  # fmt: skip
    close = [LABELS[names[i]] for i in order[1:] if behind[i, 1] <= 0]
    races = ", ".join(
        f"{LABELS[names[w]]} on the {kind} surface ({medians[w, j]:.0f} steps, SGD "
        + (f"{medians[plain, j]:.0f})" if medians[plain, j] <= config.steps
           else f"not within {config.steps})")
        for j, (kind, w) in enumerate(zip(kinds, winners, strict=True))
    )  # fmt: skip
    finding = (
        f"Each at its best learning rate, the fastest are {races}; on digits "
        f"{LABELS[names[first]]} has the lowest training loss after {config.epochs} epochs, "
        f"{loss[first, 0]:.4f} nats (95 % interval {loss[first, 1]:.4f} to {loss[first, 2]:.4f}), "
        f"plain SGD {loss[plain, 0]:.4f} ({loss[plain, 1]:.4f} to {loss[plain, 2]:.4f}), and "
        f"test accuracies lie between {accuracy[:, 0].min():.1f} and {accuracy[:, 0].max():.1f} %."
    )
    return Outcome(
        finding=finding,
        metrics={
            "surfaces": {n: {"rate": surfaces["chosen"][n], "median_steps": medians[i]}
                         for i, n in enumerate(names)},
            "digits": {n: {"rate": digits["chosen"][n], "loss": loss[i], "accuracy": accuracy[i],
                           "behind_the_best": behind[i]} for i, n in enumerate(names)},
        },
        arrays={
            **{f"path_{n}": surfaces["paths"][n] for n in names},
            **{f"height_{n}": np.median(np.minimum.accumulate(surfaces["heights"][n], -1), axis=1)
               for n in names},
            **{f"loss_{n}": digits["loss"][n] for n in names},
            **{f"rates_{n}": np.stack(digits["by_rate"][n]) for n in names},
            **{f"grid_{kind}_{axis}": a for kind in kinds
               for axis, a in zip("xyz", grids[kind], strict=True)},
            "kinds": np.array(kinds), "names": np.array(names), "final_loss": loss, "order": order,
        },
        sections=[
            Section(
                "Three surfaces",
                "Momentum (Polyak, 1964) and Nesterov's method (1983) remember the direction and "
                "pay off in long valleys: on a quadratic of condition κ the number of steps grows "
                "as √κ instead of κ. The adaptive methods scale every coordinate, so they "
                "should leave a saddle at once, where the gradient is small in the direction that "
                "counts. Each optimizer has its own rate, chosen by the mean number of steps over "
                "half of the starts; what is shown are the other half.\n\n"
                "A single rate for all would compare rates, not optimizers.\n\n"
                + _verdict(names, kinds, medians),
                {"movie": "The paths from the lecture's starting points, each optimizer at its "
                          "best rate.",
                 "surfaces": "Lowest height above the minimum so far, median of the starts."},
                table_surfaces,
            ),
            Section(
                "Digits",
                f"A network with {config.hidden} hidden units. Choi et al. (2019) expect that an "
                "optimizer which contains another as a special case is never worse once it is "
                "tuned well; Wilson et al. (2017) that the adaptive ones train faster and "
                "generalise no better. The rate was chosen by the training loss of the first "
                "quarter of the seeds, the table shows the others."
                + (" Within the seeds' pairwise differences the best cannot be told from "
                   + ", ".join(close) + "." if close else ""),
                {"digits": "Training loss by epoch, mean and 95 % interval over seeds; the three "
                           "best, the three of the SGD family, and the rest in grey.",
                 "rates": "Training loss after the last epoch against the learning rate."},
                table_digits,
            ),
        ],
        table=table_digits,
    )  # fmt: skip


def _verdict(names: list[str], kinds: list[str], medians: np.ndarray) -> str:
    """Returns which of the two expectations about the surfaces came true."""
    steps = {n: dict(zip(kinds, medians[i], strict=True)) for i, n in enumerate(names)}
    plain = steps["sgd"]
    words = []
    for what, kind, chosen in (
        ("momentum pays off in the valley", "long valley", FAMILIES[1:]),
        ("scaling each coordinate pays off at the saddle", "saddle",
         [n for n in LABELS if n not in FAMILIES]),
    ):  # fmt: skip
        rivals = {n: steps[n][kind] for n in chosen if n in steps}
        if rivals:
            best = min(rivals, key=lambda n: rivals[n])
            count = sum(s < plain[kind] for s in rivals.values())
            words.append(
                f"That {what} {'holds' if count > len(rivals) / 2 else 'fails here'}: {count} of "
                f"{len(rivals)} are faster than plain SGD ({plain[kind]:.0f} steps), the best, "
                f"{LABELS[best]}, with {rivals[best]:.0f}."
            )
    return " ".join(words)


def _epochs_to(loss: np.ndarray, target: float) -> str:
    below = loss <= target
    reached = np.where(below.any(-1), below.argmax(-1) + 1, np.inf)
    middle = np.median(reached)
    return f"{middle:.0f}" if np.isfinite(middle) else f"> {loss.shape[1]}"


def _draw_surface(ax: Any, found: Any, kind: str) -> None:
    x, y, z = (found[f"grid_{kind}_{axis}"] for axis in "xyz")
    levels = np.geomspace(1e-3, 1, 14) * z.max()
    ax.contour(x, y, z, levels=levels, colors="#c0c0c0", linewidths=0.7)
    ax.set(title=kind, xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    ax.grid(False)


def _looks(found: Any) -> list[tuple[str, Any]]:
    return [(str(name), LOOKS[str(name)]) for name in found["names"]]


def plot(outcome: Any) -> dict[str, Any]:
    """Draws the movie, the heights, and the curves on digits."""
    return {
        "movie": _movie(outcome.arrays),
        "surfaces": _heights(outcome.arrays),
        "digits": _digits(outcome.arrays),
        "rates": _rates(outcome.arrays),
    }


def _movie(found: Any) -> FuncAnimation:
    kinds = [str(kind) for kind in found["kinds"]]
    figure = Figure(figsize=(9, 4.2))
    panels = figure.subplots(1, len(kinds))
    lines = []
    for j, (ax, kind) in enumerate(zip(panels, kinds, strict=True)):
        _draw_surface(ax, found, kind)
        minima = {"Beale": [(3, 0.5)], "long valley": [(0, 0)], "saddle": [(0, 1), (0, -1)]}[kind]
        ax.plot(*zip(*minima, strict=True), "*", color=style.VERMILION, markersize=13, zorder=9)
        for name, look in _looks(found):
            line, = ax.plot([], [], color=look["color"], linestyle=look["linestyle"],
                            linewidth=1.6)  # fmt: skip
            head, = ax.plot([], [], look["marker"], color=look["color"], markersize=7,
                            markeredgecolor="white", markeredgewidth=0.6, zorder=8)  # fmt: skip
            lines.append((line, head, found[f"path_{name}"][j]))
    count = figure.suptitle("step 0", fontsize=13)
    for name, look in _looks(found):
        panels[0].plot([], [], label=LABELS[name], markersize=6, **look)
    figure.legend(loc="outside lower center", ncols=5, fontsize=11)
    total = len(lines[0][2]) - 1
    moments = np.unique(np.round(np.geomspace(1, total + 1, FRAMES)).astype(int) - 1)

    def draw(frame: int) -> list[Any]:
        step = moments[frame]
        for line, head, path in lines:
            tail = path[max(0, step - TAIL) : step + 1]
            line.set_data(tail[:, 0], tail[:, 1])
            head.set_data(path[step : step + 1, 0], path[step : step + 1, 1])
        count.set_text(f"step {step}")
        return []

    return FuncAnimation(figure, draw, frames=len(moments))


def _heights(found: Any) -> Figure:
    figure = Figure(figsize=(11, 4.6))
    panels = figure.subplots(1, len(found["kinds"]), sharey=True)
    for j, (ax, kind) in enumerate(zip(panels, found["kinds"], strict=True)):
        for name, look in _looks(found):
            height = found[f"height_{name}"][j]
            ax.plot(np.arange(len(height)) + 1, np.maximum(height, 1e-8), color=look["color"],
                    linestyle=look["linestyle"], label=LABELS[name] if j == 0 else None,
                    marker=look["marker"], markevery=(0.05 * (1 + j % 2), 0.18),
                    markersize=6)  # fmt: skip
        ax.set(xscale="log", yscale="log", ylim=(1e-6, 100), xlabel="step + 1", title=str(kind))
    panels[0].set_ylabel("lowest height so far")
    figure.legend(loc="outside lower center", ncols=5, fontsize=12)
    return figure


def _digits(found: Any) -> Figure:
    figure = Figure(figsize=(7.5, 4.6))
    ax = figure.subplots()
    names = [str(name) for name in found["names"]]
    shown = {names[i] for i in found["order"][:3]} | set(FAMILIES)
    for name, look in _looks(found):
        loss = found[f"loss_{name}"]
        epochs = np.arange(1, loss.shape[1] + 1)
        if name in shown:
            nets.mean_curve(ax, epochs, loss, label=LABELS[name], color=look["color"],
                            linestyle=look["linestyle"])  # fmt: skip
        else:
            ax.plot(epochs, loss.mean(axis=0), color="#b0b0b0", linewidth=1.2, zorder=1)
    ax.plot([], [], color="#b0b0b0", linewidth=1.2, label="the others")
    ax.set(yscale="log", xlabel="epoch", ylabel="training loss (nats)")
    ax.legend(ncols=2)
    return figure


def _rates(found: Any) -> Figure:
    figure = Figure(figsize=(8.5, 5))
    ax = figure.subplots()
    for name, look in _looks(found):
        rates, loss = found[f"rates_{name}"]
        ax.plot(rates, loss, label=LABELS[name], markersize=6, **look)
    ax.set(xscale="log", yscale="log", xlabel="learning rate",
           ylabel="training loss after the last epoch (nats)")  # fmt: skip
    ax.set_ylim(top=10)
    figure.legend(loc="outside lower center", ncols=5, fontsize=12)
    return figure
