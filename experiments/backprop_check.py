"""Is back-propagation by hand the gradient that JAX finds, and is it as fast?

The lecture's recursion, written out in `mlp.backward`, against `jax.grad` of the same loss: the
relative error in two precisions, and the time, against depth and width.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments import datasets
from experiments.backprop_check_report import plot, report
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import mlp, sweep, train

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("Back-propagation by hand", "手写反向传播与自动微分的对照")
MAIN = "tanh"  # of depths and widths: for ReLU both do the same operations, bit for bit
Size = tuple[int, int, str]
PRECISIONS = {"float64": jnp.float64, "float32": jnp.float32}


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    depths: tuple[int, ...] = Field(default=(1, 2, 4, 8), min_length=1)
    """Numbers of hidden layers, at the middle of the widths."""
    widths: tuple[int, ...] = Field(default=(16, 64, 256), min_length=1)
    """Units of a hidden layer, at the middle of the depths."""
    activations: tuple[str, ...] = tuple(mlp.ACTIVATIONS)
    """Names in `mlp.ACTIVATIONS`, each at the middle size, in float64."""
    seeds: int = Field(default=20, ge=2, le=200)
    """Networks of each size."""
    rows: int = Field(default=64, ge=1, le=1000)
    """Images in the batch."""
    rounds: int = Field(default=25, ge=2, le=1000)
    """Timings of each function, taken in turn."""
    seconds: float = Field(default=4e-3, gt=0, le=1)
    """Seconds of repeated calls in one timing."""


SMOKE = {"depths": [1], "widths": [4], "activations": ["tanh"], "seeds": 2, "rows": 4, "rounds": 2,
    "seconds": 1e-4}  # fmt: skip


def by_hand(activation: str) -> Callable[..., Any]:
    """The gradient of the lecture."""
    return mlp.value_and_grad("softmax_cross_entropy", activation=activation)


def by_jax(activation: str) -> Callable[..., Any]:
    """The gradient of JAX, of the same loss."""
    return jax.value_and_grad(
        partial(mlp.mean_loss, loss="softmax_cross_entropy", activation=activation)
    )


METHODS: dict[str, Callable[[str], Callable[..., Any]]] = {"hand": by_hand, "jax.grad": by_jax}


def gradient(method: str, activation: str) -> Callable[..., Any]:
    """The gradient by a method, as a function of parameters and a batch alone."""
    descend = METHODS[method](activation)
    return lambda params, batch: descend(params, batch, None)[1]


def networks(size: Size, config: Config, key: Any, x: Any) -> Any:
    """Random networks, one a seed, in float64; precisions round the same ones."""
    depth, width, activation = size
    sizes = (x.shape[1], *(width,) * depth, 10)
    start = lambda hp, key: mlp.init(key, sizes, activation=activation, dtype=jnp.float64)
    return sweep.run(start, {"seed": jnp.arange(config.seeds)}, key).results


def compare(size: Size, precisions: Any, params: Any, x: Any, y: Any) -> dict[str, np.ndarray]:
    """Returns relative errors of each network; two programs, so that neither can borrow."""
    found = {}
    for precision in precisions:
        kind = PRECISIONS[precision]
        cast = jax.tree.map(lambda a, kind=kind: a.astype(kind), params)
        batch = train.Batch(jnp.asarray(x, kind), jnp.asarray(y))
        for method in METHODS:
            every = jax.jit(jax.vmap(gradient(method, size[2]), in_axes=(0, None)))
            leaves = [np.asarray(g, np.float64) for g in jax.tree.leaves(every(cast, batch))]
            found[method, precision] = np.concatenate(
                [leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1
            )
    truth = found["jax.grad", "float64"]
    norm = lambda rows: np.linalg.norm(rows, axis=1) / np.linalg.norm(truth, axis=1)
    errors = {
        f"{precision}, hand against jax.grad": norm(
            found["hand", precision] - found["jax.grad", precision]
        )
        for precision in precisions
    }
    if "float32" in precisions:
        for method in METHODS:
            errors[f"float32 {method} against float64"] = norm(found[method, "float32"] - truth)
    return errors


def clock(size: Size, config: Config, params: Any, x: Any, y: Any) -> np.ndarray:
    """Returns seconds a call, (methods, rounds): in each round all methods, in changing order."""
    batch = train.Batch(jnp.asarray(x), jnp.asarray(y))
    compiled = [jax.jit(gradient(method, size[2])) for method in METHODS]

    def seconds(function: Any, calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            jax.block_until_ready(function(params, batch))
        return (time.perf_counter() - start) / calls

    calls = 1
    for function in compiled:
        seconds(function, 1)  # compiles
        calls = max(calls, int(config.seconds / seconds(function, 3)))
    taken = np.empty((len(compiled), config.rounds))
    for i in range(config.rounds):
        for m in range(len(compiled)) if i % 2 else reversed(range(len(compiled))):
            taken[m, i] = seconds(compiled[m], calls)
    return taken


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Compares gradients and times at each depth, width and activation."""
    rows = datasets.digits(seed).train
    x, y = rows.x[: config.rows], rows.y[: config.rows]
    depth = sorted(config.depths)[len(config.depths) // 2]
    width = sorted(config.widths)[len(config.widths) // 2]
    sizes = sorted(
        {(d, width, MAIN) for d in config.depths} | {(depth, w, MAIN) for w in config.widths}
    )
    key = jax.random.key(seed)
    errors, by_activation, first = {}, {}, {}
    with (
        progress.task("errors", len(sizes) + len(config.activations)) as advance,
        jax.enable_x64(True),
    ):
        for size in sizes:
            params = networks(size, config, key, x)
            errors[size] = compare(size, PRECISIONS, params, x, y)
            first[size] = jax.tree.map(lambda a: a[0].astype(jnp.float32), params)
            advance()
        params = networks((depth, width, MAIN), config, key, x)
        for name in config.activations:
            found = compare((depth, width, name), ("float64",), params, x, y)
            by_activation[name] = found["float64, hand against jax.grad"]
            advance()
    times = {}
    with progress.task("times", len(sizes)) as advance:
        for size in sizes:
            times[size] = clock(size, config, first[size], x, y)
            advance()
    return report(config, (depth, width), errors, by_activation, times)
