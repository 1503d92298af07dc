"""Does dropout help a network that has few digits to learn from, and does the convention matter?

The lecture keeps a hidden unit with probability p in training and multiplies the weights by p in
the test (classic).  Most code divides by p in training instead (inverted).  Both are trained for
every p, in one program each, with the same seeds, and compared with no dropout and one another.
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

TITLE = ("Dropout", "Dropout：随机丢弃神经元")
HALF = 0.5  # the keep probability of the histograms


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    rows: int = Field(default=100, ge=10, le=600)
    """Digits to learn from."""
    noise: tuple[float, ...] = Field(default=(0.0, 0.3), min_length=1, max_length=2)
    """Shares of wrong labels among them."""
    keep_probs: tuple[float, ...] = Field(
        default=(0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9), min_length=1
    )
    """The lecture's p, the probability of keeping a hidden unit, besides 1."""
    hidden: int = Field(default=100, ge=1)
    """Hidden units, in one layer."""
    epochs: int = Field(default=300, ge=1)
    """Full-batch steps of Adam."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Step length of Adam."""
    seeds: int = Field(default=24, ge=2)
    """Draws of digits and starts, shared by all keep probabilities."""


SMOKE = {
    "rows": 20, "noise": [0.3], "keep_probs": [0.5], "hidden": 8, "epochs": 5, "seeds": 2,
}  # fmt: skip


def fit_one(
    hp: Any, key: Any, digits: nets.Digits, *, convention: str, config: Config
) -> tuple[Any, Any, Any]:
    """One network: its accuracy on validation and test rows, and its parameters."""
    drawn = nets.draw(key, digits.pool, config.rows, hp["noise"])
    options = {"keep_prob": hp["keep_prob"], "convention": convention}
    params = train.fit(
        drawn.key_train, nets.start(drawn.key_init, config.hidden), drawn.rows,
        mlp.value_and_grad(**options), epochs=config.epochs, learning_rate=config.learning_rate,
    ).params  # fmt: skip
    held_out = (digits.validation, digits.test)
    return *(nets.accuracy(params, rows, **options) for rows in held_out), params


def rescaled(params: Any, keep: Any) -> Any:
    """The same network in the classic convention: outgoing weights of hidden units over p."""
    first, last = params
    return first, last._replace(weight=last.weight / keep)


@jax.jit
def activations(key: Any, params: Any, x: Any) -> dict[str, Any]:
    """Outputs of hidden units of one network, in training and in the test, both conventions."""
    hidden = jax.nn.relu(params[0].linear(x)[0])
    return {
        f"{name}_{moment}": mlp.dropout(k, hidden, HALF, name)
        for name in mlp.CONVENTIONS
        for moment, k in (("training", key), ("test", None))
    }


@jax.jit
def mismatch(key: Any, params: Any, x: Any, keeps: Any) -> Any:
    """The largest difference between outputs in both conventions over the largest output, by p.

    Both moments: the test, and training with the same masks.
    """

    def of(keep: Any) -> Any:
        outputs = [
            mlp.apply(p, x, keep_prob=keep, convention=name, key=k)
            for k in (None, key)
            for name, p in (("inverted", params), ("classic", rescaled(params, keep)))
        ]
        off = [jnp.max(jnp.abs(outputs[i] - outputs[i + 1])) for i in (0, 2)]
        return jnp.stack(off) / jnp.max(jnp.abs(outputs[0]))

    return jax.vmap(of)(keeps)


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Runs one sweep for each convention and compares them."""
    digits, key = nets.load(seed), jax.random.key(seed)
    keeps = (*config.keep_probs, 1.0)
    space = sweep.grid(noise=config.noise, keep_prob=keeps, seed=range(config.seeds))
    shape = (len(config.noise), len(keeps), config.seeds)
    test, validation, params = {}, {}, None
    for name in mlp.CONVENTIONS:
        with progress.task(f"networks, {name}", len(space["seed"])) as advance:
            found = progress.sweep(
                partial(fit_one, convention=name, config=config), space, key, digits,
                chunk=len(keeps) * config.seeds, progress=advance,
            ).results  # fmt: skip
        validation[name], test[name] = (np.asarray(r).reshape(shape) for r in found[:2])
        if name == "inverted":
            member = int(np.argmin(np.abs(np.array(keeps) - HALF))) * config.seeds
            params = jax.tree.map(lambda a, i=member: a[i], found[2])
    gains = {name: nets.intervals(t - t[:, -1:], 100)[:, :-1] for name, t in test.items()}
    apart = nets.intervals(test["classic"] - test["inverted"], 100)[:, :-1]
    chosen = np.argmax(validation["inverted"][:, :-1].mean(-1), axis=1)
    off = np.asarray(mismatch(key, params, digits.test.x, jnp.array(keeps, jnp.float32)))
    seen = {k: np.asarray(v) for k, v in activations(key, params, digits.test.x).items()}

    said, rows = [], []
    for i, noise in enumerate(config.noise):
        gain = gains["inverted"][i, chosen[i]]
        said.append(
            f"with {noise:.0%} wrong labels p = {keeps[chosen[i]]:g}, chosen on validation digits, "
            f"{nets.verdict(gain)}: {nets.points(gain)} of test accuracy"
        )
        for j, keep in enumerate(keeps):
            accuracy = (nets.percent(nets.intervals(test[n][i, j], 100)) for n in gains)
            differences = (
                "" if keep == 1 else span(ends[i, j], "+.1f")
                for ends in (gains["inverted"], gains["classic"], apart)
            )  # fmt: skip
            rows.append([f"{noise:.0%}", f"{keep:g}", *accuracy, *differences])
    widest = float(np.abs(apart[..., 0]).max())
    table = Table(
        ["wrong labels", "p", *(f"test accuracy, {n}" for n in gains),
         "gain, inverted", "gain, classic", "classic minus inverted"],
        rows,
        f"{config.rows} digits, {config.seeds} seeds; gains in points against p = 1, paired.",
        best=[i * len(keeps) + int(c) for i, c in enumerate(chosen)],
    )  # fmt: skip
    alone = (apart[..., 1] > 0) | (apart[..., 2] < 0)
    return Outcome(
        finding=f"On {config.rows} digits, " + "; ".join(said)
        + f"; the two conventions give the same outputs up to {off.max():.0e} of their size for "
        f"the same network, and after training of their own differ by at most {widest:.1f} "
        f"points in the mean, in {int(alone.sum())} of {alone.size} settings beyond the 95 % "
        f"interval ({config.seeds} seeds).",
        metrics={"keep_prob": keeps[:-1], "noise": config.noise, "gain_points": gains,
                 "classic_minus_inverted_points": apart, "relative_mismatch": off,
                 "mean_activation": {k: v.mean() for k, v in seen.items()}},
        arrays={"keep_prob": np.array(keeps[:-1]), "noise": np.array(config.noise),
                **{f"gain_{name}": g for name, g in gains.items()}, "chosen": chosen,
                **{f"hidden_{k}": v for k, v in seen.items()}},
        sections=[
            Section(
                "Does it help?",
                "Srivastava et al. (2014) report that dropout lowers the test error on many data "
                "sets, and that on very small ones, where a network can fit everything in spite "
                "of the noise, it does not (their section 7.4). Some p below 1 should help; a "
                "very small p leaves too little of the network.\n\n"
                "Gains are within pairs: the same digits, labels and starting weights with p = 1. "
                "Every keep probability is a traced number of the same compiled program.",
                {"gain": "Gain in test accuracy against p, mean and 95 % interval; stars: the p "
                         "chosen on validation digits."},
                table,
            ),
            Section(
                "Two conventions, one network",
                "Classic dropout leaves kept units as they are in training and multiplies by p in "
                "the test; inverted dropout divides by p in training. Divide the outgoing weights "
                "of a network by p, and the classic outputs are the inverted ones, unit by unit "
                "and mask by mask, in training and in the test: here up to "
                f"{off.max():.0e} of their size. In both, the mean of a unit in training is its "
                "mean in the test, which is what the factor p is for; the spread is not.\n\n"
                "Trained on their own, the two start as different functions and Adam's steps "
                "weigh differently, by p: they agree only as far as the last column of the table "
                "says.",
                {"hidden": f"Outputs of hidden units on test digits, of a network trained with "
                           f"inverted dropout, p = {HALF:g}; dashed lines: their means."},
            ),
        ],
        table=table,
    )  # fmt: skip


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws the gains, and the histograms of activations."""
    found = outcome.arrays
    gain, hidden = Figure(figsize=(7.5, 4.6)), Figure(figsize=(10, 4.2))
    ax = gain.subplots()
    for i, noise in enumerate(found["noise"]):
        color, mark, x = nets.NOISE_COLORS[i], "os"[i], found["keep_prob"]
        label = f"{noise:.0%} wrong labels"
        inverted, classic = found["gain_inverted"][i], found["gain_classic"][i]
        nets.gain_curve(ax, x, inverted, label=f"{label}, inverted", color=color, marker=mark)
        ax.plot(x, classic[:, 0], "--", marker=mark, color=color, markersize=6,
                markerfacecolor="white", label=f"{label}, classic")  # fmt: skip
        c = found["chosen"][i]
        ax.plot(x[c], inverted[c, 0], "*", color=color, markersize=18)
    ax.set(xlabel="keep probability p", ylabel="gain in test accuracy (points)")
    gain.legend(loc="outside upper center", ncols=2, fontsize=11)

    panels = hidden.subplots(1, 2, sharey=True)
    top = np.quantile(found["hidden_inverted_training"], 0.995)
    bins = np.linspace(0, top, 40)
    for ax, name in zip(panels, ("classic", "inverted"), strict=True):
        for moment, color in (("training", style.VERMILION), ("test", style.BLUE)):
            values = found[f"hidden_{name}_{moment}"].ravel()
            silent = np.mean(values == 0)
            weights = np.full(len(values), 100 / len(values))
            ax.hist(values, bins, weights=weights, histtype="step", linewidth=2.2, color=color,
                    label=f"{moment}: {silent:.0%} are zero")  # fmt: skip
            dashes = (0, (4, 4)) if moment == "training" else (4, (4, 4))
            ax.axvline(values.mean(), color=color, linestyle=dashes, linewidth=2)
        ax.set(title=name, xlabel="output of a hidden unit", yscale="log")
        ax.legend()
    panels[0].set_ylabel("share of outputs (%)")
    return {"gain": gain, "hidden": hidden}
