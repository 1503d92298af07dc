"""The modes of a mixture: uphill from every mean, then the same places counted once.

Carreira-Perpiñán (2000): the fixed-point iteration x ← (Σ r_k P_k)⁻¹ Σ r_k P_k m_k, with
precisions P_k and responsibilities r_k of x, never goes down, and from the means it is thought to
reach every mode.  Newton's method finishes.  Shapes: k components, d features, s places.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks
from jaxnn.gmm.covariances import Full
from jaxnn.gmm.gaussians import joint, roots
from jaxnn.gmm.model import GMM
from jaxnn.linalg import inverse_tril

NEWTON_STEPS = 4  # from 1e-4 of a standard deviation to rounding, and one to spare


class Modes(NamedTuple):
    """Modes, the highest first; from `n_modes` on, rows repeat the first one and `found` is False.

    `converged`: every path came to rest within the steps allowed, so that none can be missing.
    """

    points: Float[Array, "k d"]
    log_prob: Float[Array, " k"]
    found: Bool[Array, " k"]
    n_modes: Int[Array, ""]
    converged: Bool[Array, ""]


class Place(NamedTuple):
    """The log-density at places: value, gradient, Hessian, and the mean precision Σ r_k P_k."""

    value: Float[Array, " s"]
    slope: Float[Array, "s d"]
    hessian: Float[Array, "s d d"]
    precision: Float[Array, "s d d"]


def _look(full: GMM, x: Float[Array, "s d"]) -> Place:
    inverse = inverse_tril(roots(full))
    precisions = jnp.einsum("kli,klj->kij", inverse, inverse)
    y = full.cov.whitener(full.means)(x)
    terms = joint(full, y)
    value = jax.nn.logsumexp(terms, axis=0)
    share = jnp.exp(terms - value[None])
    pull = jnp.einsum("kij,kis->skj", inverse, y)  # P_k (x − m_k)
    slope = -jnp.einsum("ks,ski->si", share, pull)
    precision = jnp.einsum("ks,kij->sij", share, precisions)
    outer = jnp.einsum("ski,skj->sij", share.T[:, :, None] * pull, pull)
    hessian = outer - precision - slope[:, :, None] * slope[:, None, :]
    return Place(value, slope, hessian, precision)


def _solve(matrix: Float[Array, "s d d"], v: Float[Array, "s d"]) -> Float[Array, "s d"]:
    return jnp.linalg.solve(matrix, v[:, :, None])[:, :, 0]


def _peaked(place: Place) -> Bool[Array, " s"]:
    """Returns whether the density is strictly concave there, with units divided out."""
    root = inverse_tril(jnp.linalg.cholesky(place.precision))
    inside = root @ place.hessian @ jnp.swapaxes(root, -1, -2)
    eps = jnp.finfo(inside.dtype).eps
    return jnp.linalg.eigvalsh(inside)[:, -1] < -(eps**0.5)


def _newton(full: GMM, x: Float[Array, "s d"]) -> Float[Array, "s d"]:
    place = _look(full, x)
    curved = jnp.where(_peaked(place)[:, None, None], -place.hessian, place.precision)
    return x + _solve(curved, place.slope)


@jax.jit
def _modes(mixture: GMM, max_steps: Int[Array, ""]) -> Modes:
    full = mixture._replace(cov=Full(roots(mixture)))
    fixed = jax.lax.stop_gradient(full)
    tol = jnp.finfo(full.means.dtype).eps ** 0.25  # standard deviations

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        _, length, steps = state
        return jnp.any(length > tol) & (steps < max_steps)

    def advance(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, _, steps = state
        place = _look(fixed, x)
        shift = _solve(place.precision, place.slope)
        # In units of the components around: sqrt(shiftᵀ P shift).
        return x + shift, jnp.sqrt(jnp.abs(jnp.sum(shift * place.slope, axis=1))), steps + 1

    start = (fixed.means, jnp.full_like(fixed.log_weights, jnp.inf), jnp.zeros((), jnp.int32))
    x, length, _ = jax.lax.while_loop(unfinished, advance, start)
    x = jax.lax.fori_loop(0, NEWTON_STEPS - 1, lambda _, x: _newton(fixed, x), x)
    # The last step is where derivatives come from: x − H⁻¹g of a fixed x is that of the mode.
    x = _newton(full, jax.lax.stop_gradient(x))

    place = _look(fixed, jax.lax.stop_gradient(x))
    rest = jnp.sum(place.slope * _solve(place.precision, place.slope), axis=1)
    valid = _peaked(place) & (length <= tol) & (rest <= tol**2)
    order = jnp.argsort(jnp.where(valid, -place.value, jnp.inf))
    x, valid, precision = x[order], valid[order], place.precision[order]
    apart = x[:, None] - x[None]
    square = jnp.einsum("ijp,ipq,ijq->ij", apart, precision, apart)
    earlier = jnp.tril(jnp.ones(square.shape, bool), -1) & valid[None]
    found = valid & ~jnp.any(earlier & (square < (100 * tol) ** 2), axis=1)
    order = jnp.argsort(~found, stable=True)
    points = jnp.where(found[order][:, None], x[order], x[0][None])
    return Modes(
        points=points,
        log_prob=_look(full, points).value,
        found=found[order],
        n_modes=jnp.sum(found),
        converged=jnp.all(length <= tol),
    )


def modes(mixture: GMM, *, max_steps: int | Int[Array, ""] = 1000) -> Modes:
    """Returns the local maxima of the density, at most one per component, the highest first.

    Args:
        mixture: of any family; a component of weight zero only adds a place to start from.
        max_steps: the most steps of the fixed-point iteration, a traced number.

    Two modes closer than 1e-2 of a component's standard deviation (0.2 in float32) count as one; a
    flat top, where the Hessian is singular, as none.  Points and densities are differentiable (by
    the implicit function theorem), the rest is not.  Memory O(k² d + k d²).

    Raises TypeError or ValueError for no mixture or a bad number of steps.
    """
    where = "gmm.modes"
    checks.instance(where, "mixture", mixture, GMM)
    return _modes(mixture, checks.steps(where, "max_steps", max_steps, least=1))
