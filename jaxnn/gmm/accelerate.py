"""Longer steps for slow EM: squared extrapolation, SQUAREM (Varadhan and Roland, 2008).

From three iterates a, b = EM(a), c = EM(b) with r = b − a and v = c − b − r, the jump goes to
a + 2αr + α²v with α = |r| / |v| (their scheme S3): α = 1 is c. It is taken among free parameters,
where every point is a mixture, and differences are in units of the data, so that a change of units
changes nothing. Whoever jumps must look whether the likelihood agrees.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.family import Covariances
from jaxnn.gmm.model import GMM

Unit = Float[Array, " d"]  # the standard deviation of each column


class Chart(NamedTuple):
    """The way from a leaf of a family to free coordinates, and back."""

    free: Callable[[Array, Unit], Array]
    leaf: Callable[[Array, Unit], Array]


def _apart(tril: Float[Array, "*k d d"]) -> tuple[Array, Array]:
    """Returns the diagonal and what is below it."""
    return jnp.diagonal(tril, axis1=-2, axis2=-1), jnp.tril(tril, -1)


def _joined(diagonal: Float[Array, "*k d"], below: Float[Array, "*k d d"]) -> Array:
    eye = jnp.eye(below.shape[-1], dtype=below.dtype).reshape(
        (1,) * (below.ndim - 2) + below.shape[-2:]
    )
    return below + diagonal[..., None] * eye


def _by_unit(unit: Unit, like: Array) -> Array:
    return unit.reshape((1,) * (like.ndim - 2) + (-1, 1))


def _free_tril(tril: Float[Array, "*k d d"], unit: Unit) -> Array:
    diagonal, below = _apart(tril / _by_unit(unit, tril))
    return _joined(jnp.log(diagonal), below)


def _leaf_tril(free: Float[Array, "*k d d"], unit: Unit) -> Array:
    diagonal, below = _apart(free)
    return _joined(jnp.exp(diagonal), below) * _by_unit(unit, free)


FACTOR = Chart(_free_tril, _leaf_tril)
DEVIATION = Chart(lambda leaf, unit: jnp.log(leaf), lambda free, unit: jnp.exp(free))
AS_IS = Chart(lambda leaf, unit: leaf, lambda free, unit: free)
# A family that is not here moves along straight lines; what is no mixture there is refused.
CHARTS: dict[type[Covariances], Chart] = {
    Full: FACTOR,
    Tied: FACTOR,
    Diag: DEVIATION,
    Spherical: DEVIATION,
}


def _free(mixture: GMM, unit: Unit) -> PyTree:
    chart = CHARTS.get(type(mixture.cov), AS_IS)
    on = mixture.log_weights > -jnp.inf
    return (
        jnp.where(on, mixture.log_weights, 0.0),
        mixture.means / unit[None],
        jax.tree.map(lambda leaf: chart.free(leaf, unit), mixture.cov),
    )


FIRST_BOUND = 4.0


def bound(
    jumped: Bool[Array, ""],
    accepted: Bool[Array, ""],
    length: Float[Array, ""],
    longest: Float[Array, ""],
) -> Float[Array, ""]:
    """Returns the next bound on the length of a jump.

    Four times longer where the bound was in the way of a good jump, four times shorter after a bad
    one, but never below 2.
    """
    bolder = jnp.where(length >= longest, 4 * longest, longest)
    return jnp.where(jumped, jnp.where(accepted, bolder, jnp.maximum(longest / 4, 2)), longest)


def extrapolate(
    a: GMM, b: GMM, c: GMM, unit: Unit, longest: Float[Array, ""]
) -> tuple[GMM, Float[Array, ""]]:
    """Returns the jump from three successive iterates of EM, and its length α.

    α is at least 1, which is no jump but `c`, and at most `longest`. A component that is off in
    `c` stays off.
    """
    free_a, free_b, free_c = (_free(mixture, unit) for mixture in (a, b, c))
    r = jax.tree.map(jnp.subtract, free_b, free_a)
    v = jax.tree.map(lambda z, y, r: (z - y) - r, free_c, free_b, r)
    norm = lambda tree: jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))
    bend = norm(v)
    length = jnp.where(bend > 0, norm(r) / jnp.where(bend > 0, bend, 1.0), 1.0)
    length = jnp.clip(length, 1.0, longest)
    log_weights, means, cov = jax.tree.map(
        lambda x, r, v: x + 2 * length * r + jnp.square(length) * v, free_a, r, v
    )
    on = c.log_weights > -jnp.inf
    log_weights = jax.nn.log_softmax(jnp.where(on, log_weights, -jnp.inf))
    chart = CHARTS.get(type(c.cov), AS_IS)
    return (
        GMM(
            log_weights=log_weights,
            means=means * unit[None],
            cov=jax.tree.map(lambda leaf: chart.leaf(leaf, unit), cov),
        ),
        length,
    )
