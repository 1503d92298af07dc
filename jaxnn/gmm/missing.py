"""Rows with gaps: EM on the observed parts (Ghahramani and Jordan, 1994; Little and Rubin, 2002).

NaN means missing at random.  The E-step takes expectations over what is missing too, and its
moments are those of `moments`, so that M-step, loop and priors stay as they are.  Rows that lack
the same features share all matrix work: they are grouped once, before the loop, wherever the gaps
are concrete and repeat often enough; else each row has its own.
Shapes: n samples, d features, k components; p patterns of gaps, t tiles of b rows.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks
from jaxnn.gmm.family import Covariances
from jaxnn.gmm.model import GMM, evidence
from jaxnn.gmm.moments import Moments
from jaxnn.gmm.observed import RULES, inverse_factor, projectors
from jaxnn.linalg import mean_and_variance

# Rows of a tile that shares a pattern, and how many rows a pattern must have on average.
TILE, LEAST = 256, 64
# Numbers in the tables of all patterns.
TABLE = 2**26


class Groups(NamedTuple):
    """Rows grouped by pattern: tile t holds the rows `rows[t]`, which lack `gaps[pattern[t]]`."""

    gaps: Bool[Array, "p d"]
    pattern: Int[Array, " t"]
    rows: Int[Array, "t b"]
    valid: Bool[Array, "t b"]


class Observed(NamedTuple):
    """Rows in which NaN is a gap, and which of them have the same gaps, where that is known."""

    x: Float[Array, "n d"]
    groups: Groups | None


@jax.jit
def _count(
    missing: Bool[Array, "n d"],
) -> tuple[Int[Array, " n"], Int[Array, " n"], Int[Array, " 2"]]:
    """Returns rows in the order of their patterns, rows of each pattern; patterns and tiles."""
    # Sorted by words of 16 flags: a sort of few keys compiles faster than one of many.
    spare = -missing.shape[1] % 16
    flags = jnp.pad(missing, ((0, 0), (0, spare))).reshape(missing.shape[0], -1, 16)
    words = jnp.sum(flags << jnp.arange(16, dtype=jnp.int32)[None, None], axis=2)
    order = jnp.lexsort(words.T)
    gaps = words[order]
    new = jnp.concatenate([jnp.zeros(1, bool), jnp.any(gaps[1:] != gaps[:-1], axis=1)])
    group = jnp.cumsum(new)
    sizes = jnp.zeros(missing.shape[0], jnp.int32).at[group].add(1)
    return order, sizes, jnp.stack([group[-1] + 1, jnp.sum(-(-sizes // TILE))])


@partial(jax.jit, static_argnames=("p", "t"))
def _tiles(
    missing: Bool[Array, "n d"],
    order: Int[Array, " n"],
    sizes: Int[Array, " n"],
    p: int,
    t: int,
) -> Groups:
    """Returns tiles of rows of one pattern each; the last is filled up with the pattern's first."""
    sizes = sizes[:p]
    tiles = -(-sizes // TILE)
    starts, ends = jnp.cumsum(sizes) - sizes, jnp.cumsum(tiles)
    number = jnp.arange(t)
    pattern = jnp.minimum(jnp.searchsorted(ends, number, side="right"), p - 1)
    begin = (number - (ends - tiles)[pattern]) * TILE
    place = begin[:, None] + jnp.arange(TILE)[None, :]
    valid = (place < sizes[pattern][:, None]) & (number < ends[-1])[:, None]
    first = order[jnp.minimum(starts, missing.shape[0] - 1)]
    rows = order[jnp.where(valid, starts[pattern][:, None] + place, 0)]
    rows = jnp.where(valid, rows, first[pattern][:, None])
    return Groups(gaps=missing[first], pattern=pattern, rows=rows, valid=valid)


def _power(count: int) -> int:
    """Returns the next power of two, so that a few programs serve all data."""
    return 2 ** math.ceil(math.log2(count))


def _arrange(missing: Bool[Array, "n d"], k: int) -> Groups | None:
    """Returns the rows grouped, or None where that would not pay; `missing` is concrete."""
    n, d = missing.shape
    if n < LEAST:
        return None
    order, sizes, counts = _count(missing)
    patterns, tiles = counts.tolist()
    p, t = min(_power(patterns), n), _power(tiles)
    if patterns * LEAST > n or p * k * d * d > TABLE:
        return None
    return _tiles(missing, order, sizes, p, t)


@jax.jit
def observed_mean_and_variance(
    x: Float[Array, "n d"], weight: Float[Array, " n"]
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """Returns mean and variance of what is observed of each column; variance 1 if constant."""
    missing = jnp.isnan(x)
    column = lambda values, gap: mean_and_variance(values[:, None], jnp.where(gap, 0.0, weight))
    # About an observed value: the first row may have a gap there, filled with anything.
    first = jnp.take_along_axis(x, jnp.argmin(missing, axis=0)[None], axis=0)
    filled = jnp.where(missing, first, x)
    mean, variance = jax.vmap(column, in_axes=1)(filled, missing)
    return mean[:, 0], variance[:, 0]


def counted(x: Float[Array, "n d"], weight: Float[Array, " n"]) -> Float[Array, " n"]:
    """Returns the weights, zero for rows of nothing but gaps."""
    return jnp.where(jnp.all(jnp.isnan(x), axis=1), 0.0, weight)


def check_columns(where: str, x: Float[Array, "n d"], weight: Float[Array, " n"]) -> None:
    """Raises ValueError for a column without any observed value in a row that counts."""
    if not (checks.concrete(x) and checks.concrete(weight)):
        return
    with jax.ensure_compile_time_eval():
        some = jnp.any(~jnp.isnan(x) & (weight > 0)[:, None], axis=0)
        empty = jnp.flatnonzero(~some).tolist()
    if empty:
        raise ValueError(
            f"{where}: x must have an observed value in every column, got none in column "
            f"{', '.join(map(str, empty))}; drop it"
        )


def fill(
    x: Float[Array, "n d"], weight: Float[Array, " n"]
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """Returns rows with the mean of a column for NaN, and weight zero for rows of nothing else."""
    weight = counted(x, weight)
    mean, _ = observed_mean_and_variance(x, weight)
    return jnp.where(jnp.isnan(x), mean[None], x), weight


def observe(
    x: Float[Array, "n d"], weight: Float[Array, " n"], cov: Covariances, k: int
) -> tuple[Observed, Float[Array, " n"]]:
    """Returns rows in which NaN is a gap, and weights of zero for rows of nothing else."""
    missing, groups = jnp.isnan(x), None
    if checks.concrete(missing) and RULES[type(cov)].pool is not None:
        with jax.ensure_compile_time_eval():
            groups = _arrange(missing, k)
    return Observed(x, groups), counted(x, weight)


def by_pattern(
    mixture: GMM, data: Float[Array, "n d"], groups: Groups, weight: Float[Array, " n"]
) -> Moments:
    """Returns the E-step's moments, with one set of matrices for each pattern of gaps."""
    means, cov = mixture.means, mixture.cov
    pool = RULES[type(cov)].pool
    assert pool is not None  # only dense families are grouped
    inverse = inverse_factor(means, cov)
    free, log_norm = projectors(inverse, groups.gaps.T)
    free = jnp.moveaxis(free, 3, 0)
    whiten = inverse[None] - jnp.einsum("pkij,kjl->pkil", free, inverse)
    seen = jnp.sum(~groups.gaps, axis=1).astype(means.dtype)
    constant = (mixture.log_weights - cov.log_det(means))[None] - log_norm.T
    constant -= 0.5 * math.log(2 * math.pi) * seen[:, None]

    def step(
        total: tuple[Moments, Array], tile: tuple[Array, Array, Array]
    ) -> tuple[tuple[Moments, Array], None]:
        p, rows, valid = tile
        residual = data[rows].T[None] - means[:, :, None]
        residual = jnp.where(groups.gaps[p][None, :, None], 0.0, residual)
        y = jnp.einsum("kij,kjc->kic", whiten[p], residual)
        joint = constant[p][:, None] - 0.5 * jnp.sum(y * y, axis=1)
        w = weight[rows] * valid
        terms, log_density = evidence(joint)
        resp = terms * (w / jnp.sum(terms, axis=0))[None]
        log_lik = jnp.sum(w * log_density)
        counts = jnp.sum(resp, axis=1)
        new = Moments(counts, jnp.sum(y * resp[:, None, :], axis=2), cov.second(y, resp), log_lik)
        spread = counts[:, None, None] * free[p]
        return jax.tree.map(jnp.add, total, (new, spread)), None

    zero = (
        Moments(
            counts=jnp.zeros_like(mixture.log_weights),
            first=jnp.zeros_like(means),
            second=jax.tree.map(jnp.zeros_like, pool(inverse)),
            log_lik=jnp.zeros((), means.dtype),
        ),
        jnp.zeros_like(inverse),
    )
    (total, spread), _ = jax.lax.scan(step, zero, (groups.pattern, groups.rows, groups.valid))
    return total._replace(second=total.second + pool(spread))


def column_variance(x: Array | Observed, weight: Float[Array, " n"]) -> Float[Array, " d"]:
    """Returns the variance of each column, of what is observed of it; 1 if it is constant."""
    if isinstance(x, Observed):
        return observed_mean_and_variance(x.x, weight)[1]
    return mean_and_variance(x, weight)[1]
