"""What `train.fit` is given, checked and made into arrays before anything is compiled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxnn import checks
from jaxnn.train.data import Batch, leading
from jaxnn.types import Key, ValueAndGrad

Score = Callable[[PyTree, Batch], Float[Array, ""]]
WHERE = "train.fit"
LONGEST = jnp.iinfo(jnp.int32).max


def number(name: str, x: Any, dtype: Any) -> Float[Array, ""]:
    """Returns one number that is not negative, perhaps traced, as an array of `dtype`."""
    if not isinstance(x, int | float) and not hasattr(x, "dtype"):
        raise TypeError(f"{WHERE}: {name} must be a number, got {type(x).__name__}")
    checks.shape(WHERE, name, jnp.asarray(x), ())
    checks.non_negative(WHERE, name, x)
    return jnp.asarray(x, dtype)


def patience(epochs: Any, validation: Batch | None) -> Int[Array, ""]:
    """Returns the patience as an array; None is more than any run can take."""
    if epochs is None:
        epochs = LONGEST
    elif validation is None:
        raise ValueError(f"{WHERE}: patience needs a validation batch to watch, got None")
    elif checks.concrete(epochs):
        epochs = checks.count(WHERE, "patience", epochs, most=LONGEST)
    array = jnp.asarray(epochs, jnp.int32)
    checks.shape(WHERE, "patience", array, ())
    return array


def parameters(params: PyTree) -> tuple[PyTree, Any]:
    """Returns parameters as arrays, and the floating-point type that they all have."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ValueError(f"{WHERE}: params must hold at least one array, got {params!r}")
    names = [f"params{jax.tree_util.keystr(path)}" for path, _ in leaves]
    arrays = [
        checks.floating(WHERE, name, leaf) for name, (_, leaf) in zip(names, leaves, strict=True)
    ]
    dtype = arrays[0].dtype
    for name, array in zip(names, arrays, strict=True):
        checks.same_dtype(WHERE, name, array, names[0], dtype)
    return jax.tree.map(lambda p: jnp.asarray(p, dtype), params), dtype  # no weak types


def rows(name: str, batch: Batch, dtype: Any) -> tuple[Batch, Float[Array, " n"]]:
    """Returns a batch of arrays without weights, and its weights, ones where there were none."""
    if not isinstance(batch, Batch):
        raise TypeError(
            f"{WHERE}: {name} must be a train.Batch, got {type(batch).__name__}; "
            "write Batch(x=x, y=y)"
        )
    try:
        batch = jax.tree.map(jnp.asarray, batch)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{WHERE}: {name} must hold arrays of numbers ({str(error).splitlines()[0]})"
        ) from None
    n = leading(WHERE, name, batch)
    if batch.weight is None:
        return batch, jnp.ones(n, dtype)
    weight = checks.weights(WHERE, f"{name}.weight", batch.weight, n)
    return batch._replace(weight=None), weight.astype(dtype)


def slot(value_and_grad: ValueAndGrad, params: PyTree, batch: Batch, key: Key | None) -> None:
    """Raises unless the function returns a number, and a gradient in the shape of `params`.

    It is only traced, and only in `params`: of rows that are known it still sees the values, so
    that its own checks (a label that is no class, …) speak here, and not as a NaN later.
    """
    what = "value_and_grad must return (value, gradient)"

    def look(params: PyTree) -> None:
        returned = value_and_grad(params, batch, key)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(f"{WHERE}: {what}, got {type(returned).__name__}")
        value, gradient = returned
        _scalar("the value of value_and_grad", value)
        given, wanted = jax.tree.structure(gradient), jax.tree.structure(params)
        if given != wanted:
            raise ValueError(f"{WHERE}: {what}, the gradient like params {wanted}, got {given}")
        leaves = jax.tree_util.tree_leaves_with_path(gradient)
        for (path, g), p in zip(leaves, jax.tree.leaves(params), strict=True):
            checks.shape(WHERE, f"gradient{jax.tree_util.keystr(path)}", g, p.shape)

    jax.eval_shape(look, params)


def judge(
    value_and_grad: ValueAndGrad, score: Score | None, params: PyTree, validation: Batch
) -> None:
    """Raises unless the held-out rows can be scored: by `score`, or else by their loss."""
    if score is None:
        slot(value_and_grad, params, validation, None)
    else:
        jax.eval_shape(lambda p: _scalar("the value of score", score(p, validation)), params)


def _scalar(name: str, value: Any) -> None:
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{WHERE}: {name} must be a floating-point number, got {array.dtype}")
    checks.shape(WHERE, name, array, ())
