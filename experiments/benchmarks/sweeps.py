"""How fast are many small networks, beside loops over them and the `vmap` of textbooks?

Digits: step length × L2 × dropout × seed, networks 64-64-32-10, batch 64, Adam; every member has
its own order of rows.  Regression: 1-64-64-1, full batch, 64 rows, step length × seed.  The loops
of PyTorch (on one thread: on two it is slower, and on busy cores forty times) and scikit-learn are
measured on a few members and scaled, since members cost the same; scikit-learn has no dropout.
Accuracies are compared before any clock runs.

What each arrangement is worth was found on two cores with a prototype (64 members, 10 epochs; ms,
least of seven interleaved runs; each alone against the first row, and left out of all together):

| | alone | left out |
|---|---|---|
| nothing: `vmap`, optax, backward by hand, fused Threefry; against all together | 361 | 163 |
| members on both cores, 16 at a time: by devices, or by threads on one device | 251 | 371 |
| one device, in chunks of 32, 16, 8 | 384, 430, 494 | |
| masks from all bits of a block of Threefry (a quarter of the blocks) | 301 | 188 |
| a hash of the counter; no dropout at all | 249, 250 | |
| the bits of `jax.random` as JAX compiles them | 411 | |
| one order of rows for all, so that the first layers are one product | 315 | 179 |
| features first, rows last | 340 | 173 |
| gradient by `jax.grad` instead of by hand | 362 | 164 |
| Adam by hand; in one vector | 354, 377 | 158, 164 |
| orders of rows by `jax.random.permutation` | 430 | |
| undoing steps that are not finite, and the sum of losses | | 142 |

The products alone take 630 ms for 50 epochs at 200 GFLOP/s, which is what two cores reach: no
arrangement is 25 times as fast as scikit-learn here, or 3.5 times as fast as the textbook.
"""

import argparse
import itertools
import os
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch  # type: ignore
from sklearn.neural_network import MLPClassifier, MLPRegressor

from experiments import datasets
from experiments.benchmarks.harness import heading, race, seconds, verdict
from jaxnn import metrics, mlp, sweep, train

DIGITS, LINE = (64, 64, 32, 10), (1, 64, 64, 1)
BATCH, FEW = 64, 2


def space(members: int) -> dict[str, Any]:
    """Returns step length × L2 × dropout × seeds."""
    return sweep.grid(
        rate=np.array([3e-4, 1e-3, 3e-3, 1e-2], np.float32), l2=np.array([0, 1e-4], np.float32),
        keep=np.array([0.8, 0.95], np.float32), seed=range(members // 16),
    )  # fmt: skip


def textbook(sizes: Any, epochs: int, dropout: bool) -> Callable[..., Any]:
    """Returns the fit of one member as textbooks write it, for `jax.vmap`."""

    def outputs(params: Any, x: Any, key: Any, keep: Any) -> Any:
        for i, (w, b) in enumerate(params):
            x = x @ w + b[None]
            if i < len(params) - 1:
                x = jax.nn.relu(x) if dropout else jnp.tanh(x)
                if dropout and key is not None:
                    kept = jax.random.bernoulli(jax.random.fold_in(key, i), keep, x.shape)
                    x = jnp.where(kept, x / keep, 0)
        return x

    def fit(hp: Any, key: Any, x: Any, y: Any) -> Any:
        n, optimizer = len(x), optax.adam(hp["rate"])
        size = min(BATCH, n)
        steps = -(-n // size)
        key, *starts = jax.random.split(key, len(sizes))
        params = [
            (jax.random.normal(k, (i, o)) * (2 / i) ** 0.5, jnp.zeros(o))
            for k, i, o in zip(starts, sizes, sizes[1:], strict=False)
        ]

        def loss(params: Any, x: Any, y: Any, key: Any) -> Any:
            found = outputs(params, x, key, hp.get("keep"))
            if not dropout:
                return jnp.mean((found - y) ** 2)
            penalty = hp["l2"] * sum(jnp.sum(w**2) for w, _ in params)
            return optax.softmax_cross_entropy_with_integer_labels(found, y).mean() + penalty

        def step(carry: Any, xs: Any) -> Any:
            params, state = carry
            rows, key = xs
            some = (x, y) if size == n else (x[rows], y[rows])
            gradient = jax.grad(loss)(params, *some, key)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

        def epoch(carry: Any, key: Any) -> Any:
            key_order, key_steps = jax.random.split(key)
            rows = jnp.arange(n) if size == n else jax.random.permutation(key_order, n)
            rows = jnp.resize(rows, (steps, size))
            return jax.lax.scan(step, carry, (rows, jax.random.split(key_steps, steps)))

        keys = jax.random.split(key, epochs)
        return jax.lax.scan(epoch, (params, optimizer.init(params)), keys)[0][0]

    return fit


def one_digits(epochs: int, order_key: Any = None) -> Callable[..., Any]:
    """Returns jaxnn's fit of one member."""

    def fit(hp: Any, key: Any, rows: Any) -> Any:
        key_start, key_fit = jax.random.split(key)
        return train.fit(
            key_fit, mlp.init(key_start, DIGITS), rows, mlp.value_and_grad(keep_prob=hp["keep"]),
            epochs=epochs, batch_size=BATCH, learning_rate=hp["rate"], l2=hp["l2"],
            order_key=order_key,
        ).params  # fmt: skip

    return fit


def one_line(steps: int) -> Callable[..., Any]:
    """Returns jaxnn's fit of one member of the regression."""
    descend = mlp.value_and_grad("squared", activation="tanh")

    def fit(hp: Any, key: Any, rows: Any) -> Any:
        key_start, key_fit = jax.random.split(key)
        start = mlp.init(key_start, LINE, activation="tanh")
        return train.fit(
            key_fit, start, rows, descend, epochs=steps, learning_rate=hp["rate"]
        ).params  # fmt: skip

    return fit


def torch_member(sizes: Any, x: Any, y: Any, epochs: int, hp: dict[str, float]) -> Any:
    """Returns one network by PyTorch."""
    torch.manual_seed(int(hp["seed"]))
    layers: list[Any] = []
    for i, o in itertools.pairwise(sizes):
        layers.append(torch.nn.Linear(i, o))
        layers += [torch.nn.ReLU(), torch.nn.Dropout(1 - hp["keep"])] if "keep" in hp else [
            torch.nn.Tanh()
        ]  # fmt: skip
    net: Any = torch.nn.Sequential(*layers[: -2 if "keep" in hp else -1])
    optimizer = torch.optim.Adam(net.parameters(), lr=hp["rate"])
    weights = [p for p in net.parameters() if p.ndim == 2]
    size = min(BATCH, len(x))
    for _ in range(epochs):
        order = torch.randperm(len(x)) if size < len(x) else None
        for start in range(0, len(x), size):
            rows = slice(None) if order is None else order[start : start + size]
            optimizer.zero_grad()
            if "keep" in hp:
                loss = torch.nn.functional.cross_entropy(net(x[rows]), y[rows])
                loss = loss + hp["l2"] * sum((w**2).sum() for w in weights)
            else:
                loss = torch.nn.functional.mse_loss(net(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
    return net.eval()


def sklearn_member(sizes: Any, x: Any, y: Any, epochs: int, hp: dict[str, float]) -> Any:
    """Returns one network by scikit-learn."""
    classes, rows = "keep" in hp, min(BATCH, len(x))
    kind: Any = MLPClassifier if classes else MLPRegressor
    return kind(
        hidden_layer_sizes=sizes[1:-1], activation="relu" if classes else "tanh", batch_size=rows,
        learning_rate_init=hp["rate"], alpha=2 * rows * hp.get("l2", 0.0), max_iter=epochs,
        tol=0.0, n_iter_no_change=epochs + 1, random_state=int(hp["seed"]),
    ).fit(x, y if classes else y[:, 0])  # fmt: skip


def loops(hparams: Any, fits: dict[str, Callable[[dict[str, float]], Any]]) -> dict[str, Any]:
    """Returns what the loops take for all members, scaled from a few, and what they came to."""
    members, found = len(hparams["seed"]), {}
    torch.set_num_threads(1)
    chosen = np.linspace(0, members - 1, FEW + 1).astype(int)
    for name, fit in fits.items():
        numbers = [{k: float(v[i]) for k, v in hparams.items()} for i in chosen]
        fit(numbers[0])  # what is imported and set up once
        nets: list[Any] = []
        each = [seconds(lambda hp=hp, fit=fit, nets=nets: nets.append(fit(hp))) for hp in numbers]
        found[name] = (
            statistics.median(each) * members,
            dict(zip(chosen.tolist(), nets, strict=True)),
        )
    return found


def cores() -> jax.sharding.Mesh:
    """Returns a mesh with a device for each core."""
    return jax.make_mesh((jax.device_count(),), ("members",))


def digits(members: int, epochs: int, with_loops: bool) -> None:
    """Races a sweep over networks on digits."""
    parts = datasets.digits(0, validation=0.1, test=0.2)
    x, y = jnp.asarray(parts.train.x), jnp.asarray(parts.train.y)
    test_x, test_y = jnp.asarray(parts.test.x), np.asarray(parts.test.y)
    hparams, key, rows = space(members), jax.random.key(0), train.Batch(x, y)
    keys = sweep.member_keys(key, hparams)
    fit, alike = one_digits(epochs), one_digits(epochs, jax.random.key(1))
    plain = jax.jit(jax.vmap(textbook(DIGITS, epochs, True), (0, 0, None, None)))
    rivals: dict[str, Callable[[], Any]] = {
        "textbook vmap": lambda: plain(hparams, keys, x, y),
        "jaxnn": lambda: sweep.run(fit, hparams, key, rows).results,
        "jaxnn, a device a core": lambda: (
            sweep.run(fit, hparams, key, rows, chunk=32, mesh=cores()).results
        ),
        "jaxnn, one order for all": lambda: sweep.run(alike, hparams, key, rows).results,
    }
    title = f"{members:,} networks 64-64-32-10 on digits, {epochs} epochs"
    print(f"{title}; test accuracy, mean over members and interval, and the best")
    shares: Any = None
    for name, call in rivals.items():
        hidden: Any = test_x
        found = [(p.weight.mT, p.bias) if isinstance(p, mlp.Dense) else p for p in call()]
        for i, (w, b) in enumerate(found):
            hidden = hidden @ w + jnp.asarray(b)[:, None]
            hidden = jax.nn.relu(hidden) if i < 2 else hidden
        shares = np.mean(np.asarray(hidden).argmax(-1) == test_y[None], 1)
        mean, low, high = metrics.mean_interval(jnp.asarray(shares))
        print(f"  {name:24} {mean:.4f} [{low:.4f}, {high:.4f}], {shares.max():.4f}")
    peers: dict[str, Any] = {}
    if with_loops:
        tx, ty = torch.tensor(parts.train.x), torch.tensor(parts.train.y).long()
        peers = loops(hparams, {
            "torch": lambda hp: torch_member(DIGITS, tx, ty, epochs, hp),
            "scikit-learn": lambda hp: sklearn_member(DIGITS, *parts.train, epochs, hp),
        })  # fmt: skip
        seeds = members // 16
        for name, (_, nets) in peers.items():
            for i, net in nets.items():
                mine = shares.reshape(-1, seeds)[i // seeds]
                with torch.no_grad():
                    guess = (
                        net(torch.tensor(parts.test.x)).argmax(1).numpy()
                        if name == "torch" else net.predict(parts.test.x)
                    )  # fmt: skip
                print(f"  {name}, member {i}: {np.mean(guess == test_y):.4f}; jaxnn's seeds "
                      f"{mine.min():.4f} to {mine.max():.4f}")  # fmt: skip
    jax.clear_caches()
    medians = race(title, rivals, rounds=3)
    verdict(title, peers, medians, {"torch": "150", "scikit-learn": "25", "textbook vmap": "3.5"})


def regression(members: int, steps: int) -> None:
    """Races a sweep over networks that fit a sine."""
    x = np.linspace(-3, 3, 64, dtype=np.float32)[:, None]
    y = np.sin(2 * x)
    rows = train.Batch(jnp.asarray(x), jnp.asarray(y))
    rates = np.geomspace(3e-4, 3e-3, members // 16).astype(np.float32)
    hparams, key = sweep.grid(rate=rates, seed=range(16)), jax.random.key(0)
    keys, fit = sweep.member_keys(key, hparams), one_line(steps)
    plain = jax.jit(jax.vmap(textbook(LINE, steps, False), (0, 0, None, None)))
    rivals: dict[str, Callable[[], Any]] = {
        "textbook vmap": lambda: plain(hparams, keys, rows.x, rows.y),
        "jaxnn": lambda: sweep.run(fit, hparams, key, rows).results,
        "jaxnn, a device a core": lambda: (
            sweep.run(fit, hparams, key, rows, chunk=32, mesh=cores()).results
        ),
    }
    title = f"{members} networks 1-64-64-1, {steps:,} steps"
    peers = loops(hparams, {
        "torch": lambda hp: torch_member(LINE, torch.tensor(x), torch.tensor(y), steps, hp),
        "scikit-learn": lambda hp: sklearn_member(LINE, x, y, steps, hp),
    })  # fmt: skip
    jax.clear_caches()
    verdict(title, peers, race(title, rivals, rounds=1), {"torch": "50"})


def main() -> None:
    """Runs all races.  Members that leave early are raced in `halving`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["64", "1024", "regression"])
    parser.add_argument("--epochs", type=int, default=50)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    print(heading())
    if options.only in (None, "64"):
        digits(64, options.epochs, True)
    if options.only in (None, "1024"):
        digits(1024, options.epochs, False)
    if options.only in (None, "regression"):
        regression(256, 2_000)


if __name__ == "__main__":
    main()
