"""How fast does the gradient vanish with depth, for each activation, and why is ReLU chosen?

The lecture's recursion ∂l/∂h_{i-1} = Wᵀ(σ′(a_i) ⊙ ∂l/∂h_i) multiplies one factor a layer.  Here it
is measured, layer by layer, in deep networks at their start.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments import datasets
from experiments.runner import STRICT, Outcome, Progress
from experiments.vanishing_gradients_report import STARTS, plot, report
from jaxnn import mlp, sweep, train

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("Vanishing gradients, and why ReLU", "梯度消失与爆炸：为何选择 ReLU")


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    activations: tuple[str, ...] = tuple(mlp.ACTIVATIONS)
    """Names in `mlp.ACTIVATIONS`."""
    depth: int = Field(default=32, ge=2, le=100)
    """Hidden layers, each as wide as an image has pixels."""
    seeds: int = Field(default=20, ge=2, le=1000)
    """Networks for each activation and start."""
    rows: int = Field(default=64, ge=2, le=1000)
    """Images that the gradients are taken over."""


SMOKE = {"activations": ["relu"], "depth": 3, "seeds": 2, "rows": 4}


def scales(activation: str, start: Any, drawn: Any) -> Any:
    """The weights of a start: scaled by the gain, by nothing, or made orthogonal."""
    orthogonal, triangle = jnp.linalg.qr(drawn)
    signs = jnp.sign(jnp.diagonal(triangle, axis1=1, axis2=2))  # so that all rotations are alike
    made = {
        "plain": drawn,
        "gain": drawn * mlp.ACTIVATIONS[activation].gain,
        "orthogonal": orthogonal * signs[:, None, :],
    }
    return jnp.stack([made[name] for name in STARTS])[start]


def flow(hp: Any, key: Any, x: Any, y: Any, *, activation: str, depth: int) -> Any:
    """One network: root mean square of |∂l/∂a| at each layer, from the last, over that of ∂l/∂h_L.

    Rows go through `backward` one at a time: the gradient of a bias is then ∂l/∂a of the row.
    """
    width = x.shape[1]
    key_hidden, key_out = jax.random.split(key)
    drawn = jax.random.normal(key_hidden, (depth, width, width), x.dtype) / width**0.5
    weights = scales(activation, hp["start"], drawn)
    hidden = (mlp.Dense(weight=w, bias=jnp.zeros(width, x.dtype)) for w in weights)
    params = (*hidden, *mlp.init(key_out, (width, 10), dtype=x.dtype))

    def deltas(row: Any, label: Any) -> Any:
        outputs, tape = mlp.forward(params, row[None], activation=activation)
        loss = mlp.LOSSES["softmax_cross_entropy"].gradient(outputs, label[None])
        gradients, _ = mlp.backward(params, tape, loss, activation=activation)
        biases = [jnp.asarray(layer.bias) for layer in gradients[:-1]]
        return jnp.stack(biases), loss[0] @ params[-1].weight

    delta, top = jax.vmap(deltas)(x, y)

    def size(g: Any) -> Any:  # by the largest first: the square of 1e-20 is no float32
        most = jnp.max(jnp.abs(g), axis=(0, -1), keepdims=True)
        ratio = g / most
        return most[0, ..., 0] * jnp.sqrt(jnp.mean(jnp.sum(jnp.square(ratio), axis=-1), axis=0))

    return (size(delta) / size(top))[::-1]


def steepest(activation: str) -> float:
    """The largest |σ′(a)|, on a fine grid of pre-activations."""
    return float(
        jnp.max(jnp.abs(mlp.ACTIVATIONS[activation].derivative(jnp.arange(-20, 20, 1e-3))))
    )


def mean_field(activation: str, gain: float, depth: int) -> float:
    """√χ, the factor a layer that an infinitely wide network has after `depth` layers.

    Schoenholz et al. (2017), equations 3 and 9, without biases: q ← g² E[σ(√q z)²] from q = g²,
    and χ = g² E[σ′(√q z)²], averaged over the layers.
    """
    z = np.linspace(-8, 8, 4001)
    density = np.exp(-(z**2) / 2)
    density /= density.sum()
    function, q, logs = mlp.ACTIVATIONS[activation], gain**2, []
    for _ in range(depth):
        a = jnp.asarray(np.sqrt(q) * z, jnp.float32)
        slope = gain**2 * (density * np.asarray(function.derivative(a), float) ** 2).sum()
        logs.append(0.5 * np.log(slope))
        q = gain**2 * (density * np.asarray(function.value(a), float) ** 2).sum()
    return float(np.exp(np.mean(logs[1:])))


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Sends gradients back through every kind of network."""
    rows = datasets.digits(seed).train
    z = train.Standardiser.of(rows.x).apply(rows.x)[: config.rows]
    z = z / jnp.sqrt(jnp.mean(jnp.square(z), axis=1, keepdims=True))  # signals of size one
    y = jnp.asarray(rows.y[: config.rows])
    space = sweep.grid(start=range(len(STARTS)), seed=range(config.seeds))
    found, theory = {}, {}
    with progress.task("activations", len(config.activations)) as advance:
        for name in config.activations:
            one = partial(flow, activation=name, depth=config.depth)
            norms = progress.sweep(one, space, jax.random.key(seed), z, y).results
            found[name] = np.asarray(norms).reshape(len(STARTS), config.seeds, config.depth)
            gain = mlp.ACTIVATIONS[name].gain
            theory[name] = {
                "steepest": steepest(name),
                "plain": mean_field(name, 1.0, config.depth),
                "gain": mean_field(name, gain, config.depth),
            }
            advance()
    return report(config, found, theory)
