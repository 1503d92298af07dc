"""The perceptron's parameters, what its outputs mean, and Novikoff's bound.

Shapes: n samples, d inputs, o outputs.  Output j is on where its score w_j · x + b_j is above zero.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int, Shaped

from jaxnn import checks
from jaxnn.types import Data

Targets = Shaped[ArrayLike, "n *o"]


class Perceptron(NamedTuple):
    """Parameters; `bias` None means planes through the origin."""

    weight: Float[Array, "o d"]
    bias: Float[Array, " o"] | None


class Decision(NamedTuple):
    """What the outputs mean.

    Attributes:
        targets: (where, y, n, o) to (n, o) targets, +1 where an output should be on, else -1.
        correction: Scores and targets of one row, (o,), to the multiples of x that the weights
            gain; all zero if the row is right.
        on: Scores (n, o) to the outputs that are on, as booleans (n, o).
        labels: Which outputs are on, (n, o), to what `predict` returns.
    """

    targets: Callable[[str, Any, int, int], Array]
    correction: Callable[[Array, Array], Array]
    on: Callable[[Array], Array]
    labels: Callable[[Array], Array]


def signs(where: str, y: Any, n: int, o: int) -> Array:
    """Each output is on or off by itself: labels 0 and 1, or -1 and +1, for each output."""
    array = jnp.asarray(y)
    if array.shape != (n, o) and (o > 1 or array.shape != (n,)):
        wanted = f"({n},) or ({n}, 1)" if o == 1 else f"({n}, {o})"
        raise ValueError(
            f"{where}: y must have shape {wanted}, as many labels as rows and outputs, "
            f"got {array.shape}"
        )
    array = array.reshape(n, o)
    on = array == 1
    if checks.concrete(array):
        zeros, minus = (checks.holds(lambda v=v: on | (array == v)) for v in (0, -1))
        if not zeros and not minus:
            odd = sorted({float(v) for v in array.ravel()} - {1.0})[:4]
            raise ValueError(
                f"{where}: y must hold labels 0 and 1, or -1 and +1, "
                f"got {', '.join(f'{v:g}' for v in odd)}"
            )
    return jnp.where(on, 1, -1)


def _classes(where: str, y: Any, n: int, o: int) -> Array:
    """The output with the largest score wins: labels are classes from 0 to o - 1."""
    if o < 2:
        raise ValueError(f"{where}: decision 'winner' must have at least 2 outputs, got {o}")
    labels = checks.labels(where, "y", y, n, o)
    return jnp.where(labels[:, None] == jnp.arange(o)[None], 1, -1)


def _each(scores: Array, targets: Array) -> Array:
    return jnp.where(targets * scores <= 0, targets, 0)


def _against_rival(scores: Array, targets: Array) -> Array:
    """Up with the true class and down with its best rival (Crammer and Singer, 2003)."""
    true = targets > 0
    rival = jnp.argmax(jnp.where(true, -jnp.inf, scores))
    wrong = jnp.max(jnp.where(true, scores, -jnp.inf)) <= scores[rival]
    push = true.astype(targets.dtype) - (jnp.arange(targets.shape[0]) == rival)
    return jnp.where(wrong, push, 0)


def _highest(scores: Array) -> Array:
    return jnp.argmax(scores, axis=1)[:, None] == jnp.arange(scores.shape[1])[None]


DECISIONS: dict[str, Decision] = {
    "threshold": Decision(
        targets=signs,
        correction=_each,
        on=lambda scores: scores > 0,
        labels=lambda on: on.astype(jnp.int32),
    ),
    "winner": Decision(
        targets=_classes,
        correction=_against_rival,
        on=_highest,
        labels=lambda on: jnp.argmax(on, axis=1),
    ),
}


def init(
    n_inputs: int, n_outputs: int = 1, *, bias: bool = True, dtype: DTypeLike = jnp.float32
) -> Perceptron:
    """Returns the perceptron that knows nothing: all weights zero, nothing drawn.

    Raises TypeError or ValueError for sizes that are no whole numbers above zero, or a `dtype` that
    is not floating-point.
    """
    where = "perceptron.init"
    d = checks.count(where, "n_inputs", n_inputs)
    o = checks.count(where, "n_outputs", n_outputs)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{where}: dtype must be a floating-point type, got {jnp.dtype(dtype)}")
    return Perceptron(weight=jnp.zeros((o, d), dtype), bias=jnp.zeros(o, dtype) if bias else None)


def door(where: str, params: Any, x: Data) -> tuple[Perceptron, Array]:
    """Returns parameters and rows as arrays that fit together."""
    if not isinstance(params, Perceptron):
        raise TypeError(f"{where}: params must be a Perceptron, got {type(params).__name__}")
    weight = checks.floating(where, "params.weight", params.weight)
    checks.shape(where, "params.weight", weight, (None, None))
    rows = checks.data(where, "x", x, weight.shape[1])
    checks.same_dtype(where, "x", rows, "the weights", weight.dtype)
    bias = params.bias
    if bias is not None:
        bias = checks.floating(where, "params.bias", bias)
        checks.shape(where, "params.bias", bias, weight.shape[:1])
        checks.same_dtype(where, "params.bias", bias, "the weights", weight.dtype)
    return Perceptron(weight, bias), rows


def raw_scores(params: Perceptron, x: Float[Array, "n d"]) -> Float[Array, "n o"]:
    """Returns `scores` of rows that have been checked."""
    products = x @ params.weight.T
    return products if params.bias is None else products + params.bias[None]


def scores(params: Perceptron, x: Data) -> Float[Array, "n o"]:
    """Returns w_j · x + b_j for each row and output.  Raises as `predict` does."""
    return raw_scores(*door("perceptron.scores", params, x))


def predict(params: Perceptron, x: Data, *, decision: str = "threshold") -> Int[Array, "n *o"]:
    """Returns 0 or 1 for each output, (n, o), or with decision "winner" the class, (n,).

    Raises TypeError or ValueError if `params` and `x` do not fit together, `x` has a NaN, or the
    decision is unknown.
    """
    where = "perceptron.predict"
    checks.in_table(where, "decision", decision, DECISIONS)
    chosen = DECISIONS[decision]
    return chosen.labels(chosen.on(raw_scores(*door(where, params, x))))


def bound(params: Perceptron, x: Data, y: Targets) -> Float[Array, " o"]:
    """Returns (R/γ)² for each output, with the margin γ that `params` leave (Novikoff, 1962).

    A perceptron that starts at zero makes no more mistakes than this, whatever separating `params`
    are given; the widest margin gives the best bound.  A bias counts as the weight of one more
    input, always 1, in R and γ alike.  Infinite where `params` do not separate the labels.

    Raises TypeError or ValueError for rows and labels as `fit` does with decision "threshold".
    """
    where = "perceptron.bound"
    params, x = door(where, params, x)
    targets = signs(where, y, x.shape[0], params.weight.shape[0]).astype(x.dtype)
    square_radius = jnp.max(jnp.sum(jnp.square(x), axis=1))
    square_norm = jnp.sum(jnp.square(params.weight), axis=1)
    if params.bias is not None:
        square_radius += 1
        square_norm += jnp.square(params.bias)
    least = jnp.min(targets * raw_scores(params, x), axis=0)
    safe = jnp.where(least > 0, least, 1.0)
    return jnp.where(least > 0, square_radius * square_norm / jnp.square(safe), jnp.inf)
