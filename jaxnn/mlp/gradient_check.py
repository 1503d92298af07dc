"""Is a gradient right?  Differences along random directions, and kinks told from mistakes.

At a kink, as of the ReLU at zero, differences are no derivative, and whatever subgradient is taken
they disagree with it.  Along a line a smooth value rises by as much as it fell before, to first
order: the gap between the slopes to the right and to the left is in proportion to the step.  Where
it is not, there is a kink within the step, and the slopes only bound what is right.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from jaxnn import checks
from jaxnn.types import Key, Scalar, ValueAndGrad

WHERE = "mlp.check_gradient"


class GradientCheck(NamedTuple):
    """What was found along each of k random directions of length one.

    Attributes:
        by_hand: The slope that the gradient says: its inner product with the direction.
        by_differences: The slope by central differences.
        left: The slope before, by differences over the smallest step.
        right: The slope behind.
        kink: Whether there is a kink within the step.
        wrong: Whether the gradient is wrong: it differs from the differences, or at a kink lies
            outside the slopes on both sides.
    """

    by_hand: Float[Array, " k"]
    by_differences: Float[Array, " k"]
    left: Float[Array, " k"]
    right: Float[Array, " k"]
    kink: Bool[Array, " k"]
    wrong: Bool[Array, " k"]


def _along(
    params: PyTree,
    batch: Any,
    key: Key | None,
    directions: Float[Array, "k p"],
    step: Float[Array, ""],
    tol: Float[Array, ""],
    *,
    value_and_grad: ValueAndGrad,
) -> GradientCheck:
    """Returns the findings along each of the directions."""
    point, back = ravel_pytree(params)
    value, gradient = value_and_grad(params, batch, key)
    by_hand = directions @ ravel_pytree(gradient)[0]
    steps = step * jnp.array([1.0, 0.5, 0.25], point.dtype)

    def moved(direction: Array, by: Array) -> Array:
        return value_and_grad(back(point + by * direction), batch, key)[0]

    every = jax.vmap(jax.vmap(moved, (None, 0)), (0, None))
    behind = (every(directions, steps) - value) / steps[None, :]
    before = (value - every(directions, -steps)) / steps[None, :]
    middle = (behind + before) / 2
    central = (4 * middle[:, 1] - middle[:, 0]) / 3  # Richardson: exact to the fourth order
    size = jnp.max(jnp.maximum(jnp.abs(behind), jnp.abs(before)), axis=1)
    noise = 8 * jnp.finfo(point.dtype).eps * (1 + jnp.abs(value)) / steps[2]
    allowed = tol * jnp.maximum(size, jnp.abs(by_hand)) + noise
    gap = behind - before
    bend = jnp.max(jnp.abs(gap[:, :2] - 2 * gap[:, 1:]), axis=1)
    kink = bend > allowed
    left, right = before[:, 2], behind[:, 2]
    low, high = jnp.minimum(left, right), jnp.maximum(left, right)
    inside = (by_hand >= low - allowed) & (by_hand <= high + allowed)
    close = jnp.abs(by_hand - central) <= allowed
    return GradientCheck(by_hand, central, left, right, kink, ~jnp.where(kink, inside, close))


_compiled = jax.jit(_along, static_argnames="value_and_grad")


def check_gradient(
    key: Key,
    value_and_grad: ValueAndGrad,
    params: PyTree,
    batch: Any,
    *,
    directions: int = 8,
    dropout: bool = False,
    step: Scalar | None = None,
    tol: Scalar | None = None,
) -> GradientCheck:
    """Returns how a gradient compares with differences of its value.

    Args:
        key: A PRNG key, for the directions and for dropout.
        value_and_grad: What a trainer descends: by hand, or `jax.value_and_grad` of a loss.
        params: Where to look, a pytree of arrays of one dtype; float64 sees a thousand times more
            than float32.
        batch: What `value_and_grad` takes.
        directions: How many random directions to go in, each of length one.
        dropout: Whether `value_and_grad` is given a key, the same for all steps, or None.
        step: How far to go; by default ε^(1/4), with ε that of the dtype, times the norm of the
            parameters or 1.
        tol: How much of a slope may be missing; by default ε^(3/8), 1e-6 in float64.

    Returns:
        Findings for each direction; all is well if `not found.wrong.any()`.

    Raises:
        TypeError: If `value_and_grad` does not return a pair of a number and a gradient like
            `params`, or a key or an array is none.
        ValueError: If the value is no single number, or `step` or `tol` is not positive.

    >>> def norm(params, batch, key):
    ...     return jnp.sum(jnp.abs(params)), jnp.sign(params)
    >>> found = check_gradient(jax.random.key(0), norm, jnp.array([2.0, -1.0]), None)
    >>> bool(found.wrong.any()), bool(found.kink.any())
    (False, False)
    >>> found = check_gradient(jax.random.key(0), norm, jnp.array([2.0, 0.0]), None)
    >>> bool(found.wrong.any()), bool(found.kink.all())
    (False, True)
    """
    checks.key(WHERE, key)
    k = checks.count(WHERE, "directions", directions)
    leaves = jax.tree.leaves(params)
    if not leaves:
        raise ValueError(f"{WHERE}: params must hold at least one array, got {params!r}")
    dtype = checks.floating(WHERE, "params", leaves[0]).dtype
    for leaf in leaves:
        checks.same_dtype(WHERE, "params", checks.floating(WHERE, "params", leaf), "others", dtype)
    key_directions, key_dropout = jax.random.split(key)
    noise = key_dropout if dropout else None
    _check_slot(value_and_grad, params, batch, noise)
    eps = float(jnp.finfo(dtype).eps)
    flat = ravel_pytree(params)[0]
    if step is None:
        step = eps**0.25 * jnp.maximum(1, jnp.linalg.norm(flat))
    tol = eps**0.375 if tol is None else tol
    for name, number in {"step": step, "tol": tol}.items():
        checks.positive(WHERE, name, jnp.asarray(number))
    drawn = jax.random.normal(key_directions, (k, flat.size), dtype)
    unit = drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)
    numbers = jnp.asarray(step, dtype), jnp.asarray(tol, dtype)
    # Inside another jit the function may hold a tracer, which no cache must keep.
    along = _compiled if checks.concrete(flat) else _along
    return along(params, batch, noise, unit, *numbers, value_and_grad=value_and_grad)


def _check_slot(value_and_grad: ValueAndGrad, params: PyTree, batch: Any, key: Key | None) -> None:
    """Raises unless the function returns a number and a gradient; it is only traced."""
    returned = jax.eval_shape(partial(_call, value_and_grad, batch=batch, key=key), params)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(
            f"{WHERE}: value_and_grad must return (value, gradient), got {type(returned).__name__}"
        )
    value, gradient = returned
    checks.shape(WHERE, "the value of value_and_grad", value, ())
    given, wanted = jax.tree.structure(gradient), jax.tree.structure(params)
    if given != wanted:
        raise TypeError(f"{WHERE}: the gradient must be built like params {wanted}, got {given}")


def _call(value_and_grad: ValueAndGrad, params: PyTree, batch: Any, key: Key | None) -> Any:
    return value_and_grad(params, batch, key)
