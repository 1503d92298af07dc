"""What a training is given, checked and made into arrays before anything is compiled."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxnn import checks
from jaxnn.train.data import Batch, leading
from jaxnn.train.optimizers import optimizer as make_optimizer
from jaxnn.train.state import Choices, Plan, Rows, Score
from jaxnn.types import Key, Scalar, ValueAndGrad

LONGEST = jnp.iinfo(jnp.int32).max


class Job(NamedTuple):
    """A training that was checked: what its compiled parts take."""

    params: PyTree
    rows: Rows
    plan: Plan
    choices: Choices


def prepare(
    where: str,
    key: Key,
    params: PyTree,
    batch: Batch,
    value_and_grad: ValueAndGrad,
    *,
    epochs: int,
    optimizer: str = "adam",
    learning_rate: Scalar = 1e-3,
    batch_size: int | None = None,
    accumulate: int = 1,
    shuffle: bool = True,
    sampling: Float[Array, " n"] | None = None,
    l2: Scalar = 0.0,
    validation: Batch | None = None,
    validate_every: int = 1,
    score: Score | None = None,
    metrics: Mapping[str, Score] | None = None,
    patience: int | Int[Array, ""] | None = None,
    min_gain: Scalar = 0.0,
    **options: Scalar,
) -> Job:
    """Returns what a training needs; raises what `train.fit` says."""
    checks.key(where, key)
    epochs = checks.count(where, "epochs", epochs)
    params, dtype = parameters(where, params)
    batch, weight = rows(where, "batch", batch, dtype)
    n = len(weight)
    size = n
    if batch_size is not None:
        size = min(n, checks.count(where, "batch_size", batch_size))
    if sampling is not None:
        sampling = checks.weights(where, "sampling", sampling, n).astype(dtype)
    given = {"learning_rate": learning_rate, "l2": l2, "min_gain": min_gain}
    numbers = {name: number(where, name, x, dtype) for name, x in given.items()}
    make_optimizer(optimizer, learning_rate, **options)  # checks name and options
    slot(where, value_and_grad, params, batch._replace(weight=weight), key)
    named = tuple(sorted((metrics or {}).items()))
    if validation is not None:
        held_out, held_weight = rows(where, "validation", validation, dtype)
        validation = held_out._replace(weight=held_weight)
        judge(where, value_and_grad, score, named, params, validation)
    elif named:
        raise ValueError(f"{where}: metrics need a validation batch to look at, got None")
    plan = Plan(
        **numbers,
        patience=_patience(where, patience, validation),
        options={name: number(where, name, x, dtype) for name, x in options.items()},
    )
    choices = Choices(
        value_and_grad=value_and_grad,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=size,
        accumulate=checks.count(where, "accumulate", accumulate),
        shuffle=shuffle,
        validate_every=checks.count(where, "validate_every", validate_every),
        score=score,
        metrics=named,
        finite=bool(jax.config.jax_debug_nans),  # pyright: ignore[reportAttributeAccessIssue]
    )
    return Job(params, Rows(batch, weight, sampling, validation), plan, choices)


def number(where: str, name: str, x: Any, dtype: Any) -> Float[Array, ""]:
    """Returns one number that is not negative, perhaps traced, as an array of `dtype`."""
    if not isinstance(x, int | float) and not hasattr(x, "dtype"):
        raise TypeError(f"{where}: {name} must be a number, got {type(x).__name__}")
    checks.shape(where, name, jnp.asarray(x), ())
    checks.non_negative(where, name, x)
    return jnp.asarray(x, dtype)


def _patience(where: str, epochs: Any, validation: Batch | None) -> Int[Array, ""]:
    """Returns the patience as an array; None is more than any run can take."""
    if epochs is None:
        epochs = LONGEST
    elif validation is None:
        raise ValueError(f"{where}: patience needs a validation batch to watch, got None")
    elif checks.concrete(epochs):
        epochs = checks.count(where, "patience", epochs, most=LONGEST)
    array = jnp.asarray(epochs, jnp.int32)
    checks.shape(where, "patience", array, ())
    return array


def parameters(where: str, params: PyTree) -> tuple[PyTree, Any]:
    """Returns parameters as arrays, and the floating-point type that they all have."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ValueError(f"{where}: params must hold at least one array, got {params!r}")
    names = [f"params{jax.tree_util.keystr(path)}" for path, _ in leaves]
    arrays = [
        checks.floating(where, name, leaf) for name, (_, leaf) in zip(names, leaves, strict=True)
    ]
    dtype = arrays[0].dtype
    for name, array in zip(names, arrays, strict=True):
        checks.same_dtype(where, name, array, names[0], dtype)
    return jax.tree.map(lambda p: jnp.asarray(p, dtype), params), dtype  # no weak types


def rows(where: str, name: str, batch: Batch, dtype: Any) -> tuple[Batch, Float[Array, " n"]]:
    """Returns a batch of arrays without weights, and its weights, ones where there were none."""
    if not isinstance(batch, Batch):
        raise TypeError(
            f"{where}: {name} must be a train.Batch, got {type(batch).__name__}; "
            "write Batch(x=x, y=y)"
        )
    try:
        batch = jax.tree.map(jnp.asarray, batch)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{where}: {name} must hold arrays of numbers ({str(error).splitlines()[0]})"
        ) from None
    n = leading(where, name, batch)
    if batch.weight is None:
        return batch, jnp.ones(n, dtype)
    weight = checks.weights(where, f"{name}.weight", batch.weight, n)
    return batch._replace(weight=None), weight.astype(dtype)


def slot(
    where: str, value_and_grad: ValueAndGrad, params: PyTree, batch: Batch, key: Key | None
) -> None:
    """Raises unless the function returns a number, and a gradient in the shape of `params`.

    It is only traced, and only in `params`: of rows that are known it still sees the values, so
    that its own checks (a label that is no class, …) speak here, and not as a NaN later.
    """
    what = "value_and_grad must return (value, gradient)"

    def look(params: PyTree) -> None:
        returned = value_and_grad(params, batch, key)
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

    jax.eval_shape(look, params)


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
        if not callable(metric):
            raise TypeError(
                f"{where}: {name} must be a function of parameters and rows, "
                f"got {type(metric).__name__}"
            )
        look = lambda p, name=name, metric=metric: _scalar(
            where, f"the value of {name}", metric(p, validation)
        )
        jax.eval_shape(look, params)


def _scalar(where: str, name: str, value: Any) -> None:
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{where}: {name} must be a floating-point number, got {array.dtype}")
    checks.shape(where, name, array, ())
