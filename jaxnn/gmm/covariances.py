"""Covariance families: full, tied, diag and spherical.

Shapes: k components, d features, c rows of a tile.  A family owns the square root of its
covariances (Cholesky factors or standard deviations, in data units) and sees data in *whitened*
coordinates y = S⁻¹(x − m): there the component that owns y is the standard normal, so densities,
moments and updates keep their precision whatever the scale, the offset or the tightness of the
clusters.  A new family is one class with the methods of `family.Covariances` and one entry in
the table of `families`.

`update` is the M-step for covariances (Bishop, 2006, eq. 9.25) in those coordinates: with the mean
second moment E[yyᵀ] and the whitened shift δ of the mean, Σ_new = S(E[yyᵀ] − δδᵀ)Sᵀ + ridge.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnn.gmm.family import Means, Whitened, Whitener
from jaxnn.linalg import inverse_tril, log_det_tril


def _outer(v: Float[Array, "*batch d"]) -> Float[Array, "*batch d d"]:
    return v[..., :, None] * v[..., None, :]


def _floor(m: Array) -> Array:
    """Keeps a variance ratio positive: below eps it is the rounding of E[y²] − δ²."""
    return jnp.maximum(m, jnp.finfo(m.dtype).eps)


def _positive(variances: Array) -> Bool[Array, ""]:
    return jnp.all(variances > 0)


def _definite(matrices: Float[Array, "*batch d d"]) -> Bool[Array, ""]:
    transposed = jnp.swapaxes(matrices, -1, -2)
    near = 100 * jnp.finfo(matrices.dtype).eps * jnp.max(jnp.abs(matrices))
    symmetric = jnp.all(jnp.abs(matrices - transposed) <= near)
    return symmetric & jnp.all(jnp.isfinite(jnp.linalg.cholesky(matrices)))


class Full(NamedTuple):
    """Each component its own covariance matrix, as lower Cholesky factors."""

    scale_tril: Float[Array, "k d d"]

    @staticmethod
    def shape(k: int, d: int) -> tuple[int, ...]:
        return (k, d, d)

    @staticmethod
    def valid(covariances: Array) -> Bool[Array, ""]:
        return _definite(covariances)

    @staticmethod
    def from_covariances(covariances: Float[Array, "k d d"]) -> "Full":
        return Full(scale_tril=jnp.linalg.cholesky(covariances))

    @staticmethod
    def from_variances(variances: Float[Array, " d"], k: int) -> "Full":
        tril = jnp.diag(jnp.sqrt(variances))
        return Full(scale_tril=jnp.broadcast_to(tril, (k, *tril.shape)))

    def covariances(self, means: Means) -> Float[Array, "k d d"]:
        return jnp.einsum("kij,klj->kil", self.scale_tril, self.scale_tril)

    def whitener(self, means: Means) -> Whitener:
        inverse = inverse_tril(self.scale_tril)
        centre = jnp.mean(means, axis=0, keepdims=True)  # so that no large offset is multiplied
        at_mean = jnp.einsum("kij,kj->ki", inverse, means - centre)[:, :, None]
        return lambda x: jnp.einsum("kij,cj->kic", inverse, x - centre) - at_mean

    def log_det(self, means: Means) -> Float[Array, " k"]:
        return log_det_tril(self.scale_tril)

    def colour(self, component: Int[Array, " n"], y: Float[Array, "n d"]) -> Float[Array, "n d"]:
        return jnp.einsum("nij,nj->ni", self.scale_tril[component], y)

    def second(self, y: Float[Array, "k d c"], resp: Float[Array, "k c"]) -> Array:
        return jnp.einsum("kic,kjc->kij", y * resp[:, None, :], y)

    def update(self, sums: Whitened, ridge: Float[Array, " d"]) -> "Full":
        moment = sums.second / sums.counts[:, None, None] - _outer(sums.shift)
        root = inverse_tril(self.scale_tril) * jnp.sqrt(ridge)[None, None, :]
        moment += jnp.einsum("kij,klj->kil", root, root)
        moment = jnp.where(
            sums.alive[:, None, None], moment, jnp.eye(moment.shape[-1], dtype=moment.dtype)[None]
        )
        # A product of lower triangular factors is one: no covariance is ever formed.
        return Full(scale_tril=self.scale_tril @ jnp.linalg.cholesky(moment))

    @staticmethod
    def n_parameters(k: int | Array, d: int) -> int | Array:
        return k * (d * (d + 1) // 2)


class Tied(NamedTuple):
    """One covariance matrix for all components, as its lower Cholesky factor."""

    scale_tril: Float[Array, "d d"]

    @staticmethod
    def shape(k: int, d: int) -> tuple[int, ...]:
        return (d, d)

    @staticmethod
    def valid(covariances: Array) -> Bool[Array, ""]:
        return _definite(covariances)

    @staticmethod
    def from_covariances(covariances: Float[Array, "d d"]) -> "Tied":
        return Tied(scale_tril=jnp.linalg.cholesky(covariances))

    @staticmethod
    def from_variances(variances: Float[Array, " d"], k: int) -> "Tied":
        return Tied(scale_tril=jnp.diag(jnp.sqrt(variances)))

    def covariances(self, means: Means) -> Float[Array, "k d d"]:
        covariance = self.scale_tril @ self.scale_tril.T
        return jnp.broadcast_to(covariance, (means.shape[0], *covariance.shape))

    def whitener(self, means: Means) -> Whitener:
        inverse = inverse_tril(self.scale_tril)
        centre = jnp.mean(means, axis=0, keepdims=True)
        at_mean = ((means - centre) @ inverse.T)[:, :, None]
        return lambda x: jnp.einsum("ij,cj->ic", inverse, x - centre)[None] - at_mean

    def log_det(self, means: Means) -> Float[Array, " k"]:
        return jnp.broadcast_to(log_det_tril(self.scale_tril), means.shape[:1])

    def colour(self, component: Int[Array, " n"], y: Float[Array, "n d"]) -> Float[Array, "n d"]:
        return y @ self.scale_tril.T

    def second(self, y: Float[Array, "k d c"], resp: Float[Array, "k c"]) -> Array:
        return jnp.einsum("kic,kjc->ij", y * resp[:, None, :], y)

    def update(self, sums: Whitened, ridge: Float[Array, " d"]) -> "Tied":
        counts = jnp.where(sums.alive, sums.counts, 0.0)
        shifts = jnp.einsum("k,ki,kj->ij", counts, sums.shift, sums.shift)
        moment = (sums.second - shifts) / jnp.sum(counts)
        root = inverse_tril(self.scale_tril) * jnp.sqrt(ridge)[None, :]
        return Tied(scale_tril=self.scale_tril @ jnp.linalg.cholesky(moment + root @ root.T))

    @staticmethod
    def n_parameters(k: int | Array, d: int) -> int | Array:
        return d * (d + 1) // 2


class Diag(NamedTuple):
    """Each component its own variance per feature, as standard deviations."""

    scale: Float[Array, "k d"]

    @staticmethod
    def shape(k: int, d: int) -> tuple[int, ...]:
        return (k, d)

    @staticmethod
    def valid(covariances: Array) -> Bool[Array, ""]:
        return _positive(covariances)

    @staticmethod
    def from_covariances(covariances: Float[Array, "k d"]) -> "Diag":
        return Diag(scale=jnp.sqrt(covariances))

    @staticmethod
    def from_variances(variances: Float[Array, " d"], k: int) -> "Diag":
        return Diag(scale=jnp.broadcast_to(jnp.sqrt(variances), (k, *variances.shape)))

    def covariances(self, means: Means) -> Float[Array, "k d d"]:
        return jnp.square(self.scale)[:, :, None] * jnp.eye(means.shape[1], dtype=means.dtype)[None]

    def whitener(self, means: Means) -> Whitener:
        inverse = (1 / self.scale)[:, :, None]
        return lambda x: (x.T[None] - means[:, :, None]) * inverse

    def log_det(self, means: Means) -> Float[Array, " k"]:
        return jnp.sum(jnp.log(self.scale), axis=1)

    def colour(self, component: Int[Array, " n"], y: Float[Array, "n d"]) -> Float[Array, "n d"]:
        return self.scale[component] * y

    def second(self, y: Float[Array, "k d c"], resp: Float[Array, "k c"]) -> Array:
        return jnp.sum(y * y * resp[:, None, :], axis=2)

    def update(self, sums: Whitened, ridge: Float[Array, " d"]) -> "Diag":
        moment = _floor(sums.second / sums.counts[:, None] - jnp.square(sums.shift))
        variances = jnp.square(self.scale) * moment + ridge[None, :]
        variances = jnp.where(sums.alive[:, None], variances, jnp.square(self.scale))
        return Diag(scale=jnp.sqrt(variances))

    @staticmethod
    def n_parameters(k: int | Array, d: int) -> int | Array:
        return k * d


class Spherical(NamedTuple):
    """Each component one variance for all features, as standard deviations."""

    scale: Float[Array, " k"]

    @staticmethod
    def shape(k: int, d: int) -> tuple[int, ...]:
        return (k,)

    @staticmethod
    def valid(covariances: Array) -> Bool[Array, ""]:
        return _positive(covariances)

    @staticmethod
    def from_covariances(covariances: Float[Array, " k"]) -> "Spherical":
        return Spherical(scale=jnp.sqrt(covariances))

    @staticmethod
    def from_variances(variances: Float[Array, " d"], k: int) -> "Spherical":
        return Spherical(scale=jnp.broadcast_to(jnp.sqrt(jnp.mean(variances)), (k,)))

    def covariances(self, means: Means) -> Float[Array, "k d d"]:
        eye = jnp.eye(means.shape[1], dtype=means.dtype)
        return jnp.square(self.scale)[:, None, None] * eye[None]

    def whitener(self, means: Means) -> Whitener:
        inverse = (1 / self.scale)[:, None, None]
        return lambda x: (x.T[None] - means[:, :, None]) * inverse

    def log_det(self, means: Means) -> Float[Array, " k"]:
        return means.shape[1] * jnp.log(self.scale)

    def colour(self, component: Int[Array, " n"], y: Float[Array, "n d"]) -> Float[Array, "n d"]:
        return self.scale[component][:, None] * y

    def second(self, y: Float[Array, "k d c"], resp: Float[Array, "k c"]) -> Array:
        return jnp.sum(jnp.mean(y * y, axis=1) * resp, axis=1)

    def update(self, sums: Whitened, ridge: Float[Array, " d"]) -> "Spherical":
        moment = _floor(sums.second / sums.counts - jnp.mean(jnp.square(sums.shift), axis=1))
        variances = jnp.square(self.scale) * moment + jnp.mean(ridge)
        return Spherical(scale=jnp.sqrt(jnp.where(sums.alive, variances, jnp.square(self.scale))))

    @staticmethod
    def n_parameters(k: int | Array, d: int) -> int | Array:
        return k
