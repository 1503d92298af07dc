"""Does stopping when the validation loss rises beat training to the end on few digits?

The lecture stops training when the training error still falls but the validation error rises.
The patience is swept in one program, and judged on test digits, seed by seed, against two rivals
without stopping: one with the same training digits, and one that learns from the validation digits
as well, since a held-out digit is a digit not learned from.
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
from experiments.page import Section, Table, span
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import mlp, sweep, train
from jaxnn.plot import style

TITLE = ("Early stopping", "早停")


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    rows: int = Field(default=100, ge=10, le=400)
    """Digits to learn from."""
    held_out: int = Field(default=50, ge=2, le=300)
    """Digits to watch; some of their labels are wrong, too."""
    noise: tuple[float, ...] = Field(default=(0.0, 0.3), min_length=1)
    """Shares of wrong labels."""
    patience: tuple[int, ...] = Field(default=(1, 2, 5, 10, 20, 50, 300), min_length=1)
    """Epochs without a better validation loss after which training stops."""
    hidden: int = Field(default=100, ge=1)
    """Hidden units, in one layer."""
    epochs: int = Field(default=300, ge=1)
    """The most full-batch steps of Adam."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Step length of Adam."""
    seeds: int = Field(default=24, ge=2)
    """Draws of digits and starts, shared by all rivals."""


SMOKE = {
    "rows": 20, "held_out": 10, "patience": [1, 5], "noise": [0.3], "hidden": 8, "epochs": 5,
    "seeds": 2,
}  # fmt: skip
DESCEND = mlp.value_and_grad()


def _draw(hp: Any, key: Any, digits: nets.Digits, config: Config) -> nets.Draw:
    """The seed's digits, those to watch last."""
    return nets.draw(key, digits.pool, config.rows + config.held_out, hp["noise"])


def _fit(drawn: nets.Draw, rows: Any, config: Config, **options: Any) -> train.Trained:
    return train.fit(
        drawn.key_train, nets.start(drawn.key_init, config.hidden), rows, DESCEND,
        epochs=config.epochs, learning_rate=config.learning_rate, **options,
    )  # fmt: skip


def _judge(params: Any, digits: nets.Digits) -> tuple[Any, Any]:
    return nets.accuracy(params, digits.test), mlp.mean_loss(params, digits.test, None)


def fit_stopped(hp: Any, key: Any, digits: nets.Digits, *, config: Config) -> Any:
    """One network that stops: test accuracy and loss, and its history."""
    drawn = _draw(hp, key, digits, config)
    rows, watched = (
        train.Batch(x=drawn.rows.x[cut], y=drawn.rows.y[cut])
        for cut in (slice(config.rows), slice(config.rows, None))
    )
    trained = _fit(drawn, rows, config, validation=watched, patience=hp["patience"])
    return *_judge(trained.params, digits), trained.epochs, trained.best_epoch, trained.history


def fit_plain(hp: Any, key: Any, digits: nets.Digits, *, config: Config) -> Any:
    """A rival, trained to the end: the digits to watch weigh 0, or 1 as all others."""
    drawn = _draw(hp, key, digits, config)
    weight = jnp.where(jnp.arange(len(drawn.rows.y)) < config.rows, 1.0, hp["learns_all"])
    return _judge(_fit(drawn, drawn.rows._replace(weight=weight), config).params, digits)


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Trains all three kinds with the same seeds and compares them in pairs."""
    key, digits = jax.random.key(seed), nets.load(seed)
    seeds = range(config.seeds)
    size = min(config.seeds, nets.MEMBERS)
    with progress.task("trained to the end", 1):
        space = sweep.grid(learns_all=[0.0, 1.0], noise=config.noise, seed=seeds)
        ends = progress.sweep(
            partial(fit_plain, config=config), space, key, digits, chunk=size
        ).results
    with progress.task("stopped", len(config.noise) * len(config.patience) * config.seeds) as done:
        space = sweep.grid(noise=config.noise, patience=config.patience, seed=seeds)
        stopped = progress.sweep(
            partial(fit_stopped, config=config), space, key, digits, chunk=size, progress=done
        ).results
    shape = (len(config.noise), len(config.patience), config.seeds)
    test, loss, epochs, best = (np.asarray(r).reshape(shape) for r in stopped[:4])
    history = jax.tree.map(lambda a: np.asarray(a).reshape(*shape, -1), stopped[4])
    (same, more), (same_loss, _) = (np.asarray(a).reshape(2, shape[0], 1, shape[2]) for a in ends)
    gain, gain_more = (nets.intervals(test - rival, 100) for rival in (same, more))
    gain_loss = nets.intervals(loss - same_loss)
    middle = len(config.patience) // 2
    patience = config.patience[middle]
    said, rows = [], []
    for i, noise in enumerate(config.noise):
        said.append(
            f"with {noise:.0%} wrong labels it {nets.verdict(gain[i, middle])}, "
            f"{nets.points(gain[i, middle])} of test accuracy, and "
            f"{nets.points(gain_more[i, middle])} against learning from all "
            f"{config.rows + config.held_out} digits to the end"
        )
        for learned, values in ((config.rows, same), (config.rows + config.held_out, more)):
            name = f"none, {learned} digits"
            accuracy = nets.percent(nets.intervals(values[i, 0], 100))
            rows.append([f"{noise:.0%}", name, config.epochs, accuracy, "", "", ""])
        for j, value in enumerate(config.patience):
            ends = (span(g[i, j], "+.1f") for g in (gain, gain_more))
            accuracy = nets.percent(nets.intervals(test[i, j], 100))
            rows.append([
                f"{noise:.0%}", str(value), int(np.median(epochs[i, j])), accuracy, *ends,
                span(gain_loss[i, j], "+.2f"),
            ])  # fmt: skip
    table = Table(
        ["wrong labels", "patience", "median epochs", "test accuracy", "gain, same digits",
         "gain, against all digits", "change in test loss, nats"],
        rows,
        f"{config.rows} digits to learn from, {config.held_out} to watch, {config.seeds} seeds; "
        "gains in points of test accuracy, paired by seed.",
        best=[i * (2 + len(config.patience)) + 2 + middle for i in range(len(config.noise))],
    )  # fmt: skip
    longest = int(np.argmax(config.patience))
    return Outcome(
        finding=f"Stopping after {patience} epochs without a better validation loss: "
        + "; ".join(said) + f" ({config.seeds} seeds).",
        metrics={"noise": config.noise, "patience": config.patience, "gain_points": gain,
                 "gain_against_all_points": gain_more, "change_in_test_loss": gain_loss},
        arrays={"noise": np.array(config.noise), "patience": np.array(config.patience),
                "gain": gain, "gain_more": gain_more,
                "loss": history.loss[:, longest], "validation": history.validation[:, longest],
                "best": best[:, longest]},
        sections=[
            Section(
                "What is expected",
                "Prechelt (1998) finds that patient criteria generalise slightly better than "
                "hasty ones and take much longer. Li, Soltanolkotabi and Oymak (2020) prove that "
                "gradient descent fits the clean part of the labels first, so stopping early "
                "should gain most where labels are wrong, and little where they are right: a "
                "network can separate a few clean digits without harm.\n\n"
                "Held-out digits are not free. Against the rival that learns from them as well, "
                "stopping must win back what it gave up.",
                {"gain": "Gain in test accuracy over training to the end, by patience. Solid: "
                         "same training digits. Dashed: the rival learns from the held-out digits "
                         "too.",
                 "curves": "Training and validation loss, mean and 95 % interval over seeds; the "
                           "ticks above mark the best epoch of each seed."},
                table,
            )
        ],
        table=table,
    )  # fmt: skip


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws the gains by patience, and the curves that stopping reads."""
    found = outcome.arrays
    gain, curves = Figure(figsize=(7.5, 4.4)), Figure(figsize=(10, 4))
    ax = gain.subplots()
    panels = np.atleast_1d(curves.subplots(1, len(found["noise"]), sharey=True))
    epochs = np.arange(1, found["loss"].shape[-1] + 1)
    for i, noise in enumerate(found["noise"]):
        color, mark = nets.NOISE_COLORS[i % 2], "os"[i % 2]
        x, label = found["patience"], f"{noise:.0%} wrong labels"
        nets.gain_curve(ax, x, found["gain"][i], label=label, color=color, marker=mark)
        ax.plot(x, found["gain_more"][i][:, 0], "--", marker=mark, color=color, markersize=6,
                label=f"{label}, against all digits", markerfacecolor="white")  # fmt: skip
        panel = panels[i]
        for name, kind, c in (("loss", "training", style.BLUE),
                              ("validation", "validation", style.VERMILION)):  # fmt: skip
            nets.mean_curve(panel, epochs, found[name][i], label=kind, color=c)
        top = np.full(len(found["best"][i]), 0.97)
        panel.plot(found["best"][i] + 1, top, "|", color="#444444", markersize=14,
                   transform=panel.get_xaxis_transform())  # fmt: skip
        panel.set(xscale="log", yscale="log", xlabel="epoch", title=label)
    panels[0].set_ylim(5e-4, 40)
    panels[0].set_ylabel("cross-entropy (nats)")
    panels[0].legend(loc="center left")
    ax.set(xscale="log", xlabel="patience (epochs)", ylabel="gain in test accuracy (points)")
    ax.set_xticks(found["patience"], [str(p) for p in found["patience"]])
    ax.minorticks_off()
    gain.legend(loc="outside upper center", ncols=2, fontsize=11)
    return {"gain": gain, "curves": curves}
