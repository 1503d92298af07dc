"""How many patterns can a Hopfield network keep, and which storage rule keeps the most?

Random patterns are stored and recalled, from the pattern itself and from a damaged copy: overlap
against load for three classical rules and the modern network, and the break of Hebb's rule.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.hopfield_capacity_report import plot, report
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import hopfield, metrics, sweep

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("The capacity of a Hopfield network", "Hopfield 网络的记忆容量")
BOOTSTRAPS = 1000
LEVEL = 0.9  # the overlap below which a pattern counts as lost
intervals = jax.jit(jax.vmap(metrics.mean_interval))  # one program, not one for each operation


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    units: int = Field(default=200, ge=10)
    """Units N of the networks whose rules are compared."""
    loads: tuple[float, ...] = (
        0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98,
    )  # fmt: skip
    """Patterns for each unit, P / N, of the classical rules."""
    modern_loads: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    """Patterns for each unit of the modern network."""
    beta: float = Field(default=0.25, gt=0)
    """Inverse temperature β of the modern network."""
    damage: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of the units that are flipped in a damaged copy."""
    break_units: tuple[int, ...] = (100, 200, 400, 800)
    """Sizes of the networks in which the break of Hebb's rule is looked for."""
    break_loads: tuple[float, ...] = (
        0.1, 0.12, 0.13, 0.14, 0.15, 0.16, 0.17, 0.18, 0.2, 0.22, 0.25,
    )  # fmt: skip
    """Loads around the break."""
    cues: int = Field(default=4, ge=1)
    """Patterns of each network that are recalled."""
    seeds: int = Field(default=20, ge=2)
    """Networks for each load."""
    max_steps: int = Field(default=60, ge=1)
    """The most updates of every unit in a recall."""


SMOKE = {
    "units": 20, "loads": [0.1, 0.5], "modern_loads": [0.1, 0.5], "break_units": [20, 40],
    "break_loads": [0.1, 0.2], "seeds": 2, "cues": 1, "max_steps": 5,
}  # fmt: skip


def draw(key: Any, n: int, d: int, config: Config) -> tuple[Any, Any]:
    """Random patterns; the first ones as they are and damaged, shape (2, cues, d)."""
    key_patterns, key_damage = jax.random.split(key)
    patterns = jax.random.rademacher(key_patterns, (n, d), jnp.float32)
    kept = patterns[: config.cues]
    places = jnp.argsort(jax.random.uniform(key_damage, kept.shape), axis=1)
    damaged = kept * jnp.where(places < config.damage * d, -1.0, 1.0)
    return patterns, jnp.stack([kept, damaged])


def overlaps(recall: Any, starts: Any) -> Any:
    """The mean overlap of recalled states with their patterns, from these and damaged ones."""
    ends = jax.vmap(jax.vmap(recall))(starts).state
    return jnp.mean(jax.vmap(jax.vmap(hopfield.overlap, (0, 0)), (0, None))(ends, starts[0]), 1)


def classical(hp: Any, key: Any, *, rule: str, n: int, d: int, parts: int, config: Config) -> Any:
    """One network of the sweep: overlap after recall, from the first `parts` kinds of starts."""
    patterns, starts = draw(key, n, d, config)
    weights = hopfield.store(patterns, rule=rule, active=hp["patterns"])
    key_order = jax.random.fold_in(key, 1)
    recall = partial(hopfield.recall, weights, key=key_order, max_steps=config.max_steps)
    return overlaps(recall, starts[:parts])


def modern(hp: Any, key: Any, *, n: int, config: Config) -> Any:
    """One modern network of the sweep."""
    patterns, starts = draw(key, n, config.units, config)
    recall = lambda state: hopfield.modern_recall(
        patterns, state, config.beta, active=hp["patterns"], max_steps=config.max_steps
    )
    return overlaps(recall, starts)


def over_loads(
    one: Any, loads: tuple[float, ...], d: int, key: Any, config: Config, progress: Progress,
    title: str, chunk: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Returns the loads as whole numbers allow, and the overlaps (load, seed, kind of start)."""
    numbers = [max(config.cues, round(load * d)) for load in loads]
    space = sweep.grid(patterns=numbers, seed=range(config.seeds))
    with progress.task(title, len(space["seed"])) as advance:
        result = progress.sweep(
            partial(one, n=max(numbers)), space, key, chunk=chunk * config.seeds, progress=advance
        )
    found = np.asarray(result.results).reshape(len(loads), config.seeds, -1)
    return np.array(numbers) / d, found


def falls_below(loads: np.ndarray, curve: np.ndarray, level: float) -> float:
    """The load at which a curve crosses `level` downwards for the last time; NaN for never."""
    above = np.flatnonzero((curve[:-1] >= level) & (curve[1:] < level))
    if not above.size:
        return float("nan")
    i = above[-1]
    share = (curve[i] - level) / (curve[i] - curve[i + 1])
    return float(loads[i] + share * (loads[i + 1] - loads[i]))


def resampled(curves: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of `curves` (load, seed) over resampled seeds, (bootstrap, load); first the plain."""
    n = curves.shape[1]
    draws = rng.integers(0, n, (BOOTSTRAPS, n))
    return np.concatenate([curves.mean(axis=1)[None], curves[:, draws].mean(axis=2).T])


def with_interval(found: np.ndarray) -> list[float]:
    """The first number, and the 95% interval of the bootstrap's."""
    if not np.isfinite(found[0]):
        return [float("nan")] * 3
    return [float(found[0]), *map(float, np.nanquantile(found[1:], [0.025, 0.975]))]


def crossings(loads: np.ndarray, curves: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The load at which the mean overlap falls below `LEVEL`, plain and of every resample."""
    return np.array([falls_below(loads, curve, LEVEL) for curve in resampled(curves, rng)])


def interval(values: np.ndarray) -> np.ndarray:
    """Mean and ends of the 95% interval over seeds: (load, seed) to (3, load)."""
    return np.stack(intervals(jnp.asarray(values)))


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Compares the rules, then looks for the break of Hebb's."""
    key_rules, key_modern, key_break = jax.random.split(jax.random.key(seed), 3)
    rng = np.random.default_rng(seed)
    curves, marks = {}, {}
    for rule in hopfield.RULES:
        one = partial(classical, rule=rule, d=config.units, parts=2, config=config)
        loads, found = over_loads(
            one, config.loads, config.units, key_rules, config, progress, rule, chunk=4
        )
        curves[rule] = (loads, found)
        marks[rule] = [with_interval(crossings(loads, found[:, :, i], rng)) for i in range(2)]
    curves["modern"] = over_loads(
        partial(modern, config=config), config.modern_loads, config.units, key_modern, config,
        progress, "modern", chunk=1,
    )  # fmt: skip
    sizes, breaks = {}, {}
    for d in config.break_units:
        one = partial(classical, rule="hebb", d=d, parts=1, config=config)
        loads, found = over_loads(
            one, config.break_loads, d, key_break, config, progress, f"break, {d} units", chunk=1
        )
        sizes[d] = (loads, found[:, :, 0])
        breaks[d] = crossings(loads, found[:, :, 0], rng)
    # A straight line in 1/N through the breaks of finite networks, read at 1/N = 0.
    found = np.stack(list(breaks.values()))
    whole = np.isfinite(found).all(axis=0)  # where every size breaks at a load that was tried
    line = np.full((2, whole.size), np.nan)
    if whole.any():
        line[:, whole] = np.polynomial.polynomial.polyfit(
            1 / np.array(config.break_units), found[:, whole], 1
        )
    limit = with_interval(line[0])
    return report(
        config,
        {name: (loads, [interval(found[:, :, i]) for i in range(2)])
         for name, (loads, found) in curves.items()},
        marks,
        {d: (loads, interval(found)) for d, (loads, found) in sizes.items()},
        {d: with_interval(found) for d, found in breaks.items()},
        (limit, float(line[1, 0])),
    )  # fmt: skip
