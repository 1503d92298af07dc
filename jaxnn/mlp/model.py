"""Fully connected networks: parameters to start from, outputs, and classes.

Shapes: n samples, d features, o outputs.  Parameters are a tuple of layers (`Dense`, `Maxout`),
W of shape (outputs, inputs) as in the lecture's h_i = σ(W_i h_{i-1} + b_i); rows are samples.
Every function is pure: jit it with names as static arguments, vmap it over networks.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from jaxnn import checks
from jaxnn.mlp.activations import ACTIVATIONS
from jaxnn.mlp.layers import Dense, Layer, Maxout, Params
from jaxnn.mlp.tape import Options, run
from jaxnn.types import Data, Key, Scalar


def _float_type(where: str, dtype: DTypeLike) -> jnp.dtype:
    wanted = jnp.dtype(dtype)
    if not jnp.issubdtype(wanted, jnp.floating):
        raise TypeError(f"{where}: dtype must be a floating-point type, got {wanted}")
    if jax.dtypes.canonicalize_dtype(wanted) != wanted:
        raise ValueError(
            f"{where}: dtype {wanted} needs jax_enable_x64; "
            'call jax.config.update("jax_enable_x64", True) first, or ask for float32'
        )
    return wanted


def init(
    key: Key,
    sizes: Sequence[int],
    *,
    activation: str = "relu",
    bias: bool = True,
    pieces: int | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Params:
    """Returns random parameters to start from.

    Weights are normal with mean 0 and standard deviation gain / sqrt(fan_in) (He et al., 2015),
    the gain that of the activation, and 1 in the last layer; biases are zero.  Layer i draws from
    `fold_in(key, i)`.

    Args:
        key: A PRNG key.
        sizes: (inputs, hidden widths..., outputs), at least two.
        activation: Of the hidden layers, a name in `mlp.ACTIVATIONS`; here it sets the gain only.
        bias: Whether layers have a bias.
        pieces: 2 or more make every hidden layer a `Maxout` of so many pieces, with gain 1 (exact
            for two pieces).  The activation must then be "identity": the maximum replaces it.
        dtype: Of all parameters.

    Returns:
        A tuple of layers, len(sizes) - 1 long.

    Raises:
        TypeError: If `key` is no key, a size no whole number, or `dtype` not floating-point.
        ValueError: If `sizes` is shorter than two, a size below 1, `pieces` below 2 or joined
            with another activation than "identity", or the activation unknown.

    >>> params = init(jax.random.key(0), (4, 8, 3), activation="tanh")
    >>> [layer.weight.shape for layer in params]
    [(8, 4), (3, 8)]
    >>> init(jax.random.key(0), (4, 8, 3), activation="identity", pieces=2)[0].weight.shape
    (2, 8, 4)
    """
    where = "mlp.init"
    checks.key(where, key)
    if not hasattr(sizes, "__len__"):
        raise TypeError(f"{where}: sizes must be (inputs, hidden..., outputs), got {sizes!r}")
    checks.count(where, "the number of sizes", len(sizes), least=2)
    widths = [checks.count(where, f"sizes[{i}]", size) for i, size in enumerate(sizes)]
    checks.in_table(where, "activation", activation, ACTIVATIONS)
    if pieces is not None:
        checks.count(where, "pieces", pieces, least=2)
        if activation != "identity":
            raise ValueError(
                f"{where}: pieces makes the maximum the nonlinearity; "
                f"pass activation='identity', not {activation!r}, or no pieces"
            )
    kind = _float_type(where, dtype)
    layers: list[Layer] = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        last = i == len(widths) - 2
        gain = 1.0 if last else ACTIVATIONS[activation].gain
        head = () if last or pieces is None else (pieces,)
        draw = jax.random.normal(jax.random.fold_in(key, i), (*head, n_out, n_in), kind)
        layers.append(
            (Maxout if head else Dense)(
                weight=draw * (gain / n_in**0.5),
                bias=jnp.zeros((*head, n_out), kind) if bias else None,
            )
        )
    return tuple(layers)


def apply(
    params: Params,
    x: Data,
    *,
    activation: str = "relu",
    output_activation: str = "identity",
    keep_prob: Scalar = 1.0,
    key: Key | None = None,
    convention: str = "inverted",
) -> Float[Array, "n o"]:
    """Returns the outputs h_L of the network for rows `x`.

    Dropout (Srivastava et al., 2014) is on the outputs of hidden layers, in training only: with a
    key.  The mask of layer i is drawn from `fold_in(key, i)`, as in `mlp.forward`.

    Args:
        params: Layers, as from `init`.
        x: Rows, of the width of the first layer and the dtype of the parameters.
        activation: Of hidden layers, a name in `mlp.ACTIVATIONS`; "identity" with `Maxout`.
        output_activation: Of the last layer; "identity" gives logits.
        keep_prob: The lecture's p: the probability in (0, 1] that a hidden unit is kept.  Traced:
            another value needs no compilation.
        key: A PRNG key for training; None for evaluation.
        convention: "inverted" divides kept units by p in training; "classic" multiplies hidden
            outputs, hence the next layer's weights, by p at evaluation, as in the lecture.

    Returns:
        The outputs, of the same dtype.

    Raises:
        TypeError: If `params` are no layers, `x` is not of their dtype, or `key` is no key.
        ValueError: If layers do not fit together or to `x` (the layer is named), a name is
            unknown, `keep_prob` is outside (0, 1], or `x` has a NaN.

    >>> params = init(jax.random.key(0), (4, 8, 3))
    >>> x = jnp.ones((2, 4), jnp.float32)
    >>> apply(params, x).shape
    (2, 3)
    >>> apply(params, x, keep_prob=0.8, key=jax.random.key(1)).shape
    (2, 3)
    """
    options = Options(activation, output_activation, keep_prob, convention)
    return run("mlp.apply", params, x, key, options)[0]


def predict(
    params: Params,
    x: Data,
    *,
    activation: str = "relu",
    output_activation: str = "identity",
    keep_prob: Scalar = 1.0,
    convention: str = "inverted",
) -> Int[Array, " n"]:
    """Returns the class of each row of `x`, the place of its largest output, in evaluation.

    Arguments and errors are those of `mlp.apply`; `keep_prob` matters to "classic" only.
    """
    options = Options(activation, output_activation, keep_prob, convention)
    return jnp.argmax(run("mlp.predict", params, x, None, options)[0], axis=1)
