"""Covariances as free numbers: whatever they are, they are covariances of the family.

So trainers, which see nothing but numbers, and jumps, which go along straight lines, never leave
it.  What must be positive is a logarithm, and what must have determinant 1 is divided by it; an
orthogonal matrix is the Cayley transform of a skew-symmetric one (Cayley, 1846).  Lengths that
may have any sign are in units of their row, or in the given unit of their column of the data.
Shapes: k components, d features, q factors; a leading axis of 1 is shared by all components.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.eigen import Eigen
from jaxnn.gmm.ellipsoid import Ellipsoid
from jaxnn.gmm.factors import Factors
from jaxnn.gmm.family import Covariances

Unit = Float[Array, " d"] | None


class Free(NamedTuple):
    """Covariances as free numbers.

    `log_scale`: logarithms of standard deviations, of volumes and shapes, or of the diagonals of
    Cholesky factors.  `rest`: the strictly lower triangle of a Cholesky factor or of a
    skew-symmetric matrix, or loadings; None in families without.
    """

    log_scale: PyTree
    rest: Array | None


class Coordinates(NamedTuple):
    """The way from a family to free numbers, and back; both in the same unit, or in their own."""

    free: Callable[[Any, Unit], Free]
    bound: Callable[[Free, Unit], Covariances]


def _rows(unit: Unit, own: Float[Array, "*k e"]) -> Float[Array, "*l d 1"]:
    """Returns the unit of each row, to divide a matrix by; broadcasts against it."""
    if unit is not None:
        own = unit.reshape((1,) * (own.ndim - 1) + (-1,))
    return own[..., :, None]


def _from_tril(tril: Float[Array, "*k d d"], unit: Unit) -> Free:
    diagonal = jnp.diagonal(tril, axis1=-2, axis2=-1)
    return Free(jnp.log(diagonal), jnp.tril(tril, -1) / _rows(unit, diagonal))


def _to_tril(
    log_scale: Float[Array, "*k d"], below: Float[Array, "*k d d"], unit: Unit
) -> Float[Array, "*k d d"]:
    diagonal = jnp.exp(log_scale)
    eye = jnp.broadcast_to(jnp.eye(below.shape[-1], dtype=below.dtype), below.shape)
    return jnp.tril(below, -1) * _rows(unit, diagonal) + diagonal[..., :, None] * eye


def _to_unit(log_scale: Float[Array, "*k d"]) -> Float[Array, "*k d"]:
    """Returns logarithms that sum to 0."""
    return log_scale - jnp.mean(log_scale, axis=-1, keepdims=True)


def _signs(q: Float[Array, "o d d"]) -> Float[Array, "o d"]:
    """Returns signs s of columns, such that no eigenvalue of q diag(s) is near −1.

    Each pivot of I + q diag(s) is made at least 1: what is left of an orthogonal matrix after a
    step of elimination is orthogonal again, so that the pivots are 1 ± c, with c its corner.
    """

    def step(j: Int[Array, ""], state: tuple[Array, Array]) -> tuple[Array, Array]:
        left, signs = state
        corner = left[:, j, j]
        sign = jnp.where(corner < 0, -1, 1).astype(q.dtype)
        factor = sign / (1 + jnp.abs(corner))
        left = left - factor[:, None, None] * left[:, :, j, None] * left[:, j, None, :]
        return left, signs.at[:, j].set(sign)

    return jax.lax.fori_loop(0, q.shape[1], step, (q, jnp.zeros_like(q[:, 0])))[1]


def _cayley(a: Float[Array, "o d d"]) -> Float[Array, "o d d"]:
    """Returns (I + a)⁻¹ (I − a), which is its own inverse: skew-symmetric ↔ orthogonal."""
    eye = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    return jnp.linalg.solve(eye + a, eye - a)


def _from_eigen(cov: Eigen, unit: Unit) -> Free:
    log = jax.tree.map(jnp.log, (cov.volume, cov.shape))
    axes = cov.orientation
    if axes is None:
        return Free(log, None)
    # An axis has no sign: the covariances stay.
    axes = axes * jax.lax.stop_gradient(_signs(axes))[:, None, :]
    return Free(log, jnp.tril(_cayley(axes), -1))


def _to_eigen(free: Free, unit: Unit) -> Eigen:
    volume, shape = free.log_scale
    axes = free.rest
    if axes is not None:
        below = jnp.tril(axes, -1)
        axes = _cayley(below - jnp.swapaxes(below, 1, 2))
    shape = None if shape is None else jnp.exp(_to_unit(shape))
    return Eigen(jnp.exp(volume), shape, axes)


def _from_ellipsoid(cov: Ellipsoid, unit: Unit) -> Free:
    log_scale, below = _from_tril(cov.scale_tril, None)
    return Free((jnp.log(cov.volume), log_scale), below)


def _to_ellipsoid(free: Free, unit: Unit) -> Ellipsoid:
    volume, log_scale = free.log_scale
    assert free.rest is not None
    return Ellipsoid(jnp.exp(volume), _to_tril(_to_unit(log_scale), free.rest, None))


def _to_factors(free: Free, unit: Unit) -> Factors:
    noise = jnp.exp(free.log_scale)
    assert free.rest is not None
    return Factors(loadings=free.rest * _rows(unit, noise), noise=noise)


def _tril_family(family: type[Full] | type[Tied]) -> Coordinates:
    return Coordinates(
        lambda cov, unit: _from_tril(cov.scale_tril, unit),
        lambda free, unit: family(_to_tril(free.log_scale, free.rest, unit)),
    )


def _scale_family(family: type[Diag] | type[Spherical]) -> Coordinates:
    return Coordinates(
        lambda cov, unit: Free(jnp.log(cov.scale), None),
        lambda free, unit: family(jnp.exp(free.log_scale)),
    )


COORDINATES: dict[type[Covariances], Coordinates] = {
    Full: _tril_family(Full),
    Tied: _tril_family(Tied),
    Diag: _scale_family(Diag),
    Spherical: _scale_family(Spherical),
    Eigen: Coordinates(_from_eigen, _to_eigen),
    Ellipsoid: Coordinates(_from_ellipsoid, _to_ellipsoid),
    Factors: Coordinates(
        lambda cov, unit: Free(jnp.log(cov.noise), cov.loadings / _rows(unit, cov.noise)),
        _to_factors,
    ),
}


def coordinates_of(where: str, cov: Covariances) -> Coordinates:
    """Returns the coordinates of a family; raises TypeError for one that has none."""
    if type(cov) not in COORDINATES:
        raise TypeError(
            f"{where}: mixture.cov must be one of "
            f"{', '.join(kind.__name__ for kind in COORDINATES)}, got {type(cov).__name__}"
        )
    return COORDINATES[type(cov)]
