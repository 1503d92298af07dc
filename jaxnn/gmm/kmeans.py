"""K-means: greedy k-means++ seeds, Lloyd's steps, and mini-batches where there are many rows.

Distances are Euclidean, in the units of the rows.  Shapes: n samples, d features, k centres, c
rows of a tile.  No n × k matrix is kept.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks, memory
from jaxnn.gmm.moments import row_weights, rows_to_learn
from jaxnn.linalg import fold_rows, map_rows, mean_and_variance, square_distances, tile_rows
from jaxnn.types import Data, Key, Scalar, Weights

# Up to so many rows each step sees all of them; beyond, seeds come from a sample of this size and
# each step sees a batch (Sculley, 2010): the error of a centre is then far below its cluster.
LARGE = 2**17
BATCH = 2**12
BATCH_STEPS = 100


class KMeans(NamedTuple):
    """Centres, and what they make of the rows.

    `inertia` is the weighted sum of squared distances to the nearest centre (data units squared).
    `converged`: the centres moved less than the tolerance (never claimed of mini-batches).
    """

    centres: Float[Array, "k d"]
    labels: Int[Array, " n"]
    inertia: Float[Array, ""]
    steps: Int[Array, ""]
    converged: Bool[Array, ""]


def rows_at(u: Float[Array, "*shape"], mass: Float[Array, " n"]) -> Int[Array, "*shape"]:
    """Returns the rows at which a share `u` of all `mass` is passed.

    For uniform `u` these are rows drawn in proportion to `mass`, with replacement.
    """
    total = jnp.cumsum(mass)
    return jnp.minimum(jnp.searchsorted(total, u * total[-1], side="right"), mass.shape[0] - 1)


def draw_rows(key: Key, mass: Float[Array, " n"], size: int) -> Int[Array, " size"]:
    """Returns row numbers drawn in proportion to `mass`, with replacement."""
    return rows_at(jax.random.uniform(key, (size,), mass.dtype), mass)


def k_means_plus_plus(
    key: Key, x: Float[Array, "n d"], weight: Float[Array, " n"], k: int
) -> Float[Array, "k d"]:
    """Returns seeds far from one another: greedy k-means++ (Arthur and Vassilvitskii, 2007).

    Each seed is the best of 2 + log k candidates drawn in proportion to the squared distance from
    the seeds so far. The first j seeds are what another call with as many candidates would have
    chosen for k = j.
    """
    trials = 2 + int(math.log(k))
    u = jax.random.uniform(key, (k, trials), x.dtype)  # row i places seed i
    first = x[rows_at(u[0, 0], weight)]
    seeds = jnp.zeros((k, x.shape[1]), x.dtype).at[0].set(first)
    size = tile_rows(x.shape[0], trials)

    def left(candidates: Float[Array, "t d"], nearest: Float[Array, " n"]) -> Float[Array, " t"]:
        """Returns the inertia that each candidate would leave."""

        def step(total: Array, tile: tuple[Array, ...], fresh: Bool[Array, " c"]) -> Array:
            rows, w, near = tile
            distances = jnp.minimum(near[:, None], square_distances(rows, candidates))
            return total + (w * fresh) @ distances

        return fold_rows(step, jnp.zeros(trials, x.dtype), (x, weight, nearest), size)

    def add(i: Int[Array, ""], state: tuple[Array, Array]) -> tuple[Array, Array]:
        seeds, nearest = state
        candidates = x[rows_at(u[i], weight * nearest)]
        seed = candidates[jnp.argmin(left(candidates, nearest))]
        nearest = jnp.minimum(nearest, square_distances(x, seed[None, :])[:, 0])
        return seeds.at[i].set(seed), nearest

    nearest = square_distances(x, first[None, :])[:, 0]
    return jax.lax.fori_loop(1, k, add, (seeds, nearest))[0]


def nearest(
    centres: Float[Array, "k d"], active: Bool[Array, " k"], rows: Float[Array, "c d"]
) -> tuple[Int[Array, " c"], Float[Array, " c"]]:
    """Returns the nearest active centre of each row, and its squared distance."""
    distances = jnp.where(active[None, :], square_distances(rows, centres), jnp.inf)
    return jnp.argmin(distances, axis=1), jnp.min(distances, axis=1)


def _sums(
    centres: Float[Array, "k d"],
    active: Bool[Array, " k"],
    x: Float[Array, "n d"],
    weight: Float[Array, " n"],
) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
    """Returns Σ w x and Σ w over the rows nearest to each centre."""
    k = centres.shape[0]

    def step(
        total: tuple[Array, Array], tile: tuple[Array, Array], fresh: Bool[Array, " c"]
    ) -> tuple[Array, Array]:
        rows, w = tile
        label, _ = nearest(centres, active, rows)
        member = jax.nn.one_hot(label, k, dtype=x.dtype) * (w * fresh)[:, None]
        return total[0] + member.T @ rows, total[1] + jnp.sum(member, axis=0)

    zero = (jnp.zeros_like(centres), jnp.zeros(k, x.dtype))
    return fold_rows(step, zero, (x, weight), tile_rows(x.shape[0], k))


def lloyd(
    centres: Float[Array, "k d"],
    active: Bool[Array, " k"],
    x: Float[Array, "n d"],
    weight: Float[Array, " n"],
    tol: Float[Array, ""],
    max_steps: int | Int[Array, ""],
) -> tuple[Float[Array, "k d"], Float[Array, ""], Int[Array, ""]]:
    """Returns centres, the square of their last move, and the steps (Lloyd, 1982).

    Stops once the squares of the moves of all centres sum to at most `tol`. A centre without rows
    stays where it is.
    """

    def unfinished(state: tuple[Array, Array, Array]) -> Bool[Array, ""]:
        return (state[1] > tol) & (state[2] < max_steps)

    def advance(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        first, counts = _sums(state[0], active, x, weight)
        # Of the same rows the same mean to the last bit, so that it stops with a tolerance of zero.
        means = first / jnp.where(counts > 0, counts, 1.0)[:, None]
        centres = jnp.where(counts[:, None] > 0, means, state[0])
        return centres, jnp.sum(jnp.square(centres - state[0])), state[2] + 1

    start = (centres, jnp.full((), jnp.inf, x.dtype), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, advance, start)


def mini_batches(
    key: Key,
    centres: Float[Array, "k d"],
    active: Bool[Array, " k"],
    x: Float[Array, "n d"],
    weight: Float[Array, " n"],
    size: int,
    steps: int | Int[Array, ""],
) -> Float[Array, "k d"]:
    """Returns centres after mini-batch steps (Sculley, 2010, algorithm 1).

    Rows are drawn in proportion to their weights; a centre is the mean of all rows it was given.
    """

    def step(i: Int[Array, ""], state: tuple[Array, Array]) -> tuple[Array, Array]:
        centres, seen = state
        # Key number 0 draws the sample for the seeds.
        rows = x[draw_rows(jax.random.fold_in(key, i + 1), weight, size)]
        first, counts = _sums(centres, active, rows, jnp.ones(size, x.dtype))
        seen += counts
        pull = first - counts[:, None] * centres
        return centres + pull / jnp.where(seen > 0, seen, 1.0)[:, None], seen

    return jax.lax.fori_loop(0, steps, step, (centres, jnp.zeros(centres.shape[0], x.dtype)))[0]


def seeds(
    key: Key, x: Float[Array, "n d"], weight: Float[Array, " n"], k: int
) -> Float[Array, "k d"]:
    """Returns k-means++ seeds of all rows, or of a sample where there are more than `LARGE`."""
    if x.shape[0] <= LARGE:
        return k_means_plus_plus(key, x, weight, k)
    sample = x[draw_rows(jax.random.fold_in(key, 0), weight, LARGE)]
    return k_means_plus_plus(key, sample, jnp.ones(LARGE, x.dtype), k)


@partial(jax.jit, static_argnames=("k", "size"))
def _k_means(
    key: Key,
    x: Float[Array, "n d"],
    weight: Float[Array, " n"],
    tol: Float[Array, ""],
    max_steps: Int[Array, ""],
    k: int,
    size: int,
) -> KMeans:
    n = x.shape[0]
    mean, variance = mean_and_variance(x, weight)
    x = x - mean[None]  # so that sums carry no large offset
    centres, active = seeds(key, x, weight, k), jnp.ones(k, bool)
    if size >= n:
        tol = tol * jnp.mean(variance)
        centres, move, steps = lloyd(centres, active, x, weight, tol, max_steps)
    else:
        centres = mini_batches(key, centres, active, x, weight, size, max_steps)
        move, steps = jnp.full((), jnp.inf, x.dtype), max_steps.astype(jnp.int32)
    labels, distances = map_rows(lambda rows: nearest(centres, active, rows), x, tile_rows(n, k))
    return KMeans(centres + mean[None], labels, weight @ distances, steps, move <= tol)


@memory.budgeted
def k_means(
    key: Key,
    x: Data,
    n_clusters: int,
    *,
    sample_weight: Weights | None = None,
    tol: Scalar = 1e-4,
    max_steps: int | Int[Array, ""] | None = None,
    batch_size: int | None = None,
    memory_budget: memory.Budget = None,
) -> KMeans:
    """Returns k centres that the rows are near to: k-means++ seeds, then Lloyd's steps.

    Args:
        key: draws the seeds (and the batches).
        x: rows of shape (n, d). Distances are in their units: scale the columns first.
        n_clusters: k, from 1 to n. With fewer than k distinct rows some centres coincide, and
            all but the first of those have no rows.
        sample_weight: shape (n,).
        tol: least sum of squared moves of the centres worth another step, as a share of the mean
            variance of the columns.
        max_steps: the most steps; by default 300, and 100 for mini-batches.
        batch_size: rows of a mini-batch (Sculley, 2010), which runs `max_steps` steps; from n on
            each step sees all rows. By default all rows up to `kmeans.LARGE`, then 4,096.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        TypeError, ValueError: bad rows, weights or key; k < 1 or k > n; a negative number.

    >>> x = jnp.array([[0.0], [1.0], [10.0], [11.0]])
    >>> sorted(k_means(jax.random.key(0), x, 2).centres[:, 0].tolist())
    [0.5, 10.5]
    """
    where = "gmm.k_means"
    checks.key(where, key)
    x = rows_to_learn(where, x)
    n = x.shape[0]
    k = checks.count(where, "n_clusters", n_clusters, most=n)
    weight = row_weights(where, x, sample_weight)
    checks.scalar(where, "tol", tol)
    size = n if n <= LARGE else BATCH
    if batch_size is not None:
        size = min(n, checks.count(where, "batch_size", batch_size))
    if max_steps is None:
        max_steps = 300 if size >= n else BATCH_STEPS
    max_steps = checks.steps(where, "max_steps", max_steps)
    return _k_means(key, x, weight, jnp.asarray(tol, x.dtype), max_steps, k, size)
