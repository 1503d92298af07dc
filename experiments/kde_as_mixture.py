"""Is a kernel density a Gaussian mixture, and what does EM make of it?

A Gaussian kernel density of Old Faithful as a mixture with a component on every eruption: the same
density to rounding.  Then EM goes on from there, and the likelihood of eruptions left out tells
when that stops being learning.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments import datasets
from experiments.page import Section, Table, span
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import gmm, kde, metrics, sweep
from jaxnn.plot import style

TITLE = ("A kernel density is a mixture", "核密度估计是一种混合高斯")
SHOWN = (0, 1, 10)  # steps of EM in the picture, before the last
mean_interval = jax.jit(metrics.mean_interval)  # one program, not one for each operation


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    bandwidth: float = Field(default=0.3, gt=0)
    """Bandwidth of the kernel density, in standard deviations of each feature."""
    steps: int = Field(default=100, ge=11)
    """Steps of EM from the kernel density."""
    splits: int = Field(default=20, ge=2)
    """Random splits into rows to learn from and rows left out."""
    left_out: float = Field(default=0.25, gt=0, lt=1)
    """Share of the rows left out."""
    grid: int = Field(default=90, ge=10)
    """Places along each axis at which densities are drawn."""


SMOKE = {"steps": 11, "splits": 2, "grid": 12}


def climb(x: Any, rest: Any, width: Any, steps: int) -> Any:
    """EM from the kernel density of `x`: the mixtures, and the mean log densities of both parts."""
    start = kde.as_mixture(kde.fit(x, bandwidth=jnp.full(x.shape[1], width, x.dtype)))

    def step(mixture: Any, _: None) -> Any:
        # A small ridge: without it components collapse on single points, with infinite density.
        found = mixture, jnp.mean(gmm.log_prob(mixture, x)), jnp.mean(gmm.log_prob(mixture, rest))
        return gmm.m_step(mixture, gmm.e_step(mixture, x), 1e-4), found

    return jax.lax.scan(step, start, length=steps + 1)[1]


def one_split(hp: Any, key: Any, x: Any, width: Any, *, test: int, steps: int) -> Any:
    """One split: log densities of learned and left-out rows after every step."""
    del hp
    rows = jax.random.permutation(key, x)
    return climb(rows[test:], rows[:test], width, steps)[1:]


@jax.jit
def densities(mixtures: Any, places: Any) -> Any:
    """The density of every mixture at every place."""
    return jnp.exp(jax.vmap(lambda mixture: gmm.log_prob(mixture, places))(mixtures))


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Compares the densities, then follows EM."""
    raw = datasets.faithful()
    x = jnp.asarray((raw - raw.mean(axis=0)) / raw.std(axis=0))
    side = jnp.linspace(-2.6, 2.6, config.grid, dtype=x.dtype)
    places = jnp.stack(jnp.meshgrid(side, side), axis=-1).reshape(-1, 2)
    with progress.task("densities", 1):
        model = kde.fit(x, bandwidth=jnp.full(2, config.bandwidth, x.dtype))
        both = kde.log_prob(model, places), gmm.log_prob(kde.as_mixture(model), places)
        gap = float(jnp.max(jnp.abs(both[0] - both[1])))
    with progress.task("EM", 1):
        path, _, _ = jax.jit(partial(climb, steps=config.steps))(x, x, config.bandwidth)
        steps = [*SHOWN, config.steps]
        chosen = jax.tree.map(lambda a: a[jnp.array(steps)], path)
        surfaces = np.asarray(densities(chosen, places)).reshape(-1, config.grid, config.grid)
    with progress.task("splits", config.splits):
        test = round(config.left_out * len(raw))
        fit_one = partial(one_split, test=test, steps=config.steps)
        space = sweep.grid(seed=range(config.splits))
        learned, left_out = jax.device_get(
            progress.sweep(fit_one, space, jax.random.key(seed), x, config.bandwidth).results
        )
    interval = jax.jit(jax.vmap(metrics.mean_interval))
    curves = {name: np.stack(interval(jnp.asarray(values.T)))
              for name, values in (("learned", learned), ("left out", left_out))}  # fmt: skip
    peak = int(curves["left out"][0].argmax())
    paired = lambda a, b: [float(v) for v in mean_interval(left_out[:, a] - left_out[:, b])]
    gain, loss = paired(peak, 0), paired(peak, config.steps)
    weights, scales = np.exp(np.asarray(chosen.log_weights)), np.asarray(chosen.cov.scale)
    effective = 1 / np.square(weights).sum(axis=1)
    finding = (
        f"A Gaussian kernel density and the mixture of its {len(raw)} kernels differ by at most "
        f"{gap:.1g} nats anywhere; EM from it raises the log density of left-out eruptions by "
        f"{span(gain)} nats in {peak} step{'s' * (peak != 1)} and then lowers it by {span(loss)} "
        f"until step {config.steps}, while learned eruptions only get likelier."
    )
    turned = peak < config.steps and loss[1] > 0
    table = Table(
        ["step of EM", "learned", "left out", "effective components", "median sd (shorter axis)"],
        [[step, float(curves["learned"][0, step]), float(curves["left out"][0, step]),
          float(effective[i]), float(np.median(scales[i].min(axis=1)))]
         for i, step in enumerate(steps)],
        f"Mean log density (nats, standardised data) over {config.splits} splits; components of "
        "the fit to all rows: 1 / Σw², and standard deviations.",
    )  # fmt: skip
    verdict = (
        "That is what happens: the left-out likelihood peaks early and falls."
        if turned
        else "The expectation fails here: the left-out likelihood did not fall by the last step."
    )
    sections = [
        Section(
            "One density, two names",
            "The lecture says that a Gaussian kernel density can be seen as a special mixture: a "
            "component on every observation, all of weight 1/N and width h. The two evaluate it by "
            f"different code, and agree to {gap:.1g} nats on {len(places)} places, which is the "
            "rounding of float32.",
        ),
        Section(
            "EM starts where the kernel density ends",
            "A mixture can learn: EM moves the means, widths and weights that the kernel density "
            "keeps fixed. The first steps draw the bumps together and narrow what was smoothed too "
            "much. But there are more parameters than data, and the likelihood of a mixture has no "
            "upper bound (Day, 1969): bumps shrink onto single eruptions, and what is expected is "
            f"over-fitting. {verdict}",
            {"picture": "Density, and components as ellipses of one standard deviation, of the "
             "kernel density and after some steps of EM.",
             "curve": "Mean log density of learned and left-out eruptions by step of EM; bands "
             "are 95% intervals over splits."},
            table,
        ),
    ]  # fmt: skip
    return Outcome(
        finding=finding,
        metrics={"largest_difference": gap, "peak_step": peak, "gain_to_peak": gain,
                 "loss_after_peak": loss, "effective_components": effective, "shown": steps},
        arrays={"x": raw, "centre": raw.mean(axis=0), "unit": raw.std(axis=0), "side": side,
                "surfaces": surfaces, "means": np.asarray(chosen.means), "scales": scales,
                "weights": weights, **curves},
        sections=sections,
        table=table,
    )  # fmt: skip


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws the densities with their components, and the likelihoods."""
    return {"picture": _picture(outcome), "curve": _curve(outcome)}


def _picture(outcome: Outcome) -> Figure:
    found, steps = outcome.arrays, outcome.metrics["shown"]
    figure = Figure(figsize=(12.0, 4.0))
    unit, centre = found["unit"], found["centre"]
    first, second = (centre[j] + unit[j] * found["side"] for j in range(2))
    axes = figure.subplots(1, len(steps), sharex=True, sharey=True)
    for i, (ax, step) in enumerate(zip(axes, steps, strict=True)):
        # The square root shows the valleys beside peaks that grow without bound.
        ax.pcolormesh(first, second, np.sqrt(found["surfaces"][i]), cmap="cividis",
                      shading="auto", rasterized=True)  # fmt: skip
        weights = found["weights"][i] / found["weights"][i].max()
        for mean, scale, weight in zip(
            centre + unit * found["means"][i], unit * found["scales"][i], weights, strict=True
        ):
            if weight > 0.01:
                ax.add_patch(Ellipse((mean[0], mean[1]), 2 * scale[0], 2 * scale[1], fill=False,
                                     edgecolor="white", alpha=0.08 + 0.22 * weight,
                                     linewidth=0.6))  # fmt: skip
        ax.plot(*found["x"].T, ".", color=style.ORANGE, markersize=2)
        ax.set_title("kernel density" if step == 0 else f"{step} step{'s' * (step > 1)} of EM",
                     fontsize=13)  # fmt: skip
        ax.set(xlabel="eruption (min)", xlim=(first[0], first[-1]), ylim=(second[0], second[-1]))
        ax.grid(False)
    axes[0].set_ylabel("wait for the next (min)")
    return figure


def _curve(outcome: Outcome) -> Figure:
    found, figure = outcome.arrays, Figure()
    ax = figure.subplots()
    steps = 1 + np.arange(found["learned"].shape[1])
    for name, color in (("learned", style.VERMILION), ("left out", style.BLUE)):
        mean, low, high = found[name]
        ax.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
        ax.plot(steps, mean, color=color, label=name)
    peak = outcome.metrics["peak_step"]
    ax.plot(1 + peak, found["left out"][0, peak], "*", color=style.BLUE, markersize=16,
            label=f"best: step {peak}")  # fmt: skip
    ticks = [0, 1, 2, 5, 10, 20, 50, 100]
    ticks = [tick for tick in ticks if tick < len(steps)]
    ax.set_xscale("log")
    ax.set_xticks([1 + tick for tick in ticks], [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set(xlabel="steps of EM from the kernel density", ylabel="mean log density (nats)")
    ax.legend()
    return figure
