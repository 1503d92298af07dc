"""Does full-batch descent converge faster, and does a small batch help to leave a local optimum?

The lecture says both.  Networks on digits are trained with several batch sizes, each at its own
best learning rate, for the same number of passes and for the same number of steps; and runs
that full-batch descent has left in a local optimum go on with smaller batches.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments import digits_nets as nets
from experiments.batch_size_report import plot, report
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import mlp, sweep, train

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("Batch size", "批量大小：全批量与随机梯度下降")


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    rows: int = Field(default=256, ge=8, le=700)
    """Digits to learn from; as many in a step are the full batch."""
    batches: tuple[int, ...] = Field(default=(4, 16, 64, 256), min_length=2, max_length=6)
    """Digits in a step; divisors of `rows`, the last of them all of it."""
    epochs: int = Field(default=15, ge=1)
    """Passes over the digits; the smallest batch makes the same number of steps as all others."""
    rates: tuple[float, ...] = Field(default=(0.1, 0.3, 1.0, 2.0), min_length=1)
    """Learning rates of gradient descent, from which each batch size has its best."""
    hidden: int = Field(default=32, ge=1)
    """Hidden units of the networks on digits."""
    seeds: int = Field(default=25, ge=4)
    """Draws of digits and starts; the first fifth chooses the rate."""
    problems: tuple[str, ...] = Field(default=("XOR", "frequency"), min_length=1, max_length=2)
    """Problems with local optima."""
    points: int = Field(default=64, ge=8)
    """Rows of the problems with local optima."""
    escape_batches: tuple[int, ...] = Field(default=(2, 8, 64), min_length=2, max_length=4)
    """Rows in a step there; the last is the full batch."""
    escape_rates: tuple[float, ...] = Field(default=(0.1, 0.3, 1.0), min_length=1)
    """Learning rates there, the same for all batch sizes."""
    steps: int = Field(default=1024, ge=32)
    """Steps of each of the two stages there."""
    starts: int = Field(default=120, ge=2)
    """Starts there."""

    def __post_init__(self) -> None:
        """Refuses batches that do not divide the rows."""
        for name, rows, batches in (
            ("batches", self.rows, self.batches),
            ("escape_batches", self.points, self.escape_batches),
        ):
            if any(b < 1 or rows % b for b in batches) or batches[-1] != rows:
                raise ValueError(f"{name} must divide the {rows} rows, and the last be all of them")
        if not set(self.problems) <= {"XOR", "frequency"}:
            raise ValueError("problems must be XOR, frequency or both")
        if self.steps % (self.points // min(self.escape_batches)):
            raise ValueError("steps must be whole epochs of the smallest of escape_batches")


SMOKE = {
    "rows": 16, "batches": [4, 16], "epochs": 2, "rates": [0.1], "hidden": 4, "seeds": 10,
    "problems": ["frequency"], "points": 16, "escape_batches": [4, 16], "escape_rates": [0.3],
    "steps": 32, "starts": 8,
}  # fmt: skip


def fit_digits(hp: Any, key: Any, digits: nets.Digits, *, batch: int, config: Config) -> Any:
    """One network: its training loss and test error by epoch, at as many steps as any other."""
    drawn = nets.draw(key, digits.pool, config.rows)
    trained = train.fit(
        drawn.key_train, nets.start(drawn.key_init, config.hidden), drawn.rows,
        mlp.value_and_grad(), epochs=config.epochs * batch // min(config.batches),
        batch_size=batch, optimizer="sgd", learning_rate=hp["learning_rate"],
        validation=digits.test, score=nets.error,
    )  # fmt: skip
    return trained.history


class Problem(NamedTuple):
    """A problem with local optima: its rows, a start, and what is descended."""

    rows: Callable[[Any, int], train.Batch]
    start: Callable[[Any], Any]
    descend: Any


def xor_rows(key: Any, n: int) -> train.Batch:
    """Points about the corners of a square, labelled by the exclusive or of its sides."""
    corner = jnp.arange(n) % 4
    signs = jnp.stack([corner // 2, corner % 2], axis=1) * 2.0 - 1
    return train.Batch(
        x=signs + 0.3 * jax.random.normal(key, (n, 2)), y=(corner // 2 + corner % 2) % 2
    )


def sine_rows(key: Any, n: int) -> train.Batch:
    """Values of a sine of frequency 2.5 without noise."""
    x = jax.random.uniform(key, (n,), minval=-3, maxval=3)
    return train.Batch(x=x, y=jnp.sin(2.5 * x))


def sine_loss(params: Any, batch: Any, key: Any) -> Any:
    """The weighted mean square error of a sine of another frequency."""
    del key
    weight = jnp.ones_like(batch.x) if batch.weight is None else batch.weight
    miss = jnp.square(jnp.sin(params["frequency"] * batch.x) - batch.y)
    return jnp.sum(weight * miss) / jnp.sum(weight)


PROBLEMS = {
    "XOR": Problem(
        xor_rows, lambda key: mlp.init(key, (2, 2, 2), activation="tanh"),
        mlp.value_and_grad(activation="tanh"),
    ),
    "frequency": Problem(
        sine_rows, lambda key: {"frequency": jax.random.uniform(key, minval=0.5, maxval=8)},
        jax.value_and_grad(sine_loss),
    ),
}  # fmt: skip


def fit_stage(
    hp: Any, key: Any, starts: Any, rows: train.Batch, *, problem: str, batch: int, config: Config
) -> tuple[Any, Any]:
    """One run from its start: its parameters and mean loss after the steps of a stage."""
    descend = PROBLEMS[problem].descend
    trained = train.fit(
        key, jax.tree.map(lambda a: a[hp["place"]], starts), rows, descend,
        epochs=config.steps * batch // config.points, batch_size=batch, optimizer="sgd",
        learning_rate=hp["learning_rate"],
    )  # fmt: skip
    return trained.params, descend(trained.params, rows, None)[0]


def race_digits(config: Config, key: Any, seed: int, progress: Progress) -> dict[int, Any]:
    """For each batch size the history of every rate and seed, (rates, seeds, epochs)."""
    digits, found = nets.load(seed), {}
    space = sweep.grid(learning_rate=config.rates, seed=range(config.seeds))
    shape = (len(config.rates), config.seeds, -1)
    with progress.task("digits", len(config.batches)) as advance:
        for batch in config.batches:
            one = partial(fit_digits, batch=batch, config=config)
            history = progress.sweep(one, space, key, digits, chunk=100).results
            found[batch] = jax.tree.map(lambda a: np.asarray(a).reshape(shape), history)
            advance()
    return found


def leave(config: Config, key: Any, problem: str, progress: Progress) -> np.ndarray:
    """Losses after full-batch descent (first row), and after going on with each batch size.

    Shape (1 + batch sizes, rates, starts).
    """
    key_rows, key_start, key_first, key_second = jax.random.split(key, 4)
    rows = PROBLEMS[problem].rows(key_rows, config.points)
    space = sweep.grid(learning_rate=config.escape_rates, start=range(config.starts))
    space["place"] = jnp.arange(len(space["start"]))  # a member goes on where it itself ended
    starts = jax.vmap(lambda i: PROBLEMS[problem].start(jax.random.fold_in(key_start, i)))(
        space["start"]
    )
    stages = {
        batch: partial(fit_stage, problem=problem, batch=batch, config=config)
        for batch in config.escape_batches
    }

    def run(batch: int, key: Any, start: Any) -> Any:
        chunk = 2**15 // config.points
        return progress.sweep(stages[batch], space, key, start, rows, chunk=chunk).results

    losses = []
    with progress.task(problem, 1 + len(config.escape_batches)) as advance:
        ends, loss = run(config.points, key_first, starts)
        losses.append(loss)
        advance()
        for batch in config.escape_batches:
            losses.append(run(batch, key_second, ends)[1])
            advance()
    return np.stack(losses).reshape(-1, len(config.escape_rates), config.starts)


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Trains on digits and on the problems with local optima."""
    key_digits, key_leave = jax.random.split(jax.random.key(seed))
    found = race_digits(config, key_digits, seed, progress)
    left = {name: leave(config, key_leave, name, progress) for name in config.problems}
    return report(config, found, left)
