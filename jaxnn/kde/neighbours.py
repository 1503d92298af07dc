"""Bandwidths of the points themselves: wide kernels where points are rare."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxnn import checks, linalg, memory
from jaxnn.types import Data

POINTS = 512  # a step of the search


@memory.budgeted
def nearest_neighbour(
    x: Data, k: int, *, memory_budget: memory.Budget = None
) -> Float[Array, " n"]:
    """Returns the distance of each row to its k-th nearest other row, in data units.

    With these as `factors` and a number as `bandwidth`, `fit` makes the variable kernel density of
    Breiman, Meisel and Purcell (1977).  Where more than k rows are the same the distance is zero;
    there the smallest positive distance found stands in, or 1 if there is none.  The features
    should share one unit: standardise them first.  The memory is O(n (k + d)).

    Args:
        x: data, (n, d), n at least 2.
        k: which neighbour, static, from 1 to n - 1.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for bad shapes or values; TypeError unless `x` holds floating-point numbers.

    >>> import jax.numpy as jnp
    >>> nearest_neighbour(jnp.array([[0.0], [1.0], [3.0], [7.0]]), 1).tolist()
    [1.0, 1.0, 2.0, 4.0]
    """
    where = "kde.nearest_neighbour"
    x = checks.data(where, "x", x)
    checks.precise(where, "x", x)
    if x.shape[0] < 2:
        raise ValueError(f"{where}: x must have at least 2 rows, got {x.shape[0]}")
    return _nearest(x, checks.count(where, "k", k, most=x.shape[0] - 1))


@functools.partial(jax.jit, static_argnames="k")
def _nearest(x: Float[Array, "n d"], k: int) -> Float[Array, " n"]:
    n = x.shape[0]
    x = x - lax.stop_gradient(jnp.mean(x, axis=0))[None, :]

    def of(queries: tuple[Float[Array, "q d"], Array]) -> Array:
        def step(
            best: tuple[Array, Array], tile: tuple[Array, Array], fresh: Bool[Array, " p"]
        ) -> tuple[Array, Array]:
            squares = linalg.square_distances(queries[0], tile[0])
            others = fresh[None, :] & (queries[1][:, None] != tile[1][None, :])
            squares = jnp.where(others, squares, jnp.inf)
            names = jnp.broadcast_to(tile[1][None, :], squares.shape)
            squares = jnp.concatenate([best[0], squares], axis=1)
            least, place = lax.top_k(-squares, k)
            return -least, jnp.take_along_axis(jnp.concatenate([best[1], names], 1), place, 1)

        q = queries[1].shape[0]
        empty = jnp.full((q, k), jnp.inf, x.dtype), jnp.zeros((q, k), queries[1].dtype)
        return linalg.fold_rows(step, empty, rows, POINTS)[1][:, k - 1]

    rows = (x, jnp.arange(n))
    neighbour = linalg.map_rows(of, rows, linalg.tile_rows(n, POINTS + k))
    # Once more from the rows: exact, also where the distances above came from a product.
    square = jnp.sum(jnp.square(x - x[neighbour]), axis=1)
    positive = square > 0
    least = jnp.min(jnp.where(positive, square, jnp.inf))
    least = lax.stop_gradient(jnp.where(jnp.isfinite(least), least, 1.0))
    return jnp.sqrt(jnp.where(positive, square, least))
