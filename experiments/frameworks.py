"""Do PyTorch and the other frameworks compute the same network as jaxnn?

The same weights and the same batch go to each framework that is installed; compared are the
outputs, the gradients and the weights after each of ten steps of gradient descent.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments import datasets
from experiments.frameworks_peers import PEERS, Answer, Problem
from experiments.frameworks_report import plot, report
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import mlp, train

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("The same network in other frameworks", "同一网络在不同深度学习框架中的比较")


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    hidden: tuple[int, ...] = (32, 16)
    """Widths of the hidden layers, between 64 pixels and 10 classes."""
    activations: tuple[str, ...] = ("relu", "tanh", "sigmoid")
    """Activations of the hidden layers; differences are the largest over all of them."""
    rows: int = Field(default=128, ge=1, le=1000)
    """Images in the batch."""
    steps: int = Field(default=10, ge=1)
    """Steps of gradient descent on that batch."""
    learning_rate: float = Field(default=0.5, gt=0)
    """Their length."""


SMOKE = {"hidden": [5], "activations": ["tanh"], "rows": 16, "steps": 2}


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Asks jaxnn and every framework that is installed, in both precisions."""
    installed = {name: peer for name, peer in PEERS.items() if peer.installed()}
    missing = [name for name, peer in PEERS.items() if not peer.installed()]
    solvers = {"jaxnn": jaxnn_answer, **{name: peer.answer for name, peer in installed.items()}}
    answers: dict[tuple[str, str, str], Answer] = {}
    cases = list(problems(config, seed))
    with progress.task("frameworks", len(cases) * len(solvers)) as advance:
        for problem in cases:
            precision = str(problem.x.dtype)
            with jax.enable_x64(precision == "float64"):
                for name, solve in solvers.items():
                    answers[name, precision, problem.activation] = solve(problem)
                    advance()
    versions = {name: peer.version() for name, peer in installed.items()}
    return report(config, answers, versions, missing)


def problems(config: Config, seed: int) -> Iterator[Problem]:
    """Yields the same weights and rows for every activation, in both precisions."""
    digits = datasets.digits(seed).train
    key = jax.random.key(seed)
    for activation in config.activations:
        draw = partial(mlp.init, sizes=(64, *config.hidden, 10), activation=activation)
        layers = jax.jit(draw)(key)
        for dtype in (np.float32, np.float64):
            yield Problem(
                # The exact numbers of float32 in both precisions, and biases that are not zero.
                weights=[np.asarray(layer.weight, dtype) for layer in layers],
                biases=[
                    np.linspace(-0.5, 0.5, len(layer.weight)).astype(dtype) for layer in layers
                ],
                x=digits.x[: config.rows].astype(dtype),
                y=digits.y[: config.rows],
                activation=activation,
                learning_rate=config.learning_rate,
                steps=config.steps,
            )


def jaxnn_answer(problem: Problem) -> Answer:
    """Returns what jaxnn says: outputs and the gradient by hand, and ten steps of its trainer."""
    params = tuple(
        mlp.Dense(weight=jnp.asarray(w), bias=jnp.asarray(b))
        for w, b in zip(problem.weights, problem.biases, strict=True)
    )
    batch = train.Batch(jnp.asarray(problem.x), jnp.asarray(problem.y))
    descend = mlp.value_and_grad("softmax_cross_entropy", activation=problem.activation)

    @jax.jit
    def start(params: Any) -> Any:
        logits = mlp.apply(params, batch.x, activation=problem.activation)
        return jax.nn.log_softmax(logits, axis=1), descend(params, batch, None)[1]

    @jax.jit
    def step(params: Any) -> Any:
        return train.fit(
            jax.random.key(0), params, batch, descend, epochs=1, optimizer="sgd",
            learning_rate=problem.learning_rate,
        ).params  # fmt: skip

    log_probs, gradient = start(params)
    steps = []
    for _ in range(problem.steps):  # plain descent remembers nothing: ten fits are ten steps
        params = step(params)
        steps.append(_flat(params))
    return Answer(log_probs=np.asarray(log_probs), gradient=_flat(gradient), steps=steps)


def _flat(layers: Any) -> list[np.ndarray]:
    return [np.asarray(array) for layer in layers for array in (layer.weight, layer.bias)]
