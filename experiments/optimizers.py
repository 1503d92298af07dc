"""Which of the lecture's optimizers is fastest, each at its own best learning rate?

Plain gradient descent and the nine optimizers of the lecture run from many starts on three
surfaces (Beale's function, a long valley, a saddle) and train networks on digits.  Every learning
rate of a sweep runs in one program per optimizer; the rate is chosen on some starts and judged on
others.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments import digits_nets as nets
from experiments.optimizers_report import plot, report
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import mlp, sweep, train

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("A race of optimizers", "优化器竞速")
NAMES = (
    "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamax", "nadam",
    "amsgrad",
)  # fmt: skip


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    optimizers: tuple[str, ...] = NAMES
    """The racers: plain gradient descent first, then names of `train.OPTIMIZERS`."""
    rates: int = Field(default=29, ge=2)
    """Learning rates on the surfaces, evenly spaced in the logarithm from 1e-5 to 100."""
    starts: int = Field(default=40, ge=4)
    """Starts on each surface, spread about the lecture's; the first choose the rate."""
    steps: int = Field(default=400, ge=2)
    """Steps on the surfaces."""
    tolerance: float = Field(default=1e-3, gt=0)
    """A surface is solved at this height above its minimum."""
    digit_rates: tuple[float, ...] = Field(
        default=(1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0), min_length=2
    )
    """Learning rates on digits; Adadelta, whose rate is a factor near 1, takes ten times these."""
    rows: int = Field(default=600, ge=10, le=718)
    """Digits to learn from."""
    hidden: int = Field(default=32, ge=1)
    """Hidden units, in one layer."""
    epochs: int = Field(default=12, ge=1)
    """Passes over the digits."""
    batch_size: int = Field(default=60, ge=1)
    """Digits in a step."""
    seeds: int = Field(default=28, ge=4)
    """Draws of digits and starts; the first quarter chooses the rate."""
    target: float = Field(default=0.3, gt=0)
    """A training loss to reach, in nats."""

    def __post_init__(self) -> None:
        """Refuses a race without plain gradient descent or with an unknown name."""
        unknown = set(self.optimizers) - set(NAMES)
        if unknown or "sgd" not in self.optimizers or len(self.optimizers) < 2:
            raise ValueError(f"optimizers must be sgd and others of {', '.join(NAMES)}")


SMOKE = {
    "optimizers": ["sgd", "adam"],
    "rates": 3, "starts": 4, "steps": 4, "digit_rates": [0.01, 0.1], "rows": 20, "hidden": 4,
    "epochs": 2, "batch_size": 10, "seeds": 4,
}  # fmt: skip


TURN = (0.8, 0.6)  # the direction of the long valley


def beale(w: Any) -> Any:
    """Beale's function, with its minimum 0 at (3, 0.5) in a flat curved valley."""
    x, y = w
    terms = [(a - x + x * y**k) ** 2 for k, a in ((1, 1.5), (2, 2.25), (3, 2.625))]
    return terms[0] + terms[1] + terms[2]


def valley(w: Any) -> Any:
    """A long straight valley, a hundred times steeper across than along; minimum 0 at (0, 0).

    It lies askew: along an axis, an optimizer that scales each coordinate would have no valley.
    """
    along, across = w[0] * TURN[0] + w[1] * TURN[1], w[1] * TURN[0] - w[0] * TURN[1]
    return 0.05 * (along**2 + 100 * across**2)


def saddle(w: Any) -> Any:
    """A saddle at (0, 0) between two minima of height 0 at (0, -1) and (0, 1)."""
    x, y = w
    return x**2 + (y**2 - 1) ** 2 / 4


SURFACES = {"Beale": beale, "long valley": valley, "saddle": saddle}
STARTS = {"Beale": (1.0, 1.5), "long valley": (-7.0, -4.0), "saddle": (-1.5, 0.01)}
SPREAD = {"Beale": (0.1, 0.1), "long valley": (1.0, 1.0), "saddle": (0.2, 0.005)}


def descend_surface(hp: Any, key: Any, starts: Any, *, optimizer: str, steps: int) -> Any:
    """One run on one surface: its path, and its height at every step."""
    value = lambda w: jax.lax.switch(hp["surface"], list(SURFACES.values()), w)
    gradient = jax.value_and_grad(value)
    return nets.follow(
        key, starts[hp["surface"], hp["start"]], lambda w, key: gradient(w),
        lambda w: (w, value(w)), optimizer=optimizer, learning_rate=hp["learning_rate"],
        stretches=steps,
    )  # fmt: skip


def fit_digits(hp: Any, key: Any, digits: nets.Digits, *, optimizer: str, config: Config) -> Any:
    """One network: its training loss by epoch, and its test accuracy."""
    drawn = nets.draw(key, digits.pool, config.rows)
    trained = train.fit(
        drawn.key_train, nets.start(drawn.key_init, config.hidden), drawn.rows,
        mlp.value_and_grad(), epochs=config.epochs, batch_size=config.batch_size,
        optimizer=optimizer, learning_rate=hp["learning_rate"],
    )  # fmt: skip
    return trained.history.loss, nets.accuracy(trained.params, digits.test)


def first_below(heights: Any, level: float) -> np.ndarray:
    """Returns the first step (last axis) at or below `level`; the number of steps if none is."""
    below = np.asarray(heights) <= level
    return np.where(below.any(-1), below.argmax(-1), below.shape[-1])


def choose(rates: np.ndarray, score: np.ndarray) -> int:
    """Returns the place of the rate with the least mean score (rates, choosers)."""
    return int(np.argmin(np.nan_to_num(score, nan=np.inf, posinf=1e30).mean(-1)))


def race_surfaces(config: Config, key: Any, progress: Progress) -> dict[str, Any]:
    """Every optimizer from every start with every rate; what its best rate did."""
    noise = jax.random.uniform(key, (len(SURFACES), config.starts, 2), minval=-1, maxval=1)
    centre, spread = (jnp.array(list(d.values())) for d in (STARTS, SPREAD))
    starts = centre[:, None] + spread[:, None] * noise.at[:, -1].set(0)  # the last: the centre
    rates = np.geomspace(1e-5, 100, config.rates)
    space = sweep.grid(
        surface=range(len(SURFACES)), learning_rate=rates, start=range(config.starts)
    )
    shape = (len(SURFACES), config.rates, config.starts)
    half = config.starts // 2
    chosen, steps, paths, heights = {}, {}, {}, {}
    with progress.task("surfaces", len(config.optimizers)) as advance:
        for name in config.optimizers:
            one = partial(descend_surface, optimizer=name, steps=config.steps)
            path, height = progress.sweep(one, space, key, starts).results
            height = np.asarray(height).reshape(*shape, -1)
            needed = first_below(height, config.tolerance)
            score = needed + 1e-3 * np.minimum(np.nan_to_num(height[..., -1], nan=1e5), 1e5)
            best = [choose(rates, s[:, :half]) for s in score]
            place = np.arange(len(SURFACES))
            chosen[name] = rates[best]
            steps[name] = needed[place, best, half:]
            heights[name] = height[place, best][:, half:]
            paths[name] = np.asarray(path).reshape(*shape, -1, 2)[place, best, -1]
            advance()
    return {"chosen": chosen, "steps": steps, "paths": paths, "heights": heights}


def race_digits(config: Config, key: Any, seed: int, progress: Progress) -> dict[str, Any]:
    """Every optimizer with every rate and seed; what its best rate did on the other seeds."""
    digits = nets.load(seed)
    few = config.seeds // 4
    chosen, losses, accuracies, by_rate = {}, {}, {}, {}
    with progress.task("digits", len(config.optimizers)) as advance:
        for name in config.optimizers:
            rates = np.array(config.digit_rates) * (10 if name == "adadelta" else 1)
            space = sweep.grid(learning_rate=rates, seed=range(config.seeds))
            one = partial(fit_digits, optimizer=name, config=config)
            loss, accuracy = progress.sweep(one, space, key, digits).results
            loss = np.asarray(loss).reshape(len(rates), config.seeds, -1)
            best = choose(rates, loss[:, :few, -1])
            chosen[name], losses[name] = float(rates[best]), loss[best, few:]
            accuracies[name] = np.asarray(accuracy).reshape(len(rates), -1)[best, few:]
            by_rate[name] = (rates, np.nanmean(loss[..., -1], axis=1))
            advance()
    return {"chosen": chosen, "loss": losses, "accuracy": accuracies, "by_rate": by_rate}


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Races on the surfaces and on digits."""
    key_surface, key_digits = jax.random.split(jax.random.key(seed))
    surfaces = race_surfaces(config, key_surface, progress)
    digits = race_digits(config, key_digits, seed, progress)
    grids = {name: _grid(name) for name in SURFACES}
    return report(config, surfaces, digits, grids)


def _grid(name: str) -> tuple[Any, Any, Any]:
    """Returns the heights of a surface on a grid that holds start and minimum."""
    low, high = {
        "Beale": ((-0.8, -1.6), (4.6, 1.8)),
        "long valley": ((-9.0, -7.0), (3.0, 3.0)),
        "saddle": ((-1.9, -1.6), (1.3, 1.6)),
    }[name]
    x, y = (np.linspace(a, b, 160) for a, b in zip(low, high, strict=True))
    points = jnp.stack(jnp.meshgrid(x, y), axis=-1).reshape(-1, 2)
    return x, y, np.asarray(jax.vmap(SURFACES[name])(points)).reshape(len(y), len(x))
