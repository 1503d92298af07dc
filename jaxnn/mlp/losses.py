"""Losses of each row, each with its derivative written by hand.

A loss is one entry of `LOSSES`.  Shapes: n samples, o outputs.  The entropies take logits, so that
they stay finite where a probability would be 0 or 1; the last layer is then linear.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.types import LossFn

Outputs = Float[Array, "n o"]
Rows = Float[Array, " n"]


class Loss(NamedTuple):
    """One loss l(y, h) of outputs h and targets y.

    Attributes:
        value: `(outputs, targets) -> (n,)`, the loss of each row.
        gradient: `(outputs, targets) -> (n, o)`, the derivative of each row's loss with respect
            to that row's outputs.
        targets: `(where, y, outputs) -> targets`, the door: checks y against the outputs (dtype
            and shape always, values when they are concrete) and returns what `value` and
            `gradient` take.
    """

    value: LossFn
    gradient: Callable[[Array, Array], Array]
    targets: Callable[[str, ArrayLike, Array], Array]


def _real_targets(where: str, y: ArrayLike, outputs: Outputs) -> Array:
    array = checks.floating(where, "y", y)
    checks.shape(where, "y", array, outputs.shape)
    checks.finite(where, "y", array)
    return array.astype(outputs.dtype)


def _unit_targets(where: str, y: ArrayLike, outputs: Outputs) -> Array:
    _real_targets(where, y, outputs)
    array = jnp.asarray(y)  # a cast under a trace would hide the values that are still to be seen
    if checks.concrete(array) and not checks.holds(lambda: (array >= 0) & (array <= 1)):
        values = [value for row in array.tolist() for value in row]
        raise ValueError(
            f"{where}: y must lie in [0, 1], got values from {min(values)} to {max(values)}"
        )
    return array.astype(outputs.dtype)


def _class_targets(where: str, y: ArrayLike, outputs: Outputs) -> Array:
    n, o = outputs.shape
    if jnp.ndim(y) != 2 or not jnp.issubdtype(jnp.result_type(y), jnp.floating):
        return checks.labels(where, "y", y, n, o)
    _unit_targets(where, y, outputs)
    array = jnp.asarray(y)
    if checks.concrete(array) and not checks.holds(lambda: jnp.abs(array.sum(1) - 1) < 1e-3):
        sums = [sum(row) for row in array.tolist()]
        worst = max(range(n), key=lambda row: abs(sums[row] - 1))
        raise ValueError(
            f"{where}: every row of y must sum to one, got {sums[worst]} in row {worst}; "
            "divide y by y.sum(axis=1, keepdims=True), or pass class labels"
        )
    return array.astype(outputs.dtype)


def _squared(outputs: Outputs, targets: Outputs) -> Rows:
    return jnp.sum(jnp.square(outputs - targets), axis=1)


def _squared_gradient(outputs: Outputs, targets: Outputs) -> Outputs:
    return 2 * (outputs - targets)


def _as_soft(targets: Array, like: Outputs) -> Outputs:
    """Returns one row of class probabilities for each target, a label or already such a row.

    A label that is no class gives a row of NaN.  At the door it is an error, but under a trace it
    can only be seen in the loss, and indexing would silently wrap or clip it.
    """
    if targets.ndim == 2:
        return targets
    classes = jnp.arange(like.shape[1], dtype=targets.dtype)
    hit = targets[:, None] == classes[None, :]
    return jnp.where(jnp.any(hit, axis=1, keepdims=True), hit.astype(like.dtype), jnp.nan)


def _softmax_cross_entropy(outputs: Outputs, targets: Array) -> Rows:
    soft = _as_soft(targets, outputs)
    # Relative to the largest logit, so that neither the exponentials nor the sum lose anything.
    logits = outputs - jax.lax.stop_gradient(jnp.max(outputs, axis=1, keepdims=True))
    log_total = jnp.log(jnp.sum(jnp.exp(logits), axis=1))
    return log_total * jnp.sum(soft, axis=1) - jnp.sum(soft * logits, axis=1)


def _softmax_cross_entropy_gradient(outputs: Outputs, targets: Array) -> Outputs:
    soft = _as_soft(targets, outputs)
    return jax.nn.softmax(outputs, axis=1) * jnp.sum(soft, axis=1, keepdims=True) - soft


def _sigmoid_cross_entropy(outputs: Outputs, targets: Outputs) -> Rows:
    # softplus(h) - y h would be shorter, and lose everything to cancellation at y = 1, h large.
    wrong = targets * jax.nn.softplus(-outputs) + (1 - targets) * jax.nn.softplus(outputs)
    return jnp.sum(wrong, axis=1)


def _sigmoid_cross_entropy_gradient(outputs: Outputs, targets: Outputs) -> Outputs:
    return jax.nn.sigmoid(outputs) - targets


LOSSES: dict[str, Loss] = {
    "squared": Loss(_squared, _squared_gradient, _real_targets),
    "softmax_cross_entropy": Loss(
        _softmax_cross_entropy, _softmax_cross_entropy_gradient, _class_targets
    ),
    "sigmoid_cross_entropy": Loss(
        _sigmoid_cross_entropy, _sigmoid_cross_entropy_gradient, _unit_targets
    ),
}
"""Name -> `Loss`.

| name | loss of a row | targets |
|---|---|---|
| squared | ‖y - h‖², summed over outputs, no half (the lecture's) | real, (n, o) |
| softmax_cross_entropy | -Σ_c y_c log softmax(h)_c, nats | labels (n,), or (n, o) summing to 1 |
| sigmoid_cross_entropy | -Σ_c y_c log s(h_c) + (1 - y_c) log s(-h_c), nats | in [0, 1], (n, o) |
"""
