"""Back-propagation by hand: from the tape of the forward pass, the lecture's way back.

Shapes: n samples, d features, o outputs.  With a_i = W_i h_{i-1} + b_i and h_i = σ(a_i), the
conservation of differentials dl = <∂l/∂h_i, dh_i> gives the recursion

    δ_i = σ′(a_i) ⊙ ∂l/∂h_i
    ∂l/∂W_i = (I ⊗ h_{i-1}ᵀ)ᵀ δ_i = δ_i h_{i-1}ᵀ
    ∂l/∂h_{i-1} = W_iᵀ δ_i

(Rumelhart, Hinton and Williams, 1986).  Dropout multiplies h_i by a random diagonal matrix, hence
∂l/∂h_i by the same matrix.  `value_and_grad` is what a trainer descends; `mean_loss` is the same
number for JAX to differentiate.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.mlp.activations import ACTIVATIONS
from jaxnn.mlp.layers import Layer, Params, check_dropout, thin
from jaxnn.mlp.losses import Loss, class_weights, loss_of
from jaxnn.mlp.tape import Options, Tape, activations_of, check_network, run
from jaxnn.types import Key, Scalar, ValueAndGrad


def _pull(
    params: Params,
    tape: Tape,
    grad: Float[Array, "n o"],
    activation: str,
    output_activation: str,
) -> tuple[Params, Float[Array, "n d"]]:
    """Returns the gradients of parameters and rows: the lecture's recursion, last layer first."""
    functions = activations_of(len(params), activation, output_activation)
    gradients: list[Layer] = []
    for i in reversed(range(len(params))):
        if i < len(params) - 1:
            grad = thin(grad, tape.kept[i], tape.scale)
        delta = functions[i].derivative(tape.linear[i]) * grad
        gradient, grad = params[i].pullback(tape.inputs[i], tape.memory[i], delta)
        gradients.append(gradient)
    return tuple(reversed(gradients)), grad


def backward(
    params: Params,
    tape: Tape,
    grad_outputs: Float[Array, "n o"],
    *,
    activation: str = "relu",
    output_activation: str = "identity",
) -> tuple[Params, Float[Array, "n d"]]:
    """Returns the gradients with respect to the parameters and to the rows x.

    Args:
        params: The layers that `forward` was called with.
        tape: What `forward` returned.
        grad_outputs: The derivative ∂l/∂h_L of the loss with respect to the outputs.
        activation: The name that `forward` was called with.
        output_activation: The name that `forward` was called with.

    Returns:
        Gradients in the shape of `params`, summed over rows; and the gradient of each row of x.

    Raises:
        TypeError: If `params` or `grad_outputs` are no layers or floating-point numbers.
        ValueError: If a name is unknown, or shapes do not fit together.

    >>> import jax
    >>> from jaxnn import mlp
    >>> params = mlp.init(jax.random.key(0), (3, 5, 2))
    >>> outputs, tape = mlp.forward(params, jnp.ones((4, 3), jnp.float32))
    >>> gradients, grad_x = backward(params, tape, jnp.ones_like(outputs))
    >>> gradients[0].weight.shape, grad_x.shape
    ((5, 3), (4, 3))
    """
    where = "mlp.backward"
    check_network(where, params, activation, output_activation)
    if len(tape.linear) != len(params):
        raise ValueError(
            f"{where}: tape must have an entry for each of {len(params)} layers, "
            f"got {len(tape.linear)}; pass the tape of forward with the same params"
        )
    grad = checks.floating(where, "grad_outputs", grad_outputs)
    checks.shape(where, "grad_outputs", grad, tape.linear[-1].shape)
    grad = grad.astype(tape.linear[-1].dtype)
    return _pull(params, tape, grad, activation, output_activation)


def _batch(
    where: str, batch: Any, outputs: Float[Array, "n o"], loss: Loss
) -> tuple[Array, Float[Array, " n"]]:
    """Returns the targets, and each row's share in the mean: its weight over their sum."""
    n = outputs.shape[0]
    targets = loss.targets(where, batch.y, outputs)
    weight = class_weights(where, loss, targets, outputs)
    if batch.weight is not None:
        own = checks.weights(where, "weight", batch.weight, n).astype(outputs.dtype)
        weight = own if weight is None else own * weight
    if weight is None:
        return targets, jnp.full(n, 1 / n, outputs.dtype)
    total = jnp.sum(weight)
    return targets, weight / jnp.where(total > 0, total, 1)  # padding alone has no gradient


def value_and_grad(
    loss: str | Loss = "softmax_cross_entropy",
    *,
    activation: str = "relu",
    output_activation: str = "identity",
    keep_prob: Scalar = 1.0,
    convention: str = "inverted",
) -> ValueAndGrad:
    """Returns the function that a trainer descends, with its gradient by hand.

    The value is the mean loss Σ w_r l_r / Σ w_r over rows r.

    Args:
        loss: A name in `mlp.LOSSES`, or what `mlp.loss` returns.  The entropies take logits: leave
            `output_activation`.
        activation: Of hidden layers, a name in `mlp.ACTIVATIONS`.
        output_activation: Of the last layer.
        keep_prob: Of hidden units in training.  May be traced, as a hyperparameter in a sweep is.
        convention: Of dropout, "inverted" or "classic".

    Returns:
        `(params, batch, key) -> (value, gradient)`.  `batch` has the fields `x` (n, d), `y` (what
        the loss takes) and `weight`, (n,) with zeros for rows that only pad, or None for ones.
        `key` None means no dropout.

    Raises:
        ValueError: If a name is unknown or `keep_prob` is outside (0, 1]; from the returned
            function also what `mlp.apply` raises, and if y or weight do not fit x and outputs.
        TypeError: From the returned function, for wrong dtypes.

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
    chosen = loss_of(where, loss)
    checks.in_table(where, "activation", activation, ACTIVATIONS)
    checks.in_table(where, "output_activation", output_activation, ACTIVATIONS)
    check_dropout(where, None, keep_prob, convention)
    options = Options(activation, output_activation, keep_prob, convention)

    def descend(params: Params, batch: Any, key: Key | None) -> tuple[Float[Array, ""], Params]:
        outputs, tape = run(where, params, batch.x, key, options)
        targets, shares = _batch(where, batch, outputs, chosen)
        value = jnp.sum(shares * chosen.value(outputs, targets))
        grad = shares[:, None] * chosen.gradient(outputs, targets)
        return value, _pull(params, tape, grad, activation, output_activation)[0]

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
) -> Float[Array, ""]:
    """Returns the value of `value_and_grad` alone, for JAX to differentiate.

    `jax.value_and_grad(partial(mean_loss, loss=...))` gives the same numbers as the gradient by
    hand and fits the same slot.  Arguments and errors are those of `value_and_grad`.
    """
    where = "mlp.mean_loss"
    chosen = loss_of(where, loss)
    options = Options(activation, output_activation, keep_prob, convention)
    outputs, _ = run(where, params, batch.x, key, options)
    targets, shares = _batch(where, batch, outputs, chosen)
    return jnp.sum(shares * chosen.value(outputs, targets))
