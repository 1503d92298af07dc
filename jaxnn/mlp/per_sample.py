"""What each row's own gradient is like, without forming it.

Shapes: n samples, d features, L layers.  A row's gradient at a layer is the outer product δ hᵀ, so
its norm, its share in a sum and its product with a direction need δ and h only (Goodfellow, 2015):
memory for a batch is that of one gradient, not of n.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.mlp.layers import Params
from jaxnn.mlp.losses import Loss
from jaxnn.mlp.objective import Objective, Rows, decay, objective, penalty, rows_of
from jaxnn.mlp.recursion import gradients, row_norms, row_products
from jaxnn.mlp.structure import check_derivatives
from jaxnn.mlp.tape import Tape, run
from jaxnn.types import Key, Scalar, ValueAndGrad


class PerSample(NamedTuple):
    """Each row's own loss l_r, unweighted, and its gradient.

    Attributes:
        value: l_r.
        norm: ‖∂l_r/∂(W_i, b_i)‖ at each layer i, first to last.
        grad_x: ∂l_r/∂x_r: the lecture's ∂l/∂h_0.
    """

    value: Float[Array, "*n"]
    norm: Float[Array, "*n L"]
    grad_x: Float[Array, "*n d"]


class _Pass(NamedTuple):
    outputs: Float[Array, "n o"]
    tape: Tape
    shape: tuple[int, ...]
    rows: Rows
    value: Float[Array, " n"]
    gradient: Float[Array, "n o"]


def _forward(where: str, goal: Objective, params: Params, batch: Any, key: Key | None) -> _Pass:
    """Returns the forward pass, with each row's own loss and its gradient in the outputs."""
    outputs, tape, shape = run(where, params, batch.x, key, goal.options)
    rows = rows_of(where, batch, outputs, shape, goal.loss)
    value = goal.loss.value(outputs, rows.targets)
    return _Pass(outputs, tape, shape, rows, value, goal.loss.gradient(outputs, rows.targets))


def per_sample(
    loss: str | Loss = "softmax_cross_entropy",
    *,
    activation: str = "relu",
    output_activation: str = "identity",
    keep_prob: Scalar = 1.0,
    convention: str = "inverted",
    input_keep_prob: Scalar = 1.0,
) -> Callable[[Params, Any, Key | None], PerSample]:
    """Returns the function that looks at each row of a batch alone.

    Arguments are those of `mlp.value_and_grad`.  The norm over all layers is
    `jnp.linalg.norm(found.norm, axis=-1)`.

    Returns:
        `(params, batch, key) -> PerSample`; weights of the batch are not looked at.

    Raises:
        TypeError, ValueError: What `mlp.value_and_grad` raises.

    >>> import jax
    >>> from jaxnn import mlp, train
    >>> batch = train.Batch(jnp.ones((4, 3), jnp.float32), jnp.array([0, 1, 0, 1]), None)
    >>> params = mlp.init(jax.random.key(0), (3, 5, 2))
    >>> per_sample()(params, batch, None).norm.shape
    (4, 2)
    """
    where = "mlp.per_sample"
    goal = objective(
        where, loss, activation, output_activation, keep_prob, convention, input_keep_prob
    )
    check_derivatives(where, *goal.names)

    def look(params: Params, batch: Any, key: Key | None) -> PerSample:
        there = _forward(where, goal, params, batch, key)
        norm, grad_x = row_norms(params, there.tape, there.gradient, goal.names)
        back = lambda a: a.reshape(*there.shape, *a.shape[1:])
        return PerSample(value=back(there.value), norm=back(norm), grad_x=back(grad_x))

    return look


def sample_products(
    loss: str | Loss = "softmax_cross_entropy",
    *,
    activation: str = "relu",
    output_activation: str = "identity",
    keep_prob: Scalar = 1.0,
    convention: str = "inverted",
    input_keep_prob: Scalar = 1.0,
) -> Callable[[Params, Any, Params, Key | None], Float[Array, "*n"]]:
    """Returns the function that multiplies each row's gradient with one direction.

    With the direction H⁻¹ ∂l/∂θ of a test row, H the Hessian, minus these products are the
    influences of all training rows on its loss (Koh and Liang, 2017, equation 2); with ∂l/∂θ itself
    they are the terms of TracIn (Pruthi et al., 2020).  Arguments are those of
    `mlp.value_and_grad`.

    Returns:
        `(params, batch, direction, key) -> <∂l_r/∂θ, direction>` of every row r, unweighted.

    Raises:
        TypeError, ValueError: What `mlp.value_and_grad` raises; and if the direction is not
            shaped like the parameters.
    """
    where = "mlp.sample_products"
    goal = objective(
        where, loss, activation, output_activation, keep_prob, convention, input_keep_prob
    )
    check_derivatives(where, *goal.names)

    def multiply(
        params: Params, batch: Any, direction: Params, key: Key | None
    ) -> Float[Array, "*n"]:
        there = _forward(where, goal, params, batch, key)
        if jax.tree.structure(direction) != jax.tree.structure(params):
            raise TypeError(
                f"{where}: direction must be built like params {jax.tree.structure(params)}, "
                f"got {jax.tree.structure(direction)}"
            )
        pairs = zip(jax.tree.leaves_with_path(params), jax.tree.leaves(direction), strict=True)
        for (path, p), v in pairs:
            name = f"direction{jax.tree_util.keystr(path)}"
            checks.same_dtype(where, name, checks.floating(where, name, v), "params", p.dtype)
            checks.shape(where, name, v, p.shape)
        products = row_products(params, there.tape, there.gradient, goal.names, direction)
        return products.reshape(there.shape)

    return multiply


def clipped_value_and_grad(
    loss: str | Loss = "softmax_cross_entropy",
    *,
    clip: Scalar,
    activation: str = "relu",
    output_activation: str = "identity",
    keep_prob: Scalar = 1.0,
    convention: str = "inverted",
    input_keep_prob: Scalar = 1.0,
    l2: Scalar = 0.0,
) -> ValueAndGrad:
    """Returns the function that a trainer descends, in which no row's gradient exceeds `clip`.

    The gradient is Σ w_r g_r min(1, clip / ‖g_r‖) / Σ w_r, the norm over all layers (Abadi et al.,
    2016, algorithm 1, without its noise), plus 2 λ W.  Rows far out then pull no harder than
    others.  The value is that of `mlp.value_and_grad`.  One pass back finds the norms, another the
    gradient of the loss reweighted by them; the norms count as constants.  `clip`, the largest
    norm, is positive and may be traced; other arguments are those of `mlp.value_and_grad`.

    Raises:
        TypeError, ValueError: What `mlp.value_and_grad` raises; and if `clip` is not positive.
    """
    where = "mlp.clipped_value_and_grad"
    checks.positive(where, "clip", clip)
    checks.shape(where, "clip", clip, ())
    goal = objective(
        where, loss, activation, output_activation, keep_prob, convention, input_keep_prob, l2
    )
    check_derivatives(where, *goal.names)

    def descend(params: Params, batch: Any, key: Key | None) -> tuple[Float[Array, ""], Params]:
        there = _forward(where, goal, params, batch, key)
        norms, _ = row_norms(params, there.tape, there.gradient, goal.names)
        norm = jnp.linalg.norm(norms, axis=1)
        limit = jnp.asarray(clip, norm.dtype)
        factor = jax.lax.stop_gradient(there.rows.share * (limit / jnp.maximum(norm, limit)))
        grad = factor[:, None] * there.gradient
        gradient = gradients(params, there.tape, grad, goal.names)[0]
        value = jnp.sum(there.rows.share * there.value)
        return value + penalty(params, goal.l2), decay(gradient, params, goal.l2)

    return descend
