"""Mixtures of factor analysers and probabilistic principal components: low rank plus diagonal.

Σ_k = L_k L_kᵀ + Ψ_k, with loadings L of rank q and uncorrelated noise Ψ (Ghahramani and Hinton,
1996; isotropic: Tipping and Bishop, 1999).  Everything costs O(k d q) a row: no d × d matrix is
formed.  Shapes: k components, d features, q factors, c rows of a tile.

With A = Ψ^-½ L in noise units, and [A; I] = [N; Q] Cᵀ its QR decomposition,
  B = N (I + Q)⁻¹,  S = Ψ^½ (I + A Bᵀ),  S⁻¹ = (I − B Nᵀ) Ψ^-½,  Σ = S Sᵀ,  det S = det Ψ^½ det C
which has no singular case: it holds, and has finite gradients, for zero and for huge loadings.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxnn import checks
from jaxnn.gmm.eigen import shares
from jaxnn.gmm.family import Means, Whitened, Whitener
from jaxnn.linalg import inverse_tril

NOISES = ("diag", "tied", "spherical")


class _Root(NamedTuple):
    """The matrices of the module's docstring; `tril` is C."""

    a: Float[Array, "k d q"]
    n: Float[Array, "k d q"]
    b: Float[Array, "k d q"]
    tril: Float[Array, "k q q"]


class FactorMoments(NamedTuple):
    """Σ r yyᵀ as far as EM needs it: its product with B, and its diagonal."""

    along: Float[Array, "k d q"]
    diagonal: Float[Array, "k d"]


def _t(m: Float[Array, "k a b"]) -> Float[Array, "k b a"]:
    return jnp.swapaxes(m, 1, 2)


def _quadratic(rows: Float[Array, "k d q"], m: Float[Array, "k q q"]) -> Float[Array, "k d"]:
    """Returns rᵀ m r for each row r of each component."""
    return jnp.sum((rows @ m) * rows, axis=2)


class Factors(NamedTuple):
    """Loadings and the noise's standard deviations, both in data units.

    The shape of `noise` tells its kind: (k, d) each component its own, (1, d) shared by all, (k, 1)
    the same for all features of a component.
    """

    loadings: Float[Array, "k d q"]
    noise: Float[Array, "#k #d"]

    def _root(self) -> _Root:
        k, d, q = self.loadings.shape
        a = self.loadings / self.noise[:, :, None]
        eye = jnp.broadcast_to(jnp.eye(q, dtype=a.dtype), (k, q, q))
        # QR of the stack, and no Cholesky factor of I + AᵀA: squares would cost half the digits.
        base, upper = jnp.linalg.qr(jnp.concatenate([a, eye], axis=1))
        sign = jnp.where(jnp.diagonal(upper, axis1=1, axis2=2) < 0, -1.0, 1.0).astype(a.dtype)
        base = base * sign[:, None, :]
        n, bottom = base[:, :d], base[:, d:]
        # Small inverses, here and in `update`: solving for d right sides is far slower.
        b = n @ _t(inverse_tril(_t(eye + bottom)))
        return _Root(a=a, n=n, b=b, tril=_t(upper * sign[:, :, None]))

    def covariances(self, means: Means) -> Float[Array, "k d d"]:
        variances = jnp.broadcast_to(jnp.square(self.noise), means.shape)
        eye = jnp.eye(means.shape[1], dtype=means.dtype)
        return self.loadings @ _t(self.loadings) + variances[:, :, None] * eye[None]

    def whitener(self, means: Means) -> Whitener:
        root = self._root()
        inverse = 1 / self.noise[:, :, None]

        def whiten(x: Float[Array, "c d"]) -> Float[Array, "k d c"]:
            z = (x.T[None] - means[:, :, None]) * inverse
            return z - root.b @ (_t(root.n) @ z)

        return whiten

    def log_det(self, means: Means) -> Float[Array, " k"]:
        noise = jnp.sum(jnp.broadcast_to(jnp.log(self.noise), means.shape), axis=1)
        return noise + jnp.sum(jnp.log(jnp.diagonal(self._root().tril, axis1=1, axis2=2)), axis=1)

    def colour(self, component: Int[Array, " n"], y: Float[Array, "n d"]) -> Float[Array, "n d"]:
        root, (k, d, _) = self._root(), self.loadings.shape
        inner = jnp.einsum("ndq,nd->nq", root.b[component], y)
        z = y + jnp.einsum("ndq,nq->nd", root.a[component], inner)
        return z * jnp.broadcast_to(self.noise, (k, d))[component]

    def second(self, y: Float[Array, "k d c"], resp: Float[Array, "k c"]) -> FactorMoments:
        weighted = y * resp[:, None, :]
        along = weighted @ _t(_t(self._root().b) @ y)
        return FactorMoments(along=along, diagonal=jnp.sum(weighted * y, axis=2))

    def update(self, sums: Whitened, ridge: Float[Array, " d"]) -> "Factors":
        """Returns one step of EM for the factors, the rows' shares in components held.

        The step of Rubin and Thayer (1982), as a correction in noise units.  With the factors'
        posterior mean û and what it leaves, e = Ψ^-½(x − m) − A û, and ũ = Cᵀ û:
            R = E[e ũᵀ] − N,  D = I + E[ũ ũᵀ],
            A_new = (N + R D⁻¹) Cᵀ,  Ψ_new / Ψ = diag(E[e eᵀ] + N Nᵀ − R D⁻¹ Rᵀ)
        in which no term is large, however small the noise.  Neither step lowers the expected
        log-likelihood, so EM as a whole is monotone.  No noise variance falls below the ridge
        (Heywood's case).
        """
        _, n, b, tril = self._root()
        counts, shift = sums.counts, sums.shift[:, :, None]
        moments: FactorMoments = sums.second
        along = moments.along / counts[:, None, None] - shift * (_t(shift) @ b)
        diagonal = moments.diagonal / counts[:, None] - jnp.square(sums.shift)
        # The ridge, in the same coordinates: S⁻¹ diag(ridge) S⁻ᵀ.
        extra = ridge[None] / jnp.square(self.noise)
        carried = extra[:, :, None] * (b - n @ (_t(b) @ b))
        along += carried - b @ (_t(n) @ carried)
        diagonal += extra * (1 - 2 * jnp.sum(b * n, axis=2))
        diagonal += _quadratic(b, _t(n) @ (extra[:, :, None] * n))

        inner = _t(b) @ along
        inner = (inner + _t(inner)) / 2
        lift = jnp.eye(n.shape[2], dtype=n.dtype)[None] + _t(tril)  # ũ = (I + Cᵀ) Bᵀ y
        left = diagonal - 2 * jnp.sum(n * along, axis=2) + _quadratic(n, inner)
        gap = (along - n @ inner) @ _t(lift) - n
        spread = jnp.eye(n.shape[2], dtype=n.dtype)[None] + lift @ inner @ _t(lift)
        root = inverse_tril(jnp.linalg.cholesky(spread))
        step = gap @ _t(root) @ root
        ratio = left + jnp.sum(n * n, axis=2) - jnp.sum(step * gap, axis=2)

        alive = sums.alive
        own = jnp.broadcast_to(self.noise, sums.shift.shape)
        loadings = own[:, :, None] * ((n + step) @ _t(tril))
        loadings = jnp.where(alive[:, None, None], loadings, self.loadings)
        variances = self._pool(jnp.square(own) * ratio, sums)
        total = self._pool(jnp.square(own) + jnp.sum(jnp.square(loadings), axis=2), sums)
        floor = jnp.maximum(self._pool(jnp.broadcast_to(ridge[None], own.shape), sums),
                            jnp.finfo(total.dtype).eps * total)  # fmt: skip
        noise = jnp.sqrt(jnp.maximum(variances, floor))
        shared = self.noise.shape[0] == 1
        return Factors(loadings, noise if shared else jnp.where(alive[:, None], noise, self.noise))

    def _pool(self, v: Float[Array, "k d"], sums: Whitened) -> Float[Array, "a b"]:
        """Returns the mean over whatever shares one noise."""
        if self.noise.shape[0] == 1:
            v = (shares(sums) @ v)[None]
        return v if self.noise.shape[1] > 1 else jnp.mean(v, axis=1, keepdims=True)

    def n_parameters(self, k: int | Array, d: int) -> int | Array:
        q = self.loadings.shape[2]
        noise = self.noise.shape[1] * (k if self.noise.shape[0] > 1 else 1)
        return k * (d * q - q * (q - 1) // 2) + noise  # loadings up to a rotation


@dataclass(frozen=True)
class FactorFamily:
    """What `factors` returns: a family with its rank, in place of a name."""

    rank: int
    noise: str

    def from_variances(self, variances: Float[Array, " d"], k: int) -> Factors:
        d, q = variances.shape[0], self.rank
        if q >= d:
            raise ValueError(f"gmm.factors: rank must be below the number of features, {d}, got {q}"
                             "; a full covariance has no more parameters")  # fmt: skip
        # EM cannot leave loadings of zero. These are short and lie in no special direction: the
        # quadratic phases of a chirp make columns that look like independent noise.
        row, column = jnp.arange(1, d + 1)[:, None], jnp.arange(1, q + 1)[None, :]
        phase = (row * row % 997 * jnp.sqrt(1.0 + column)) % 1.0
        wave = jnp.cos(2 * jnp.pi * phase).astype(variances.dtype)
        loadings = wave * jnp.sqrt(variances / d)[:, None]
        noise = variances - jnp.sum(jnp.square(loadings), axis=1)
        if self.noise == "spherical":
            noise = jnp.mean(noise, keepdims=True)
        lead = 1 if self.noise == "tied" else k
        return Factors(
            loadings=jnp.broadcast_to(loadings, (k, d, q)),
            noise=jnp.broadcast_to(jnp.sqrt(noise), (lead, *noise.shape)),
        )


def factors(rank: int, *, noise: str = "diag") -> FactorFamily:
    """Returns the family of low rank plus diagonal, to give where a family's name is taken.

    Args:
        rank: the number of factors q, at least 1 and below the number of features.
        noise: whose variances: "diag" each component and feature its own (a mixture of factor
            analysers), "tied" one per feature shared by all components (Ghahramani and Hinton,
            1996), "spherical" one per component (a mixture of probabilistic principal components,
            Tipping and Bishop, 1999).

    Raises:
        TypeError, ValueError: a rank that is no whole number of at least 1; an unknown noise.
            `init` raises ValueError for a rank that is not below the number of features.

    >>> factors(3)
    FactorFamily(rank=3, noise='diag')
    """
    checks.in_table("gmm.factors", "noise", noise, NOISES)
    return FactorFamily(checks.count("gmm.factors", "rank", rank), noise)
