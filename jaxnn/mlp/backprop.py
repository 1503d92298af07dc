"""Back-propagation by hand: gradients of a network and of a mean loss over it.

Shapes: n samples, d features, o outputs.  The recursion stands in `recursion`.  `value_and_grad`
is what a trainer descends; `mean_loss` is the same number for JAX to differentiate.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.mlp.layers import Params
from jaxnn.mlp.losses import Loss
from jaxnn.mlp.objective import decay, objective, penalty, rows_of
from jaxnn.mlp.recursion import deltas_of, gradients
from jaxnn.mlp.structure import check_derivatives, check_network
from jaxnn.mlp.tape import Tape, run
from jaxnn.types import Key, Scalar, ValueAndGrad


def _check_backward(
    where: str, params: Params, tape: Tape, grad_outputs: Any, names: tuple[str, str]
) -> Array:
    """Returns ∂l/∂h_L row by row, of the dtype of the network."""
    check_network(where, params, *names)
    check_derivatives(where, *names)
    if len(tape.linear) != len(params):
        raise ValueError(
            f"{where}: tape must have an entry for each of {len(params)} layers, "
            f"got {len(tape.linear)}; pass the tape of forward with the same params"
        )
    grad = checks.floating(where, "grad_outputs", grad_outputs)
    n, o = tape.linear[-1].shape
    rows = grad if grad.ndim == 2 or grad.ndim == 0 or grad.size != n * o else grad.reshape(-1, o)
    checks.shape(where, "grad_outputs", rows, (n, o))
    return rows.astype(tape.linear[-1].dtype)


def backward(
    params: Params,
    tape: Tape,
    grad_outputs: Float[Array, "*n o"],
    *,
    activation: str = "relu",
    output_activation: str = "identity",
) -> tuple[Params, Float[Array, "*n d"]]:
    """Returns the gradients with respect to the parameters and to the rows x.

    The latter, ∂l/∂h_0, is the last line of the lecture's recursion.

    Args:
        params: The layers that `forward` was called with.
        tape: What `forward` returned.
        grad_outputs: The derivative ∂l/∂h_L of the loss with respect to the outputs.
        activation: The name that `forward` was called with.
        output_activation: The name that `forward` was called with.

    Returns:
        Gradients in the shape of `params`, summed over rows; and the gradient of each row of x.

    Raises:
        TypeError: If `params` or `grad_outputs` are no layers or floating-point numbers, or an
            activation has no derivative.
        ValueError: If a name is unknown, or shapes do not fit together.

    >>> import jax
    >>> from jaxnn import mlp
    >>> params = mlp.init(jax.random.key(0), (3, 5, 2))
    >>> outputs, tape = mlp.forward(params, jnp.ones((4, 3), jnp.float32))
    >>> gradients, grad_x = backward(params, tape, jnp.ones_like(outputs))
    >>> gradients[0].weight.shape, grad_x.shape
    ((5, 3), (4, 3))
    """
    names = (activation, output_activation)
    grad = _check_backward("mlp.backward", params, tape, grad_outputs, names)
    found, grad_x = gradients(params, tape, grad, names)
    return found, grad_x.reshape(*grad_outputs.shape[:-1], -1)


def deltas(
    params: Params,
    tape: Tape,
    grad_outputs: Float[Array, "*n o"],
    *,
    activation: str = "relu",
    output_activation: str = "identity",
) -> tuple[Float[Array, "*l n _"], ...]:
    """Returns the recursion's δ_i = ∂l/∂a_i of each row, layer by layer.

    For studies of how gradients vanish or explode with depth.  Arguments and errors are those of
    `backward`.

    Returns:
        For each entry of `params` (n, width), and for a `Stack` (layers, n, width); n counts the
        rows of the tape.
    """
    names = (activation, output_activation)
    grad = _check_backward("mlp.deltas", params, tape, grad_outputs, names)
    return deltas_of(params, tape, grad, names)[0]


def value_and_grad(
    loss: str | Loss = "softmax_cross_entropy",
    *,
    activation: str = "relu",
    output_activation: str = "identity",
    keep_prob: Scalar = 1.0,
    convention: str = "inverted",
    input_keep_prob: Scalar = 1.0,
    l2: Scalar = 0.0,
) -> ValueAndGrad:
    """Returns the function that a trainer descends, with its gradient by hand.

    The value is the mean loss Σ w_r l_r / Σ w_r over rows r, plus λ‖W‖² over all weights.

    Args:
        loss: A name in `mlp.LOSSES`, or what `mlp.loss` returns.  The entropies take logits: leave
            `output_activation`.
        activation: Of hidden layers, a name in `mlp.ACTIVATIONS`.
        output_activation: Of the last layer.
        keep_prob: Of hidden units in training.  May be traced, as a hyperparameter in a sweep is.
        convention: Of dropout, "inverted" or "classic".
        input_keep_prob: Of the entries of x in training.
        l2: The lecture's λ in loss + λ‖W‖²; biases are left alone.  Here it is part of the value
            too; a trainer's own `l2` is not.

    Returns:
        `(params, batch, key) -> (value, gradient)`.  `batch` has the fields `x` (..., d), `y`
        (what the loss takes, with the same leading axes) and `weight`, or None for ones.  Weights
        have the leading axes or the first of them, and are zero for rows that only pad.  `key`
        None means no dropout.

    Raises:
        ValueError: If a name is unknown, a probability is outside (0, 1] or `l2` is negative;
            from the returned function also what `mlp.apply` raises, and if y or weight do not
            fit x and outputs.
        TypeError: If an activation has no derivative; from the returned function, for wrong
            dtypes.

    >>> from typing import NamedTuple
    >>> import jax
    >>> from jaxnn import mlp
    >>> class Batch(NamedTuple):
    ...     x: Array
    ...     y: Array
    ...     weight: Array | None
    >>> batch = Batch(x=jnp.ones((4, 3), jnp.float32), y=jnp.array([0, 1, 0, 1]), weight=None)
    >>> descend = value_and_grad("softmax_cross_entropy", activation="tanh", keep_prob=0.8)
    >>> params = mlp.init(jax.random.key(0), (3, 5, 2), activation="tanh")
    >>> value, gradient = descend(params, batch, jax.random.key(1))
    >>> value.shape, gradient[1].bias.shape
    ((), (2,))
    """
    where = "mlp.value_and_grad"
    goal = objective(
        where, loss, activation, output_activation, keep_prob, convention, input_keep_prob, l2
    )
    check_derivatives(where, *goal.names)

    def descend(params: Params, batch: Any, key: Key | None) -> tuple[Float[Array, ""], Params]:
        outputs, tape, shape = run(where, params, batch.x, key, goal.options)
        rows = rows_of(where, batch, outputs, shape, goal.loss)
        value = jnp.sum(rows.share * goal.loss.value(outputs, rows.targets))
        grad = rows.share[:, None] * goal.loss.gradient(outputs, rows.targets)
        gradient = gradients(params, tape, grad, goal.names)[0]
        return value + penalty(params, goal.l2), decay(gradient, params, goal.l2)

    return descend


def mean_loss(
    params: Params,
    batch: Any,
    key: Key | None,
    *,
    loss: str | Loss = "softmax_cross_entropy",
    activation: str = "relu",
    output_activation: str = "identity",
    keep_prob: Scalar = 1.0,
    convention: str = "inverted",
    input_keep_prob: Scalar = 1.0,
    l2: Scalar = 0.0,
) -> Float[Array, ""]:
    """Returns the value of `value_and_grad` alone, for JAX to differentiate.

    `jax.value_and_grad(partial(mean_loss, loss=...))` gives the same numbers as the gradient by
    hand and fits the same slot.  Arguments and errors are those of `value_and_grad`.
    """
    where = "mlp.mean_loss"
    goal = objective(
        where, loss, activation, output_activation, keep_prob, convention, input_keep_prob, l2
    )
    outputs, _, shape = run(where, params, batch.x, key, goal.options)
    rows = rows_of(where, batch, outputs, shape, goal.loss)
    value = jnp.sum(rows.share * goal.loss.value(outputs, rows.targets))
    return value + penalty(params, goal.l2)
