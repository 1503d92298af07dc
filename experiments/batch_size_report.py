"""The page and the pictures of `batch_size`, from what the runs found."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import digits_nets as nets
from experiments.page import Section, Table
from experiments.runner import Outcome
from jaxnn.plot import style

SOLVED = 0.2  # a mean loss below this is no local optimum of the two problems
COLORS = (style.VERMILION, style.ORANGE, style.GREEN, style.BLUE, style.PURPLE, style.SKY)
MARKS = "os^Dvp"


def report(config: Any, found: dict[int, Any], left: dict[str, np.ndarray]) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    few = config.seeds // 5
    smallest, full = config.batches[0], config.batches[-1]
    budgets = {"epochs": config.epochs - 1, "steps": -1}
    rows, curves, reached = [], {}, {}
    for budget, moment in budgets.items():
        for batch in config.batches:
            loss, error = found[batch].loss, found[batch].validation
            choice = np.nan_to_num(loss[:, :few, moment], nan=np.inf).mean(axis=1)
            best = int(np.argmin(choice))
            ends = nets.intervals(np.nan_to_num(loss[best, few:, moment], nan=9.0))
            hit = 100 * (1 - np.nan_to_num(error[best, few:, moment], nan=0.9))
            reached[budget, batch] = ends, hit
            steps = config.epochs * (config.rows // (batch if budget == "epochs" else smallest))
            rows.append([
                f"same {budget}", batch, f"{config.rates[best]:g}", steps,
                steps * batch // config.rows, *ends, nets.percent(nets.intervals(hit)),
            ])  # fmt: skip
            curves[f"{budget}_{batch}_loss"] = loss[best, few:]
    table = Table(
        ["budget", "batch size", "rate", "steps", "epochs", "training loss", "95% from", "to",
         "test accuracy"],
        rows,
        f"{config.rows} digits, {config.seeds - few} seeds; the rate was chosen on {few} others.",
    )  # fmt: skip

    escapes, said, verdicts, escape_rows = {}, [], [], []
    for name, losses in left.items():
        stuck = losses[0] > SOLVED  # rates, starts
        shares = np.full((len(config.escape_batches), len(config.escape_rates), 3), np.nan)
        for i in range(len(config.escape_batches)):
            for j in range(len(config.escape_rates)):
                if stuck[j].sum() > 1:
                    out = losses[1 + i, j][stuck[j]] < SOLVED
                    shares[i, j] = nets.intervals(100.0 * out)
        escapes[name] = shares
        ahead = np.nan_to_num(shares[0, :, 0] - shares[-1, :, 0], nan=-np.inf)
        j = int(np.flatnonzero(ahead == ahead.max())[-1])  # the largest rate among equals
        verdicts.append(
            f"On {name} the claim holds: the smallest batch gets out more often at rate "
            f"{config.escape_rates[j]:g}."
            if ahead[j] > 0
            else f"On {name} the claim fails: at no rate does the smallest batch get out more "
            "often than the full one."
        )
        count = [int((losses[1 + i, j][stuck[j]] < SOLVED).sum()) for i in (0, len(shares) - 1)]
        said.append(
            f"of {stuck[j].sum()} runs that full-batch descent left in a local optimum of {name}, "
            f"batches of {config.escape_batches[0]} lead {count[0]} out, {_share(shares[0, j])}, "
            f"and the full batch {count[1]} (rate {config.escape_rates[j]:g})"
        )
        escape_rows += [
            [name, f"{rate:g}", int(stuck[j].sum()), *(_share(s[j]) for s in shares)]
            for j, rate in enumerate(config.escape_rates)
        ]
    escape_table = Table(
        ["problem", "rate", "stuck runs", *(f"left, batch of {b}" for b in config.escape_batches)],
        escape_rows,
        f"Share of the stuck runs (loss above {SOLVED:g}) that end below it after "
        f"{config.steps} more steps, with 95 % intervals.",
    )  # fmt: skip
    show = lambda budget, batch: "{:.3g} ({:.3g} to {:.3g})".format(*reached[budget, batch][0])
    gap = {b: nets.intervals(reached[b, smallest][1] - reached[b, full][1]) for b in budgets}
    finding = (
        f"After the same {config.epochs} epochs the training loss is "
        f"{show('epochs', smallest)} nats with batches of {smallest} and {show('epochs', full)} "
        f"with the full batch; after the same number of steps {show('steps', smallest)} and "
        f"{show('steps', full)}, and test accuracy differs by {nets.points(gap['steps'])}; "
        + "; ".join(said) + "."
    )  # fmt: skip
    return Outcome(
        finding=finding,
        metrics={
            "training_loss": {f"{b}, batch {n}": r[0] for (b, n), r in reached.items()},
            "test_accuracy": {f"{b}, batch {n}": nets.intervals(r[1])
                              for (b, n), r in reached.items()},
            "accuracy_small_minus_full_points": gap,
            "escaped_percent": escapes,
        },
        arrays={
            **curves, "batches": np.array(config.batches), "rows": np.array(config.rows),
            "accuracy_gap": np.stack([
                nets.intervals(np.stack([reached[budget, b][1] - reached[budget, full][1]
                                         for b in config.batches[:-1]]))
                for budget in budgets
            ]),
            "epochs": np.array(config.epochs), "escape_rates": np.array(config.escape_rates),
            "escape_batches": np.array(config.escape_batches),
            "problems": np.array(list(escapes)), "escapes": np.stack(list(escapes.values())),
        },
        sections=[
            Section(
                "Speed",
                "The lecture: full-batch descent converges quickly to a local optimum. Per step, "
                "the full gradient has no noise; but a pass over the rows buys only one step of "
                "it. Bottou, Curtis and Nocedal (2018) expect small batches to be ahead after "
                "the same number of passes, and large ones after the same number of steps. Each "
                "batch size has its own best rate under each budget, chosen on other seeds.\n\n"
                "Keskar et al. (2017) expect full-batch solutions to generalise worse; Hoffer et "
                "al. (2017) find that the gap closes with as many steps.\n\n"
                + _speed(reached, smallest, full),
                {"curves": "Training loss over epochs and over steps, mean and 95 % interval over "
                           "seeds. The dots mark where the budgets are compared.",
                 "accuracy": "Test accuracy of each batch size minus that of the full batch, "
                             "paired by seed."},
                table,
            ),
            Section(
                "Leaving a local optimum",
                "The lecture: drawing a part of the data at random helps to leave a local "
                "optimum. Kleinberg, Li and Yuan (2018) show why it may: noise makes descent see "
                "a smoothed loss, provided rate times noise is wide enough for the dent. So the "
                "claim is about batch and rate together, and about the shape of the dent.\n\n"
                "Two problems with local optima: a tanh network with two hidden units on noisy "
                "XOR, and one number, the frequency of a sine, whose loss has a dent on either "
                "side of every wrong answer. Full-batch descent goes first; every run that it "
                "leaves stuck goes on from there with each batch size, for as many steps. The "
                "rate in the finding is the one at which the smallest batch is furthest ahead: "
                "where even that is nothing, as on a plateau of saturated units, the claim fails."
                "\n\n"
                + " ".join(verdicts),
                {"escape": "Share of stuck runs that get out, by batch size and learning rate, "
                           "with 95 % intervals."},
                escape_table,
            ),
        ],
        table=table,
    )  # fmt: skip


def _speed(reached: Any, smallest: int, full: int) -> str:
    """Returns whether full-batch descent is faster under each budget."""
    words = []
    for budget in ("epochs", "steps"):
        small, large = reached[budget, smallest][0], reached[budget, full][0]
        says = (
            "holds" if large[2] < small[1] else "fails" if small[2] < large[1] else "is undecided"
        )
        words.append(f"for the same {budget} 'the full batch is faster' {says}")
    return "So " + ", and ".join(words) + "."


def _share(ends: Any) -> str:
    mean, low, high = ends
    if np.isnan(mean):
        return "none to count"
    return f"{mean:.0f} % [{max(low, 0):.0f}, {min(high, 100):.0f}]"


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws the curves, the gaps, and who gets out."""
    return {
        "curves": _curves(outcome.arrays),
        "accuracy": _accuracy(outcome.arrays),
        "escape": _escape(outcome.arrays),
    }


def _curves(found: Any) -> Figure:
    figure = Figure(figsize=(10, 4.4))
    panels = figure.subplots(1, 2, sharey=True)
    rows, smallest = int(found["rows"]), int(found["batches"][0])
    for ax, budget in zip(panels, ("epochs", "steps"), strict=True):
        for batch, color in zip(found["batches"], COLORS, strict=False):
            loss = found[f"{budget}_{batch}_loss"]
            per_epoch = rows // batch if budget == "steps" else 1
            last = found["epochs"] if budget == "epochs" else loss.shape[1]
            x = np.arange(1, last + 1) * per_epoch
            name = f"full batch ({batch})" if batch == rows else f"batch of {batch}"
            curve = np.nan_to_num(loss[:, :last], nan=9.0)
            nets.mean_curve(ax, x, curve, label=name, color=color)
            ax.plot(x[-1], curve[:, -1].mean(), "o", color=color, markersize=8, clip_on=False)
        ax.set(xscale="log", yscale="log", xlabel=budget[:-1], title=f"the same {budget}")
    panels[1].set_xlim(left=rows // smallest // 4 or 1)
    panels[0].set_ylabel("training loss (nats)")
    panels[0].legend(loc="lower left")
    return figure


def _accuracy(found: Any) -> Figure:
    figure = Figure(figsize=(7, 3.8))
    ax = figure.subplots()
    ax.axhline(0, color="#888888", linewidth=1.2)
    place = np.arange(len(found["batches"]) - 1)
    for i, (budget, color) in enumerate((("epochs", style.VERMILION), ("steps", style.BLUE))):
        ends = found["accuracy_gap"][i]
        ax.errorbar(place + 0.1 * (2 * i - 1), ends[:, 0], (ends[:, 2] - ends[:, 1]) / 2,
                    fmt="os"[i], color=color, capsize=5, markersize=8,
                    label=f"the same {budget}")  # fmt: skip
    ax.set_xticks(place, [str(b) for b in found["batches"][:-1]])
    ax.set(xlabel="batch size", ylabel="test accuracy minus\nfull batch (points)")
    ax.margins(x=0.2)
    ax.legend()
    return figure


def _escape(found: Any) -> Figure:
    figure = Figure(figsize=(10, 4))
    panels = np.atleast_1d(figure.subplots(1, len(found["problems"]), sharey=True))
    place = np.arange(len(found["escape_rates"]))
    for k, ax in enumerate(panels):
        for i, batch in enumerate(found["escape_batches"]):
            ends = found["escapes"][k, i]
            name = "full batch" if i == len(found["escape_batches"]) - 1 else f"batch of {batch}"
            spread = np.abs(np.clip(ends[:, 1:], 0, 100) - ends[:, :1]).T
            color = COLORS[i] if name != "full batch" else style.BLUE
            ax.errorbar(place + 0.1 * (i - 1), ends[:, 0], spread, fmt=MARKS[i] + "-", color=color,
                        capsize=4, markersize=7, linewidth=1.5, label=name)  # fmt: skip
        ax.set_xticks(place, [f"{rate:g}" for rate in found["escape_rates"]])
        ax.set(xlabel="learning rate", title=str(found["problems"][k]), ylim=(-5, 105))
    panels[0].set_ylabel("stuck runs that get out (%)")
    panels[0].legend()
    return figure
