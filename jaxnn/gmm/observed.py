"""Gaussians of which only some coordinates are observed, in whitened coordinates.

With x = m + S y and y standard normal, let A = S⁻¹ and let P project onto the columns of A that
belong to missing coordinates.  Given the observed ones, y is normal with mean (I − P) A r and
covariance P, where r is x − m with zeros for what is missing; and log det of the observed block
is log det Σ + log det(A_mᵀ A_m) (Little and Rubin, 2002, section 11.2, in these coordinates).
So nothing is inverted for a row, and a row without gaps is treated as ever: P = 0.
Shapes: k components, d features, c rows of a tile (last), NaN never: `missing` says where.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.family import Covariances, Means
from jaxnn.gmm.forms import Form
from jaxnn.gmm.natural import Sums


class Conditional(NamedTuple):
    """Rows given what is observed of them.

    `y` the conditional mean of S⁻¹(x − m), `joint` log w_k + log N(observed part | k), `free` the
    covariance of y: P, or its diagonal where that is all.
    """

    y: Float[Array, "k d c"]
    joint: Float[Array, "k c"]
    free: Array


Rows = Callable[[Float[Array, "c d"], Bool[Array, "c d"]], Conditional]


class Rule(NamedTuple):
    """How a kind of family treats gaps.

    `rows(log_weights, means, cov)` maps a tile of rows, finite everywhere, to `Conditional`;
    `second(cov, given, resp)` is the family's expected second moment Σ r E[yyᵀ];
    `pool(free)` brings a sum of Σ r P over rows, (k, d, d), into the family's shape, and is None
    where P is diagonal; `noise(free, e)` has covariance P for standard normal e, (k, d, c).
    """

    rows: Callable[[Float[Array, " k"], Means, Covariances], Rows]
    second: Callable[[Covariances, Conditional, Float[Array, "k c"]], PyTree]
    pool: Callable[[Float[Array, "k d d"]], Array] | None
    noise: Callable[[Array, Float[Array, "k d c"]], Float[Array, "k d c"]]


def inverse_factor(means: Means, cov: Covariances) -> Float[Array, "k d d"]:
    """Returns A = S⁻¹ of each component."""
    eye = jnp.eye(means.shape[1], dtype=means.dtype)
    return cov.whitener(jnp.zeros_like(means))(eye)


def projectors(
    inverse: Float[Array, "k d d"], missing: Bool[Array, "d c"]
) -> tuple[Float[Array, "k d d c"], Float[Array, "k c"]]:
    """Returns P and half of log det(A_mᵀ A_m) for each column of `missing`.

    Gram and Schmidt, a coordinate at a time; each vector is orthogonalised twice, since once is
    not enough in float32 where coordinates nearly determine each other.
    """
    k, d, _ = inverse.shape

    def add(j: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        free, log_norm = state
        v = jnp.broadcast_to(inverse[:, :, j, None], (k, d, missing.shape[1]))
        for _ in range(2):
            v = v - jnp.sum(free * v[:, None, :, :], axis=2)
        gap = missing[j][None]
        square = jnp.where(gap, jnp.sum(v * v, axis=1), 1.0)
        scaled = jnp.where(gap[:, None], v / square[:, None, :], 0.0)
        return free + scaled[:, :, None, :] * v[:, None, :, :], log_norm + 0.5 * jnp.log(square)

    zero = jnp.zeros((k, d, d, missing.shape[1]), inverse.dtype)
    return jax.lax.fori_loop(0, d, add, (zero, zero[:, 0, 0]))


def _dense_rows(log_weights: Float[Array, " k"], means: Means, cov: Covariances) -> Rows:
    inverse = inverse_factor(means, cov)
    constant = (log_weights - cov.log_det(means))[:, None]

    def rows(x: Float[Array, "c d"], missing: Bool[Array, "c d"]) -> Conditional:
        gap = missing.T
        residual = jnp.where(gap[None], 0.0, x.T[None] - means[:, :, None])
        y = jnp.einsum("kij,kjc->kic", inverse, residual)
        free, log_norm = projectors(inverse, gap)
        y = y - jnp.sum(free * y[:, None, :, :], axis=2)
        two_pi = 0.5 * math.log(2 * math.pi) * jnp.sum(~gap, axis=0).astype(y.dtype)
        joint = constant - log_norm - two_pi[None] - 0.5 * jnp.sum(y * y, axis=1)
        return Conditional(y=y, joint=joint, free=free)

    return rows


def _dense_second(
    pool: Callable[[Array], Array],
) -> Callable[[Covariances, Conditional, Float[Array, "k c"]], PyTree]:
    def second(cov: Covariances, given: Conditional, resp: Float[Array, "k c"]) -> PyTree:
        spread = jnp.sum(given.free * resp[:, None, None, :], axis=3)
        return cov.second(given.y, resp) + pool(spread)

    return second


def _dense_noise(free: Array, e: Float[Array, "#k d c"]) -> Float[Array, "k d c"]:
    return jnp.sum(free * e[:, None, :, :], axis=2)  # P is its own square root


def _separate_rows(log_weights: Float[Array, " k"], means: Means, cov: Covariances) -> Rows:
    whiten = cov.whitener(means)
    log_scale = -jnp.log(jnp.diagonal(inverse_factor(means, cov), axis1=1, axis2=2))
    log_unit = log_scale + 0.5 * math.log(2 * math.pi)

    def rows(x: Float[Array, "c d"], missing: Bool[Array, "c d"]) -> Conditional:
        gap = missing.T
        y = jnp.where(gap[None], 0.0, whiten(x))
        constant = log_weights[:, None] - log_unit @ (~gap).astype(y.dtype)
        joint = constant - 0.5 * jnp.sum(y * y, axis=1)
        return Conditional(y=y, joint=joint, free=gap.astype(y.dtype))

    return rows


def _separate_second(cov: Covariances, given: Conditional, resp: Float[Array, "k c"]) -> PyTree:
    return cov.second(given.y + given.free[None], resp)  # y is 0 where its variance is 1


def _separate_noise(free: Array, e: Float[Array, "#k d c"]) -> Float[Array, "k d c"]:
    return free[None] * e


def _sum_components(free: Float[Array, "k d d"]) -> Float[Array, "d d"]:
    return jnp.sum(free, axis=0)


def _same(free: Float[Array, "k d d"]) -> Float[Array, "k d d"]:
    return free


_SEPARATE = Rule(_separate_rows, _separate_second, None, _separate_noise)
RULES: dict[type[Covariances], Rule] = {
    Full: Rule(_dense_rows, _dense_second(_same), _same, _dense_noise),
    Tied: Rule(_dense_rows, _dense_second(_sum_components), _sum_components, _dense_noise),
    Diag: _SEPARATE,
    Spherical: _SEPARATE,
}


def rule_of(where: str, cov: Covariances) -> Rule:
    """Returns the rule of a family; raises TypeError for one that knows no gaps."""
    if type(cov) not in RULES:
        raise TypeError(
            f"{where}: missing values need a family among "
            f"{', '.join(kind.__name__ for kind in RULES)}, got {type(cov).__name__}"
        )
    return RULES[type(cov)]


def width(cov: Covariances, means: Means) -> int:
    """Returns how many numbers a row needs in a tile."""
    dense = RULES[type(cov)].pool is not None
    return means.size * (means.shape[1] + 2 if dense else 1)


def with_gaps(log_weights: Float[Array, " k"], means: Means, cov: Covariances) -> Form:
    """Returns the form of rows in which NaN is a gap: densities are those of the rest.

    Moments are expectations over what is missing too.  Each row has matrices of its own.
    """
    rule = RULES[type(cov)]
    given_rows = rule.rows(log_weights, means, cov)

    def joint(x: Float[Array, "c d"]) -> tuple[Conditional, Float[Array, "k c"]]:
        missing = jnp.isnan(x)
        given = given_rows(jnp.where(missing, 0.0, x), missing)
        return given, given.joint

    def collect(given: Conditional, resp: Float[Array, "k c"]) -> Sums:
        first = jnp.sum(given.y * resp[:, None, :], axis=2)
        return jnp.sum(resp, axis=1), first, rule.second(cov, given, resp)

    return Form(joint, collect, finish=lambda sums: sums, width=width(cov, means), lanes=1)
