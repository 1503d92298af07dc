"""One step of an optimizer, and one pass of steps over rows.

Shapes: n rows, b steps of k parts of s rows.  A step takes the weighted mean over its rows; its
parts are taken one after another and added up (gradient accumulation), so that only one of them
is in memory.  A step whose loss, gradient or parameters are not finite is undone, and after it
nothing moves.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnn import draws
from jaxnn.train.data import Batch, epoch_order
from jaxnn.train.norms import max_norm
from jaxnn.train.optimizers import optimizer as make_optimizer
from jaxnn.train.state import Choices, Moving, Plan, Rows
from jaxnn.types import Key


class Walk(NamedTuple):
    """Where a pass is: what it moves, the loss so far, and where it failed (else -1)."""

    at: Moving
    loss: Float[Array, ""]
    mass: Float[Array, ""]
    steps: Int[Array, ""]
    bad_batch: Int[Array, ""]
    bad_leaf: Int[Array, ""]


def transformation(plan: Plan, choices: Choices) -> optax.GradientTransformationExtraArgs:
    """Returns the optimizer of a run."""
    return make_optimizer(
        choices.optimizer,
        plan.learning_rate,
        flavour=choices.flavour,
        l2=plan.l2,
        **plan.options,
    )


def start(params: PyTree, plan: Plan, choices: Choices) -> Moving:
    """Returns what moves, before the first step."""
    average = None if plan.average is None else plan.average.init(params)
    return Moving(params, transformation(plan, choices).init(params), average)


def begin(at: Moving, dtype: Any, idle: Bool[Array, ""] | bool = False) -> Walk:
    """Returns the walk before the first step of an epoch; of an idle one no parameter moves."""
    none, zero = jnp.full((), -1, jnp.int32), jnp.zeros((), dtype)
    failed = jnp.where(idle, 0, none)
    return Walk(at, zero, zero, jnp.zeros((), jnp.int32), failed, none)


def sound(*trees: PyTree) -> tuple[Bool[Array, ""], Int[Array, ""]]:
    """Returns whether all numbers of some equal trees are finite, and the first leaf that is not.

    Products with vectors of tiny numbers have read them several times faster than a logical
    reduction would: infinities and NaN survive in them, and no sum of large numbers overflows.
    That the answer is a product, too, keeps XLA from computing it again wherever it is used.
    """
    parts, owners = [], []
    for number, leaf in enumerate(jax.tree.leaves(trees)):
        last = leaf.shape[-1] if leaf.ndim else 1
        rows = leaf.reshape(math.prod(leaf.shape[:-1]), last)
        parts.append(rows @ _tiny(last, leaf.dtype))
        owners += [number] * len(parts[-1])
    together = jnp.concatenate(parts)
    broken = jnp.where(jnp.isfinite(together), len(owners), jnp.array(owners, jnp.int32))
    first = jnp.min(broken) % (len(parts) // len(trees))
    return jnp.isfinite(together @ _tiny(len(together), together.dtype)), first


def _tiny(n: int, dtype: jnp.dtype) -> Float[Array, " n"]:
    return jnp.full(n, jnp.finfo(dtype).eps ** 2, dtype)


def _objective(
    parts: Batch, mass: Float[Array, "k s"], keys: Array, plan: Plan, choices: Choices
) -> Callable[[PyTree], tuple[Float[Array, ""], PyTree]]:
    """Returns the weighted mean of value and gradient over k parts, as a function of params."""

    def one(
        params: PyTree, part: Batch, mass: Float[Array, " s"], key: Key
    ) -> tuple[Array, PyTree]:
        part = part._replace(weight=mass)
        if plan.augment is not None:
            key_augment, key = draws.split(key)
            part = plan.augment(key_augment, part)
        value, gradient = choices.value_and_grad(params, part, key)
        gradient = jax.tree.map(lambda g, p: g.astype(p.dtype), gradient, params)
        return value.astype(mass.dtype), gradient

    def mean(params: PyTree) -> tuple[Float[Array, ""], PyTree]:
        def add(sums: PyTree, xs: tuple[Batch, Array, Array]) -> tuple[PyTree, None]:
            total = jnp.sum(xs[1])  # of rows that only pad, whose mean is 0/0
            weigh = lambda s, a: s + jnp.where(total > 0, total.astype(a.dtype) * a, 0)
            return jax.tree.map(weigh, sums, one(params, *xs)), None

        zeros = (jnp.zeros((), mass.dtype), jax.tree.map(jnp.zeros_like, params))
        sums, _ = jax.lax.scan(add, zeros, (parts, mass, keys))
        return jax.tree.map(lambda a: a / jnp.sum(mass).astype(a.dtype), sums)

    alone = jax.tree.map(lambda a: a[0], (parts, mass, keys))
    return mean if len(mass) > 1 else lambda params: one(params, *alone)


def _step(
    walk: Walk,
    parts: Batch,
    mass: Float[Array, "k s"],
    keys: Array,
    plan: Plan,
    choices: Choices,
    unweighted: bool,
) -> Walk:
    """Returns the walk one step on; of rows that are not weighted every step has some."""
    params, opt_state, average = walk.at
    objective = _objective(parts, mass, keys, plan, choices)
    value, gradient = objective(params)
    updates, opt_state = transformation(plan, choices).update(
        gradient,
        opt_state,
        params,
        value=value,
        grad=gradient,
        value_fn=lambda p: objective(p)[0],
    )
    params = optax.apply_updates(params, updates)
    if plan.max_norm is not None:
        params = max_norm(params, plan.max_norm)
    if plan.average is not None and average is not None:
        average = plan.average.update(average, params)

    whole, leaf = sound(gradient, params)
    total = jnp.sum(mass)
    # Rows that all weigh nothing make no step: they are only padding.
    real = (total > 0) & (walk.bad_batch < 0)
    bad = real & ~(whole & jnp.isfinite(value))
    choose = lambda yes, new, old: jax.tree.map(lambda a, b: jnp.where(yes, a, b), new, old)
    if not unweighted:
        opt_state = choose(total > 0, opt_state, walk.at.opt_state)
    params, average = choose(real & ~bad, (params, average), (walk.at.params, walk.at.average))
    return Walk(
        # Nothing moves after a bad step, so that nobody asks what its optimizer remembers.
        at=Moving(params, opt_state, average),
        loss=walk.loss + jnp.where(real, value * total, 0),
        mass=walk.mass + jnp.where(real, total, 0),
        steps=walk.steps + 1,
        bad_batch=jnp.where(bad, walk.steps, walk.bad_batch),
        bad_leaf=jnp.where(bad & ~whole, leaf, walk.bad_leaf),
    )


def steps_of(n: int, choices: Choices) -> int:
    """Returns the number of steps in one pass over n rows."""
    return -(-n // (choices.batch_size * choices.accumulate))


def walk_over(walk: Walk, rows: Rows, keys: tuple[Key, Key], plan: Plan, choices: Choices) -> Walk:
    """Returns the walk after one pass over `rows`; the keys are of their order and of the steps."""
    key_order, key_steps = keys
    n, dtype = len(jax.tree.leaves(rows.batch)[0]), walk.loss.dtype
    unweighted = rows.weight is None
    if choices.batch_size >= n and rows.sampling is None:
        mass = jnp.ones(n, dtype) if rows.weight is None else rows.weight
        parts, mass = jax.tree.map(lambda a: a[None], (rows.batch, mass))
        return _step(walk, parts, mass, key_steps[None], plan, choices, unweighted)
    order, real = epoch_order(
        key_order, n, choices.batch_size, choices.accumulate, choices.shuffle, rows.sampling
    )
    each = draws.split(key_steps, order.shape[:2])

    def advance(walk: Walk, xs: tuple[Array, Array, Array]) -> tuple[Walk, None]:
        chosen, counted, keys = xs
        parts = jax.tree.map(lambda a: a[chosen], rows.batch)
        mass = counted.astype(dtype)
        mass = mass if rows.weight is None else rows.weight[chosen] * mass
        return _step(walk, parts, mass, keys, plan, choices, unweighted), None

    return jax.lax.scan(advance, walk, (order, real, each))[0]
