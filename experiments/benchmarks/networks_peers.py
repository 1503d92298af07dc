"""How each library is told to fit the networks that `networks` races: as its users would.

The architecture, the numbers to start from, batch size, optimizer, rate and number of steps are the
same for all; only scikit-learn starts by a rule of its own and has no dropout.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch  # type: ignore
from sklearn.neural_network import MLPClassifier, MLPRegressor

from jaxnn import mlp, train

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

    def start(self, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns W, normal with He's variance or LeCun's, and b = 0 of each layer."""
        rng, found = np.random.default_rng(seed), []
        for i, o in zip(self.sizes, self.sizes[1:], strict=False):
            scale = ((2 if self.classes and o != self.sizes[-1] else 1) / i) ** 0.5
            found.append(
                ((scale * rng.normal(size=(o, i))).astype(np.float32), np.zeros(o, np.float32))
            )
        return found

    def judge(self, outputs: Any) -> float:
        """Returns the share of test rows in their class, or the root of the mean squared error."""
        outputs = np.asarray(outputs)
        if self.classes:
            return float(np.mean(outputs.argmax(1) == self.test_y))
        return float(np.mean((outputs.reshape(self.test_y.shape) - self.test_y) ** 2) ** 0.5)


def with_torch(task: Task, compiled: bool = False) -> Callable[[int], Any]:
    """Returns a fit by PyTorch: modules, autograd and torch.optim in a loop."""
    hidden = torch.nn.ReLU if task.classes else torch.nn.Tanh
    x, y = torch.tensor(task.x), torch.tensor(task.y)
    y = y.long() if task.classes else y
    loss = torch.nn.functional.cross_entropy if task.classes else torch.nn.functional.mse_loss

    def fit(seed: int) -> Any:
        torch.manual_seed(seed)
        layers: list[Any] = []
        for weight, bias in task.start(seed):
            linear = torch.nn.Linear(*weight.shape[::-1])
            linear.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
            layers += [linear, hidden(), torch.nn.Dropout(1 - task.keep)]
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


def _flax_start(task: Task, seed: int) -> dict[str, Any]:
    """Returns the numbers to start from as flax has them."""
    layers = enumerate(task.start(seed))
    return {"params": {f"Dense_{i}": {"kernel": w.T, "bias": b} for i, (w, b) in layers}}


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

    def fit(seed: int) -> Any:
        rng, key = np.random.default_rng(seed), jax.random.key(seed)
        params: Any = jax.tree.map(jnp.asarray, _flax_start(task, seed))
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
    def learn(params: Any, key: Any, x: Any, y: Any) -> Any:
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
        start, rows = _flax_start(task, seed), (jnp.asarray(task.x), jnp.asarray(task.y))
        params = learn(start, jax.random.key(seed), *rows)
        return net.apply(params, task.test_x)

    return fit


def with_jaxnn(task: Task) -> Callable[[int], Any]:
    """Returns a fit by jaxnn."""
    loss, activation = ("softmax_cross_entropy", "relu") if task.classes else ("squared", "tanh")
    descend = mlp.value_and_grad(loss, activation=activation, keep_prob=task.keep)
    batch = train.Batch(jnp.asarray(task.x), jnp.asarray(task.y))
    apply = jax.jit(functools.partial(mlp.apply, activation=activation))

    def fit(seed: int) -> Any:
        params = tuple(mlp.Dense(jnp.asarray(w), jnp.asarray(b)) for w, b in task.start(seed))
        run = train.fit(
            jax.random.key(seed), params, batch, descend, epochs=task.epochs, batch_size=task.batch,
            learning_rate=RATE,
        )  # fmt: skip
        return apply(run.params, task.test_x)

    return fit
