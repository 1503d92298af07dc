"""What a fitted predictor leans on, and what more data would bring; for any pure score.

Shapes: n rows, d features, r repeats, s sizes.  Both are one compiled program, kept for as long as
the same function objects are given; what changes from call to call is passed as arguments.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxnn import checks
from jaxnn.types import Data, Key

__all__ = ["Importance", "LearningCurve", "learning_curve", "permutation_importance"]


class Importance(NamedTuple):
    """How much a score falls where one feature is shuffled.

    Attributes:
        mean: over repeats; near or below zero for a feature that does not matter.
        std: over repeats.
        drops: every repeat.
        score: with all features as they are.
    """

    mean: Float[Array, " d"]
    std: Float[Array, " d"]
    drops: Float[Array, "d r"]
    score: Float[Array, ""]


def permutation_importance(
    key: Key,
    score: Callable[..., Float[Array, ""]],
    params: PyTree,
    x: Data,
    y: PyTree,
    *,
    repeats: int = 5,
) -> Importance:
    """Returns how much `score` falls as one column of x after another is shuffled.

    Breiman (2001, section 10).  A feature that another one can stand for seems to matter little.

    Args:
        key: draws the orders; each column and repeat has its own.
        score: `(params, x, y) -> number`, pure, higher is better; the accuracy of held-out rows,
            say, `lambda params, x, y: metrics.accuracy(mlp.predict(params, x), y)`.
        params: what `score` takes, traced, and so is all the rest.
        x: rows of shape (n, d).
        y: targets, or whatever else `score` needs beside each row.
        repeats: how often each column is shuffled (static).

    Raises:
        TypeError, ValueError: a bad key or rows, fewer than one repeat, a score that is no number.
    """
    where = "inspection.permutation_importance"
    checks.key(where, key)
    x = checks.data(where, "x", x)
    repeats = checks.count(where, "repeats", repeats)
    return _permutation_importance(key, params, x, y, score=score, repeats=repeats)


def _number(where: str, value: Array) -> Float[Array, ""]:
    array = checks.floating(where, "the value of score", value)
    checks.shape(where, "the value of score", array, ())
    return array


@partial(jax.jit, static_argnames=("score", "repeats"))
def _permutation_importance(
    key: Key, params: PyTree, x: Float[Array, "n d"], y: PyTree, *, score: Callable, repeats: int
) -> Importance:
    where = "inspection.permutation_importance"
    n, d = x.shape
    whole = _number(where, score(params, x, y))

    def of_column(column: Int[Array, ""]) -> Float[Array, " r"]:
        def shuffled(key: Key) -> Float[Array, ""]:
            order = jax.random.permutation(key, n)
            return _number(where, score(params, x.at[:, column].set(x[order, column]), y))

        return jax.vmap(shuffled)(jax.random.split(jax.random.fold_in(key, column), repeats))

    # One column at a time: at most `repeats` copies of the rows are held.
    drops = whole - jax.lax.map(of_column, jnp.arange(d))
    return Importance(jnp.mean(drops, axis=1), jnp.std(drops, axis=1), drops, whole)


class LearningCurve(NamedTuple):
    """Scores of fits to more and more rows.

    Attributes:
        sizes: how many rows each fit has learned from.
        scores: what `fit_and_score` returned, with leading axes of repeats and sizes.
    """

    sizes: Int[Array, " s"]
    scores: PyTree


def learning_curve(
    key: Key,
    fit_and_score: Callable[..., PyTree],
    n: int,
    sizes: Sequence[int] | Int[Array, " s"],
    *shared: PyTree,
    repeats: int = 1,
) -> LearningCurve:
    """Returns scores of fits to the first rows of random orders, more and more of them.

    Rows that a fit is not to see have weight zero instead of being cut off, so that all sizes are
    one program and one shape.  A repeat has one order: larger sizes contain the smaller ones.

    Args:
        key: draws the orders; member keys are folded from it as well.
        fit_and_score: `(key, weight, *shared) -> scores`, pure: fits with `weight`, (n,) of ones
            and zeros in float32, and scores on rows of its own.  It runs for all repeats and
            sizes at once, under `vmap`.
        n: how many rows there are.
        sizes: numbers of rows to learn from, each from 1 to n (traced).
        *shared: what else it takes: data, parameters to start from.
        repeats: how many orders are drawn (static).

    Raises:
        TypeError, ValueError: a bad key, sizes outside [1, n], fewer than one repeat.
    """
    where = "inspection.learning_curve"
    checks.key(where, key)
    n = checks.count(where, "n", n)
    repeats = checks.count(where, "repeats", repeats)
    counts = jnp.asarray(sizes)
    counts = checks.labels(where, "sizes", counts, counts.size, n + 1, least=1)
    scores = _learning_curve(key, counts, shared, fit_and_score=fit_and_score, n=n, repeats=repeats)
    return LearningCurve(counts, scores)


@partial(jax.jit, static_argnames=("fit_and_score", "n", "repeats"))
def _learning_curve(
    key: Key,
    sizes: Int[Array, " s"],
    shared: tuple[PyTree, ...],
    *,
    fit_and_score: Callable,
    n: int,
    repeats: int,
) -> PyTree:
    def one(key: Key, size: Int[Array, ""]) -> PyTree:
        key_order, key_fit = jax.random.split(key)
        place = jax.random.permutation(key_order, n)
        return fit_and_score(key_fit, (place < size).astype(jnp.float32), *shared)

    of_sizes = jax.vmap(one, in_axes=(None, 0))
    return jax.vmap(of_sizes, in_axes=(0, None))(jax.random.split(key, repeats), sizes)
