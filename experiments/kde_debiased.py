"""Can a kernel density lose less than the usual power of the number of samples?

Score-debiased, Laplace-corrected and reflected densities against the plain one, on densities whose
truth is known: each at its own best bandwidth, so that no rule favours one of them.
"""

import math
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.kde_debiased_report import plot, report
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import kde

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("Kernel densities of less bias", "低偏差的核密度估计")


Truth = Literal["Gaussian", "skewed", "bimodal", "exponential", "two dimensions"]


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    samples: tuple[int, ...] = (100, 250, 1000, 4000, 30_000)
    """Numbers of samples N, growing."""
    truths: tuple[Truth, ...] = ("Gaussian", "skewed", "bimodal", "exponential", "two dimensions")
    """Densities to estimate."""
    seeds: int = Field(default=20, ge=2)
    """Data sets of each size."""
    few: int = Field(default=5, ge=2)
    """Data sets of each size above 10,000, of which all pairs take long."""
    bandwidths: int = Field(default=14, ge=2)
    """Bandwidths tried, evenly spaced in the logarithm."""
    grid: int = Field(default=256, ge=16)
    """Places at which errors are taken: twice the square root of it on a side in two dimensions,
    four times as many beside a wall."""


SMOKE = {"truths": ("exponential",), "samples": (30, 60), "seeds": 2, "bandwidths": 2, "grid": 16}
MANY = 10_000  # samples, beyond which there are fewer data sets

# Normal mixtures of Marron and Wand (1992, table 1): weights, means, standard deviations.
MIXTURES = {
    "Gaussian": ((1.0,), (0.0,), (1.0,)),
    "skewed": ((0.2, 0.2, 0.6), (0.0, 1 / 2, 13 / 12), (1.0, 2 / 3, 5 / 9)),
    "bimodal": ((0.5, 0.5), (-1.0, 1.0), (2 / 3, 2 / 3)),
}
PAIR = np.array([[-1.0, -0.5], [1.0, 0.5]])  # two round normals of unit variance


def draw(name: str, rng: np.random.Generator, n: int) -> np.ndarray:
    """Returns n rows of a truth."""
    if name == "exponential":
        return rng.exponential(size=(n, 1))
    if name == "two dimensions":
        return PAIR[rng.integers(2, size=n)] + rng.normal(size=(n, 2))
    weights, means, scales = map(np.array, MIXTURES[name])
    which = rng.choice(len(means), n, p=weights)
    return (means[which] + scales[which] * rng.normal(size=n))[:, None]


def truth(name: str, x: np.ndarray) -> np.ndarray:
    """Returns the true density of each row."""
    if name == "exponential":
        return np.exp(-x[:, 0])
    if name == "two dimensions":
        squares = np.sum((x[:, None] - PAIR[None]) ** 2, axis=2)
        return np.mean(np.exp(-squares / 2), axis=1) / (2 * math.pi)
    weights, means, scales = map(np.array, MIXTURES[name])
    normals = np.exp(-(((x - means) / scales) ** 2) / 2) / (scales * math.sqrt(2 * math.pi))
    return normals @ weights


def places(name: str, grid: int) -> tuple[np.ndarray, float]:
    """Returns midpoints of cells over the support, and the size of a cell."""
    if name == "two dimensions":
        side = max(4, round(grid**0.5 * 2))
        step = 10 / side
        axis = -5 + step * (np.arange(side) + 0.5)
        return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), step**2
    low, high = (0.0, 8.0) if name == "exponential" else (-4.0, 4.0)
    grid *= 4 if name == "exponential" else 1
    step = (high - low) / grid
    return (low + step * (np.arange(grid) + 0.5))[:, None], step


def estimates(
    hp: Any, key: Any, sets: Any, weights: Any, y: Any, widths: Any, *, wall: bool
) -> Any:
    """Returns the densities of one data set at y: bandwidths by methods by places."""
    del key

    def one(h: Any) -> Any:
        x = sets[hp["set"]]
        model = kde.fit(x, bandwidth=h, sample_weight=weights)
        found = [
            jnp.exp(kde.log_prob(model, y)),
            jnp.exp(kde.log_prob(kde.debias(model), y)),
            jnp.maximum(kde.laplace_corrected(model, y), 0.0),
        ]
        if wall:
            mirrored = kde.bounded.fit(x, lower=0.0, bandwidth=h, sample_weight=weights)
            found.append(jnp.exp(kde.bounded.log_prob(mirrored, y)))
        return jnp.stack(found)

    return jax.lax.map(one, widths)


ESTIMATES = {wall: partial(estimates, wall=wall) for wall in (False, True)}


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Scores all methods at all bandwidths on the same data sets of each size."""
    # Beside a jump the best bandwidths are far smaller, whatever the method.
    ends = {name: (0.005, 0.6) if name == "exponential" else (0.06, 1.2) for name in config.truths}
    tried = {name: np.geomspace(*ends[name], config.bandwidths) for name in config.truths}
    single = lambda a: jnp.asarray(a, jnp.float32)
    found: dict[str, Any] = {name: [] for name in config.truths}
    scene: dict[str, Any] = {}
    with progress.task("sizes", len(config.truths) * len(config.samples)) as advance:
        for i, name in enumerate(config.truths):
            y, cell = places(name, config.grid)
            true, widths = truth(name, y), tried[name]
            for n in config.samples:
                rng = np.random.default_rng((seed, i, n))
                # Rows beyond n weigh nothing, so that sizes share programs.
                room = max(64, 2 ** math.ceil(math.log2(n)))
                sets = config.few if n > MANY else config.seeds
                x = np.stack([draw(name, rng, room) for _ in range(sets)])
                weights = single(np.arange(room) < n)
                densities = progress.sweep(
                    ESTIMATES[name == "exponential"], {"set": np.arange(sets)}, jax.random.key(0),
                    single(x), weights, single(y), single(widths),
                ).results  # fmt: skip
                curves = np.asarray(densities, np.float64)
                found[name].append(np.sum((curves - true) ** 2, axis=-1) * cell)
                if name == "exponential":
                    near = int(np.argmin(np.abs(widths - 0.3)))
                    scene = {"places": y[:, 0], "truth": true, "shown": curves[0, near]}
                advance()
    return report(config, found, tried, scene)
