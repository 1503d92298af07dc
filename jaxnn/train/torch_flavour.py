"""Update rules as `torch.optim` has them, where optax's differ.

| optimizer | optax | torch |
|---|---|---|
| adagrad | squares' sum starts at 0.1; g / √(s + 1e-7) | at 0; g / (√s + 1e-10); `lr_decay` |
| rmsprop | decay 0.9; g / √(s + 1e-8) | decay (`alpha` there) 0.99; g / (√s + 1e-8) |
| nadam | momentum always b1 | momentum b1 (1 - 0.96^(t·`momentum_decay`) / 2), and its product |
| amsgrad | greatest of the corrected second moments | corrected greatest of the uncorrected ones |
| adamw | weight_decay 1e-4 | weight_decay 1e-2 |

The others are the same.  `weight_decay` is torch's: added to the gradient but for AdamW, and of
every array, biases too.  Numbers keep the names that they have here; the flags `dampening`,
`centered` and `maximize` are not offered.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from jaxnn.types import Scalar


class AdagradState(NamedTuple):
    """Number of updates, and sum of squared gradients."""

    done: Int[Array, ""]
    total: PyTree


class NadamState(NamedTuple):
    """Number of updates, both moments, and the product of all momenta so far."""

    done: Int[Array, ""]
    first: PyTree
    second: PyTree
    product: Float[Array, ""]


class AmsgradState(NamedTuple):
    """Number of updates, both moments, and the greatest second moment so far."""

    done: Int[Array, ""]
    first: PyTree
    second: PyTree
    greatest: PyTree


def _zeros(params: PyTree) -> PyTree:
    return jax.tree.map(jnp.zeros_like, params)


def _moments(
    gradient: PyTree, first: PyTree, second: PyTree, b1: Scalar, b2: Scalar
) -> tuple[PyTree, PyTree]:
    first = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, first, gradient)
    return first, jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, second, gradient)


def adagrad(
    learning_rate: Scalar,
    lr_decay: Scalar = 0.0,
    initial_accumulator_value: Scalar = 0.0,
    eps: Scalar = 1e-10,
) -> optax.GradientTransformation:
    """Returns torch.optim.Adagrad (Duchi, Hazan and Singer, 2011)."""

    def init(params: PyTree) -> AdagradState:
        total = jax.tree.map(lambda p: jnp.full_like(p, initial_accumulator_value), params)
        return AdagradState(done=jnp.zeros((), jnp.int32), total=total)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        rate = learning_rate / (1 + state.done * lr_decay)
        total = jax.tree.map(lambda s, g: s + g * g, state.total, updates)
        step = jax.tree.map(lambda g, s: -rate * g / (jnp.sqrt(s) + eps), updates, total)
        return step, AdagradState(done=state.done + 1, total=total)

    return optax.GradientTransformation(init, update)


def nadam(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    momentum_decay: Scalar = 4e-3,
) -> optax.GradientTransformation:
    """Returns torch.optim.NAdam (Dozat, 2016, with the momentum's schedule of its appendix)."""

    def momentum(t: Array) -> Any:
        return b1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))

    def init(params: PyTree) -> NadamState:
        kind = jnp.result_type(*jax.tree.leaves(params))
        return NadamState(
            done=jnp.zeros((), jnp.int32),
            first=_zeros(params),
            second=_zeros(params),
            product=jnp.ones((), kind),
        )

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        t = state.done + 1
        first, second = _moments(updates, state.first, state.second, b1, b2)
        now, ahead = (momentum(t.astype(state.product.dtype) + i) for i in (0, 1))
        product = state.product * now
        of_gradient = learning_rate * (1 - now) / (1 - product)
        of_first = learning_rate * ahead / (1 - product * ahead)
        correction = 1 - b2**t

        def step(g: Array, m: Array, v: Array) -> Any:
            return -(of_gradient * g + of_first * m) / (jnp.sqrt(v / correction) + eps)

        steps = jax.tree.map(step, updates, first, second)
        return steps, NadamState(done=t, first=first, second=second, product=product)

    return optax.GradientTransformation(init, update)


def amsgrad(
    learning_rate: Scalar, b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8
) -> optax.GradientTransformation:
    """Returns torch.optim.Adam with amsgrad=True (Reddi, Kale and Kumar, 2018, algorithm 2)."""

    def init(params: PyTree) -> AmsgradState:
        zeros = _zeros(params)
        return AmsgradState(
            done=jnp.zeros((), jnp.int32), first=zeros, second=zeros, greatest=zeros
        )

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        t = state.done + 1
        first, second = _moments(updates, state.first, state.second, b1, b2)
        greatest = jax.tree.map(jnp.maximum, state.greatest, second)
        rate, root = learning_rate / (1 - b1**t), jnp.sqrt(1 - b2**t)
        step = jax.tree.map(lambda m, v: -rate * m / (jnp.sqrt(v) / root + eps), first, greatest)
        return step, AmsgradState(done=t, first=first, second=second, greatest=greatest)

    return optax.GradientTransformation(init, update)
