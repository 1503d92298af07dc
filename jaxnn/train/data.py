"""Rows for training: conversion, standardisation, splits, and the batches of an epoch.

Shapes: n rows, d features, b batches of s rows.
"""

from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from jaxnn import checks
from jaxnn.types import Data, Key


class Batch(NamedTuple):
    """Rows with their targets and weights; each an array (or pytree) with leading axis n.

    `weight` None means that every row counts once. The trainer fills a ragged last batch with
    rows of weight zero, so a loss must be a weighted mean.
    """

    x: PyTree
    y: PyTree = None
    weight: Float[Array, " n"] | None = None


class Standardiser(NamedTuple):
    """The affine map to columns of mean 0 and standard deviation 1, and back."""

    mean: Float[Array, " d"]
    scale: Float[Array, " d"]

    @classmethod
    def of(cls, x: Data) -> Self:
        """Returns the map of these rows; a constant column is only centred."""
        x = checks.data("train.Standardiser.of", "x", x)
        scale = jnp.std(x, axis=0)
        return cls(mean=jnp.mean(x, axis=0), scale=jnp.where(scale > 0, scale, 1.0))

    def apply(self, x: Data) -> Float[Array, "n d"]:
        """Returns the rows in standard units."""
        x = checks.data("train.Standardiser.apply", "x", x, self.mean.shape[0])
        return (x - self.mean[None]) / self.scale[None]

    def invert(self, z: Data) -> Float[Array, "n d"]:
        """Returns rows in standard units as rows in data units."""
        z = checks.data("train.Standardiser.invert", "z", z, self.mean.shape[0])
        return z * self.scale[None] + self.mean[None]


def as_float(x: ArrayLike, dtype: Any = None) -> Array:
    """Returns whole numbers, booleans or floating-point numbers as a floating-point array.

    Args:
        x: anything NumPy takes as numbers.
        dtype: float32 or float64 (where x64 is on); by default a floating-point `x` keeps its
            own, and whole numbers take JAX's default.

    Raises:
        TypeError: `x` holds no real numbers, or `dtype` is not a floating-point type that is on.
    """
    where = "train.as_float"
    try:
        array = jnp.asarray(x)
    except (TypeError, ValueError):
        raise TypeError(f"{where}: x must hold real numbers, got {type(x).__name__}") from None
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{where}: x must hold real numbers, got {array.dtype}")
    if dtype is None:
        floating = jnp.issubdtype(array.dtype, jnp.floating)
        dtype = array.dtype if floating else jnp.zeros(()).dtype
    wanted = jnp.dtype(dtype)
    if not jnp.issubdtype(wanted, jnp.floating):
        raise TypeError(f"{where}: dtype must be a floating-point type, got {wanted}")
    if wanted == jnp.float64 and not jax.config.read("jax_enable_x64"):
        raise TypeError(f"{where}: dtype float64 needs jax.config.update('jax_enable_x64', True)")
    return array.astype(wanted)


def split(key: Key, rows: PyTree, sizes: tuple[int, ...]) -> tuple[PyTree, ...]:
    """Returns disjoint random parts of `rows`, a pytree of arrays with the same leading axis.

    Args:
        key: shuffles the rows.
        rows: arrays with leading axis n.
        sizes: rows of each part, with a sum of at most n.

    Raises:
        ValueError: leading axes that differ, a size below 1, or too many rows asked for.
    """
    where = "train.split"
    checks.key(where, key)
    n = leading(where, rows)
    for size in sizes:
        checks.count(where, "sizes", size)
    if sum(sizes) > n:
        raise ValueError(f"{where}: sizes must sum to at most {n} rows, got {sum(sizes)}")
    order = jax.random.permutation(key, n)
    parts, start = [], 0
    for size in sizes:
        chosen = order[start : start + size]
        parts.append(jax.tree.map(lambda a, chosen=chosen: a[chosen], rows))
        start += size
    return tuple(parts)


def leading(where: str, rows: PyTree) -> int:
    """Returns the common leading axis of all arrays; raises ValueError if there is none."""
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(rows)}
    if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
        raise ValueError(
            f"{where}: all arrays must have the same number of rows, at least 1, "
            f"got shapes {[jnp.shape(leaf) for leaf in jax.tree.leaves(rows)]}"
        )
    return lengths.pop()[0]


def epoch_batches(
    key: Key, n: int, batch_size: int
) -> tuple[Int[Array, "b s"], Float[Array, "b s"]]:
    """Returns the row numbers of one shuffled epoch, and 1 for each row or 0 for filling.

    Every row occurs once with weight 1; the last batch is filled with rows of weight 0.
    """
    order = jax.random.permutation(key, n)
    size = min(batch_size, n)
    batches = -(-n // size)
    position = jnp.arange(batches * size)
    rows = order[position % n].reshape(batches, size)
    return rows, (position < n).astype(jnp.float32).reshape(batches, size)
