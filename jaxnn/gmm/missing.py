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
from jaxnn.gmm.model import GMM
from jaxnn.gmm.moments import Moments, moments
from jaxnn.gmm.observed import RULES, inverse_factor, projectors, rule_of, width
from jaxnn.linalg import fold_rows, mean_and_variance, tile_rows

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
    """Rows with the mean of a column wherever `missing`."""

    x: Float[Array, "n d"]
    missing: Bool[Array, "n d"]
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
    """Returns tiles of rows of one pattern each; the last of a pattern is filled up."""
    sizes = sizes[:p]
    tiles = -(-sizes // TILE)
    starts, ends = jnp.cumsum(sizes) - sizes, jnp.cumsum(tiles)
    number = jnp.arange(t)
    pattern = jnp.minimum(jnp.searchsorted(ends, number, side="right"), p - 1)
    begin = (number - (ends - tiles)[pattern]) * TILE
    place = begin[:, None] + jnp.arange(TILE)[None, :]
    valid = (place < sizes[pattern][:, None]) & (number < ends[-1])[:, None]
    rows = order[jnp.where(valid, starts[pattern][:, None] + place, 0)]
    first = order[jnp.minimum(starts, missing.shape[0] - 1)]
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
    x: Float[Array, "n d"], missing: Bool[Array, "n d"], weight: Float[Array, " n"]
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """Returns mean and variance of what is observed of each column; variance 1 if constant."""
    column = lambda values, gap: mean_and_variance(values[:, None], jnp.where(gap, 0.0, weight))
    # About an observed value: the first row may have a gap there, filled with anything.
    first = jnp.take_along_axis(x, jnp.argmin(missing, axis=0)[None], axis=0)
    filled = jnp.where(missing, first, x)
    mean, variance = jax.vmap(column, in_axes=1)(filled, missing)
    return mean[:, 0], variance[:, 0]


def fill(
    where: str, x: Float[Array, "n d"], weight: Float[Array, " n"]
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """Returns rows with the mean of a column for NaN, and weight zero for rows of nothing else.

    Raises ValueError for a column without any observed value in a row that counts.
    """
    missing = jnp.isnan(x)
    weight = jnp.where(jnp.all(missing, axis=1), 0.0, weight)
    if checks.concrete(x) and checks.concrete(weight):
        with jax.ensure_compile_time_eval():
            seen = jnp.any(~missing & (weight > 0)[:, None], axis=0)
            empty = jnp.flatnonzero(~seen).tolist()
        if empty:
            raise ValueError(
                f"{where}: x must have an observed value in every column, got none in column "
                f"{', '.join(map(str, empty))}; drop it"
            )
    mean, _ = observed_mean_and_variance(x, missing, weight)
    return jnp.where(missing, mean[None], x), weight


def observe(
    where: str, x: Float[Array, "n d"], weight: Float[Array, " n"], cov: Covariances, k: int
) -> tuple[Observed, Float[Array, " n"]]:
    """Returns rows in which NaN is a gap, and weights of zero for rows of nothing else.

    Raises as `fill` does, and TypeError for a family that knows no gaps.
    """
    rule = rule_of(where, cov)
    filled, weight = fill(where, x, weight)
    missing, groups = jnp.isnan(x), None
    if checks.concrete(missing) and rule.pool is not None:
        with jax.ensure_compile_time_eval():
            groups = _arrange(missing, k)
    return Observed(filled, missing, groups), weight


def _by_row(mixture: GMM, data: Observed, weight: Float[Array, " n"]) -> Moments:
    rule = RULES[type(mixture.cov)]
    given_rows = rule.rows(mixture.log_weights, mixture.means, mixture.cov)

    def of_tile(x: Float[Array, "c d"], missing: Bool[Array, "c d"], w: Array) -> Moments:
        given = given_rows(x, missing)
        resp, log_lik = _responsibilities(given.joint, w)
        return Moments(
            counts=jnp.sum(resp, axis=1),
            first=jnp.sum(given.y * resp[:, None, :], axis=2),
            second=rule.second(mixture.cov, given, resp),
            log_lik=log_lik,
        )

    def step(total: Moments, tile: tuple[Array, ...], fresh: Bool[Array, " c"]) -> Moments:
        x, missing, w = tile
        return jax.tree.map(jnp.add, total, of_tile(x, missing, w * fresh))

    rows = (data.x, data.missing, weight)
    zero = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(of_tile, *(a[:1] for a in rows)),
    )
    size = tile_rows(data.x.shape[0], width(mixture.cov, mixture.means))
    return fold_rows(step, zero, rows, size)


def _responsibilities(
    joint: Float[Array, "k c"], w: Float[Array, " c"]
) -> tuple[Float[Array, "k c"], Float[Array, ""]]:
    """Returns weighted responsibilities and the log-likelihood of a tile."""
    evidence = jax.nn.logsumexp(joint, axis=0)
    return jnp.exp(joint - evidence[None]) * w[None], jnp.sum(w * evidence)


def _by_pattern(
    mixture: GMM, data: Observed, groups: Groups, weight: Float[Array, " n"]
) -> Moments:
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
        x = data.x[rows]
        residual = x.T[None] - means[:, :, None]
        residual = jnp.where(groups.gaps[p][None, :, None], 0.0, residual)
        y = jnp.einsum("kij,kjc->kic", whiten[p], residual)
        joint = constant[p][:, None] - 0.5 * jnp.sum(y * y, axis=1)
        resp, log_lik = _responsibilities(joint, weight[rows] * valid)
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


def observed_moments(mixture: GMM, data: Observed, weight: Float[Array, " n"]) -> Moments:
    """Returns the E-step's moments, expectations over what is missing included.

    `log_lik` is the exact log-likelihood of the observed parts.
    """
    if data.groups is None:
        return _by_row(mixture, data, weight)
    return _by_pattern(mixture, data, data.groups, weight)


def expect(mixture: GMM, x: Array | Observed, weight: Float[Array, " n"]) -> Moments:
    """Returns the E-step's moments of rows with or without gaps."""
    if isinstance(x, Observed):
        return observed_moments(mixture, x, weight)
    return moments(mixture, x, weight)


def column_variance(x: Array | Observed, weight: Float[Array, " n"]) -> Float[Array, " d"]:
    """Returns the variance of each column, of what is observed of it; 1 if it is constant."""
    if isinstance(x, Observed):
        return observed_mean_and_variance(x.x, x.missing, weight)[1]
    return mean_and_variance(x, weight)[1]
