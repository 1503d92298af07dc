"""The targets of losses: what each kind of loss takes, checked at the door, and its classes.

Shapes: n samples, o outputs, c classes.  A door maps `(where, y, outputs)` to what a loss takes:
dtype and shape are always checked, values where they are concrete.
"""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxnn import checks
from jaxnn.types import Weights

Outputs = Float[Array, "n o"]


def real(where: str, y: ArrayLike, outputs: Outputs) -> Outputs:
    """Returns finite real targets, one for each output."""
    array = checks.floating(where, "y", y)
    checks.shape(where, "y", array, outputs.shape)
    checks.finite(where, "y", array)
    return array.astype(outputs.dtype)


def half(where: str, y: ArrayLike, outputs: Outputs) -> Float[Array, "n q"]:
    """Returns finite real targets, one for each two outputs, of which there must be pairs."""
    o = outputs.shape[1]
    if o % 2:
        raise ValueError(f"{where}: outputs must come in pairs, means first, got {o} of them")
    return real(where, y, outputs[:, : o // 2])


def counts(where: str, y: ArrayLike, outputs: Outputs) -> Outputs:
    """Returns targets that are not negative, one for each output; whole numbers may be integers."""
    array = y
    if jnp.issubdtype(getattr(y, "dtype", jnp.float32), jnp.integer):
        array = jnp.asarray(y).astype(outputs.dtype)
    given = checks.floating(where, "y", array)
    checks.shape(where, "y", given, outputs.shape)
    checks.non_negative(where, "y", given)
    return given.astype(outputs.dtype)


def unit(where: str, y: ArrayLike, outputs: Outputs) -> Outputs:
    """Returns targets in [0, 1], one for each output."""
    real(where, y, outputs)
    array = jnp.asarray(y)  # a cast under a trace would hide the values that are still to be seen
    if checks.concrete(array) and not checks.holds(lambda: (array >= 0) & (array <= 1)):
        values = [value for row in array.tolist() for value in row]
        raise ValueError(
            f"{where}: y must lie in [0, 1], got values from {min(values)} to {max(values)}"
        )
    return array.astype(outputs.dtype)


def _classes(where: str, y: ArrayLike) -> Array:
    """Returns what may name classes as an array, that is, as numbers."""
    try:
        return jnp.asarray(y)
    except (TypeError, ValueError):
        kind = getattr(y, "dtype", type(y).__name__)
        raise TypeError(
            f"{where}: y must hold whole numbers, got {kind}; "
            "encode names with classes, y = numpy.unique(y, return_inverse=True)"
        ) from None


def labels(where: str, y: ArrayLike, outputs: Outputs) -> Int[Array, " n"]:
    """Returns class labels, whole numbers from 0; of a single output the classes are 0 and 1."""
    n, o = outputs.shape
    array = _classes(where, y)
    if jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{where}: y must hold whole numbers, got {array.dtype}; "
            "y.astype(int) makes labels of them"
        )
    return checks.labels(where, "y", array, n, max(o, 2))


def classes(where: str, y: ArrayLike, outputs: Outputs) -> Array:
    """Returns class labels, or rows of class probabilities: floating-point, summing to one."""
    array = _classes(where, y)
    if array.ndim != 2 or not jnp.issubdtype(array.dtype, jnp.floating):
        checked = labels(where, array, outputs)
        if outputs.shape[1] == 1:
            raise ValueError(
                f"{where}: outputs must be one for each class, got 1; "
                "sigmoid_cross_entropy takes a single one"
            )
        return checked
    unit(where, array, outputs)
    if checks.concrete(array) and not checks.holds(lambda: jnp.abs(array.sum(1) - 1) < 1e-3):
        sums = [sum(row) for row in array.tolist()]
        worst = max(range(len(sums)), key=lambda row: abs(sums[row] - 1))
        raise ValueError(
            f"{where}: every row of y must sum to one, got {sums[worst]} in row {worst}; "
            "divide y by y.sum(axis=1, keepdims=True), or pass class labels"
        )
    return array.astype(outputs.dtype)


def soft(targets: Array, like: Outputs, c: int | None = None) -> Float[Array, "n c"]:
    """Returns one row of class probabilities for each target, a label or already such a row.

    A label that is no class gives a row of NaN.  At the door it is an error, but under a trace it
    can only be seen in the loss, and indexing would silently wrap or clip it.
    """
    if targets.ndim == 2:
        return targets
    numbers = jnp.arange(like.shape[1] if c is None else c, dtype=targets.dtype)
    hit = targets[:, None] == numbers[None, :]
    return jnp.where(jnp.any(hit, axis=1, keepdims=True), hit.astype(like.dtype), jnp.nan)


def balanced(
    y: Int[ArrayLike, " n"], n_classes: int, *, sample_weight: Weights | None = None
) -> Float[Array, " c"]:
    """Returns weights of classes under which all that occur weigh the same.

    Class c of n_c rows gets n / (m n_c), where m classes occur, so that the mean over rows is 1.
    A class that does not occur has weight 1: should it turn up in a later batch, it counts once.

    Args:
        y: class labels.
        n_classes: how many classes there are (static).
        sample_weight: of the rows; their sums then stand for the numbers of rows.

    Raises:
        TypeError, ValueError: labels that are no whole numbers in [0, n_classes); bad weights.

    >>> balanced(jnp.array([0, 0, 1, 1]), 3).tolist()
    [1.0, 1.0, 1.0]
    """
    where = "mlp.balanced"
    n_classes = checks.count(where, "n_classes", n_classes)
    array = jnp.asarray(y)
    checks.shape(where, "y", array, (None,))
    array = checks.labels(where, "y", array, array.shape[0], n_classes)
    if sample_weight is None:
        sample_weight = jnp.ones(array.shape)
    weight = checks.weights(where, "sample_weight", sample_weight, array.shape[0])
    mass = jnp.zeros(n_classes, weight.dtype).at[array].add(weight)
    occurs = mass > 0
    share = jnp.sum(mass) / jnp.sum(occurs)
    return jnp.where(occurs, share / jnp.where(occurs, mass, 1), 1)
