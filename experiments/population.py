"""Does a population that copies its winners beat a search in which every step length stays?

Population-based training (Jaderberg et al., 2017): every few epochs the worst members take over the
whole state of one of the best, and change its step length a little. The rival is the same members
with the same starts, rates and epochs, left alone. A training in pieces has plain states, so that
taking over is indexing, and many populations run in one program.
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

TITLE = ("Population-based training", "基于种群的训练")
DESCEND = mlp.value_and_grad()


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    members: int = Field(default=16, ge=4, le=64)
    """Members of a population."""
    rounds: int = Field(default=30, ge=2)
    """Pieces of training; after each but the last the worst quarter takes over from the best."""
    every: int = Field(default=2, ge=1)
    """Epochs of a piece."""
    batch_size: int = Field(default=16, ge=1)
    """Rows per step of plain gradient descent."""
    hidden: int = Field(default=64, ge=1)
    """Hidden units, in one layer."""
    rows: int = Field(default=300, ge=20, le=700)
    """Digits to learn from."""
    lowest: float = Field(default=1e-3, gt=0)
    """Least step length to begin with."""
    highest: float = Field(default=1.0, gt=0)
    """Largest step length to begin with; between both they are uniform in the logarithm."""
    factor: float = Field(default=1.25, gt=1)
    """Whoever takes over multiplies or divides the step length by this."""
    seeds: int = Field(default=16, ge=2)
    """Populations, each with digits, starts and rates of its own."""


SMOKE = {"members": 4, "rounds": 3, "every": 1, "hidden": 8, "rows": 40, "seeds": 2}


def network(hp: Any, key: Any, *, config: Config) -> Any:
    """A member: where it starts, how it descends, and its step length."""
    return nets.start(key, config.hidden), DESCEND, {"learning_rate": hp["rate"]}


def take_over(key: Any, states: Any, losses: Any, factor: float) -> tuple[Any, Any]:
    """Returns the members after the worst quarter became copies, and whom each continues.

    A copy keeps its own key, so that it draws other batches than the original.
    """
    key_whom, key_factor = jax.random.split(key)
    n = losses.shape[0]
    quarter = n // 4
    order = jnp.argsort(jnp.where(jnp.isnan(losses), jnp.inf, losses))
    whom = jax.random.choice(key_whom, order[:quarter], (quarter,))
    source = jnp.arange(n).at[order[n - quarter :]].set(whom)
    copied = source != jnp.arange(n)
    change = jnp.where(jax.random.bernoulli(key_factor, shape=(n,)), factor, 1 / factor)
    new = jax.tree.map(lambda a: a[source], states)
    rate = new.hparams["rate"] * jnp.where(copied, change, 1.0).astype(new.hparams["rate"].dtype)
    run = new.run._replace(key=states.run.key)
    return new._replace(hparams=new.hparams | {"rate": rate}, run=run), source


def grow(hp: Any, key: Any, digits: nets.Digits, *, config: Config) -> Any:
    """One population, and the same members left alone: test scores and how it went."""
    key_rows, key_rates, key_members, key_copies = jax.random.split(key, 4)
    rows = nets.draw(key_rows, digits.pool, config.rows).rows
    pieces = train.segments(
        partial(network, config=config), epochs=config.rounds * config.every, every=config.every,
        optimizer="sgd", batch_size=config.batch_size,
    )  # fmt: skip
    space = {"rate": sweep.LogUniform(config.lowest, config.highest)}
    rates = sweep.random(key_rates, config.members, space)
    keys = jax.random.split(key_members, config.members)
    shared = (rows, digits.validation)
    start = jax.vmap(lambda hp, key: pieces.init(hp, key, *shared))(rates, keys)

    def live(copies: Any) -> Any:
        def one_round(states: Any, i: Any) -> Any:
            states = jax.vmap(lambda state: pieces.advance(state, *shared))(states)
            losses = jax.vmap(lambda p: mlp.mean_loss(p, digits.validation, None))(
                states.run.at.params
            )
            rate = states.hparams["rate"]
            key = jax.random.fold_in(key_copies, i)
            after, source = take_over(key, states, losses, config.factor)
            over = copies & (i < config.rounds - 1)
            states = jax.tree.map(lambda old, new: jnp.where(over, new, old), states, after)
            return states, (rate, losses, jnp.where(over, source, jnp.arange(config.members)))

        states, seen = jax.lax.scan(one_round, start, jnp.arange(config.rounds))
        trained = jax.vmap(pieces.result)(states)
        chosen = jnp.nanargmin(trained.value)
        best = jax.tree.map(lambda a: a[chosen], trained.params)
        return (
            nets.accuracy(best, digits.test), mlp.mean_loss(best, digits.test, None), chosen, *seen
        )  # fmt: skip

    return jax.vmap(live)(jnp.array([True, False]))


def ancestry(source: np.ndarray, chosen: int) -> np.ndarray:
    """Returns the place that the chosen member's state had after each round's training."""
    places = np.zeros(len(source), int)
    place = chosen
    for i in range(len(source) - 1, -1, -1):
        place = places[i] = source[i][place]
    return places


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Trains all populations with and without copying, and compares them in pairs."""
    key, digits = jax.random.key(seed), nets.load(seed)
    with progress.task("populations", config.seeds) as advance:
        both = progress.sweep(
            partial(grow, config=config), {"seed": jnp.arange(config.seeds)}, key, digits,
            chunk=min(config.seeds, max(1, nets.MEMBERS // config.members)), progress=advance,
        ).results  # fmt: skip
    both = jax.device_get(both)
    names = ("accuracy", "loss", "chosen", "rate", "validation", "source")
    with_, without = (
        {name: a[:, i] for name, a in zip(names, both, strict=True)} for i in range(2)
    )
    gain = nets.intervals(with_["accuracy"] - without["accuracy"], 100)
    gain_loss = nets.intervals(with_["loss"] - without["loss"])
    lines = [ancestry(s, c) for s, c in zip(with_["source"], with_["chosen"], strict=True)]
    followed = np.stack(
        [rate[np.arange(config.rounds), line]
         for rate, line in zip(with_["rate"], lines, strict=True)]
    )  # fmt: skip
    kept = without["rate"][np.arange(config.seeds), 0, without["chosen"]]
    middle = lambda values: float(np.median(values))
    table = Table(
        ["", "test accuracy, %", "test loss, nats", "step length, first", "last"],
        [
            [name, nets.percent(nets.intervals(found["accuracy"], 100)),
             span(nets.intervals(found["loss"]).tolist(), ".3f"), f"{middle(first):.2g}",
             f"{middle(last):.2g}"]
            for name, found, first, last in (
                ("copying winners", with_, followed[:, 0], followed[:, -1]),
                ("left alone", without, kept, kept),
            )
        ],
        f"The member with the least validation loss of each population: mean and 95 % interval "
        f"over {config.seeds} populations of {config.members}; step lengths are medians.",
        best=[0],
    )  # fmt: skip
    change = span(gain_loss.tolist(), "+.3f")
    finding = (
        f"Copying winners {nets.verdict(gain)}: {nets.points(gain)} of test accuracy against the "
        f"same members left alone, and {change} nats of test loss; the step "
        f"length of the line that won went from {middle(followed[:, 0]):.2g} to "
        f"{middle(followed[:, -1]):.2g} (medians), where the best fixed one is "
        f"{middle(kept):.2g} ({config.seeds} populations of {config.members})."
    )
    return Outcome(
        finding=finding,
        metrics={"gain_points": gain, "change_in_test_loss": gain_loss,
                 "accuracy": with_["accuracy"], "accuracy_alone": without["accuracy"]},
        arrays={"rate": with_["rate"][0], "source": with_["source"][0], "line": lines[0],
                "kept": without["rate"][0, 0], "chosen": without["chosen"][0],
                "validation": np.nanmin(with_["validation"], axis=-1),
                "validation_alone": np.nanmin(without["validation"], axis=-1),
                "epochs": np.arange(1, config.rounds + 1) * config.every},
        sections=[
            Section(
                "What is expected",
                "A step length that falls as training goes is better than any fixed one, since "
                "the noise of the batches keeps a long step from settling and a short step takes "
                "long to arrive. Jaderberg et al. (2017) find that a population discovers such "
                "schedules by itself, at the cost of a single search: the worst quarter takes over "
                "parameters and step length of the best, and changes the latter a little.\n\n"
                "On a task this small a fixed step already arrives, so the gain in accuracy is at "
                "most small; what copying surely does is to rescue the members whose first step "
                "length was hopeless.",
                {"rates": "Step lengths of one population. Grey: all members, a jump is a copy. "
                          "Blue: the line of states that ends in the member chosen. Dashed: the "
                          "best fixed one.",
                 "loss": "Least validation loss in the population, mean and 95 % interval over "
                         "populations."},
                table,
            )
        ],
        table=table,
    )  # fmt: skip


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws the step lengths of one population, and the least losses of all."""
    found = outcome.arrays
    epochs, rate, line = found["epochs"], found["rate"], found["line"]
    rates, loss = Figure(figsize=(7.5, 4.4)), Figure(figsize=(7.5, 4.4))
    ax = rates.subplots()
    ax.plot(epochs, rate, color="#aaaaaa", linewidth=1)
    ax.plot(epochs, rate[np.arange(len(epochs)), line], color=style.BLUE, linewidth=2.5,
            label="ancestors of the chosen")  # fmt: skip
    ax.axhline(found["kept"][found["chosen"]], color=style.VERMILION, linestyle="--",
               label="best fixed")  # fmt: skip
    ax.set(yscale="log", xlabel="epoch", ylabel="step length")
    rates.legend(loc="outside upper center", ncols=2)
    ax = loss.subplots()
    for name, label, color, dash in (
        ("validation", "copying winners", style.BLUE, "-"),
        ("validation_alone", "left alone", style.VERMILION, "--"),
    ):
        nets.mean_curve(ax, epochs, found[name], label=label, color=color, linestyle=dash)
    ax.set(ylim=(0, None), xlabel="epoch", ylabel="validation loss (nats)")
    ax.legend()
    return {"rates": rates, "loss": loss}
