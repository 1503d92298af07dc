"""Does the test error of a too large network rise while its training error keeps falling?

The lecture: powerful networks overfit; the training error goes on falling, but the test error may
rise.  A network with far more weights than it has digits to learn from, a part of them labelled
wrongly, is followed over time with many seeds in one program; so are smaller ones.
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
from jaxnn import mlp, sweep
from jaxnn.plot import style

TITLE = ("Overfitting", "过拟合")


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    rows: int = Field(default=150, ge=10, le=700)
    """Digits to learn from."""
    noise: tuple[float, ...] = Field(default=(0.0, 0.2, 0.4), min_length=1, max_length=4)
    """Shares of wrong labels among them; the test labels are right."""
    hidden: int = Field(default=200, ge=1)
    """Hidden units, in one layer."""
    stretches: int = Field(default=60, ge=2)
    """Measurements over time."""
    steps: int = Field(default=5, ge=1)
    """Full-batch steps of Adam between measurements."""
    learning_rate: float = Field(default=0.003, gt=0)
    """Step length of Adam."""
    seeds: int = Field(default=24, ge=2)
    """Draws of digits and starts."""


SMOKE = {"rows": 20, "noise": [0.4], "hidden": 8, "stretches": 3, "steps": 2, "seeds": 2}


def fit_one(hp: Any, key: Any, digits: nets.Digits, *, config: Config) -> Any:
    """One network over time: training and test error, training and test loss."""
    drawn = nets.draw(key, digits.pool, config.rows, hp["noise"])
    gradient = mlp.value_and_grad()

    def measure(params: Any) -> Any:
        parts = (drawn.rows, digits.test)
        return {
            "error": jnp.stack([1 - nets.accuracy(params, part) for part in parts]),
            "loss": jnp.stack([mlp.mean_loss(params, part, None) for part in parts]),
        }

    return nets.follow(
        drawn.key_train, nets.start(drawn.key_init, config.hidden),
        lambda params, key: gradient(params, drawn.rows, key), measure,
        optimizer="adam", learning_rate=config.learning_rate,
        stretches=config.stretches, steps=config.steps,
    )  # fmt: skip


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Follows all networks and compares the end with the best moment, chosen on other seeds."""
    space = sweep.grid(noise=config.noise, seed=range(config.seeds))
    with progress.task("networks", len(space["seed"])) as advance:
        seen = progress.sweep(
            partial(fit_one, config=config), space, jax.random.key(seed), nets.load(seed),
            chunk=min(config.seeds, nets.MEMBERS), progress=advance,
        ).results  # fmt: skip
    shape = (len(config.noise), config.seeds, config.stretches + 1, 2)
    error, loss = (np.asarray(seen[name]).reshape(shape) for name in ("error", "loss"))
    steps = np.arange(config.stretches + 1) * config.steps

    rises, rows, said = [], [], []
    ends = 100 * np.maximum(error[:, :, -1], 0)
    for i, noise in enumerate(config.noise):
        best = _best_moments(error[i, :, :, 1])
        lowest = 100 * error[i, np.arange(config.seeds), best, 1]
        rise = nets.intervals(ends[i, :, 1] - lowest)
        rises.append(rise)
        at = int(steps[int(np.median(best))])
        rows.append([
            f"{noise:.0%}", ends[i, :, 0].mean(), nets.percent(nets.intervals(lowest)), at,
            nets.percent(nets.intervals(ends[i, :, 1])), *rise,
        ])  # fmt: skip
        said.append(f"{rise[0]:+.1f} points (95 % interval {rise[1]:+.1f} to {rise[2]:+.1f}) with "
                    f"{noise:.0%} wrong labels")  # fmt: skip
    weights = 64 * config.hidden + config.hidden + 10 * config.hidden + 10
    table = Table(
        ["wrong labels", "training error at the end %", "test error at its lowest", "at step",
         "test error at the end", "rise, points", "95% from", "to"],
        rows,
        f"{weights} weights, {config.rows} digits, {steps[-1]} steps, {config.seeds} seeds.",
    )  # fmt: skip
    return Outcome(
        finding=f"A network of {weights} weights brings the training error on {config.rows} digits "
        f"to {ends[..., 0].mean():.1f} %; from its lowest moment to the end its test error "
        "changes by " + ", ".join(said) + f" ({config.seeds} seeds).",
        metrics={"noise": config.noise, "rise_points": rises, "weights": weights},
        arrays={"steps": steps, "error": 100 * error, "loss": loss,
                "noise": np.array(config.noise)},
        sections=[
            Section(
                "What is expected",
                "The lecture says: the training error falls on, but the test error may rise. Zhang "
                "et al. (2017) show that networks with more weights than examples fit even random "
                "labels; what they must do to fit wrong labels costs accuracy on new digits. With "
                "right labels the test error need not rise (Belkin et al., 2019): 'may' is to be "
                "taken at its word, and the rise should grow with the share of wrong labels.\n\n"
                "The lowest moment of a seed is where the mean curve of the other seeds is lowest, "
                "so that the best of many noisy moments is not mistaken for a rise.",
                {"errors": "Error over time, mean and 95 % interval over seeds. Training errors "
                           "count the labels as given, wrong ones included.",
                 "losses": "The same for the cross-entropy."},
                table,
            )
        ],
        table=table,
    )  # fmt: skip


def _best_moments(error: np.ndarray) -> np.ndarray:
    """Returns for each seed (rows) when the mean error of all other seeds is lowest."""
    others = error.sum(axis=0, keepdims=True) - error
    return np.argmin(others, axis=1)


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws errors and losses over time, a panel for each share of wrong labels."""
    found = outcome.arrays
    pictures = {}
    for name, title, label in (
        ("errors", "error", "error (%)"),
        ("losses", "loss", "cross-entropy (nats)"),
    ):
        figure = Figure(figsize=(10.5, 4))
        panels = np.atleast_1d(figure.subplots(1, len(found["noise"]), sharey=True))
        for ax, noise, values in zip(panels, found["noise"], found[title], strict=True):
            for part, color in ((0, style.BLUE), (1, style.VERMILION)):
                kind = ("training", "test")[part]
                steps, curve = found["steps"][1:], values[:, 1:, part]
                nets.mean_curve(ax, steps, curve, label=kind, color=color)
            ax.set(xlabel="step", xscale="log", title=f"{noise:.0%} wrong labels")
        panels[0].set(ylabel=label, ylim=(0, None))
        panels[-1].legend(loc="lower left")
        pictures[name] = figure
    return pictures
