"""The fast form of a mixture: every log-density is linear in a few statistics of a row.

log N(x | m_k, Σ_k) = ⟨η_k, T(x)⟩ + constant (an exponential family; Wainwright and Jordan, 2008,
section 3.2), so a tile of rows costs one matrix product for the densities and one for the moments,
and nothing of size k × d × c is ever formed.  The terms of that product may be far larger than
their sum, and then rounding shows: `forms` decides where that is, and takes the whitened form.
Shapes: k components, d features, c rows of a tile (last, so that loops run along them), f
statistics.  Coordinates z are centred and scaled, so that no unit and no offset matters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.family import Means
from jaxnn.linalg import inverse_tril

EXACT = lax.Precision.HIGHEST  # accelerators would else multiply in fewer bits

Rows = Float[Array, "c d"]
Placed = Float[Array, "d c"]
Statistics = Float[Array, "f c"]
Sums = tuple[Float[Array, " k"], Float[Array, "k d"], PyTree]


class Natural(NamedTuple):
    """The fast form of one mixture's components.

    `place` maps rows to z; `statistics` is T(z), whose last row is 1; `eta` are the coefficients;
    `probes` are columns z as large as the bulk of each component's rows; `collect` sums T (weighted
    by responsibilities) over a tile; `finish` turns such sums into counts and whitened moments.
    """

    place: Callable[[Rows], Placed]
    statistics: Callable[[Placed], Statistics]
    eta: Float[Array, "k f"]
    probes: Float[Array, "d k"]
    collect: Callable[[Statistics, Float[Array, "k c"]], PyTree]
    finish: Callable[[Any], Sums]


def _one(z: Placed) -> Float[Array, "1 c"]:
    return jnp.ones((1, z.shape[1]), z.dtype)


def _sums(t: Statistics, resp: Float[Array, "k c"]) -> Float[Array, "f k"]:
    return jnp.einsum("fc,kc->fk", t, resp, precision=EXACT)  # the other way round is 1.5x slower


def _scaler(centre: Float[Array, " d"], scale: Float[Array, " d"]) -> Callable[[Rows], Placed]:
    inverse = 1 / scale
    return lambda x: ((x - centre[None]) * inverse[None]).T


def _reach(means: Means, centre: Float[Array, " d"], deviation: Array) -> Float[Array, "k d"]:
    """Returns how far from the centre the bulk of each component's rows lies, data units."""
    return jnp.abs(means - centre[None]) + deviation


def _full(cov: Full, means: Means, centre: Float[Array, " d"]) -> Natural:
    d = means.shape[1]
    reach = _reach(means, centre, jnp.sqrt(jnp.sum(jnp.square(cov.scale_tril), axis=2)))
    scale = lax.stop_gradient(jnp.max(reach, axis=0))
    # With a row of ones below z, y = root @ z: the whole quadratic is one symmetric matrix.
    inverse = inverse_tril(cov.scale_tril)
    shift = jnp.einsum("kij,kj->ki", inverse, means - centre[None], precision=EXACT)
    root = jnp.concatenate([inverse * scale[None, None, :], -shift[:, :, None]], axis=2)
    square = jnp.einsum("kai,kaj->kij", root, root, precision=EXACT)
    # The statistics are the products z_i z_j of the upper triangle, in constant order.
    pairs = [(i, j) for i in range(d + 1) for j in range(i, d + 1)]
    number = {pair: f for f, pair in enumerate(pairs)}
    i, j = (jnp.asarray(side) for side in zip(*pairs, strict=True))
    packed = jnp.asarray(
        [[number[min(a, b), max(a, b)] for b in range(d + 1)] for a in range(d + 1)]
    )
    times = jnp.where(i == j, -0.5, -1.0).astype(means.dtype)

    def statistics(z: Placed) -> Statistics:
        z = jnp.concatenate([z, _one(z)])
        return z[i] * z[j]

    def finish(sums: Float[Array, "f k"]) -> Sums:
        outer = sums[packed]
        half = jnp.einsum("kai,ijk->kaj", root, outer, precision=EXACT)
        second = jnp.einsum("kaj,kbj->kab", half, root, precision=EXACT)
        return sums[-1], half[:, :, d], second

    return Natural(
        place=_scaler(centre, scale),
        statistics=statistics,
        eta=square[:, i, j] * times[None],
        probes=(reach / scale[None]).T,
        collect=_sums,
        finish=finish,
    )


# Below, y = slope z − shift.
def _diag(cov: Diag, means: Means, centre: Float[Array, " d"]) -> Natural:
    d = means.shape[1]
    reach = _reach(means, centre, cov.scale)
    scale = lax.stop_gradient(jnp.max(reach, axis=0))
    slope, shift = scale[None] / cov.scale, (means - centre[None]) / cov.scale

    def finish(sums: Float[Array, "f k"]) -> Sums:
        squares, singles, counts = sums[:d].T, sums[d : 2 * d].T, sums[2 * d :].T
        first = slope * singles - shift * counts
        return counts[:, 0], first, slope * (slope * squares - shift * singles) - shift * first

    return Natural(
        place=_scaler(centre, scale),
        statistics=lambda z: jnp.concatenate([z * z, z, _one(z)]),
        eta=jnp.concatenate(
            [-0.5 * slope * slope, slope * shift, -0.5 * jnp.sum(shift * shift, 1, keepdims=True)],
            axis=1,
        ),
        probes=(reach / scale[None]).T,
        collect=_sums,
        finish=finish,
    )


def _norms(z: Placed) -> Statistics:
    return jnp.concatenate([jnp.sum(z * z, axis=0, keepdims=True), z, _one(z)])


def _spherical(cov: Spherical, means: Means, centre: Float[Array, " d"]) -> Natural:
    d = means.shape[1]
    reach = _reach(means, centre, cov.scale[:, None])
    scale = lax.stop_gradient(jnp.max(reach))
    slope, shift = scale / cov.scale[:, None], (means - centre[None]) / cov.scale[:, None]

    def finish(sums: Float[Array, "f k"]) -> Sums:
        squares, singles, counts = sums[0], sums[1 : d + 1].T, sums[d + 1 :].T
        first = slope * singles - shift * counts
        inner = jnp.sum(shift * (slope * singles + first), axis=1)
        return counts[:, 0], first, (jnp.square(slope[:, 0]) * squares - inner) / d

    return Natural(
        place=_scaler(centre, jnp.broadcast_to(scale, (d,))),
        statistics=_norms,
        eta=jnp.concatenate(
            [-0.5 * slope * slope, slope * shift, -0.5 * jnp.sum(shift * shift, 1, keepdims=True)],
            axis=1,
        ),
        probes=(reach / scale).T,
        collect=_sums,
        finish=finish,
    )


def _tied(cov: Tied, means: Means, centre: Float[Array, " d"]) -> Natural:
    # Whitened by the one covariance, all components are spheres of radius 1.
    k, d = means.shape
    inverse = inverse_tril(cov.scale_tril)
    shift = jnp.einsum("ij,kj->ki", inverse, means - centre[None], precision=EXACT)

    def collect(t: Statistics, resp: Float[Array, "k c"]) -> tuple[Array, Array]:
        z = t[1 : d + 1]
        return _sums(t, resp), _sums(z, z * jnp.sum(resp, axis=0)[None])

    def finish(sums: tuple[Array, Array]) -> Sums:
        singles, counts = sums[0][1 : d + 1].T, sums[0][d + 1 :].T
        first = singles - shift * counts
        cross = jnp.einsum("ki,kj->ij", shift, singles, precision=EXACT)
        cross += jnp.einsum("ki,kj->ij", first, shift, precision=EXACT)
        return counts[:, 0], first, sums[1] - cross

    half = jnp.full((k, 1), 0.5, means.dtype)
    return Natural(
        place=lambda x: jnp.einsum("ij,cj->ic", inverse, x - centre[None], precision=EXACT),
        statistics=_norms,
        eta=jnp.concatenate(
            [-half, shift, -0.5 * jnp.sum(shift * shift, axis=1, keepdims=True)], axis=1
        ),
        probes=jnp.abs(shift).T + 1,
        collect=collect,
        finish=finish,
    )


# A family that is not here has only its whitened form.
NATURAL: dict[type, Callable[[Any, Means, Float[Array, " d"]], Natural]] = {
    Full: _full,
    Tied: _tied,
    Diag: _diag,
    Spherical: _spherical,
}
