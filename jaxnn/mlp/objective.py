"""The mean loss that networks are trained on: its options checked, its rows weighed, its penalty.

Shapes: n samples, o outputs.  All losses of `backprop` and `per_sample` come through here.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.mlp.activations import ACTIVATIONS
from jaxnn.mlp.layers import Params, Stack
from jaxnn.mlp.losses import Loss, loss_of
from jaxnn.mlp.structure import bare
from jaxnn.mlp.tape import Options
from jaxnn.mlp.thinning import check_dropout
from jaxnn.types import Scalar


class Objective(NamedTuple):
    """A loss, how the network is run for it, and the λ of its penalty; None for no penalty."""

    loss: Loss
    options: Options
    l2: Scalar | None

    @property
    def names(self) -> tuple[str, str]:
        """The activation of hidden layers, and that of the output layer."""
        return self.options.activation, self.options.output_activation


class Rows(NamedTuple):
    """Targets of each row, and its share in the mean: its weight over the sum of all."""

    targets: Array
    share: Float[Array, " n"]


def objective(
    where: str,
    loss: str | Loss,
    activation: str,
    output_activation: str,
    keep_prob: Scalar,
    convention: str,
    input_keep_prob: Scalar,
    l2: Scalar = 0.0,
) -> Objective:
    """Returns what the options say, once they make sense."""
    chosen = loss_of(where, loss)
    checks.in_table(where, "activation", activation, ACTIVATIONS)
    checks.in_table(where, "output_activation", output_activation, ACTIVATIONS)
    check_dropout(where, None, keep_prob, convention)
    check_dropout(where, None, input_keep_prob, convention, name="input_keep_prob")
    checks.scalar(where, "l2", l2)
    none = isinstance(l2, int | float) and l2 == 0  # known before compilation: costs nothing
    options = Options(activation, output_activation, keep_prob, convention, input_keep_prob)
    return Objective(chosen, options, None if none else l2)


def _flat(where: str, name: str, y: ArrayLike, shape: tuple[int, ...]) -> ArrayLike:
    """Returns `y` with its leading axes, which must be `shape`, as one.  Rows stay as they are."""
    if len(shape) == 1:
        return y
    given = jnp.shape(y)
    if given[: len(shape)] != shape:
        raise ValueError(
            f"{where}: {name} must have the leading axes {shape} of x, got shape {given}"
        )
    if not checks.concrete(y):
        return jnp.reshape(y, (-1, *given[len(shape) :]))
    with jax.ensure_compile_time_eval():  # its values are still to be checked
        return jnp.reshape(jnp.asarray(y), (-1, *given[len(shape) :]))


def _each_weight(
    where: str, weight: ArrayLike, n: int, shape: tuple[int, ...]
) -> Float[Array, " n"]:
    """Returns the weight of each row of a batch with the leading axes `shape`."""
    if len(shape) == 1:
        return checks.weights(where, "weight", weight, n)
    given = checks.floating(where, "weight", weight)
    checks.shape(where, "weight", given, shape[: given.ndim])
    flat = checks.weights(where, "weight", given.reshape(-1), given.size)
    return jnp.repeat(flat, n // given.size)


def _class_weights(
    where: str, entry: Loss, targets: Array, outputs: Float[Array, "n o"]
) -> Float[Array, " n"] | None:
    """Returns the weight of the class of each row; None where classes have no weights."""
    if entry.class_weight is None or entry.classes is None:
        return None
    shares = entry.classes(targets, outputs)
    checks.shape(where, "class_weight", entry.class_weight, shares.shape[1:])
    return shares @ entry.class_weight.astype(outputs.dtype)


def rows_of(
    where: str, batch: Any, outputs: Float[Array, "n o"], shape: tuple[int, ...], loss: Loss
) -> Rows:
    """Returns the targets and the share of each row of a batch whose leading axes are `shape`."""
    n = outputs.shape[0]
    targets = loss.targets(where, _flat(where, "y", batch.y, shape), outputs)
    weight = _class_weights(where, loss, targets, outputs)
    if batch.weight is not None:
        own = _each_weight(where, batch.weight, n, shape).astype(outputs.dtype)
        weight = own if weight is None else own * weight
    if weight is None:
        return Rows(targets, jnp.full(n, 1 / n, outputs.dtype))
    total = jnp.sum(weight)
    return Rows(targets, weight / jnp.where(total > 0, total, 1))  # padding alone has no gradient


def penalty(params: Params, l2: Scalar | None) -> Scalar:
    """Returns λ‖W‖² over the weights of all layers."""
    if l2 is None:
        return 0.0
    squares = [jnp.sum(jnp.square(layer.weight)) for layer in params]
    total = sum(squares[1:], start=squares[0])
    return jnp.asarray(l2, total.dtype) * total


def decay(gradient: Params, params: Params, l2: Scalar | None) -> Params:
    """Returns the gradient with that of the penalty, 2 λ W, added."""
    if l2 is None:
        return gradient

    def decayed(g: Any, p: Any) -> Any:
        return g._replace(weight=g.weight + jnp.asarray(2 * l2, p.weight.dtype) * p.weight)

    pairs = zip(map(bare, gradient), params, strict=True)
    return tuple(
        Stack(decayed(g, p.layers)) if isinstance(p, Stack) else decayed(g, p) for g, p in pairs
    )
