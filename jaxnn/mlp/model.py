"""Fully connected networks: parameters to start from, outputs, and classes.

Shapes: n samples, d features, o outputs.  Parameters are a tuple of layers (`Dense`, `Residual`,
`Maxout`, `Stack`), W of shape (outputs, inputs) as in the lecture's h_i = σ(W_i h_{i-1} + b_i);
rows are samples.
Every function is pure: jit it with names as static arguments, vmap it over networks.
"""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int

from jaxnn import checks, draws
from jaxnn.mlp.activations import ACTIVATIONS
from jaxnn.mlp.layers import Dense, Layer, Maxout, Params, Residual, Stack
from jaxnn.mlp.starts import STARTS
from jaxnn.mlp.tape import Options, run
from jaxnn.types import Key, Scalar


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


class _Plan(NamedTuple):
    """What layers must share to be drawn, and stacked, together."""

    layer: type[Dense | Maxout | Residual]
    shape: tuple[int, ...]
    gain: float
    share: float


def _plans(widths: list[int], pieces: int | None, residual: bool, gain: float) -> list[_Plan]:
    *hidden, (n_in, n_out) = itertools.pairwise(widths)
    beside = [residual and i == o for i, o in hidden]
    # L layers then grow a signal by at most (1 + 1/L)^L < e, whatever L and the mean of σ.
    share = 1 / max(1, sum(beside))
    plans = []
    for (i, o), passes in zip(hidden, beside, strict=True):
        if pieces is not None:
            plans.append(_Plan(Maxout, (pieces, o, i), gain, 1.0))
        elif passes:
            plans.append(_Plan(Residual, (o, i), gain, share))
        else:
            plans.append(_Plan(Dense, (o, i), gain, 1.0))
    return [*plans, _Plan(Dense, (n_out, n_in), 1.0, 1.0)]


# Compiled, since outside of jit each draw would be compiled on its own.
@partial(jax.jit, static_argnames=("plans", "start", "bias", "stacked", "dtype"))
def _draw(
    key: Key, plans: tuple[_Plan, ...], start: str, bias: bool, stacked: bool, dtype: jnp.dtype
) -> Params:
    """Returns a layer for each plan, equal square ones in a row as one `Stack` if `stacked`."""

    def draw(plan: _Plan, i: int | Array) -> Layer:
        weight = STARTS[start](draws.fold_in(key, i), plan.shape, plan.gain, dtype)
        zeros = jnp.zeros(plan.shape[:-1], dtype) if bias else None
        return plan.layer(weight=weight * plan.share, bias=zeros)

    def kin(member: tuple[int, _Plan]) -> Any:
        i, plan = member
        alone = not stacked or i == len(plans) - 1 or plan.shape[-1] != plan.shape[-2]
        return i if alone else plan

    layers: list[Layer | Stack] = []
    for _, members in itertools.groupby(enumerate(plans), kin):
        numbers, (plan, *others) = zip(*members, strict=True)
        if others:
            layers.append(Stack(jax.vmap(partial(draw, plan))(jnp.array(numbers))))
        else:
            layers.append(draw(plan, *numbers))
    return tuple(layers)


def init(
    key: Key,
    sizes: Sequence[int],
    *,
    activation: str = "relu",
    bias: bool = True,
    pieces: int | None = None,
    start: str = "gain",
    residual: bool = False,
    stacked: bool = False,
    dtype: DTypeLike = jnp.float32,
) -> Params:
    """Returns random parameters to start from.

    Biases are zero.  Layer i draws from `fold_in(key, i)`.

    Args:
        key: A PRNG key.
        sizes: (inputs, hidden widths..., outputs), at least two.
        activation: Of the hidden layers, a name in `mlp.ACTIVATIONS`; here it sets the gain only.
        bias: Whether layers have a bias.
        pieces: 2 or more make every hidden layer a `Maxout` of so many pieces, with gain 1 (exact
            for two pieces).  The activation must then be "identity": the maximum replaces it.
        start: A name in `mlp.STARTS`.  "gain" draws normal weights of standard deviation
            gain / sqrt(fan_in) (He et al., 2015), the gain that of the activation, and 1 in the
            last layer.
        residual: Whether hidden layers as wide as their inputs are `Residual`.  The weights of L
            of them are divided by L: at any depth signals then grow by less than a factor of e,
            for activations with σ(0) = 0.
        stacked: Whether equal hidden layers in a row are one `Stack`, which compiles in seconds
            at depth 1,000; the same numbers as without, as by `mlp.stack`.
        dtype: Of all parameters.

    Returns:
        A tuple of layers, len(sizes) - 1 long, or shorter if stacked.

    Raises:
        TypeError: If `key` is no key, a size no whole number, or `dtype` not floating-point.
        ValueError: If `sizes` is shorter than two, a size below 1, `pieces` below 2 or joined
            with another activation than "identity" or with `residual`, or a name is unknown.

    >>> params = init(jax.random.key(0), (4, 8, 3), activation="tanh")
    >>> [layer.weight.shape for layer in params]
    [(8, 4), (3, 8)]
    >>> init(jax.random.key(0), (4, 8, 3), activation="identity", pieces=2)[0].weight.shape
    (2, 8, 4)
    >>> deep = init(jax.random.key(0), (4, *(8,) * 1000, 3), residual=True, stacked=True)
    >>> len(deep), deep[1].layers.weight.shape
    (3, (999, 8, 8))
    """
    where = "mlp.init"
    checks.key(where, key)
    if not hasattr(sizes, "__len__"):
        raise TypeError(f"{where}: sizes must be (inputs, hidden..., outputs), got {sizes!r}")
    checks.count(where, "the number of sizes", len(sizes), least=2)
    widths = [checks.count(where, f"sizes[{i}]", size) for i, size in enumerate(sizes)]
    checks.in_table(where, "activation", activation, ACTIVATIONS)
    checks.in_table(where, "start", start, STARTS)
    if pieces is not None:
        checks.count(where, "pieces", pieces, least=2)
        if activation != "identity":
            raise ValueError(
                f"{where}: pieces makes the maximum the nonlinearity; "
                f"pass activation='identity', not {activation!r}, or no pieces"
            )
        if residual:
            raise ValueError(f"{where}: residual must be False with pieces, got True")
    kind = _float_type(where, dtype)

    plans = _plans(widths, pieces, residual, ACTIVATIONS[activation].gain)
    return _draw(key, tuple(plans), start, bias, stacked, kind)


def apply(
    params: Params,
    x: Float[ArrayLike, "*n d"],
    *,
    activation: str = "relu",
    output_activation: str = "identity",
    keep_prob: Scalar = 1.0,
    key: Key | None = None,
    convention: str = "inverted",
    input_keep_prob: Scalar = 1.0,
) -> Float[Array, "*n o"]:
    """Returns the outputs h_L of the network for rows `x`.

    Dropout (Srivastava et al., 2014) is on the outputs of hidden layers and on x, in training
    only: with a key.  The mask of layer i is drawn from `fold_in(key, i)`, as in `mlp.forward`.

    Args:
        params: Layers, as from `init`.
        x: Rows, of the width of the first layer and the dtype of the parameters, in a batch of
            any leading shape: (d,) is one sample.
        activation: Of hidden layers, a name in `mlp.ACTIVATIONS`; "identity" with `Maxout`.
        output_activation: Of the last layer; "identity" gives logits.
        keep_prob: The lecture's p: the probability in (0, 1] that a hidden unit is kept.  Traced:
            another value needs no compilation.
        key: A PRNG key for training; None for evaluation.
        convention: "inverted" divides kept units by p in training; "classic" multiplies hidden
            outputs, hence the next layer's weights, by p at evaluation, as in the lecture.
        input_keep_prob: The same for the entries of x.

    Returns:
        The outputs, of the same leading shape and dtype.

    Raises:
        TypeError: If `params` are no layers, `x` is not of their dtype, or `key` is no key.
        ValueError: If layers do not fit together or to `x` (the layer is named), a name is
            unknown, a probability is outside (0, 1], or `x` or a parameter has a NaN.

    >>> params = init(jax.random.key(0), (4, 8, 3))
    >>> x = jnp.ones((2, 4), jnp.float32)
    >>> apply(params, x).shape
    (2, 3)
    >>> apply(params, x, keep_prob=0.8, key=jax.random.key(1)).shape
    (2, 3)
    """
    options = Options(activation, output_activation, keep_prob, convention, input_keep_prob)
    outputs, _, shape = run("mlp.apply", params, x, key, options)
    return outputs.reshape(*shape, -1)


def predict(
    params: Params,
    x: Float[ArrayLike, "*n d"],
    *,
    activation: str = "relu",
    output_activation: str = "identity",
    keep_prob: Scalar = 1.0,
    convention: str = "inverted",
    input_keep_prob: Scalar = 1.0,
) -> Int[Array, "*n"]:
    """Returns the class of each row of `x`, the place of its largest output, in evaluation.

    Arguments and errors are those of `mlp.apply`; the probabilities matter to "classic" only.
    """
    options = Options(activation, output_activation, keep_prob, convention, input_keep_prob)
    outputs, _, shape = run("mlp.predict", params, x, None, options)
    return jnp.argmax(outputs, axis=1).reshape(shape)
