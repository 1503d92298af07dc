"""The functions that a training is given, tried on its rows before anything is compiled."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxnn import checks
from jaxnn.train import seen
from jaxnn.train.data import Batch
from jaxnn.train.state import Score
from jaxnn.types import Key, ValueAndGrad


def _function(where: str, name: str, function: Any) -> None:
    """Raises TypeError unless it is a function that JAX can know again."""
    if not callable(function):
        raise TypeError(f"{where}: {name} must be a function, got {type(function).__name__}")
    try:
        hash(function)
    except TypeError:
        raise TypeError(
            f"{where}: {name} must be hashable, as functions are, got {type(function).__name__}; "
            "give the same object again and nothing is compiled anew"
        ) from None


def _kind(params: PyTree) -> Any:
    return jax.tree.structure(params), [(p.shape, p.dtype) for p in jax.tree.leaves(params)]


def slot(
    where: str,
    value_and_grad: ValueAndGrad,
    params: PyTree,
    batch: Batch,
    key: Key | None,
) -> None:
    """Raises unless the function returns a number, and a gradient in the shape of `params`.

    It is only traced, and only in `params` and the weights, which were checked: of rows that are
    known it still sees the values, so that its own checks (a label that is no class, …) speak
    here, and not as a NaN later. Once it has seen the arrays of the batch, it is not asked again.
    """
    what = "value_and_grad must return (value, gradient)"
    _function(where, "value_and_grad", value_and_grad)

    def look(params: PyTree, weight: Array) -> None:
        returned = value_and_grad(params, batch._replace(weight=weight), key)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(f"{where}: {what}, got {type(returned).__name__}")
        value, gradient = returned
        _scalar(where, "the value of value_and_grad", value)
        given, wanted = jax.tree.structure(gradient), jax.tree.structure(params)
        if given != wanted:
            raise ValueError(f"{where}: {what}, the gradient like params {wanted}, got {given}")
        leaves = jax.tree_util.tree_leaves_with_path(gradient)
        for (path, g), p in zip(leaves, jax.tree.leaves(params), strict=True):
            checks.shape(where, f"gradient{jax.tree_util.keystr(path)}", g, p.shape)

    role = "validation" if key is None else "batch"
    look_at = lambda: jax.eval_shape(look, params, weights(params, batch))
    seen.once(value_and_grad, role, _kind(params), batch, look_at)


def weights(params: PyTree, batch: Batch) -> jax.ShapeDtypeStruct:
    """Returns what stands for the weights of a batch while a function is only tried."""
    dtype = jnp.result_type(*jax.tree.leaves(params))
    return jax.ShapeDtypeStruct(jax.tree.leaves(batch)[0].shape[:1], dtype)


def judge(
    where: str,
    value_and_grad: ValueAndGrad,
    score: Score | None,
    metrics: tuple[tuple[str, Score], ...],
    params: PyTree,
    validation: Batch,
) -> None:
    """Raises unless the held-out rows can be scored: by `score`, or else by their loss."""
    if score is None:
        slot(where, value_and_grad, params, validation, None)
    else:
        metrics = (("score", score), *metrics)
    for name, metric in metrics:
        _function(where, name, metric)

        def look(params: PyTree, weight: Array, name: str = name, metric: Score = metric) -> None:
            found = metric(params, validation._replace(weight=weight))
            _scalar(where, f"the value of {name}", found)

        look_at = lambda look=look: jax.eval_shape(look, params, weights(params, validation))
        seen.once(metric, "validation", _kind(params), validation, look_at)


def _scalar(where: str, name: str, value: Any) -> None:
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{where}: {name} must be a floating-point number, got {array.dtype}")
    checks.shape(where, name, array, ())
