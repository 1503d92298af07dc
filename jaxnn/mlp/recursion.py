"""The lecture's recursion: from the tape of the forward pass, layer by layer the way back.

Shapes: n samples, d features, o outputs, L layers.  With a_i = W_i h_{i-1} + b_i and h_i = σ(a_i),
the conservation of differentials dl = <∂l/∂h_i, dh_i> gives

    δ_i = ∂l/∂a_i = σ′(a_i) ⊙ ∂l/∂h_i
    ∂l/∂W_i = (I ⊗ h_{i-1}ᵀ)ᵀ δ_i = δ_i h_{i-1}ᵀ
    ∂l/∂h_{i-1} = W_iᵀ δ_i

(Rumelhart, Hinton and Williams, 1986).  Dropout multiplies h_i by a random diagonal matrix, hence
∂l/∂h_i by the same matrix; beside a residual layer ∂l/∂h_i passes as it is.

What is wanted of each layer is a visitor of its δ_i: the gradient of its parameters, a norm for
each row, a product with a direction.  Nothing else of the way back is kept.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn.mlp.activations import ACTIVATIONS
from jaxnn.mlp.layers import Layer, Params, Stack
from jaxnn.mlp.tape import Record, Tape
from jaxnn.mlp.thinning import thin

# (layer, its record, δ_i, what stands beside it) -> anything; a function of a module, since
# programs are known by it
Visitor = Callable[[Layer, Record, Array, Any], Any]


def _retreat(
    layer: Layer,
    record: Record,
    beside: Any,
    grad: Float[Array, "n _"],
    scale: Float[Array, ""] | None,
    *,
    visit: Visitor,
    activation: str,
) -> tuple[Float[Array, "n _"], Any]:
    """Returns ∂l/∂h_{i-1} given ∂l/∂h_i, and what the visitor made of the layer."""
    through = thin(grad, record.kept, scale)
    delta = ACTIVATIONS[activation].derivative(record.linear) * through
    pulled = layer.pull(record.memory, delta)
    seen = visit(layer, record, delta, beside)
    return (pulled + grad if layer.skip else pulled), seen


@partial(jax.jit, static_argnames=("visit", "activation"))
def _retreat_stack(
    stack: Stack,
    record: Record,
    beside: Any,
    grad: Float[Array, "n _"],
    scale: Float[Array, ""] | None,
    *,
    visit: Visitor,
    activation: str,
) -> tuple[Float[Array, "n _"], Any]:
    """Returns the same for many layers, what the visitor made of each along a leading axis."""

    def step(grad: Array, member: tuple[Layer, Record, Any]) -> tuple[Array, Any]:
        return _retreat(*member, grad, scale, visit=visit, activation=activation)

    return jax.lax.scan(step, grad, (stack.layers, record, beside), reverse=True)


def walk(
    params: Params,
    tape: Tape,
    grad: Float[Array, "n o"],
    names: tuple[str, str],
    visit: Visitor,
    beside: tuple[Any, ...] | None = None,
) -> tuple[tuple[Any, ...], Float[Array, "n d"]]:
    """Returns what the visitor made of each entry of `params`, and the gradient of the rows.

    `grad` is ∂l/∂h_L, `names` are the activation of hidden layers and that of the output layer,
    and `beside` has something for the visitor with each entry.
    """
    found = []
    for i in reversed(range(len(params))):
        layer, record = params[i], tape.record(i)
        last = i == len(params) - 1
        other = None if beside is None else beside[i]
        scale, name = None if last else tape.scale, names[last]
        if isinstance(layer, Stack):
            grad, seen = _retreat_stack(
                layer, record, other, grad, scale, visit=visit, activation=name
            )
        else:
            grad, seen = _retreat(layer, record, other, grad, scale, visit=visit, activation=name)
        found.append(seen)
    return tuple(reversed(found)), thin(grad, tape.input_kept, tape.input_scale)


def _gradient(layer: Layer, record: Record, delta: Array, beside: Any) -> Layer:
    del beside
    return layer.gradient(record.inputs, record.memory, delta)


def gradients(
    params: Params, tape: Tape, grad: Float[Array, "n o"], names: tuple[str, str]
) -> tuple[Params, Float[Array, "n d"]]:
    """Returns the gradients of the parameters, summed over rows, and of each row."""
    found, grad_x = walk(params, tape, grad, names, _gradient)
    pairs = zip(params, found, strict=True)
    return tuple(Stack(g) if isinstance(layer, Stack) else g for layer, g in pairs), grad_x


def _delta(layer: Layer, record: Record, delta: Array, beside: Any) -> Array:
    del layer, record, beside
    return delta


def deltas_of(
    params: Params, tape: Tape, grad: Float[Array, "n o"], names: tuple[str, str]
) -> tuple[tuple[Float[Array, "*l n _"], ...], Float[Array, "n d"]]:
    """Returns δ_i of each row at each entry of `params`, and the gradient of each row."""
    return walk(params, tape, grad, names, _delta)


def _size(v: Float[Array, "n _"]) -> Float[Array, " n"]:
    """Returns the Euclidean norm of each row, with derivative zero where all is zero."""
    most = jax.lax.stop_gradient(jnp.max(jnp.abs(v), axis=1))
    unit = jnp.where(most > 0, most, 1)  # squares neither overflow nor vanish
    square = jnp.sum(jnp.square(v / unit[:, None]), axis=1)
    return jnp.where(most > 0, unit * jnp.sqrt(jnp.where(most > 0, square, 1)), 0)


def _row_norm(layer: Layer, record: Record, delta: Array, beside: Any) -> Float[Array, " n"]:
    del beside
    inputs = _size(record.inputs)
    return _size(delta) * (inputs if layer.bias is None else jnp.hypot(inputs, 1.0))


def row_norms(
    params: Params, tape: Tape, grad: Float[Array, "n o"], names: tuple[str, str]
) -> tuple[Float[Array, "n L"], Float[Array, "n d"]]:
    """Returns the norm of each row's gradient at each layer, and the gradient of each row.

    A row's gradient is the outer product δ hᵀ, whose norm is ‖δ‖ ‖h‖, with the bias
    ‖δ‖ √(‖h‖² + 1) (Goodfellow, 2015): no gradient is formed.  Of a maxout layer δ goes to the
    pieces that won, and its norm stays the same.
    """
    found, grad_x = walk(params, tape, grad, names, _row_norm)
    return jnp.concatenate([norm.reshape(-1, norm.shape[-1]) for norm in found]).T, grad_x


def _product(layer: Layer, record: Record, delta: Array, beside: Any) -> Float[Array, " n"]:
    along = layer._replace(**beside._asdict()).along(record.inputs, record.memory)
    return jnp.sum(delta * along, axis=1)


def row_products(
    params: Params,
    tape: Tape,
    grad: Float[Array, "n o"],
    names: tuple[str, str],
    direction: Params,
) -> Float[Array, " n"]:
    """Returns the inner product of each row's gradient with `direction`, Σ_i <δ_i, V_i h + v_i>."""
    beside = tuple(v.layers if isinstance(v, Stack) else v for v in direction)
    found, _ = walk(params, tape, grad, names, _product, beside)
    return sum((jnp.sum(p.reshape(-1, p.shape[-1]), axis=0) for p in found), start=0 * grad[:, 0])
