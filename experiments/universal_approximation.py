"""How does the error of one hidden layer fall with its width, for smooth and rough targets?

The lecture: one hidden layer with enough units approximates any continuous function to any
precision (Hornik et al., 1989).  All widths, targets and seeds are trained in one program: the
layer has the largest width, and the output weights of units beyond a member's own are zero.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments import digits_nets as nets
from experiments.page import Section, Table
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import metrics, mlp, sweep, train
from jaxnn.plot import style

TITLE = ("Universal approximation", "万能逼近：单隐层网络")
TARGETS = {
    "smooth": lambda x: jnp.sin(3 * jnp.pi * x) * jnp.exp(-x),
    "kink": lambda x: 2 * jnp.abs(x - 0.2) - 1,
    "jump": lambda x: jnp.where(x < 0.2, -0.5, 0.5) + 0.3 * x,
}
LOOKS = {"smooth": (style.BLUE, "o"), "kink": (style.VERMILION, "s"), "jump": (style.GREEN, "^")}


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    widths: tuple[int, ...] = Field(default=(1, 2, 4, 8, 16, 32, 64), min_length=2)
    """Hidden units of the members."""
    points: int = Field(default=129, ge=4)
    """Training points, evenly spaced in [-1, 1]; the error is measured on ten times as many."""
    steps: int = Field(default=4000, ge=1)
    """Full-batch steps of Adam."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Step length of Adam."""
    steepness: float = Field(default=6.0, gt=0)
    """Largest slope of a hidden unit at the start, per unit of x."""
    seeds: int = Field(default=20, ge=2)
    """Starts of each width."""


SMOKE = {"widths": [2, 8], "points": 9, "steps": 10, "seeds": 2}


def start(key: Any, most: int, width: Any, steepness: float) -> Any:
    """A hidden layer whose units bend at random places of [-1, 1], and small output weights."""
    key_slope, key_place, key_out = jax.random.split(key, 3)
    slope = jax.random.uniform(key_slope, (most, 1), minval=-1, maxval=1) * steepness
    place = jax.random.uniform(key_place, (most,), minval=-1, maxval=1)
    out = jax.random.normal(key_out, (1, most)) / jnp.sqrt(width)
    return (
        mlp.Dense(weight=slope, bias=-slope[:, 0] * place),
        mlp.Dense(weight=out, bias=jnp.zeros(1)),
    )


def masked(params: Any, mask: Any) -> Any:
    """The same network without the hidden units where `mask` is 0."""
    hidden, out = params
    return hidden, out._replace(weight=out.weight * mask[None])


def fit_one(hp: Any, key: Any, x: Any, dense: Any, *, most: int, config: Config) -> Any:
    """One network: its root mean square and largest error between the points, and its curve."""
    y = jnp.stack([target(x) for target in TARGETS.values()])[hp["target"]]
    truth = jnp.stack([target(dense) for target in TARGETS.values()])[hp["target"]][:, 0]
    mask = (jnp.arange(most) < hp["width"]).astype(x.dtype)
    inner = mlp.value_and_grad("squared", activation="tanh")

    def descend(params: Any, batch: Any, key: Any) -> Any:
        value, gradient = inner(masked(params, mask), batch, key)
        return value, masked(gradient, mask)

    first = start(key, most, hp["width"], config.steepness)
    trained = train.fit(
        key, first, train.Batch(x=x, y=y), descend, epochs=config.steps,
        learning_rate=config.learning_rate,
    )  # fmt: skip
    found = []
    for params in (trained.params, solved(first, mask, x, y)):
        curve = mlp.apply(masked(params, mask), dense, activation="tanh")[:, 0]
        found += [metrics.rmse(curve, truth), jnp.max(jnp.abs(curve - truth)), curve]
    return tuple(found)


def solved(params: Any, mask: Any, x: Any, y: Any) -> Any:
    """The network with its first hidden layer, and output weights by least squares."""
    hidden, out = params
    features = jnp.tanh(hidden.linear(x)[0]) * mask[None]
    design = jnp.concatenate([features, jnp.ones_like(x)], axis=1)
    weight = jnp.linalg.lstsq(design, y, rcond=1e-6)[0]
    return hidden, out._replace(weight=weight[None, :-1, 0], bias=weight[-1])


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Trains all members and fits the rate at which the error falls with the width."""
    x, dense = (jnp.linspace(-1, 1, n)[:, None] for n in (config.points, 10 * config.points))
    names = list(TARGETS)
    space = sweep.grid(target=range(len(names)), width=config.widths, seed=range(config.seeds))
    one = partial(fit_one, most=max(config.widths), config=config)
    with progress.task("networks", len(space["seed"])) as advance:
        found = progress.sweep(
            one, space, jax.random.key(seed), x, dense,
            chunk=len(config.widths) * config.seeds, progress=advance,
        ).results  # fmt: skip
    shape = (len(names), len(config.widths), config.seeds)
    rms, worst, curve, rms_random, _, _ = (np.asarray(r).reshape(*shape, *r.shape[1:])
                                           for r in found)  # fmt: skip
    logs = np.log2(np.asarray(config.widths, float))
    slope = np.stack([np.polyfit(logs, np.log2(rms[i]), 1)[0] for i in range(len(names))])
    slopes = nets.intervals(slope)
    log10 = lambda values: 10.0 ** nets.intervals(np.log10(values))  # geometric means
    error, random, largest = (log10(values) for values in (rms, rms_random, worst))

    rows = [
        [name, width, *error[i, j], largest[i, j, 0], random[i, j, 0]]
        for i, name in enumerate(names)
        for j, width in enumerate(config.widths)
    ]
    table = Table(
        ["target", "width", "rms error", "95% from", "to", "largest error",
         "rms, random hidden layer"],
        rows,
        f"Geometric means over {config.seeds} seeds, {config.steps} steps; the last column solves "
        "only for the output weights.",
        best=[i * len(config.widths) + int(error[i, :, 0].argmin()) for i in range(len(names))],
    )  # fmt: skip
    said = ", ".join(
        f"{name} {error[i, 0, 0]:.2g} to {error[i, -1, 0]:.2g} (as width to the power "
        f"{slopes[i, 0]:.2f}, 95 % interval {slopes[i, 1]:.2f} to {slopes[i, 2]:.2f})"
        for i, name in enumerate(names)
    )
    widest = largest[:, -1, 0]
    middle = np.array([[int(np.argsort(r)[len(r) // 2]) for r in target] for target in rms])
    rate = int((slopes[:, 2] < -0.5).sum())
    return Outcome(
        finding=f"From {config.widths[0]} to {config.widths[-1]} hidden units the rms error falls: "
        f"{said}; the largest error of the widest falls to {widest[0]:.2g} on the smooth and "
        f"{widest[1]:.2g} on the kinked target but stays at {widest[2]:.2g} on the jump, which no "
        f"continuous function can follow; solving only for the output weights of a random layer "
        f"of {config.widths[-1]} gives {random[0, -1, 0]:.2g} on the smooth target.",
        metrics={"widths": config.widths, "rms": dict(zip(names, error, strict=True)),
                 "largest": dict(zip(names, largest, strict=True)),
                 "exponent": dict(zip(names, slopes, strict=True))},
        arrays={"widths": np.array(config.widths), "error": error, "random": random,
                "largest": largest, "x": np.asarray(dense[:, 0]),
                "truth": np.stack([np.asarray(t(dense[:, 0])) for t in TARGETS.values()]),
                "curves": np.stack([[curve[i, j, middle[i, j]] for j in range(shape[1])]
                                    for i in range(shape[0])])},
        sections=[
            Section(
                "What is expected",
                "Hornik, Stinchcombe and White (1989) and Cybenko (1989): one hidden layer of "
                "squashing units comes as close as you like to any continuous function on an "
                "interval, in the largest error; to a jump only in the mean. Barron (1993) bounds "
                "the error of the best network of n units for functions with a bounded Fourier "
                "moment: the rms error falls at least as fast as n to the power -1/2. Both say "
                "that such a network exists, not that training finds it.\n\n"
                f"Here {rate} of {len(names)} targets fall faster than that power, measured over "
                "all widths. Where the solid curve flattens, it is training that fails, not the "
                "theorem. The dashed curve leaves the hidden layer at its random start and solves "
                "for the output weights, a convex problem: it needs more units, and no luck.",
                {"error": "Error against width, geometric mean and 95 % interval over seeds. "
                          "Left: rms; right: the largest error anywhere.",
                 "fits": "The network of the median seed, by width, over the target (grey)."},
                table,
            )
        ],
        table=table,
    )  # fmt: skip


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws the errors against width, and what the networks look like."""
    found = outcome.arrays
    widths = found["widths"]
    errors, fits = Figure(figsize=(10, 4.8)), Figure(figsize=(10.5, 3.8))
    left, right = errors.subplots(1, 2, sharey=True)
    for i, (name, (color, mark)) in enumerate(LOOKS.items()):
        for ax, values in ((left, found["error"][i]), (right, found["largest"][i])):
            ax.fill_between(widths, values[:, 1], values[:, 2], color=color, alpha=0.2, linewidth=0)
            ax.plot(widths, values[:, 0], marker=mark, color=color,
                    label=f"{name}, trained" if ax is left else None)  # fmt: skip
        left.plot(widths, found["random"][i, :, 0], "--", marker=mark, color=color,
                  markerfacecolor="white", linewidth=1.3, markersize=5,
                  label=f"{name}, random layer")  # fmt: skip
    top = found["error"][:, 0, 0].max()
    left.plot(widths, top * (widths / widths[0]) ** -0.5, ":", color="#555555",
              label="width to the power −1/2")  # fmt: skip
    for ax, label in ((left, "rms error"), (right, "largest error")):
        ax.set(xscale="log", yscale="log", xlabel="hidden units", title=label)
        ax.set_xticks(widths, [str(w) for w in widths])
        ax.minorticks_off()
    left.set_ylabel("error (units of the target)")
    errors.legend(loc="outside lower center", ncols=4, fontsize=11)
    shown = sorted({0, len(widths) // 3, len(widths) - 1})
    for i, (ax, name) in enumerate(zip(fits.subplots(1, len(LOOKS)), LOOKS, strict=True)):
        ax.plot(found["x"], found["truth"][i], color="#bbbbbb", linewidth=6, label="target")
        for j, color in zip(shown, (style.ORANGE, style.VERMILION, style.BLUE), strict=False):
            ax.plot(found["x"], found["curves"][i, j], color=color, linewidth=1.8,
                    label=f"{widths[j]} unit" + "s" * bool(widths[j] > 1))  # fmt: skip
        ax.set(title=name, xlabel="x")
        if i == 0:
            fits.legend(loc="outside lower center", ncols=4)
    return {"error": errors, "fits": fits}
