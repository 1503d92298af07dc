"""What is wrong with a network: dead units, outputs that explode, gradients that vanish.

Shapes: n samples, L layers, counted one by one also where they stand in a `Stack`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxnn import checks
from jaxnn.mlp.activations import ACTIVATIONS, Activation
from jaxnn.mlp.layers import Layer, Params
from jaxnn.mlp.structure import check_derivatives, check_network, over
from jaxnn.mlp.tape import Options, Record, run
from jaxnn.types import Scalar


class Diagnosis(NamedTuple):
    """How the units of each layer behave on a batch.

    Attributes:
        dead: The fraction of units (of pieces in a maxout layer) through which no gradient comes
            back from any row: σ′ is zero, or the piece never wins.
        rms: The root mean square of the outputs.
        exploding: The first layer, from 0, whose outputs exceed the limit or are not finite;
            -1 for none.
    """

    dead: Float[Array, " L"]
    rms: Float[Array, " L"]
    exploding: Int[Array, ""]


def _rms(h: Float[Array, "..."]) -> Float[Array, ""]:
    """Returns the root mean square, which overflows no earlier than the numbers themselves."""
    most = jnp.max(jnp.abs(h))
    unit = jnp.where(most > 0, most, 1)
    return unit * jnp.sqrt(jnp.mean(jnp.square(h / unit)))


def _look(layer: Layer, record: Record, function: Activation) -> tuple[Array, Array]:
    """Returns the fraction of dead units and the root mean square of the outputs of a layer."""
    value, slope = function.value(record.linear), function.derivative(record.linear)
    out = record.inputs + value if layer.skip else value
    alive = jnp.any(jnp.abs(slope) > jnp.finfo(slope.dtype).eps, axis=0)
    if record.memory is not None:
        alive = jnp.any(record.memory, axis=1) & alive[None, :]
    return jnp.mean(~alive, dtype=out.dtype), _rms(out)


def diagnose(
    params: Params,
    x: Float[ArrayLike, "*n d"],
    *,
    activation: str = "relu",
    output_activation: str = "identity",
    limit: Scalar = 1e4,
) -> Diagnosis:
    """Returns how the units of each layer behave on rows `x`, without dropout.

    Args:
        params: Layers, as from `mlp.init`.
        x: Rows, as in `mlp.apply`.
        activation: Of hidden layers.
        output_activation: Of the last layer.
        limit: How many times larger than the root mean square of x, or than 1, outputs may be
            before they are said to explode.

    Raises:
        TypeError, ValueError: What `mlp.apply` raises; and if `limit` is not positive.

    >>> from jaxnn import mlp
    >>> first, last = mlp.init(jax.random.key(0), (2, 3, 1))
    >>> dead = first._replace(bias=first.bias - 100)
    >>> found = diagnose((dead, last), jnp.ones((4, 2), jnp.float32))
    >>> found.dead.tolist(), int(found.exploding)
    ([1.0, 0.0], -1)
    """
    where = "mlp.diagnose"
    checks.positive(where, "limit", limit)
    checks.shape(where, "limit", limit, ())
    options = Options(activation, output_activation)
    _, tape, _ = run(where, params, x, None, options)
    check_derivatives(where, activation, output_activation)
    looks: list[Any] = []
    for i, layer in enumerate(params):
        function = ACTIVATIONS[output_activation if i == len(params) - 1 else activation]
        look = lambda one, record, function=function: _look(one, record, function)
        looks.append(over(layer, look, tape.record(i)))
    dead, rms = (jnp.concatenate([jnp.ravel(a) for a in part]) for part in zip(*looks, strict=True))
    allowed = jnp.asarray(limit, rms.dtype) * jnp.maximum(_rms(tape.inputs[0]), 1)
    large = ~(rms <= allowed)  # NaN is
    first = jnp.where(jnp.any(large), jnp.argmax(large), -1)
    return Diagnosis(dead=dead, rms=rms, exploding=first)


def layer_norms(gradient: Params) -> Float[Array, " L"]:
    """Returns the Euclidean norm of each layer, weight and bias together.

    Of a gradient, as from `mlp.value_and_grad`, it shows where the gradient vanishes or explodes;
    of parameters, how large they have grown.

    Raises:
        TypeError, ValueError: If they are no layers, or do not fit together.
    """
    check_network("mlp.layer_norms", gradient, "identity", "identity")

    def norm(layer: Layer) -> Array:
        entries = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(layer)])
        return _rms(entries) * entries.size**0.5

    return jnp.concatenate([jnp.ravel(over(layer, norm)) for layer in gradient])
