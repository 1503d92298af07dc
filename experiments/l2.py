"""Does a penalty λ‖W‖² on the weights help a network that has few digits to learn from?

The lecture adds λ‖W‖² to the loss so that a network cannot use all of its power.  Networks with
clean and with partly wrong labels are trained to the end for every λ in one program; λ is chosen
on validation digits and judged on test digits, seed by seed against λ = 0.
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
from jaxnn import mlp, sweep, train

TITLE = ("L2 regularisation", "正则项：λ‖W‖²")


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    rows: int = Field(default=100, ge=10, le=600)
    """Digits to learn from."""
    noise: tuple[float, ...] = (0.0, 0.3)
    """Shares of wrong labels among them."""
    l2: tuple[float, ...] = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 5e-3, 1e-2, 2e-2, 3e-2)
    """Values of λ besides 0."""
    hidden: int = Field(default=100, ge=1)
    """Hidden units, in one layer."""
    epochs: int = Field(default=300, ge=1)
    """Full-batch steps of Adam."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Step length of Adam."""
    seeds: int = Field(default=24, ge=2)
    """Draws of digits and starts, shared by all λ."""


SMOKE = {"rows": 20, "l2": [1e-3], "noise": [0.3], "hidden": 8, "epochs": 5, "seeds": 2}


def fit_one(hp: Any, key: Any, digits: nets.Digits, *, config: Config) -> Any:
    """One network: accuracies on its own, the validation and the test rows, and its norm."""
    drawn = nets.draw(key, digits.pool, config.rows, hp["noise"])
    trained = train.fit(
        drawn.key_train, nets.start(drawn.key_init, config.hidden), drawn.rows,
        mlp.value_and_grad(), epochs=config.epochs, learning_rate=config.learning_rate,
        l2=hp["l2"],
    )  # fmt: skip
    norm = sum(jnp.sum(jnp.square(layer.weight)) for layer in trained.params)
    rows = (drawn.rows, digits.validation, digits.test)
    return *(nets.accuracy(trained.params, part) for part in rows), jnp.sqrt(norm)


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Runs the sweep and compares every λ with λ = 0, seed by seed."""
    lambdas = (0.0, *config.l2)
    space = sweep.grid(noise=config.noise, l2=lambdas, seed=range(config.seeds))
    one = partial(fit_one, config=config)
    with progress.task("networks", len(space["seed"])) as advance:
        found = progress.sweep(
            one, space, jax.random.key(seed), nets.load(seed),
            chunk=len(lambdas) * config.seeds, progress=advance,
        )  # fmt: skip
    shape = (len(config.noise), len(lambdas), config.seeds)
    fitted, validation, test, norm = (np.asarray(r).reshape(shape) for r in found.results)
    gains = nets.intervals(test - test[:, :1], 100)  # against the same seed without a penalty
    chosen = 1 + np.argmax(validation[:, 1:].mean(-1), axis=1)
    accuracy = nets.intervals(test, 100)
    rows, said = [], []
    for i, noise in enumerate(config.noise):
        c = chosen[i]
        said.append(
            f"with {noise:.0%} wrong labels λ = {lambdas[c]:g}, chosen on validation digits, "
            f"{nets.verdict(gains[i, c])}: {nets.points(gains[i, c])} of test accuracy"
        )
        for j, value in enumerate(lambdas):
            rows.append([
                f"{noise:.0%}", f"{value:g}", 100 * fitted[i, j].mean(),
                nets.percent(accuracy[i, j]), gains[i, j, 0], gains[i, j, 1], gains[i, j, 2],
                norm[i, j].mean(),
            ])  # fmt: skip
    table = Table(
        ["wrong labels", "λ", "training accuracy %", "test accuracy", "gain, points", "95% from",
         "to", "norm of W"],
        rows,
        f"{config.rows} digits, {config.seeds} seeds; gain is against λ = 0 with the same seed.",
        best=[i * len(lambdas) + int(c) for i, c in enumerate(chosen)],
    )  # fmt: skip
    return Outcome(
        finding=f"On {config.rows} digits, " + "; ".join(said) + f" ({config.seeds} seeds).",
        metrics={"lambda": lambdas, "noise": config.noise, "gain_points": gains,
                 "chosen": [lambdas[c] for c in chosen]},
        arrays={"l2": np.array(config.l2), "gains": gains[:, 1:], "noise": np.array(config.noise),
                "norm": norm.mean(-1)[:, 1:], "norm_plain": norm.mean(-1)[:, 0],
                "fitted": 100 * fitted.mean(-1)[:, 1:], "chosen": chosen - 1},
        sections=[
            Section(
                "What is expected",
                "Krogh and Hertz (1992) show that weight decay of the right size suppresses the "
                "parts of the weights that the targets do not determine, and some of the effect "
                "of noise in the targets. A small λ changes nothing, a large one drives the "
                "weights to zero: the gain should rise and fall, and be larger where labels are "
                "wrong.\n\nAll networks start from the same weights and digits for the same "
                "seed, so each gain is a difference within a pair; the band is the 95 % interval "
                "of its mean. Everything was trained in one compiled program: λ and the noise "
                "are traced numbers.",
                {"gain": "Gain in test accuracy against λ, by the share of wrong labels; stars: "
                         "the λ chosen on validation digits.",
                 "norm": "What λ does: the norm of the weights, and the fit to the training "
                         "labels."},
                table,
            )
        ],
        table=table,
    )  # fmt: skip


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws the gain, and what it comes from."""
    found = outcome.arrays
    gain, why = Figure(), Figure(figsize=(9, 4))
    ax = gain.subplots()
    left, right = why.subplots(1, 2)
    for i, noise in enumerate(found["noise"]):
        style = {"label": f"{noise:.0%} wrong labels", "color": nets.NOISE_COLORS[i % 2]}
        nets.gain_curve(ax, found["l2"], found["gains"][i], marker="os"[i % 2], **style)
        c = found["chosen"][i]
        ax.plot(found["l2"][c], found["gains"][i, c, 0], "*", markersize=18, color=style["color"])
        left.plot(found["l2"], found["norm"][i], marker="os"[i % 2], **style)
        right.plot(found["l2"], found["fitted"][i], marker="os"[i % 2], **style)
    ax.set(xscale="log", xlabel="λ", ylabel="gain in test accuracy (points)")
    left.set(xscale="log", ylim=(0, None), xlabel="λ", ylabel="norm of the weights ‖W‖")
    right.set(xscale="log", xlabel="λ", ylabel="training accuracy (%)")
    ax.legend()
    left.legend()
    return {"gain": gain, "norm": why}
