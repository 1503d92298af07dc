"""Rows for training: conversion, standardisation, splits, and the batches of an epoch.

Shapes: n rows, d features, b batches of s rows.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from jaxnn import checks, draws
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

    @staticmethod
    def of(x: Data) -> "Standardiser":
        """Returns the map of these rows; a constant column is only centred."""
        x = checks.data("train.Standardiser.of", "x", x)
        scale = jnp.std(x, axis=0)  # of a constant column, often not 0 but a rounding error
        varies = (jnp.max(x, axis=0) > jnp.min(x, axis=0)) & (scale > 0)
        return Standardiser(mean=jnp.mean(x, axis=0), scale=jnp.where(varies, scale, 1.0))

    def apply(self, x: Data) -> Float[Array, "n d"]:
        """Returns the rows in standard units."""
        x = checks.data("train.Standardiser.apply", "x", x, self.mean.shape[0])
        return (x - self.mean.astype(x.dtype)[None]) / self.scale.astype(x.dtype)[None]

    def invert(self, z: Data) -> Float[Array, "n d"]:
        """Returns rows in standard units as rows in data units."""
        z = checks.data("train.Standardiser.invert", "z", z, self.mean.shape[0])
        return z * self.scale.astype(z.dtype)[None] + self.mean.astype(z.dtype)[None]


def as_float(x: ArrayLike | Sequence[Any], dtype: Any = None) -> Array:
    """Returns whole numbers, booleans or floating-point numbers as a floating-point array.

    Args:
        x: anything NumPy takes as numbers.
        dtype: float32, or float64 where x64 is on; by default a floating-point `x` keeps its own
            (float64 becomes float32 where x64 is off), and whole numbers take JAX's default.

    Raises:
        TypeError: `x` holds no real numbers, or `dtype` is not a floating-point type that is on.
    """
    where = "train.as_float"
    kind: Any = getattr(x, "dtype", None)
    try:
        kind = jnp.asarray(x).dtype if kind is None else jnp.dtype(kind).newbyteorder("=")
    except OverflowError:
        kind = jnp.dtype(int)  # Python's whole numbers have no end
    except (TypeError, ValueError):
        raise TypeError(f"{where}: x must hold real numbers, got {type(x).__name__}") from None
    floating = jnp.issubdtype(kind, jnp.floating)
    if not floating and not jnp.issubdtype(kind, jnp.integer) and kind != jnp.bool_:
        raise TypeError(f"{where}: x must hold real numbers, got {kind}")
    if dtype is None:
        wanted = jax.dtypes.canonicalize_dtype(kind if floating else float)
    else:
        wanted = _float_type(where, dtype)
    return jnp.asarray(x, wanted)  # in one step: int32 on the way would wrap a large int64


def _float_type(where: str, dtype: Any) -> jnp.dtype:
    try:
        wanted = jnp.dtype(dtype)
    except TypeError:
        raise TypeError(f"{where}: dtype must be a floating-point type, got {dtype!r}") from None
    if not jnp.issubdtype(wanted, jnp.floating):
        raise TypeError(f"{where}: dtype must be a floating-point type, got {wanted}")
    if jax.dtypes.canonicalize_dtype(wanted) != wanted:
        raise TypeError(f"{where}: dtype {wanted} needs jax.config.update('jax_enable_x64', True)")
    return wanted


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
    n = leading(where, "rows", rows)
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


def leading(where: str, name: str, rows: PyTree) -> int:
    """Returns the common leading axis of all arrays; raises ValueError if there is none."""
    shapes = {
        f"{name}{jax.tree_util.keystr(path)}": jnp.shape(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(rows)
    }
    lengths = {shape[:1] for shape in shapes.values()}
    if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
        given = ", ".join(f"{leaf} {shape}" for leaf, shape in shapes.items()) or "no arrays"
        raise ValueError(
            f"{where}: all arrays must have the same number of rows, at least 1, got {given}"
        )
    return lengths.pop()[0]


def epoch_batches(
    key: Key, n: int, batch_size: int
) -> tuple[Int[Array, "b s"], Float[Array, "b s"]]:
    """Returns the row numbers of one shuffled epoch, and 1 for each row or 0 for filling.

    Every row occurs once with weight 1; the last batch is filled with rows of weight 0.
    Raises TypeError or ValueError for a bad key, or a number of rows below 1.
    """
    where = "train.epoch_batches"
    checks.key(where, key)
    n = checks.count(where, "n", n)
    size = min(checks.count(where, "batch_size", batch_size), n)
    rows, real = epoch_order(key, n, size)
    return rows[:, 0], real[:, 0]


def epoch_order(
    key: Key,
    n: int,
    size: int,
    parts: int = 1,
    shuffle: bool = True,
    sampling: Float[Array, " n"] | None = None,
) -> tuple[Int[Array, "b k s"], Float[Array, "b k s"]]:
    """Returns the row numbers of one epoch in b steps of k parts, and 1 for each or 0 for filling.

    With `sampling` an epoch is n draws in proportion to it (see `train.fit`).
    """
    if sampling is not None:
        order = _draws(key, sampling)
    else:
        order = draws.order(key, n) if shuffle else jnp.arange(n)
    parts = min(parts, -(-n // size))
    steps = -(-n // (size * parts))
    position = jnp.arange(steps * parts * size)
    rows = order[position % n].reshape(steps, parts, size)
    return rows, (position < n).astype(jnp.float32).reshape(steps, parts, size)


def _draws(key: Key, sampling: Float[Array, " n"]) -> Int[Array, " n"]:
    """Returns n row numbers, row i either ⌊n p_i⌋ or ⌈n p_i⌉ times, in random order.

    Systematic resampling (Madow, 1949) along a random order: as unbiased as independent draws,
    with less spread.
    """
    n = len(sampling)
    key_along, key_offset, key_order = jax.random.split(key, 3)
    along = jax.random.permutation(key_along, n)
    edges = jnp.cumsum(sampling[along])
    offset = jax.random.uniform(key_offset, (), sampling.dtype)
    marks = (jnp.arange(n) + offset) / n * edges[-1]
    found = along[jnp.minimum(jnp.searchsorted(edges, marks, side="right"), n - 1)]
    return jax.random.permutation(key_order, found)
