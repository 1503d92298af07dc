"""How wide should a kernel be: when does a kernel density smooth too little, and when too much?

The lengths of the eruptions of Old Faithful under kernels from narrow to wide; the likelihood of
eruptions left out decides, and the usual rules of thumb are judged by it.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments import datasets
from experiments.page import Section, Table, span
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import kde, metrics, sweep
from jaxnn.plot import style

TITLE = ("The bandwidth of a kernel density", "核密度估计的带宽")
PANELS = (0.01, 0.03, 0.11, 0.4, 0.8, 2.0)  # minutes, too narrow to too wide
mean_interval = jax.jit(metrics.mean_interval)  # one program, not one for each operation


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    bandwidths: int = Field(default=60, ge=2)
    """Bandwidths tried, evenly spaced in the logarithm from 0.015 to 2 minutes."""
    splits: int = Field(default=40, ge=2)
    """Random splits into rows to learn from and rows left out."""
    left_out: float = Field(default=0.2, gt=0, lt=1)
    """Share of the rows left out."""
    grid: int = Field(default=400, ge=10)
    """Places at which densities are drawn."""


RULES = {name: kde.BANDWIDTHS[name] for name in ("scott", "silverman")}
SMOKE = {"bandwidths": 5, "splits": 3, "grid": 30}


def held_out(hp: Any, key: Any, x: Any, widths: Any, *, test: int) -> Any:
    """One split: for every bandwidth the mean log density of learned and of left-out rows."""
    del hp
    rows = jax.random.permutation(key, x)
    learn, rest = rows[test:], rows[:test]

    def score(width: Any) -> Any:
        model = kde.fit(learn, bandwidth=width)
        return jnp.mean(kde.log_prob(model, learn)), jnp.mean(kde.log_prob(model, rest))

    rules = jnp.stack([rule(learn, None)[0] for rule in RULES.values()])
    return jax.vmap(score)(widths), score_rules(rules, score), rules


def score_rules(rules: Any, score: Any) -> Any:
    """The left-out log density under the bandwidth of each rule."""
    return jax.vmap(lambda width: score(width)[1])(rules)


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Scores all bandwidths on the same random splits, and draws some densities."""
    x = jnp.asarray(datasets.faithful()[:, :1])
    widths = jnp.geomspace(0.015, 2.0, config.bandwidths, dtype=x.dtype)
    test = max(1, round(config.left_out * x.shape[0]))
    with progress.task("splits", config.splits):
        space = sweep.grid(seed=range(config.splits))
        fit_one = partial(held_out, test=test)
        (learned, scores), by_rule, rules = jax.device_get(
            progress.sweep(fit_one, space, jax.random.key(seed), x, widths).results
        )
    places = jnp.linspace(0.8, 6.0, config.grid, dtype=x.dtype)
    with progress.task("densities", len(PANELS)):
        shown = jnp.array(PANELS)
        curves = jax.vmap(
            lambda h: jnp.exp(kde.log_prob(kde.fit(x, bandwidth=h), places[:, None]))
        )(shown)

    mean, low, high = (np.asarray(v) for v in jax.jit(jax.vmap(metrics.mean_interval))(scores.T))
    best = int(mean.argmax())
    chosen = np.asarray(widths)[scores.argmax(axis=1)]  # each split's own best
    width = [float(v) for v in mean_interval(chosen)]
    names = list(RULES)
    rule_width = dict(zip(names, map(float, rules.mean(axis=0)), strict=True))
    # Against the best on the same splits: the spread of the splits themselves cancels.
    losses = {
        name: [float(v) for v in mean_interval(scores[:, best] - by_rule[:, i])]
        for i, name in enumerate(names)
    }
    words = " and ".join(
        f"{name.title()}'s {rule_width[name]:.2f} min costs {span(losses[name])}" for name in names
    )  # fmt: skip
    finding = (
        f"Eruptions left out are most likely under kernels of h = {widths[best]:.3f} min "
        f"({span(width)} over {config.splits} splits); {words} nats an eruption, since rules made "
        f"for a normal distribution smooth two peaks {rule_width['scott'] / widths[best]:.1f} "
        "times too much."
    )
    oversmooth = all(ends[1] > 0 for ends in losses.values())
    if not oversmooth:
        finding = finding.replace(", since rules made", "; rules made").replace(
            "smooth two peaks", "are here"
        ).replace("times too much", "times as wide as the best")  # fmt: skip
    table = Table(
        ["bandwidth", "h (min)", "left-out nats below the best", "95% from", "to"],
        [["best on left-out rows", float(widths[best]), 0.0, None, None],
         *([f"{name.title()}'s rule", rule_width[name], *losses[name]] for name in names)],
        f"Mean over {config.splits} splits, paired; {config.left_out:.0%} of 272 rows left out.",
        best=[0],
    )  # fmt: skip
    verdict = (
        "The expectation holds: both rules lose likelihood, by intervals that exclude zero."
        if oversmooth
        else "The expectation fails: not every rule loses by an interval that excludes zero."
    )
    sections = [
        Section(
            "Too narrow, too wide",
            "A kernel density puts one bump of width h on every observation (Rosenblatt, 1956; "
            "Parzen, 1962). With narrow bumps it repeats the sample, spike by spike; with wide "
            "ones it drowns the two kinds of eruptions in one hill. Small h has variance, large h "
            "has bias.",
            {"panels": "The density of 272 lengths of eruptions under six bandwidths; ticks are "
             "the eruptions."},
        ),
        Section(
            "Let eruptions that were left out decide",
            "Rows that the density has learned from always prefer the narrowest kernel: in the "
            "limit each sits under its own spike. Rows left out have a best bandwidth in between. "
            "Scott's and Silverman's rules are best for a normal distribution, and are expected to "
            "smooth too much where there are two peaks (Silverman, 1986, section 3.4). "
            + verdict,
            {"curve": "Mean log density against bandwidth, of learned and of left-out rows; the "
             "band is a 95% interval over splits."},
            table,
        ),
    ]  # fmt: skip
    return Outcome(
        finding=finding,
        metrics={"best": float(widths[best]), "best_by_split": width, "rules": rule_width,
                 "loss_of_rules": losses},
        arrays={"x": x[:, 0], "places": places, "curves": curves, "widths": widths,
                "learned": learned.mean(axis=0), "held_out": np.stack([mean, low, high])},
        sections=sections,
        table=table,
    )  # fmt: skip


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws densities under several bandwidths, and the curve that chooses one."""
    return {"panels": _panels(outcome), "curve": _curve(outcome)}


def _panels(outcome: Outcome) -> Figure:
    found, figure = outcome.arrays, Figure(figsize=(10.5, 5.2))
    axes = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
    nearest = int(np.argmin(np.abs(np.log(np.array(PANELS) / outcome.metrics["best"]))))
    for i, (ax, width, curve) in enumerate(zip(axes, PANELS, found["curves"], strict=True)):
        color = style.GREEN if i == nearest else style.BLUE if i < nearest else style.VERMILION
        ax.fill_between(found["places"], curve, color=color, alpha=0.25, linewidth=0)
        ax.plot(found["places"], curve, color=color, linewidth=1.6)
        ax.plot(found["x"], np.full(len(found["x"]), -0.045), "|", color=style.INK, alpha=0.4,
                markersize=7)  # fmt: skip
        note = "" if i == nearest else ", too narrow" if i < nearest else ", too wide"
        ax.set_title(f"h = {width:g} min{note}", fontsize=13, color=color)
        ax.set(ylim=(-0.09, 1.65), xlim=(0.8, 6.0))
    for ax in axes[3:]:
        ax.set_xlabel("length of the eruption (min)")
    for ax in axes[::3]:
        ax.set_ylabel("density (per min)")
    return figure


def _curve(outcome: Outcome) -> Figure:
    found, figure = outcome.arrays, Figure(figsize=(8.0, 4.6))
    ax = figure.subplots()
    mean, low, high = found["held_out"]
    ax.plot(found["widths"], found["learned"], color="#777777", linestyle="--", label="learned")
    ax.fill_between(found["widths"], low, high, color=style.BLUE, alpha=0.2, linewidth=0)
    ax.plot(found["widths"], mean, color=style.BLUE, label="left out")
    ax.plot(outcome.metrics["best"], mean.max(), "*", color=style.BLUE, markersize=16,
            label=f"best: {outcome.metrics['best']:.2f} min")  # fmt: skip
    looks = zip((style.VERMILION, style.PURPLE), (":", "-."), strict=True)
    for (color, dash), (rule, width) in zip(looks, outcome.metrics["rules"].items(), strict=False):
        ax.axvline(width, color=color, linestyle=dash, label=f"{rule.title()}: {width:.2f} min")
    ax.set(xscale="log", xlabel="bandwidth h (min)", ylabel="mean log density (nats)",
           ylim=(-2.05, 0.15))  # fmt: skip
    ticks = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.legend(loc="upper right")
    return figure
