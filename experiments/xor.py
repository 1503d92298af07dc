"""Can one layer learn exclusive or, and how wide must a hidden layer be to learn it?

Minsky and Papert's objection of 1969, tried: Rosenblatt's rule on every Boolean function of up to
four inputs and on XOR itself, against networks with one hidden layer, many seeds of each width.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.runner import STRICT, Outcome, Progress
from experiments.xor_report import plot, report
from jaxnn import metrics, mlp, perceptron, sweep, train

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("XOR: one layer cannot, two layers can", "异或问题：单层不能，双层可以")
X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
Y = np.array([0, 1, 1, 0])
EDGE = np.linspace(-0.5, 1.5, 81, dtype=np.float32)  # of the pictures of what was learned


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    widths: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16)
    """Hidden units; 1 and 2 among them."""
    activations: tuple[str, ...] = ("tanh", "relu")
    """Of the hidden units; functions that are zero at zero, and one called tanh."""
    seeds: int = Field(default=200, ge=2)
    """Networks of each width and activation, and orders of the rows for the perceptron."""
    epochs: int = Field(default=1500, ge=1)
    """Steps of gradient descent (Adam) on the four rows."""
    learning_rate: float = Field(default=0.03, gt=0)
    """Step length of Adam."""
    passes: int = Field(default=1000, ge=1)
    """Passes over the rows after which the perceptron gives up."""
    inputs: int = Field(default=4, ge=1, le=4)
    """Boolean functions of up to so many inputs are tried on one perceptron."""

    def __post_init__(self) -> None:
        """Refuses a table or a picture without its protagonists."""
        if not {1, 2} <= set(self.widths) or "tanh" not in self.activations:
            raise ValueError("widths must hold 1 and 2, and activations tanh")


SMOKE = {"widths": [1, 2, 4], "activations": ["tanh"], "seeds": 4, "epochs": 300, "passes": 20,
         "inputs": 1}  # fmt: skip


def narrowed(params: mlp.Params, width: Any) -> mlp.Params:
    """The network with its first `width` hidden units only, the others forever zero.

    With all their weights zero and σ(0) = 0 no gradient reaches them: so one program serves all
    widths.  The last layer's weights grow to the scale of the smaller fan-in.
    """
    hidden, last = params
    used = (jnp.arange(hidden.weight.shape[0]) < width).astype(hidden.weight.dtype)
    gain = jnp.sqrt(hidden.weight.shape[0] / width).astype(used.dtype)
    return (
        hidden._replace(weight=hidden.weight * used[:, None]),
        last._replace(weight=last.weight * used[None] * gain),
    )


def network(hp: Any, key: Any, *, activation: str, config: Config) -> Any:
    """One network on the four rows of XOR: its parameters, and whether all rows are right."""
    key_init, key_train = jax.random.split(key)
    start = mlp.init(key_init, (2, max(config.widths), 1), activation=activation)
    trained = train.fit(
        key_train,
        narrowed(start, hp["width"]),
        train.Batch(X, Y.astype(np.float32)[:, None]),
        mlp.value_and_grad("sigmoid_cross_entropy", activation=activation),
        epochs=config.epochs,
        learning_rate=config.learning_rate,
    )
    logits = mlp.apply(trained.params, X, activation=activation)[:, 0]
    return trained.params, jnp.sum((logits > 0) == (Y == 1))


@partial(jax.jit, static_argnames="passes")
def learn_xor(keys: Any, passes: int) -> dict[str, perceptron.Fit]:
    """Each variant of the perceptron on XOR, the rows in the order of each key."""
    return {
        variant: jax.vmap(
            lambda key, variant=variant: perceptron.fit(
                perceptron.init(2), X, Y, variant=variant, max_passes=passes, key=key
            )
        )(keys)
        for variant in perceptron.VARIANTS
    }


@jax.jit
def learn_tables(tables: Any, rows: Any) -> Any:
    """Whether one perceptron learned each truth table, and how many passes it needed."""
    fit = jax.vmap(
        lambda y: perceptron.fit(perceptron.init(rows.shape[1]), rows, y, max_passes=150)
    )(tables)
    return fit.converged, fit.passes


def count_learnable(n: int) -> tuple[int, int, int]:
    """How many Boolean functions of n inputs there are, one neuron learns, and the most passes."""
    size = 2**n
    rows = ((np.arange(size)[:, None] >> np.arange(n)) & 1) * 2.0 - 1
    tables = (np.arange(2**size)[:, None] >> np.arange(size)) & 1
    learned, passes = learn_tables(tables, rows.astype(np.float32))
    learned = np.asarray(learned)
    return len(tables), int(learned.sum()), int(np.asarray(passes)[learned].max())


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Tries the perceptron and the networks on the same four rows."""
    key_lines, key_nets = jax.random.split(jax.random.key(seed))
    with progress.task("perceptrons", len(perceptron.VARIANTS)) as advance:
        lines = learn_xor(jax.random.split(key_lines, config.seeds), config.passes)
        lines = jax.tree.map(np.asarray, lines)
        advance(len(perceptron.VARIANTS))
    with progress.task("all Boolean functions", config.inputs) as advance:
        counts = []
        for n in range(1, config.inputs + 1):
            counts.append(count_learnable(n))
            advance()
    space = sweep.grid(width=config.widths, seed=range(config.seeds))
    right, nets = {}, {}
    with progress.task("networks", len(config.activations)) as advance:
        for activation in config.activations:
            fit_one = partial(network, activation=activation, config=config)
            nets[activation], hits = progress.sweep(fit_one, space, key_nets).results
            right[activation] = np.asarray(hits).reshape(len(config.widths), config.seeds)
            advance()

    interval = jax.jit(jax.vmap(metrics.mean_interval))
    share = {
        activation: np.clip(np.stack(interval((hits == 4).astype(np.float32)), axis=1), 0, 1)
        for activation, hits in right.items()
    }
    return report(config, lines, counts, right, share, regions(config, lines, right, nets))


def regions(config: Config, lines: Any, right: Any, nets: Any) -> dict[str, np.ndarray]:
    """What some learners answer on a grid of inputs: the probability of 1."""
    grid = np.stack(np.meshgrid(EDGE, EDGE), axis=-1).reshape(-1, 2)
    shape = (len(EDGE), len(EDGE))
    fits = jax.tree.map(lambda *parts: np.concatenate(parts), *lines.values())
    weight, bias = fits.params.weight[:, 0], fits.params.bias  # of all lines that were learned
    clear = np.min(np.abs(weight @ X.T + bias), axis=1) / (np.linalg.norm(weight, axis=1) + 1e-9)
    best = np.lexsort((-clear, fits.errors))[0]  # and of equals the farthest from the rows
    line = jax.tree.map(lambda a: a[best], fits.params)
    steep = jax.nn.sigmoid(1e3 * perceptron.scores(line, grid))  # a step, with a smooth contour
    found = {"perceptron": np.asarray(steep).reshape(shape)}
    probability = jax.jit(lambda p: jax.nn.sigmoid(mlp.apply(p, grid, activation="tanh")))

    def answer(width: int, good: bool) -> np.ndarray | None:
        row = config.widths.index(width)
        seeds = np.flatnonzero((right["tanh"][row] == 4) == good)
        if not len(seeds):
            return None
        member = row * config.seeds + seeds[0]
        params = jax.tree.map(lambda a: np.asarray(a)[member], nets["tanh"])
        return np.asarray(probability(params)).reshape(shape)

    wide = max(config.widths)
    for name, width, good in (
        ("stuck", 2, False), ("solved", 2, True), ("wide", wide, True)
    ):  # fmt: skip
        answered = answer(width, good)
        if answered is not None:
            found[name] = answered
    return found
