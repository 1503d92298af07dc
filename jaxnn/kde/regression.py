"""Kernel regression: means and lines of y, weighted by the kernels that reach a query.

Shapes: n points, m queries, d features, k outputs.  The kernels, bandwidth and weights are those
of a density of the inputs, so that any kernel, bandwidth, factor and weight of `fit` will do.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from jaxnn import checks, memory
from jaxnn.kde.averages import Tile, door, in_units, means, softmax_sums, to_data, weighted
from jaxnn.kde.model import KDE


class Mean(NamedTuple):
    """A regression at the queries.

    Attributes:
        mean: of y, (m,) or (m, k); where no kernel reaches, the weighted mean of all y.
        reached: whether a kernel reaches the query; always so for kernels of infinite support.
    """

    mean: Float[Array, "m *k"]
    reached: Bool[Array, " m"]


class Line(NamedTuple):
    """A local line at the queries.

    Attributes:
        mean: of y at the query, (m,) or (m, k).
        slope: its derivative by the features, in y per data unit, (m, d) or (m, d, k); the part
            along directions in which the points in reach do not vary is zero.
        reached: whether a kernel reaches the query; if not, mean is that of all y and slope zero.
        full_rank: whether the points in reach vary in all directions, so that the line is unique.
    """

    mean: Float[Array, "m *k"]
    slope: Float[Array, "m d *k"]
    reached: Bool[Array, " m"]
    full_rank: Bool[Array, " m"]


@memory.budgeted
def nadaraya_watson(
    model: KDE,
    y: Float[ArrayLike, "n *k"],
    x: Float[ArrayLike, "m d"],
    *,
    memory_budget: memory.Budget = None,
) -> Mean:
    """Returns the kernel-weighted means of y at the rows of `x` (Nadaraya 1964; Watson 1964).

    The mean is Σ_i w_i K((x - x_i)/h) y_i / Σ_i w_i K((x - x_i)/h), a ratio that cannot underflow:
    far from all data it is the value at the nearest point of an infinite Gaussian.

    Args:
        model: the density of the inputs, what `fit` returns.
        y: outputs at its points, (n,) or (n, k).
        x: queries, (m, d).
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        TypeError: for wrong dtypes; ValueError for wrong shapes, NaN and infinities.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> model = kde.fit(jnp.array([[0.0], [2.0]]), bandwidth=1.0)
    >>> [float(v) for v in nadaraya_watson(model, jnp.array([1.0, 3.0]), jnp.array([[1.0]])).mean]
    [2.0]
    """
    where = "kde.nadaraya_watson"
    x = door(where, model, x)
    return _nadaraya_watson(model, _outputs(where, y, model.points.shape[0]), x)


def _outputs(where: str, y: ArrayLike, n: int) -> Array:
    outputs = checks.floating(where, "y", y)
    checks.shape(where, "y", outputs, (n,) if outputs.ndim < 2 else (n, None))
    checks.finite(where, "y", outputs)
    return outputs


@jax.jit
def _nadaraya_watson(model: KDE, y: Float[Array, "n *k"], x: Float[Array, "m d"]) -> Mean:
    units, _ = in_units(model, x)
    columns, middle = _columns(model, y)
    mean, reached = means(model.kernel, units, columns, jnp.zeros_like(middle))
    mean = mean + middle[None, :]
    return Mean(mean[:, 0] if y.ndim == 1 else mean, reached)


def _columns(model: KDE, y: Float[Array, "n *k"]) -> tuple[Float[Array, "n k"], Float[Array, " k"]]:
    """Returns y as columns about their weighted mean, and that mean."""
    columns = y.astype(model.points.dtype).reshape(y.shape[0], -1)
    first = columns[0]
    middle = first + jnp.exp(model.log_weights) @ (columns - first[None, :])
    return columns - middle[None, :], middle


@memory.budgeted
def local_linear(
    model: KDE,
    y: Float[ArrayLike, "n *k"],
    x: Float[ArrayLike, "m d"],
    *,
    memory_budget: memory.Budget = None,
) -> Line:
    """Returns the lines of weighted least squares at the rows of `x` (Ruppert and Wand 1994).

    Each minimises Σ_i w_i K((x - x_i)/h) (y_i - a - b·(x_i - x))², over a, the mean at the query,
    and b, its slope; unlike the means above it has no bias of first order at the edge of the data.
    There is no ridge: a direction in which the points in reach vary by less than rounding gets
    no slope, so that a query with one point in reach gets its y.

    Args:
        model: the density of the inputs, what `fit` returns.
        y: outputs at its points, (n,) or (n, k).
        x: queries, (m, d).
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        TypeError: for wrong dtypes; ValueError for wrong shapes, NaN and infinities.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> x = jnp.array([[0.0], [1.0], [3.0]])
    >>> line = local_linear(kde.fit(x, bandwidth=1.0), 2 * x[:, 0] + 1, jnp.array([[4.0]]))
    >>> round(float(line.mean[0]), 3), round(float(line.slope[0, 0]), 3)
    (9.0, 2.0)
    """
    where = "kde.local_linear"
    x = door(where, model, x)
    return _local_linear(model, _outputs(where, y, model.points.shape[0]), x)


@jax.jit
def _local_linear(model: KDE, y: Float[Array, "n *k"], x: Float[Array, "m d"]) -> Line:
    d = x.shape[1]
    units, _ = in_units(model, x)
    columns, middle = _columns(model, y)
    k = columns.shape[1]

    def share(softmax: Array, tile: Tile, queries: Array) -> Array:
        # By differences: about the origin the moments of a far query would be lost to rounding.
        away = tile.at.T[:, :, None] - queries.T[:, None, :]
        pulled = softmax[None] * away
        pair = lambda a, b: jnp.sum(pulled[a] * away[b], axis=0)
        half = {(a, b): pair(a, b) for a in range(d) for b in range(a + 1)}
        squares = [half[max(a, b), min(a, b)] for a in range(d) for b in range(d)]
        parts = [
            jnp.sum(softmax, axis=0)[:, None],
            jnp.sum(pulled, axis=1).T,
            jnp.stack(squares, axis=1),
            weighted(softmax, tile.values),
            *(weighted(w, tile.values) for w in pulled),
        ]
        return jnp.concatenate(parts, axis=1)

    _, sums = softmax_sums(model.kernel, units, columns, share, 1 + d + d * d + k + d * k)
    reached = sums[:, 0] > 0
    sums = sums / jnp.where(reached, sums[:, 0], 1.0)[:, None]
    away, rest = sums[:, 1 : 1 + d], sums[:, 1 + d :]
    second, rest = rest[:, : d * d].reshape(-1, d, d), rest[:, d * d :]
    mean, cross = rest[:, :k], rest[:, k:].reshape(-1, d, k)
    slope, rank = _solve(
        second - away[:, :, None] * away[:, None, :],
        cross - away[:, :, None] * mean[:, None, :],
        jnp.diagonal(second, axis1=1, axis2=2),
    )
    mean = mean - jnp.sum(away[:, :, None] * slope, axis=1) + middle[None, :]
    slope = jnp.stack([to_data(model, units.unit, slope[..., j]) for j in range(k)], axis=2)
    shape = (lambda a: a[..., 0]) if y.ndim == 1 else (lambda a: a)
    return Line(shape(mean), shape(slope), reached, reached & (rank == d))


def _solve(
    matrix: Float[Array, "m d d"], right: Float[Array, "m d k"], scale: Float[Array, "m d"]
) -> tuple[Float[Array, "m d k"], Array]:
    """Returns solutions of symmetric systems and their ranks, by elimination without dead pivots.

    A pivot within rounding of zero on the scale of its diagonal takes no part: its unknown is 0.
    """
    d = matrix.shape[1]
    limit = 32 * d * float(jnp.finfo(matrix.dtype).eps)
    rank = jnp.zeros(matrix.shape[0], int)
    for j in range(d):
        pivot = matrix[:, j, j]
        alive = pivot > limit * scale[:, j]
        rank += alive
        unit = jnp.where(alive, 1 / jnp.where(alive, pivot, 1.0), 0.0)
        others = jnp.where(jnp.arange(d) == j, 0.0, 1.0).astype(matrix.dtype)
        factor = matrix[:, :, j] * unit[:, None] * others[None, :]
        keep = jnp.where(jnp.arange(d)[None, :] == j, unit[:, None], 1.0)
        new_right = right - factor[:, :, None] * right[:, j, None, :]
        right = new_right * keep[:, :, None]
        # The row of a dead pivot is zero from here on: whatever leans on its unknown adds nothing.
        matrix = (matrix - factor[:, :, None] * matrix[:, j, None, :]) * keep[:, :, None]
    return right, rank
