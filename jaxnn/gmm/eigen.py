"""Covariances by volume, shape and orientation (Celeux and Govaert, 1995; mclust).

Σ_k = λ_k D_k A_k D_kᵀ: λ_k the volume, A_k diagonal with det A_k = 1 the shape, D_k orthogonal the
orientation; each is equal for all components (E), varies (V), or is the identity (I).  Here are
EII, EEI, VEI, EVI, EVE, VVE, EEV and VEV; the other six of mclust are in `ellipsoid` and
`covariances`.  Shapes: k components, d features.

Which of E, V and I holds is read off the shapes of the arrays; with one component E and V are the
same.  Given axes, what is left of every M-step is one problem in the variances v_kj along them
(`_along_axes`).  Steps without closed form run `INNER` times from where they were; each lowers
the M-step's objective, so EM stays monotone, and EM goes on where they stopped.

The families with axes of their own depend on the units of the columns, as mclust's do.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnn.gmm.family import Means, Whitened, Whitener

INNER = 10  # of an M-step without closed form


def outer(v: Float[Array, "*batch d"]) -> Float[Array, "*batch d d"]:
    """Returns vvᵀ."""
    return v[..., :, None] * v[..., None, :]


def shares(sums: Whitened) -> Float[Array, " k"]:
    """Returns each component's share of the rows; zero where it is not alive."""
    counts = jnp.where(sums.alive, sums.counts, 0.0)
    return counts / jnp.sum(counts)


@partial(jax.jit, static_argnames="family")
def to_covariances(family: Any, covariances: Float[Array, "k d d"]) -> Any:
    """Returns the best of a family by the M-step's objective, of equal shares.

    That is Σ_k KL(N(0, given) ‖ N(0, family's)), zero for covariances of the family.
    """
    k, d, _ = covariances.shape
    variances = jnp.mean(jnp.diagonal(covariances, axis1=1, axis2=2), axis=0)
    # The columns of Cholesky factors are rows of data with these covariances about zero.
    rows = jnp.swapaxes(jnp.linalg.cholesky(covariances), 1, 2).reshape(k * d, d)
    zero = jnp.zeros((k, d), rows.dtype)
    owner = jnp.repeat(jnp.eye(k, dtype=rows.dtype), d, axis=1)
    ones = jnp.ones(k, rows.dtype)

    def step(_: Int[Array, ""], cov: Any) -> Any:
        second = cov.second(cov.whitener(zero)(rows), owner)
        return cov.update(Whitened(second, ones, zero, ones > 0), zero[0])

    return jax.lax.fori_loop(0, INNER, step, family.from_variances(variances, k))


def is_of(family: Any, covariances: Float[Array, "k d d"]) -> Bool[Array, ""]:
    """Returns whether these are covariances of a family, to three digits."""
    k, d, _ = covariances.shape
    found = to_covariances(family, covariances).covariances(jnp.zeros((k, d), covariances.dtype))
    scale = jnp.sqrt(jnp.diagonal(covariances, axis1=1, axis2=2))
    return jnp.all(jnp.abs(found - covariances) <= 1e-3 * outer(scale))  # false for a NaN


class Eigen(NamedTuple):
    """S_k = volume_k · orientation_k · diag(shape_k): a leading axis of 1 is shared by all.

    `volume` is √λ (data units) and `shape` √A, of product 1, or None for the identity, as is
    `orientation`, whose columns are the axes.
    """

    volume: Float[Array, "#k"]
    shape: Float[Array, "#k d"] | None
    orientation: Float[Array, "#k d d"] | None

    def scale(self, d: int) -> Float[Array, "b d"]:
        """Returns the standard deviations along the axes; b is k, or 1 if all have the same."""
        shape = jnp.ones((1, d), self.volume.dtype) if self.shape is None else self.shape
        return self.volume[:, None] * shape

    def covariances(self, means: Means) -> Float[Array, "k d d"]:
        k, d = means.shape
        axes = jnp.eye(d, dtype=means.dtype)[None] if self.orientation is None else self.orientation
        roots = axes * self.scale(d)[:, None, :]
        return jnp.broadcast_to(jnp.einsum("bij,blj->bil", roots, roots), (k, d, d))

    def whitener(self, means: Means) -> Whitener:
        inverse = 1 / self.scale(means.shape[1])[:, :, None]
        axes = self.orientation
        if axes is None:
            return lambda x: (x.T[None] - means[:, :, None]) * inverse
        centre = jnp.mean(means, axis=0, keepdims=True)  # so that no large offset is multiplied
        at_mean = jnp.sum(axes * (means - centre)[:, :, None], axis=1)[:, :, None]
        return lambda x: (jnp.einsum("oji,cj->oic", axes, x - centre) - at_mean) * inverse

    def log_det(self, means: Means) -> Float[Array, " k"]:
        log_det = jnp.sum(jnp.log(self.scale(means.shape[1])), axis=1)
        return jnp.broadcast_to(log_det, means.shape[:1])

    def colour(self, component: Int[Array, " n"], y: Float[Array, "n d"]) -> Float[Array, "n d"]:
        scale, axes = self.scale(y.shape[1]), self.orientation
        y = y * (scale if scale.shape[0] == 1 else scale[component])
        if axes is None:
            return y
        if axes.shape[0] == 1:
            return y @ axes[0].T
        return jnp.einsum("nij,nj->ni", axes[component], y)

    def second(self, y: Float[Array, "k d c"], resp: Float[Array, "k c"]) -> Array:
        if self.orientation is None:
            return jnp.sum(y * y * resp[:, None, :], axis=2)
        return jnp.einsum("kic,kjc->kij", y * resp[:, None, :], y)

    def update(self, sums: Whitened, ridge: Float[Array, " d"]) -> "Eigen":
        share, alive = shares(sums), sums.alive[:, None]
        square = jnp.square(self.scale(ridge.shape[0]))
        axes = self.orientation
        if axes is None:
            moment = sums.second / sums.counts[:, None] - jnp.square(sums.shift)
            moment = jnp.maximum(moment, jnp.finfo(moment.dtype).eps)  # below is rounding
            along = jnp.where(alive, square * moment + ridge[None], square)
        else:
            # The covariances in the coordinates of the current axes.
            moment = sums.second / sums.counts[:, None, None] - outer(sums.shift)
            scatter = outer(jnp.sqrt(square)) * moment
            scatter += jnp.einsum("oji,j,ojl->oil", axes, ridge, axes)
            old = square[:, :, None] * jnp.eye(ridge.shape[0], dtype=square.dtype)[None]
            scatter = jnp.where(alive[:, :, None], scatter, old)
            turn = self._turn(scatter, share)
            along = _variances(scatter, turn)
            axes = _orthogonal(axes @ turn)
        volume, shape = self._along_axes(along, share)
        new = Eigen(volume, shape, axes)
        # Dead components keep what is theirs alone.
        return jax.tree.map(
            lambda a, b: a if a.shape[0] == 1 else jnp.where(
                sums.alive.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, self)  # fmt: skip

    def _along_axes(
        self, v: Float[Array, "k d"], share: Float[Array, " k"]
    ) -> tuple[Float[Array, " v"], Float[Array, "s d"] | None]:
        """Returns the best roots of volume and shape for variances `v` along known axes.

        They minimise Σ_k share_k (d log λ_k + Σ_j v_kj / (λ_k A_kj)); the iteration for VE is
        that of Celeux and Govaert (1995), section 3.1 and its model λ_k B.
        """
        if self.shape is None:
            return jnp.sqrt(share @ jnp.mean(v, axis=1))[None], None
        if self.shape.shape[0] > 1:
            own = _geometric(v)
            volume = own if self.volume.shape[0] > 1 else (share @ own)[None]
            return jnp.sqrt(volume), jnp.sqrt(v / own[:, None])

        def volumes(shape: Float[Array, " d"]) -> Float[Array, " k"]:
            return jnp.mean(v / shape[None], axis=1)

        def refine(_: Int[Array, ""], shape: Float[Array, " d"]) -> Float[Array, " d"]:
            pooled = (share / volumes(shape)) @ v
            return pooled / _geometric(pooled)

        if self.volume.shape[0] == 1:
            pooled = share @ v
            volume = _geometric(pooled)
            return jnp.sqrt(volume)[None], jnp.sqrt(pooled / volume)[None]
        start = jnp.square(self.shape[0])
        if self.orientation is not None:
            start = jnp.sort(start, descending=True)  # as `_turn` sorts the axes
        shape = jax.lax.fori_loop(0, INNER, refine, start)
        return jnp.sqrt(volumes(shape)), jnp.sqrt(shape)[None]

    def _turn(
        self, scatter: Float[Array, "k d d"], share: Float[Array, " k"]
    ) -> Float[Array, "o d d"]:
        """Returns the rotation from the current axes to better ones."""
        values, vectors = jnp.linalg.eigh(scatter)
        vectors = vectors[:, :, ::-1]
        if self.orientation is not None and self.orientation.shape[0] > 1:
            return vectors  # the best for any shape sorted like the eigenvalues
        d = values.shape[1]

        def volume(turn: Float[Array, "d d"]) -> Float[Array, ""]:
            """Returns the M-step's objective, which is log λ once volumes and shapes are best."""
            logs = jnp.log(self._along_axes(_variances(scatter, turn[None]), share)[0])
            return jnp.sum(logs * share) if logs.shape[0] > 1 else logs[0]

        # No candidate is worse than the axes that are; each is perfect if all have the same.
        candidates = jnp.concatenate([jnp.eye(d, dtype=scatter.dtype)[None], vectors])
        best = candidates[jnp.argmin(jax.lax.map(volume, candidates))]

        def refine(_: Int[Array, ""], turn: Float[Array, "d d"]) -> Float[Array, "d d"]:
            """Two steps of Browne and McNicholas (2014): each minimises a linear upper bound."""
            best = Eigen(*self._along_axes(_variances(scatter, turn[None]), share), None)
            precision = share[:, None] / jnp.square(best.scale(d))
            flat = scatter - values[:, -1, None, None] * jnp.eye(d, dtype=scatter.dtype)[None]
            turn = _polar(-jnp.einsum("kil,lj,kj->ij", flat, turn, precision))
            slack = precision - jnp.max(precision, axis=1, keepdims=True)
            return _polar(-jnp.einsum("kil,lj,kj->ij", scatter, turn, slack))

        return jax.lax.fori_loop(0, INNER, refine, best)[None]

    def n_parameters(self, k: int | Array, d: int) -> int | Array:
        of = lambda field: 0 if field is None else k if field.shape[0] > 1 else 1
        angles = d * (d - 1) // 2
        return of(self.volume) + of(self.shape) * (d - 1) + of(self.orientation) * angles


def _geometric(v: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
    return jnp.exp(jnp.mean(jnp.log(v), axis=-1))


def _variances(scatter: Float[Array, "k d d"], turn: Float[Array, "o d d"]) -> Float[Array, "k d"]:
    """Returns the variances along turned axes, none below the rounding of the largest."""
    v = jnp.sum(turn * (scatter @ turn), axis=1)
    return jnp.maximum(v, jnp.finfo(v.dtype).eps * jnp.max(v, axis=1, keepdims=True))


def _polar(m: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Returns the orthogonal matrix Q that maximises tr(Qᵀm)."""
    left, _, right = jnp.linalg.svd(m)
    return left @ right


def _orthogonal(q: Float[Array, "o d d"]) -> Float[Array, "o d d"]:
    """Returns `q` with the rounding of many products undone: one step of Newton and Schulz."""
    return 1.5 * q - 0.5 * q @ (jnp.swapaxes(q, 1, 2) @ q)


@dataclass(frozen=True)
class EigenFamily:
    """One of mclust's families with axes, as an entry of `COVARIANCES`."""

    name: str

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        return (k, d, d)

    def valid(self, covariances: Float[Array, "k d d"]) -> Bool[Array, ""]:
        return is_of(self, covariances)

    def from_covariances(self, covariances: Float[Array, "k d d"]) -> Eigen:
        return to_covariances(self, covariances)

    def from_variances(self, variances: Float[Array, " d"], k: int) -> Eigen:
        of = {"E": 1, "V": k}
        volume, shape, orientation = self.name
        eye = jnp.eye(variances.shape[0], dtype=variances.dtype)
        size = jnp.sqrt(jnp.mean(variances) if shape == "I" else _geometric(variances))
        return Eigen(
            volume=jnp.broadcast_to(size, (of[volume],)),
            shape=None if shape == "I" else jnp.broadcast_to(
                jnp.sqrt(variances) / size, (of[shape], variances.shape[0])),
            orientation=None if orientation == "I" else jnp.broadcast_to(
                eye, (of[orientation], *eye.shape)),
        )  # fmt: skip
