"""Bounds on norms: of each unit's incoming weights, and of a whole gradient."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxnn import checks
from jaxnn.train import rules
from jaxnn.train.decay import is_bias
from jaxnn.types import Scalar


def _shrink(squares: Array, limit: Array) -> Array:
    """Returns the factor that brings a norm, given squared, down to `limit`, or else 1."""
    norm = jnp.sqrt(jnp.where(squares > 0, squares, 1))  # differentiable at 0
    return jnp.where((squares > 0) & (norm > limit), limit / norm, 1)


def max_norm(params: PyTree, limit: Scalar, *, axis: int = -1) -> PyTree:
    """Returns parameters of which no unit's incoming weights are longer than `limit`.

    A projection to be taken after each update (Srebro and Shraibman, 2005; with dropout, Srivastava
    et al., 2014, section 5.1). Longer vectors are shortened, their directions kept; biases, and
    arrays of no axes, are left alone.

    Args:
        params: pytree of floating-point arrays.
        limit: the greatest Euclidean norm, positive (traced).
        axis: along which the weights of one unit lie: the last in jaxnn, -2 in flax (static).

    Raises:
        ValueError: a limit that is not positive and finite.
        TypeError: parameters that are no floating-point arrays.

    >>> import jax.numpy as jnp
    >>> short = max_norm({"weight": jnp.array([[3.0, 4.0], [0.3, 0.4]])}, 0.5)["weight"]
    >>> print(short.round(3))
    [[0.3 0.4]
     [0.3 0.4]]
    """
    where = "train.max_norm"
    rules.number(where, "limit", limit, checks.positive)

    def project(path: tuple[Any, ...], leaf: Any) -> Array:
        w = checks.floating(where, f"params{jax.tree_util.keystr(path)}", leaf)
        if is_bias(path) or w.ndim == 0:
            return w
        squares = jnp.sum(w * w, axis=axis, keepdims=True)
        return w * _shrink(squares, jnp.asarray(limit, w.dtype))

    return jax.tree_util.tree_map_with_path(project, params)


def clip_by_norm(gradient: PyTree, limit: Scalar) -> PyTree:
    """Returns the gradient, shortened to `limit` if longer as one vector (Pascanu et al., 2013).

    One that is not finite comes back as it is, to be found by whoever looks for that.
    """
    leaves = jax.tree.leaves(gradient)
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(g), initial=0) for g in leaves]))
    unit = jnp.where(largest > 0, largest, 1)  # squares of gradients overflow long before they do
    squares = sum(jnp.sum(jnp.square(g / unit.astype(g.dtype))) for g in leaves)
    factor = _shrink(jnp.asarray(squares), jnp.asarray(limit / unit, unit.dtype))
    return jax.tree.map(lambda g: g * factor.astype(g.dtype), gradient)


def clip_by_value(gradient: PyTree, limit: Scalar) -> PyTree:
    """Returns the gradient with every entry brought into [-limit, limit]."""
    return jax.tree.map(lambda g: jnp.clip(g, jnp.negative(limit), limit).astype(g.dtype), gradient)
