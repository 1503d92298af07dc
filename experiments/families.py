"""Does a network that knows where the pixels lie read digits better than one that does not?

The lecture names two families beside the fully connected one: convolutional networks, which slide
small filters over the image, and recurrent ones, which read it row after row.  Both are written
with flax here, and go through `train.fit` and `sweep.run` unchanged, beside jaxnn's own network.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments import datasets
from experiments.families_report import plot, report
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import metrics, mlp, sweep, train
from jaxnn.types import ValueAndGrad

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("Convolutional and recurrent networks", "卷积与循环：全连接之外的网络家族")
SIDE = 8  # of a digit's image


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    hidden: tuple[int, ...] = (24,)
    """Widths of the fully connected network's hidden layers."""
    channels: tuple[int, ...] = (8, 16)
    """Filters in each convolutional layer, all 3 x 3; after each the image is halved."""
    memory: int = Field(default=34, ge=1)
    """Units that the recurrent network remembers with."""
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 5e-3, 1e-2, 2e-2)
    """Step lengths of Adam; each family takes its best one by validation loss."""
    trial_seeds: int = Field(default=2, ge=1)
    """Seeds for each step length of that choice."""
    seeds: int = Field(default=20, ge=2)
    """Seeds (starts and orders of batches) of the comparison."""
    epochs: int = Field(default=16, ge=1)
    """Epochs of training; the network of the best one by validation loss is kept."""
    batch_size: int = Field(default=64, ge=1)
    """Images in a step of training."""
    chunk: int = Field(default=10, ge=1)
    """Networks in one compiled call."""


SMOKE = {
    "hidden": [4], "channels": [2], "memory": 3, "learning_rates": [1e-2], "trial_seeds": 2,
    "seeds": 2, "epochs": 1, "batch_size": 2000,
}  # fmt: skip


class Convolutional(nn.Module):
    """Filters of 3 x 3 pixels with a ReLU; of every 2 x 2 places the largest response is kept."""

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """Returns the logits of rows of 64 pixels."""
        image = x.reshape(-1, SIDE, SIDE, 1)
        for i, width in enumerate(self.channels):
            image = nn.relu(nn.Conv(width, (3, 3), name=f"conv_{i}")(image))
            image = nn.max_pool(image, (2, 2), strides=(2, 2))
        return nn.Dense(10, name="output")(image.reshape(len(x), -1))


class Recurrent(nn.Module):
    """Elman's network (1990): h_t = tanh(W x_t + U h_{t-1} + b), over the rows of the image."""

    memory: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """Returns the logits of rows of 64 pixels."""
        cell = nn.SimpleCell(self.memory, param_dtype=x.dtype, name="cell")
        states: Any = nn.RNN(cell)(x.reshape(-1, SIDE, SIDE))
        return nn.Dense(10, name="output")(states[:, -1])


class Family(NamedTuple):
    """What the trainer and the sweep ask of a kind of network."""

    init: Callable[[Any, Any], Any]  # (key, x) -> params
    logits: Callable[[Any, Any], Any]  # (params, x) -> (n, 10)
    value_and_grad: ValueAndGrad


def flax_family(module: nn.Module) -> Family:
    """Returns the family of any flax classifier: its weighted mean loss, differentiated by JAX."""

    def logits(params: Any, x: Any) -> Any:
        return module.apply({"params": params}, x)

    def loss(params: Any, batch: train.Batch, key: Any) -> Any:
        del key  # neither module has dropout
        rows = optax.softmax_cross_entropy_with_integer_labels(logits(params, batch.x), batch.y)
        return jnp.average(rows, weights=batch.weight)

    return Family(
        init=lambda key, x: module.init(key, x)["params"],
        logits=logits,
        value_and_grad=jax.value_and_grad(loss),
    )


def families(config: Config) -> dict[str, Family]:
    """Returns the three families by name."""
    return {
        "fully connected": Family(
            init=lambda key, x: mlp.init(key, (x.shape[1], *config.hidden, 10)),
            logits=mlp.apply,
            value_and_grad=mlp.value_and_grad("softmax_cross_entropy"),
        ),
        "convolutional": flax_family(Convolutional(config.channels)),
        "recurrent": flax_family(Recurrent(config.memory)),
    }


class Parts(NamedTuple):
    """Learn from `train`, choose by `validation`, report `test`."""

    train: Any
    validation: Any
    test: Any


class Member(NamedTuple):
    """One trained network and how often it is right on the test images."""

    trained: train.Trained
    accuracy: Any  # ()
    by_rows: Any  # (8,): only the first 1, ..., 8 rows of each image are shown


def fit_one(hp: Any, key: Any, data: Parts, *, family: Family, config: Config) -> Member:
    """One member of a sweep; nothing here knows which family it trains."""
    key_init, key_train = jax.random.split(key)
    trained = train.fit(
        key_train,
        family.init(key_init, data.train.x[:1]),
        train.Batch(*data.train),
        family.value_and_grad,
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=hp["learning_rate"],
        validation=train.Batch(*data.validation),
    )

    def right(mask: Any) -> Any:
        logits = family.logits(trained.params, data.test.x * mask[None, :])
        return metrics.accuracy(jnp.argmax(logits, axis=1), data.test.y)

    row = jnp.arange(SIDE * SIDE) // SIDE
    shown = row[None, :] <= jnp.arange(SIDE)[:, None]
    by_rows = jax.lax.map(right, shown.astype(data.test.x.dtype))
    return Member(trained=trained, accuracy=by_rows[-1], by_rows=by_rows)


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Trains every family on the digits as they are, and with the pixels of all shuffled alike."""
    digits = datasets.digits(seed)
    images = Parts(*(jax.tree.map(jnp.asarray, part) for part in digits[:3]))
    order = np.random.default_rng(seed).permutation(SIDE * SIDE)
    shuffled = Parts(*(part._replace(x=part.x[:, order]) for part in images))
    found = {}
    for name, family in families(config).items():
        key = jax.random.fold_in(jax.random.key(seed), len(found))
        found[name] = compare(name, family, config, key, images, shuffled, progress)
    filters = found["convolutional"]["params"]["conv_0"]
    scene = digits.test.x[[int(np.argmax(digits.test.y == digit)) for digit in (0, 3, 7)]]
    layer = nn.Conv(config.channels[0], (3, 3))
    seen: Any = layer.apply({"params": filters}, scene.reshape(-1, SIDE, SIDE, 1))
    return report(config, found, scene, np.asarray(nn.relu(seen)), order)


def compare(
    name: str,
    family: Family,
    config: Config,
    key: Any,
    images: Parts,
    shuffled: Parts,
    progress: Progress,
) -> dict[str, Any]:
    """Chooses the family's step length, then trains all seeds on both kinds of images."""
    one = partial(fit_one, family=family, config=config)
    key_trial, key_final = jax.random.split(key)
    space = sweep.grid(learning_rate=config.learning_rates, seed=range(config.trial_seeds))
    with progress.task(name, len(space["seed"]) + 2 * config.seeds) as advance:
        run_all = partial(progress.sweep, one, chunk=config.chunk, progress=advance)
        trial = run_all(space, key_trial, images)
        losses = np.asarray(trial.results.trained.value).reshape(-1, config.trial_seeds)
        rate = config.learning_rates[int(np.argmin(losses.mean(axis=1)))]
        final = sweep.grid(learning_rate=[rate], seed=range(config.seeds))
        plain = run_all(final, key_final, images)
        mixed = run_all(final, key_final, shuffled)  # the same program: nothing compiles
    best = sweep.best(plain, lambda member: member.trained.value)
    return {
        "rate": rate,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(best.result.trained.params)),
        "images": np.asarray(plain.results.accuracy),
        "shuffled": np.asarray(mixed.results.accuracy),
        "by_rows": np.asarray(plain.results.by_rows),
        "validation": np.asarray(plain.results.trained.history.validation),
        "loss": np.asarray(plain.results.trained.history.loss),
        "params": jax.tree.map(np.asarray, best.result.trained.params),
    }
