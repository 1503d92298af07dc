"""Covariances of one form and many volumes, or one volume and many forms: mclust's VEE and EVV.

Σ_k = λ_k C_k with det C_k = 1 (Celeux and Govaert, 1995, models λ_k C and λ C_k).  No axes are
looked for: Cholesky factors do, in the whitened coordinates of `covariances`, so that a change of
units changes nothing.  Shapes: k components, d features.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnn.gmm.eigen import INNER, is_of, outer, shares, to_covariances
from jaxnn.gmm.family import Means, Whitened, Whitener
from jaxnn.linalg import inverse_tril, log_det_tril


def _unit(tril: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """Returns a triangular factor of determinant 1 in the same proportions."""
    return tril * jnp.exp(-log_det_tril(tril) / tril.shape[-1])[..., None, None]


class Ellipsoid(NamedTuple):
    """S_k = volume_k · scale_tril_k; a leading axis of 1 holds what all components share.

    `volume` is √λ (data units), `scale_tril` the Cholesky factor of C, of determinant 1.
    """

    volume: Float[Array, "#k"]
    scale_tril: Float[Array, "#k d d"]

    def covariances(self, means: Means) -> Float[Array, "k d d"]:
        roots = self.volume[:, None, None] * self.scale_tril
        return jnp.einsum("kij,klj->kil", roots, roots)

    def whitener(self, means: Means) -> Whitener:
        inverse = inverse_tril(self.scale_tril)
        centre = jnp.mean(means, axis=0, keepdims=True)  # so that no large offset is multiplied
        at_mean = jnp.sum(inverse * (means - centre)[:, None, :], axis=2)[:, :, None]
        stretch = 1 / self.volume[:, None, None]
        return lambda x: (jnp.einsum("sij,cj->sic", inverse, x - centre) - at_mean) * stretch

    def log_det(self, means: Means) -> Float[Array, " k"]:
        log_det = means.shape[1] * jnp.log(self.volume) + log_det_tril(self.scale_tril)
        return jnp.broadcast_to(log_det, means.shape[:1])

    def colour(self, component: Int[Array, " n"], y: Float[Array, "n d"]) -> Float[Array, "n d"]:
        roots = self.volume[:, None, None] * self.scale_tril
        if roots.shape[0] == 1:
            return y @ roots[0].T
        return jnp.einsum("nij,nj->ni", roots[component], y)

    def second(self, y: Float[Array, "k d c"], resp: Float[Array, "k c"]) -> Array:
        return jnp.einsum("kic,kjc->kij", y * resp[:, None, :], y)

    def update(self, sums: Whitened, ridge: Float[Array, " d"]) -> "Ellipsoid":
        d = ridge.shape[0]
        moment = sums.second / sums.counts[:, None, None] - outer(sums.shift)
        root = inverse_tril(self.scale_tril) * jnp.sqrt(ridge)[None, None, :]
        root = root / self.volume[:, None, None]
        moment += jnp.einsum("kij,klj->kil", root, root)
        moment = jnp.where(sums.alive[:, None, None], moment, jnp.eye(d, dtype=moment.dtype)[None])
        # In the coordinates of scale_tril, of which all have a determinant of 1.
        moment *= jnp.square(self.volume)[:, None, None]
        share = shares(sums)
        if self.scale_tril.shape[0] > 1:
            tril = jnp.linalg.cholesky(moment)
            own = jnp.exp(2 * log_det_tril(tril) / d)
            return Ellipsoid(
                volume=jnp.sqrt(share @ own)[None], scale_tril=_unit(self.scale_tril @ tril)
            )

        def volumes(tril: Float[Array, "d d"]) -> Float[Array, " k"]:
            inverse = inverse_tril(tril)
            precision = inverse.T @ inverse
            return jnp.einsum("ij,kij->k", precision, moment) / d

        def refine(_: Int[Array, ""], tril: Float[Array, "d d"]) -> Float[Array, "d d"]:
            pooled = jnp.einsum("k,kij->ij", share / volumes(tril), moment)
            return _unit(jnp.linalg.cholesky(pooled))

        tril = jax.lax.fori_loop(0, INNER, refine, jnp.eye(d, dtype=moment.dtype))
        volume = jnp.where(sums.alive, jnp.sqrt(volumes(tril)), self.volume)
        return Ellipsoid(volume=volume, scale_tril=_unit(self.scale_tril @ tril[None]))

    def n_parameters(self, k: int | Array, d: int) -> int | Array:
        own_volume, own_form = self.volume.shape[0] > 1, self.scale_tril.shape[0] > 1
        form = d * (d + 1) // 2 - 1
        return (k if own_volume else 1) + (k if own_form else 1) * form


@dataclass(frozen=True)
class EllipsoidFamily:
    """VEE or EVV, as an entry of `COVARIANCES`."""

    name: str

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        return (k, d, d)

    def valid(self, covariances: Float[Array, "k d d"]) -> Bool[Array, ""]:
        return is_of(self, covariances)

    def from_covariances(self, covariances: Float[Array, "k d d"]) -> Ellipsoid:
        return to_covariances(self, covariances)

    def from_variances(self, variances: Float[Array, " d"], k: int) -> Ellipsoid:
        of = {"E": 1, "V": k}
        volume = jnp.exp(jnp.mean(jnp.log(variances)) / 2)
        tril = jnp.diag(jnp.sqrt(variances) / volume)
        return Ellipsoid(
            volume=jnp.broadcast_to(volume, (of[self.name[0]],)),
            scale_tril=jnp.broadcast_to(tril, (of[self.name[1]], *tril.shape)),
        )
