"""How many mistakes does a perceptron make before it makes none, and does Novikoff's bound hold?

Data of a known margin γ inside a ball of radius R = 1: at most (R/γ)² mistakes (Novikoff, 1962),
whatever the number of inputs and the order of the rows.  Random data, and data made to be hard.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.page import Section, Table
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import metrics, perceptron, sweep
from jaxnn.plot import style

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("The perceptron's mistakes and Novikoff's bound", "感知机的错误次数与 Novikoff 上界")


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    margins: tuple[float, ...] = (0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5)
    """Margins γ, as shares of the radius; at least two different ones."""
    inputs: tuple[int, ...] = (2, 10, 100)
    """Numbers of inputs d."""
    rows: int = Field(default=200, ge=2)
    """Rows in a data set."""
    seeds: int = Field(default=40, ge=2)
    """Data sets of each margin and number of inputs."""
    passes: int = Field(default=3000, ge=1)
    """The most passes over the rows; (R/γ)² + 1 are always enough."""

    def __post_init__(self) -> None:
        """Refuses margins without data, and runs that may be cut off before they are done."""
        if len(set(self.margins)) < 2 or not all(0 < m < 1 for m in self.margins):
            raise ValueError("margins must hold two different numbers between 0 and 1")
        if self.passes < min(self.margins) ** -2 + 1:
            raise ValueError("passes must be above 1 / (the least margin)²")


SMOKE = {"margins": [0.1, 0.3], "inputs": [2], "rows": 20, "seeds": 3}


def draw(key: Any, margin: Any, rows: int, d: int) -> Any:
    """A plane through the origin, and rows of length 1 at least `margin` from it, with labels.

    Depths are uniform between the margin and 1, and the row of least depth is put at the margin,
    so that the plane's margin is known.
    """
    key_plane, key_rows, key_sides, key_depth = jax.random.split(key, 4)
    plane = jax.random.normal(key_plane, (d,), jnp.float32)
    plane /= jnp.linalg.norm(plane)
    along = jax.random.normal(key_rows, (rows, d), jnp.float32)
    along -= (along @ plane)[:, None] * plane[None]
    along /= jnp.linalg.norm(along, axis=1, keepdims=True)
    side = jnp.where(jax.random.bernoulli(key_sides, 0.5, (rows,)), 1, -1)
    depth = jax.random.uniform(key_depth, (rows,), jnp.float32, minval=margin)
    depth = depth.at[0].set(margin)
    x = jnp.sqrt(1 - depth**2)[:, None] * along + (side * depth)[:, None] * plane[None]
    return plane, x, side


def random_rows(hp: Any, key: Any, *, d: int, config: Config) -> Any:
    """Mistakes on random rows of a margin, the bound by their plane, and the passes."""
    key_rows, key_order = jax.random.split(key)
    plane, x, y = draw(key_rows, hp["margin"], config.rows, d)
    fit = perceptron.fit(
        perceptron.init(d, bias=False), x, y, max_passes=config.passes, key=key_order
    )
    bound = perceptron.bound(perceptron.Perceptron(plane[None], None), x, y)
    return fit.mistakes[0], bound[0], fit.converged, fit.passes


def hard_rows(size: Any, *, most: int) -> Any:
    """Mistakes on the unit vectors of `size` axes, each row one of them, all with label 1.

    Rows at right angles teach nothing about one another, and γ = 1/√size.
    """
    x = jax.nn.one_hot(jnp.arange(most) % size, most, dtype=jnp.float32)
    fit = perceptron.fit(perceptron.init(most, bias=False), x, jnp.ones(most))
    return fit.mistakes[0], perceptron.bound(fit.params, x, jnp.ones(most))[0]


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Runs all data sets of one number of inputs in one program."""
    margins = sorted(config.margins)
    space = sweep.grid(margin=np.array(margins, np.float32), seed=range(config.seeds))
    shape = (len(margins), config.seeds)
    found = {}
    with progress.task("data sets", len(config.inputs)) as advance:
        for d in config.inputs:
            fit_one = partial(random_rows, d=d, config=config)
            results = progress.sweep(fit_one, space, jax.random.key(seed)).results
            found[d] = [np.asarray(part).reshape(shape) for part in results]
            advance()
    sizes = np.unique(np.round(np.geomspace(2, max(8, min(margins) ** -2), 12)).astype(int))
    sizes = sizes[sizes <= 1000]
    hard = jax.jit(jax.vmap(partial(hard_rows, most=int(sizes[-1]))))(sizes)
    return report(config, np.array(margins), found, sizes, *map(np.asarray, hard))


def report(
    config: Config,
    margins: np.ndarray,
    found: dict[int, list[np.ndarray]],
    sizes: np.ndarray,
    hard: np.ndarray,
    hard_bound: np.ndarray,
) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    mistakes = np.stack([parts[0] for parts in found.values()])  # (inputs, margins, seeds)
    bounds = np.stack([parts[1] for parts in found.values()])
    converged = np.stack([parts[2] for parts in found.values()])
    passes = np.stack([parts[3] for parts in found.values()])
    share = mistakes / bounds
    broken = int(np.sum(share > 1 + 1e-4))
    interval = jax.jit(jax.vmap(metrics.mean_interval))
    logs = np.log(np.maximum(mistakes, 1))
    place = -np.log(margins) - np.mean(-np.log(margins))
    slopes = np.einsum("m,dms->ds", place, logs) / np.sum(place**2)
    slope = np.stack(interval(slopes.astype(np.float32)), axis=1)  # (inputs, 3)
    met = np.array_equal(hard, sizes) and np.allclose(hard_bound, sizes, rtol=1e-3)
    few, many = 0, len(found) - 1
    names = list(found)
    finding = (
        f"{'None' if not broken else f'AGAINST the theorem, {broken}'} of {share.size} random data "
        f"sets cost{'s' if not broken else ''} more than (R/γ)² mistakes, and most far fewer "
        f"({np.median(share):.1%} of the bound in the median, {share.max():.0%} at most): they "
        f"grow like γ^-{slope[few][0]:.2f} (95% interval {slope[few][1]:.2f} to "
        f"{slope[few][2]:.2f}) with {names[few]} inputs"
        + (f" and γ^-{slope[many][0]:.2f} ({slope[many][1]:.2f} to {slope[many][2]:.2f}) with "
           f"{names[many]}" if many else "")
        + (", while rows at right angles meet the bound exactly." if met else
           ", and rows at right angles do NOT meet the bound, as they should.")
    )  # fmt: skip
    rows = []
    for i, d in enumerate(names):
        ends = np.stack(interval(mistakes[i].astype(np.float32)), axis=1)
        rows += [
            [d, margin, *ends[m], int(mistakes[i, m].max()), float(bounds[i, m].mean()),
             float(share[i, m].max())]
            for m, margin in enumerate(margins)
        ]  # fmt: skip
    table = Table(
        ["inputs", "margin", "mean mistakes", "95% from", "to", "most", "bound", "most / bound"],
        rows,
        f"{config.seeds} data sets of {config.rows} rows for each line; R = 1.",
    )
    sections = [
        Section(
            "A promise about mistakes",
            "If some plane through the origin leaves a margin γ to all rows, none longer than R, "
            "then Rosenblatt's rule errs at most (R/γ)² times in all, and then never again "
            "(Novikoff, 1962; Block, 1962). Nothing is said about the number of rows or inputs. "
            f"Of {share.size} data sets, {int(converged.sum())} were learned without a mistake "
            f"left, after at most {passes.max()} passes.\n\n"
            "The bound is the worst case. On random rows a correction for one row helps with the "
            "others, so the count grows far more slowly than the bound. It is also not the best "
            "bound for these rows: the planted plane need not be the one of widest margin, least "
            "so with many inputs.\n\n"
            "The bound cannot be improved, though: on rows at right angles each teaches nothing "
            f"about the next, and of k such rows each costs exactly one mistake, with γ = 1/√k "
            f"({'found so' if met else 'NOT found so'} for k from {sizes[0]} to {sizes[-1]}).",
            {
                "mistakes": "Mistakes against the margin: a dot is a data set, lines are means "
                "with 95% intervals, nothing may lie in the grey.",
            },
            table,
        ),
    ]
    return Outcome(
        finding=finding,
        metrics={
            "data_sets": share.size,
            "above_the_bound": broken,
            "converged": int(converged.sum()),
            "most_passes": int(passes.max()),
            "median_share_of_bound": float(np.median(share)),
            "largest_share_of_bound": float(share.max()),
            "exponent": {d: slope[i] for i, d in enumerate(names)},
            "orthogonal_rows_meet_the_bound": met,
        },
        arrays={
            "margins": margins,
            "inputs": np.array(names),
            "mistakes": mistakes,
            "bounds": bounds,
            "orthogonal_rows": sizes,
            "orthogonal_mistakes": hard,
        },
        sections=sections,
        table=table,
    )


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws everything that the page shows."""
    found = outcome.arrays
    figure = Figure(figsize=(8.0, 5.0))
    ax = figure.subplots()
    margins, rng = found["margins"], np.random.default_rng(0)
    ends = np.array([margins[0] / 1.25, min(margins[-1] * 1.25, 1)])
    top = 3 * ends[0] ** -2
    ax.fill_between(ends, ends**-2.0, top, color="#dddddd", linewidth=0)
    ax.plot(ends, ends**-2.0, color=style.INK, linewidth=2.5)
    ax.annotate(
        "forbidden: more than (R/γ)²", (0.97, 0.95), xycoords="axes fraction", ha="right", va="top",
        fontsize=14,
    )  # fmt: skip
    for i, d in enumerate(found["inputs"]):
        values, color = np.maximum(found["mistakes"][i], 0.8), style.PALETTE[i]
        shift = 1 + 0.05 * (i - (len(found["inputs"]) - 1) / 2)
        places = margins[:, None] * shift * np.exp(rng.uniform(-0.015, 0.015, values.shape))
        ax.plot(places.ravel(), values.ravel(), ".", color=color, alpha=0.3, markersize=5,
                markeredgewidth=0)  # fmt: skip
        mean = values.mean(axis=1)
        half = 1.96 * values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
        ax.errorbar(margins * shift, mean, half, fmt="os^Dv"[i % 5] + "-", color=color, capsize=3,
                    markersize=6, label=f"random rows, {d} inputs")  # fmt: skip
    k = found["orthogonal_rows"]
    inside = (k**-0.5 >= ends[0]) & (k**-0.5 <= ends[1])
    ax.plot(k[inside] ** -0.5, found["orthogonal_mistakes"][inside], "*", color=style.PURPLE,
            markersize=14, markeredgecolor=style.INK, label="rows at right angles")  # fmt: skip
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=(0.7, top),
           xlabel="margin γ (share of the radius R)", ylabel="mistakes until none")  # fmt: skip
    ticks = [m for m in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if ends[0] <= m <= ends[1]]
    ax.set_xticks(ticks, [f"{m:g}" for m in ticks])
    ax.xaxis.minorticks_off()
    ax.legend(loc="upper right", bbox_to_anchor=(0.99, 0.91))
    return {"mistakes": figure}
