"""How does EM find the two kinds of eruptions of Old Faithful?

One run of EM on the 272 eruptions step by step, as an animation, and many runs from random starts:
does the log-likelihood ever fall, and do all of them end at the same place?
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments import datasets
from experiments.page import Section, Table
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import gmm, metrics, sweep
from jaxnn.plot import style

TITLE = ("EM at work on Old Faithful", "EM 算法动画：老忠实间歇泉")
MEANS = ((2.0, 55.0), (4.5, 80.0))  # chosen by eye
BEST = -1130.2640  # of two full covariances; R's mclust finds the same
GLIDE = 4  # frames in which the ellipses move in an M-step


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    steps: int = Field(default=13, ge=1, le=14)
    """Steps of EM in the animation."""
    starts: int = Field(default=100, ge=2)
    """Random starts, two rows of the data each."""
    most_steps: int = Field(default=150, ge=2)
    """Steps of EM from each random start."""


SMOKE = {"steps": 1, "starts": 2, "most_steps": 2}


def climb(mixture: Any, x: Any, steps: int) -> Any:
    """The mixture and the total log-likelihood (nats) before each step and after the last."""

    def step(mixture: Any, _: None) -> Any:
        total = gmm.e_step(mixture, x)
        return gmm.m_step(mixture, total), (mixture, total.log_lik)

    return jax.lax.scan(step, mixture, length=steps + 1)[1]


def from_random_rows(hp: Any, key: Any, x: Any, *, steps: int) -> Any:
    """One member of the sweep: EM from two random rows."""
    del hp
    path, log_liks = climb(gmm.init(key, x, 2, start="random points"), x, steps)
    return jax.tree.map(lambda a: a[-1], path), log_liks


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Runs EM once from the start chosen by eye, and from many random starts."""
    x = jnp.asarray(datasets.faithful())
    everything = jnp.cov(x.T, bias=True)
    start = gmm.from_covariances(
        jnp.full(2, 0.5, x.dtype), jnp.array(MEANS, x.dtype), jnp.stack([everything, everything])
    )
    with progress.task("EM", 1):
        path, log_liks = jax.jit(partial(climb, steps=config.steps))(start, x)
        resp = jax.vmap(lambda mixture: gmm.posterior(mixture, x))(path)
        end = gmm.fit(start, x, ridge=0.0, tol=1e-7)
    with progress.task("random starts", config.starts):
        fit_one = partial(from_random_rows, steps=config.most_steps)
        space = sweep.grid(seed=range(config.starts))
        _, climbs = progress.sweep(fit_one, space, jax.random.key(seed), x).results
    climbs = np.asarray(climbs, float)
    reached = climbs[:, -1]
    same = reached > BEST - 0.05
    needed = [int(np.argmax(row > row[-1] - 0.01)) for row in climbs[same]] or [0, 0]
    steps, low, high = metrics.mean_interval(np.array(needed * 2 if len(needed) < 2 else needed,
                                                      np.float32))  # fmt: skip
    fall = float(max(0.0, -np.diff(climbs, axis=1).min()))
    final = float(end.log_lik) * x.shape[0]
    weights = np.exp(np.asarray(end.mixture.log_weights))
    means, covariances = np.asarray(end.mixture.means), np.asarray(end.mixture.cov.covariances(
        end.mixture.means))  # fmt: skip
    order = np.argsort(means[:, 0])
    finding = (
        f"EM climbs from {float(log_liks[0]):.2f} to {final:.3f} nats in {int(end.steps)} steps, "
        f"where {weights[order[0]]:.0%} of the eruptions are short ({means[order[0], 0]:.2f} min) "
        f"and the others long ({means[order[1], 0]:.2f} min); {same.sum()} of {config.starts} "
        f"random starts end at the same maximum, after {float(steps):.1f} [{float(low):.1f}, "
        f"{float(high):.1f}] steps, and no step lowered the likelihood by more than {fall:.1g} "
        f"nats, which is rounding."
    )
    if fall > 0.01:
        finding = finding.replace(", which is rounding", ": EM must not do that")
    sd = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    table = Table(
        ["eruptions", "share", "length (min)", "± sd", "wait for the next (min)", "± sd",
         "correlation"],
        [[kind, float(weights[k]), float(means[k, 0]), float(sd[k, 0]), float(means[k, 1]),
          float(sd[k, 1]), float(covariances[k, 0, 1] / sd[k].prod())]
         for kind, k in zip(("short", "long"), order, strict=True)],
        f"The mixture at the maximum, log-likelihood {final:.3f} nats.",
    )  # fmt: skip
    others = (
        f"The other {np.sum(~same)} end lower, on a local maximum or a slow plateau."
        if not same.all()
        else "None is caught by a lesser maximum: two components and clear clusters are easy."
    )
    sections = [
        Section(
            "Expectation, maximisation, and again",
            "Each eruption of the geyser is a point: how long it lasted and how long the next one "
            "let wait. In an E-step the ellipses stand still and every point takes the colour of "
            "the component that explains it; in an M-step the colours stand still and the ellipses "
            "move to the weighted mean and covariance of their points. Dempster, Laird and Rubin "
            "(1977) proved that the likelihood never falls on the way.",
            {"movie": "Points coloured by responsibility, ellipses of one and two standard "
             "deviations, and the log-likelihood beside them."},
            table,
        ),
        Section(
            "From anywhere",
            f"{config.starts} starts from two random rows of the data, vmapped. The maximum known "
            f"from other programs is {BEST:.3f} nats. {others}",
            {"climbs": "Distance to the maximum by step, on logarithmic axes: one line a start, "
             "down to the rounding of float32."},
        ),
    ]  # fmt: skip
    return Outcome(
        finding=finding,
        metrics={
            "log_likelihood": final,
            "steps": int(end.steps),
            "first_log_likelihoods": np.asarray(log_liks)[:4],
            "same_maximum": float(same.mean()),
            "steps_needed": [float(steps), float(low), float(high)],
            "largest_fall": fall,
        },
        arrays={
            "x": np.asarray(x),
            "means": np.asarray(path.means),
            "covariances": np.asarray(jax.vmap(lambda m: m.cov.covariances(m.means))(path)),
            "resp": np.asarray(resp),
            "log_lik": np.asarray(log_liks),
            "climbs": climbs,
        },
        sections=sections,
        table=table,
    )


def plot(outcome: Outcome) -> dict[str, Figure | FuncAnimation]:
    """Draws the animation, and the climbs from all starts."""
    return {"movie": _movie(outcome), "climbs": _climbs(outcome)}


def _ellipses(ax: Axes, mean: np.ndarray, covariance: np.ndarray, color: str) -> list[Ellipse]:
    variance, axes = np.linalg.eigh(covariance)
    angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))
    found = []
    for deviations in (1, 2):
        width, height = 2 * deviations * np.sqrt(variance[::-1])
        found.append(Ellipse((mean[0], mean[1]), width, height, angle=angle, fill=False,
                             edgecolor=color, linewidth=3.5 - deviations))  # fmt: skip
        ax.add_patch(found[-1])
    return found


def _movie(outcome: Outcome) -> FuncAnimation:
    found, figure = outcome.arrays, Figure(figsize=(8.6, 4.0))
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    x, log_lik = found["x"], found["log_lik"]
    last = len(log_lik) - 1
    colors = (style.BLUE, style.VERMILION)
    ends = np.array([to_rgb(color) for color in colors])
    dots = left.scatter(*x.T, s=16, linewidths=0, c="#999999", alpha=0.8)
    left.set(xlabel="length of the eruption (min)", ylabel="wait for the next (min)",
             xlim=(1.0, 5.8), ylim=(37, 103))  # fmt: skip
    (line,) = right.plot([], [], "o-", color=style.GREEN, markersize=5)
    pad = 0.05 * (log_lik.max() - log_lik.min()) + 1
    right.set(xlim=(-0.5, last + 0.5), ylim=(log_lik.min() - pad, log_lik.max() + pad),
              xlabel="step", title="log-likelihood (nats)")  # fmt: skip
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.axhline(BEST, color=style.BLACK, linestyle="--", linewidth=1.2)
    drawn: list[Ellipse] = []
    # A hold, then for each step one frame of E and a few of M, and a hold on the end; short
    # films hold for less.
    frames = [(0, 0.0, "start")] * min(3, last)
    for step in range(last):
        frames += [(step, 0.0, "E-step")]
        frames += [(step, (i + 1) / GLIDE, "M-step") for i in range(GLIDE)]
    frames += [(last, 0.0, "end")] * min(8, last)

    def draw(frame: tuple[int, float, str]) -> list[Any]:
        step, share, name = frame
        while drawn:
            drawn.pop().remove()
        after = min(step + 1, last)
        blend = lambda values: (1 - share) * values[step] + share * values[after]
        means, covariances = blend(found["means"]), blend(found["covariances"])
        for k in range(2):
            drawn.extend(_ellipses(left, means[k], covariances[k], colors[k]))
        if name != "start":
            dots.set_facecolor(found["resp"][step] @ ends)
        line.set_data(np.arange(step + 1), log_lik[: step + 1])
        left.set_title(name if name in ("start", "end") else f"step {step + 1}: {name}")
        return [dots, line, *drawn]

    return FuncAnimation(figure, draw, frames=frames, blit=False, cache_frame_data=False)


def _climbs(outcome: Outcome) -> Figure:
    figure = Figure()
    ax = figure.subplots()
    climbs = outcome.arrays["climbs"]
    gap = np.maximum(BEST - climbs, 1e-4)
    steps = 1 + np.arange(climbs.shape[1])  # counting evaluations, for the logarithm
    ax.plot(steps, gap.T, color=style.BLUE, alpha=0.3, linewidth=1)
    ax.plot(steps, np.median(gap, axis=0), color=style.VERMILION, label="median of the starts")
    ax.set(xscale="log", yscale="log", xlabel="evaluation of the likelihood (step + 1)",
           ylabel="nats below the maximum")  # fmt: skip
    ticks = [1, 2, 5, 10, 20, 50, 100]
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.legend(loc="center right", bbox_to_anchor=(1.0, 0.6))
    return figure
