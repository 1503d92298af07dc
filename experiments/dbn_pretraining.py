"""Does pretraining as a deep belief network make deep sigmoid networks easier to train?

Machines are learned greedily by contrastive divergence, unrolled into a sigmoid network, and
fine-tuned; beside them, networks of the same shape from two random starts.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments import datasets
from experiments.dbn_pretraining_report import STARTS, plot, report
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import dbn, metrics, mlp, rbm, sweep, train

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("Pretraining and fine-tuning", "深度信念网络：预训练与微调")
ACTIVATION = "sigmoid"
# Larger rates (1 and 2; 0.03 for Adam) won for no start of 4 or 6 layers, nor did 0.003 for Adam.
RATES = {"momentum": (0.1, 0.3), "adam": (1e-2,)}
DESCEND = mlp.value_and_grad(activation=ACTIVATION)


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    depths: tuple[int, ...] = Field(default=(1, 2, 4, 6), min_length=1)
    """Numbers of hidden layers."""
    width: int = Field(default=64, ge=2, le=1000)
    """Units of each hidden layer."""
    optimizers: tuple[Literal["momentum", "adam"], ...] = Field(
        default=("momentum", "adam"), min_length=1
    )
    """Of the supervised training: of "momentum" and "adam", the older one first."""
    seeds: int = Field(default=20, ge=2, le=200)
    """Random starts of each kind of network."""
    sweeps: int = Field(default=1, ge=1, le=100)
    """Sweeps of Gibbs in contrastive divergence (the k of CD-k)."""
    pretrain_epochs: int = Field(default=40, ge=1, le=1000)
    """Epochs of contrastive divergence for each machine."""
    pretrain_rate: float = Field(default=0.01, gt=0, le=1)
    """Step length of Adam in contrastive divergence."""
    epochs: int = Field(default=25, ge=1, le=1000)
    """Epochs of supervised training."""
    batch_size: int = Field(default=64, ge=1)
    """Images in a step."""


SMOKE = {
    "depths": [1],
    "optimizers": ["momentum"],
    "width": 8,
    "seeds": 2,
    "pretrain_epochs": 1,
    "epochs": 2,
}


class Parts(NamedTuple):
    """The three parts of the data, each a `train.Batch`."""

    train: Any
    validation: Any
    test: Any


def learn_stack(hp: Any, key: Any, x: Any, *, config: Config) -> dbn.Stack:
    """One member: the machines of the deepest network; those of another are the first of them."""
    del hp
    descend = rbm.contrastive_divergence(config.sweeps)

    def fit(key: Any, params: Any, v: Any) -> Any:
        return train.fit(
            key,
            params,
            train.Batch(v),
            descend,
            epochs=config.pretrain_epochs,
            batch_size=config.batch_size,
            learning_rate=config.pretrain_rate,
        ).params

    return dbn.pretrain(key, x, (config.width,) * max(config.depths), fit)


def fine_tune(
    hp: Any, key: Any, stacks: dbn.Stack, data: Parts, *, depth: int, optimizer: str, config: Config
) -> tuple[Any, ...]:
    """One member: a network from one of the starts, its accuracies and its training loss."""
    stack = jax.tree.map(lambda a: a[hp["seed"]], stacks[:depth])
    key_init, key_train = jax.random.split(key)
    sizes = (data.train.x.shape[1], *(config.width,) * depth, 10)
    starts = {
        "plain": mlp.init(key_init, sizes, activation="identity"),
        "gain": mlp.init(key_init, sizes, activation=ACTIVATION),
        "pretrained": dbn.unroll(key_init, stack, 10),
    }
    choices = [starts[name] for name in STARTS]
    trained = train.fit(
        key_train,
        jax.tree.map(lambda *p: jnp.stack(p)[hp["start"]], *choices),
        data.train,
        DESCEND,
        epochs=config.epochs,
        batch_size=config.batch_size,
        optimizer=optimizer,
        learning_rate=hp["rate"],
        validation=data.validation,
    )
    hit = lambda rows: metrics.accuracy(
        mlp.predict(trained.params, rows.x, activation=ACTIVATION), rows.y
    )
    return hit(data.validation), hit(data.test), trained.history.loss


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Pretrains one stack a seed, then trains every start, depth, rate and optimizer."""
    digits = datasets.digits(seed)
    ink = lambda rows: train.Batch(  # the units of the first machine are 0 or 1
        jnp.asarray(rows.x >= 0.5, jnp.float32), jnp.asarray(rows.y)
    )
    data = Parts(*(ink(part) for part in digits[:3]))
    key = jax.random.key(seed)
    with progress.task("pretraining", config.seeds) as advance:
        members = {"seed": jnp.arange(config.seeds)}
        stacks = progress.sweep(
            partial(learn_stack, config=config), members, key, data.train.x, progress=advance
        ).results
    shape = (len(STARTS), -1, config.seeds)
    found: dict[str, Any] = {}
    for optimizer in config.optimizers:
        rates = RATES[optimizer]
        space = sweep.grid(start=range(len(STARTS)), rate=rates, seed=range(config.seeds))
        with progress.task(optimizer, len(config.depths) * len(space["seed"])) as advance:
            for depth in config.depths:
                fit_one = partial(fine_tune, depth=depth, optimizer=optimizer, config=config)
                results = progress.sweep(
                    fit_one, space, key, stacks, data, progress=advance
                ).results
                validation, test, loss = (np.asarray(r) for r in results)
                best = validation.reshape(shape).mean(-1).argmax(1)  # rate, for each start
                pick = np.arange(len(STARTS))
                found[f"rate_{optimizer}_{depth}"] = np.asarray(rates)[best]
                found[f"test_{optimizer}_{depth}"] = test.reshape(shape)[pick, best]
                found[f"loss_{optimizer}_{depth}"] = loss.reshape(
                    len(STARTS), len(rates), config.seeds, -1
                )[pick, best]
    weights = np.asarray(stacks[0].weight[0]).T
    return report(config, found, weights, len(data.test.y))
