"""Where EM starts: seeds by k-means++ and friends, made into a mixture by one hard step.

Seeds are looked for in standardised columns, so that a change of units changes nothing.
Shapes: n samples, d features, k components.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxnn import checks
from jaxnn.gmm.covariances import COVARIANCES
from jaxnn.gmm.em import maximise
from jaxnn.gmm.model import GMM
from jaxnn.gmm.moments import moments, row_weights
from jaxnn.linalg import mean_and_variance, square_distances
from jaxnn.types import Data, Key, Weights

# key, rows, weights, k -> k seeds
Start = Callable[[Key, Float[Array, "n d"], Float[Array, " n"], int], Float[Array, "k d"]]

# The start's ridge, as a share of the variance of the data: a seed that owns a single row must
# begin wide enough to take others in.
START_RIDGE = 1e-2


def _draw_rows(key: Key, mass: Float[Array, " n"], shape: tuple[int, ...]) -> Int[Array, "*shape"]:
    """Returns row numbers drawn in proportion to `mass`."""
    total = jnp.cumsum(mass)
    u = jax.random.uniform(key, shape, mass.dtype) * total[-1]
    return jnp.minimum(jnp.searchsorted(total, u, side="right"), mass.shape[0] - 1)


def k_means_plus_plus(
    key: Key, x: Float[Array, "n d"], weight: Float[Array, " n"], k: int
) -> Float[Array, "k d"]:
    """Returns seeds far from one another: greedy k-means++ (Arthur and Vassilvitskii, 2007).

    Each seed is the best of 2 + log k candidates drawn in proportion to the squared distance from
    the seeds so far. The first j seeds are what a call with k = j would have chosen.
    """
    key_first, key_rest = jax.random.split(key)
    trials = 2 + int(math.log(k))
    first = x[_draw_rows(key_first, weight, ())]
    seeds = jnp.zeros((k, x.shape[1]), x.dtype).at[0].set(first)

    def add(i: Int[Array, ""], state: tuple[Array, Array]) -> tuple[Array, Array]:
        seeds, nearest = state
        rows = _draw_rows(jax.random.fold_in(key_rest, i), weight * nearest, (trials,))
        candidates = x[rows]
        distances = jnp.minimum(nearest[:, None], square_distances(x, candidates))
        best = jnp.argmin(weight @ distances)
        return seeds.at[i].set(candidates[best]), distances[:, best]

    nearest = square_distances(x, first[None, :])[:, 0]
    return jax.lax.fori_loop(1, k, add, (seeds, nearest))[0]


def random_points(
    key: Key, x: Float[Array, "n d"], weight: Float[Array, " n"], k: int
) -> Float[Array, "k d"]:
    """Returns k different rows drawn at random, in proportion to their weights."""
    rows = jax.random.choice(key, x.shape[0], (k,), replace=False, p=weight / jnp.sum(weight))
    return x[rows]


STARTS: dict[str, Start] = {"k-means++": k_means_plus_plus, "random points": random_points}


@partial(jax.jit, static_argnames=("k", "family", "start"))
def _init(
    key: Key,
    x: Float[Array, "n d"],
    weight: Float[Array, " n"],
    active: Int[Array, ""],
    k: int,
    family: str,
    start: str,
) -> GMM:
    mean, variance = mean_and_variance(x, weight)
    scale = jnp.sqrt(variance)
    seeds = STARTS[start](key, (x - mean[None]) / scale[None], weight, k)
    rough = GMM(
        log_weights=jnp.where(jnp.arange(k) < active, -jnp.log(active.astype(x.dtype)), -jnp.inf),
        means=seeds * scale[None] + mean[None],
        cov=COVARIANCES[family].from_variances(variance, k),
    )
    return maximise(rough, moments(rough, x, weight, hard=True), START_RIDGE * variance)


def init(
    key: Key,
    x: Data,
    n_components: int,
    *,
    family: str = "full",
    start: str = "k-means++",
    sample_weight: Weights | None = None,
    active: int | Int[Array, ""] | None = None,
) -> GMM:
    """Returns a mixture to start EM from: seeds, each row to the nearest, then one M-step.

    Args:
        key: draws the seeds.
        x: rows of shape (n, d).
        n_components: k, from 1 to n.
        family: a name in `COVARIANCES`.
        start: a name in `STARTS`.
        sample_weight: shape (n,).
        active: how many of the components to use, a traced number; the others have weight zero
            and stay empty. One compiled program thus serves every k up to `n_components`.

    Raises:
        TypeError, ValueError: bad rows, weights or key; k < 1 or k > n; an unknown name.
    """
    where = "gmm.init"
    checks.key(where, key)
    x = checks.data(where, "x", x)
    checks.precise(where, "x", x)
    n = x.shape[0]
    k = checks.count(where, "n_components", n_components, most=n)
    checks.in_table(where, "family", family, COVARIANCES)
    checks.in_table(where, "start", start, STARTS)
    weight = row_weights(where, x, sample_weight)
    if active is None:
        active = k
    elif checks.concrete(active):
        active = checks.count(where, "active", active, most=k)
    return _init(key, x, weight, jnp.asarray(active), k, family, start)
