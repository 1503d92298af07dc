"""One step of an optimizer, and one pass of steps over rows.

Shapes: n rows, b steps of k parts of s rows.  A step takes the weighted mean over its rows; its
parts are taken one after another and added up (gradient accumulation), so that only one of them
is in memory.  A step whose loss, gradient or parameters are not finite is undone, and after it
nothing moves.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnn.train.data import Batch, epoch_order
from jaxnn.train.optimizers import optimizer as make_optimizer
from jaxnn.train.state import Choices, Plan, Rows
from jaxnn.types import Key


class Walk(NamedTuple):
    """Where a pass is: what steps change, the loss so far, and where it failed (else -1)."""

    params: PyTree
    opt_state: optax.OptState
    loss: Float[Array, ""]
    mass: Float[Array, ""]
    steps: Int[Array, ""]
    bad_batch: Int[Array, ""]
    bad_leaf: Int[Array, ""]


def transformation(plan: Plan, choices: Choices) -> optax.GradientTransformation:
    """Returns the optimizer of a run."""
    return make_optimizer(choices.optimizer, plan.learning_rate, **plan.options)


def begin(params: PyTree, opt_state: optax.OptState, dtype: Any) -> Walk:
    """Returns the walk before the first step."""
    none = jnp.full((), -1, jnp.int32)
    zero = jnp.zeros((), dtype)
    return Walk(params, opt_state, zero, zero, jnp.zeros((), jnp.int32), none, none)


def _broken(tree: PyTree) -> Bool[Array, " leaves"]:
    return jnp.stack([~jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)])


def _mean(
    params: PyTree, parts: Batch, mass: Float[Array, "k s"], keys: Array, choices: Choices
) -> tuple[Float[Array, ""], PyTree]:
    """Returns the weighted mean of value and gradient over k parts, one after another."""

    def one(part: Batch, mass: Float[Array, " s"], key: Key) -> tuple[Array, PyTree]:
        value, gradient = choices.value_and_grad(params, part._replace(weight=mass), key)
        return value.astype(mass.dtype), jax.tree.map(
            lambda g, p: g.astype(p.dtype), gradient, params
        )

    if len(mass) == 1:
        return one(*jax.tree.map(lambda a: a[0], (parts, mass, keys)))

    def add(sums: PyTree, xs: tuple[Batch, Array, Array]) -> tuple[PyTree, None]:
        total = jnp.sum(xs[1])  # rows that only pad: their mean is 0/0
        weigh = lambda s, a: s + jnp.where(total > 0, total.astype(a.dtype) * a, 0)
        return jax.tree.map(weigh, sums, one(*xs)), None

    zeros = (jnp.zeros((), mass.dtype), jax.tree.map(jnp.zeros_like, params))
    sums, _ = jax.lax.scan(add, zeros, (parts, mass, keys))
    return jax.tree.map(lambda a: a / jnp.sum(mass).astype(a.dtype), sums)


def _step(
    walk: Walk, parts: Batch, mass: Float[Array, "k s"], keys: Array, plan: Plan, choices: Choices
) -> Walk:
    value, gradient = _mean(walk.params, parts, mass, keys, choices)
    descent = add_l2(walk.params, gradient, plan.l2)
    updates, opt_state = transformation(plan, choices).update(descent, walk.opt_state, walk.params)
    params = optax.apply_updates(walk.params, updates)
    total = jnp.sum(mass)
    broken = jnp.concatenate([_broken(gradient), _broken(params)])
    # Rows that all weigh nothing make no step: they are only padding.
    real = (total > 0) & (walk.bad_batch < 0)
    bad = real & (jnp.any(broken) | ~jnp.isfinite(value))
    leaf = jnp.argmax(broken) % len(jax.tree.leaves(params))
    choose = lambda new, old: jnp.where(real & ~bad, new, old)
    moved = jax.tree.map(choose, (params, opt_state), (walk.params, walk.opt_state))
    return Walk(
        *moved,
        loss=walk.loss + jnp.where(real, value * total, 0),
        mass=walk.mass + jnp.where(real, total, 0),
        steps=walk.steps + 1,
        bad_batch=jnp.where(bad, walk.steps, walk.bad_batch),
        bad_leaf=jnp.where(bad & jnp.any(broken), leaf.astype(jnp.int32), walk.bad_leaf),
    )


def walk_over(walk: Walk, rows: Rows, key: Key, plan: Plan, choices: Choices) -> Walk:
    """Returns the walk after one pass over `rows`, in an order drawn from the key."""
    key_order, key_steps = jax.random.split(key)
    n, dtype = len(rows.weight), rows.weight.dtype
    if choices.batch_size >= n and rows.sampling is None:
        parts, mass = jax.tree.map(lambda a: a[None], (rows.batch, rows.weight))
        return _step(walk, parts, mass, key_steps[None], plan, choices)
    order, real = epoch_order(
        key_order, n, choices.batch_size, choices.accumulate, choices.shuffle, rows.sampling
    )
    keys = jax.random.split(key_steps, order.shape[:2])

    def advance(walk: Walk, xs: tuple[Array, Array, Array]) -> tuple[Walk, None]:
        chosen, counted, keys = xs
        parts = jax.tree.map(lambda a: a[chosen], rows.batch)
        mass = rows.weight[chosen] * counted.astype(dtype)
        return _step(walk, parts, mass, keys, plan, choices), None

    return jax.lax.scan(advance, walk, (order, real, keys))[0]
