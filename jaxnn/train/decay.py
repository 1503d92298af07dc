"""Weight decay: the lecture's penalty on the squared weights, and its gradient.

Every array of a pytree counts as a weight but those under a name that ends with `bias`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnn.types import Scalar


def is_bias(path: tuple[Any, ...]) -> bool:
    """Returns whether a leaf at that path of a pytree is a bias, which no decay touches."""
    names = [str(getattr(step, "name", getattr(step, "key", ""))) for step in path]
    return any(name.endswith("bias") for name in names)


def add_decay(params: PyTree, updates: PyTree, rate: Scalar, *, biases: bool = False) -> PyTree:
    """Returns updates + rate·W for every weight W, and for the biases too if asked."""

    def decayed(path: tuple[Any, ...], u: Any, p: Any) -> Any:
        if is_bias(path) and not biases:
            return u
        return u + (rate * p).astype(u.dtype)

    return jax.tree_util.tree_map_with_path(decayed, updates, params)


def add_l2(params: PyTree, gradient: PyTree, l2: Scalar) -> PyTree:
    """Returns the gradient of loss + l2·‖W‖², the lecture's penalty, given that of the loss.

    Every array counts as a weight but those under a name that ends with `bias`.
    """
    return add_decay(params, gradient, 2 * l2)


def penalty(params: PyTree, l2: Scalar) -> Float[Array, ""]:
    """Returns l2·‖W‖², whose gradient `add_l2` adds."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    squares = [jnp.sum(p * p) for path, p in leaves if not is_bias(path)]
    return jnp.asarray(l2 * sum(squares))
