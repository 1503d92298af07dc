"""Derivatives through a converged fit, by the implicit function theorem at the fixed point of EM.

A converged θ solves θ = M(θ, x, w, ridge, prior).  For a cotangent v of θ, with J = ∂M/∂θ, solve
u = v + Jᵀu; then uᵀ ∂M/∂(x, w, ridge, prior) is the cotangent of what was fitted to.  So the path
of the iteration is forgotten, and reverse mode needs no memory for it (Christianson, 1994; Blondel
et al., 2022).  At a strict maximum of the likelihood the eigenvalues of J lie in [0, 1): they are
the rates of EM (Dempster, Laird and Rubin, 1977), and GMRES needs few of the products Jᵀu.

M depends on θ through the responsibilities alone, so moments are taken in the fixed coordinates
of the fit.  Then J is what EM's rate is about, dead components are constants, and no family needs
coordinates of its own.  Each product is one pass over the rows, tile by tile.
Shapes: n samples, d features, k components, c rows of a tile.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks, memory
from jaxnn.gmm import priors
from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.gaussians import joint
from jaxnn.gmm.loop import maximise
from jaxnn.gmm.model import GMM, door
from jaxnn.gmm.moments import Moments, moments, row_weights
from jaxnn.gmm.priors import Prior
from jaxnn.linalg import fold_rows, gmres, map_rows, mean_and_variance, tile_rows
from jaxnn.types import Data, Scalar, Weights

# Families whose M-step is a closed formula of the moments; each with the units of its leaf.
UNITS: dict[type, Callable[[Any], Any]] = {
    Full: lambda cov: Full(jnp.broadcast_to(_diagonal(cov)[:, :, None], cov.scale_tril.shape)),
    Tied: lambda cov: Tied(jnp.broadcast_to(_diagonal(cov)[:, None], cov.scale_tril.shape)),
    Diag: lambda cov: cov,
    Spherical: lambda cov: cov,
}
KRYLOV = 30  # vectors that GMRES keeps before it starts again
RESTARTS = 10


def _diagonal(cov: Full | Tied) -> Array:
    return jnp.diagonal(cov.scale_tril, axis1=-2, axis2=-1)


def _units(fitted: GMM) -> GMM:
    """Returns what a change of each number of the mixture is to be measured in."""
    cov = fitted.cov
    variances = jnp.diagonal(cov.covariances(fitted.means), axis1=1, axis2=2)
    return GMM(jnp.ones_like(fitted.log_weights), jnp.sqrt(variances), UNITS[type(cov)](cov))


def _paired(
    theta: GMM, base: GMM, x: Float[Array, "c d"], w: Float[Array, " c"], by: Moments
) -> Float[Array, ""]:
    """Returns ⟨by, moments of a tile⟩: responsibilities of `theta`, coordinates of `base`."""
    terms = joint(theta, theta.cov.whitener(theta.means)(x))
    y = base.cov.whitener(base.means)(x)
    evidence = jax.nn.logsumexp(terms, axis=0)
    resp = jnp.exp(terms - evidence[None]) * w[None]
    tile = Moments(
        counts=jnp.sum(resp, axis=1),
        first=jnp.sum(y * resp[:, None, :], axis=2),
        second=base.cov.second(y, resp),
        log_lik=jnp.sum(w * evidence),
    )
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, by, tile)), jnp.zeros((), x.dtype))


def _scale(ridge: Array, x: Float[Array, "n d"], weight: Float[Array, " n"]) -> Array:
    return ridge * mean_and_variance(x, weight)[1]


@jax.jit
def _pull(
    fitted: GMM,
    x: Array,
    weight: Array,
    ridge: Array,
    prior: Prior | None,
    bar: GMM,
    log_lik_bar: Array,
) -> tuple[Array, Array, Array, Prior | None]:
    """Returns the cotangents of rows, weights, ridge and prior, given those of the fit."""
    size = tile_rows(x.shape[0], 2 * fitted.means.size)
    rows = jnp.sum(weight)

    def to_theta(by: Moments) -> GMM:
        def step(total: GMM, tile: tuple[Array, Array], fresh: Array) -> GMM:
            part = jax.grad(_paired)(fitted, fitted, tile[0], tile[1] * fresh, by)
            return jax.tree.map(jnp.add, total, part)

        return fold_rows(step, jax.tree.map(jnp.zeros_like, fitted), (x, weight), size)

    def to_rows(by: Moments) -> tuple[Array, Array]:
        pairs = lambda tile: jax.grad(_paired, (2, 3))(fitted, fitted, *tile, by)
        return map_rows(pairs, (x, weight), size)

    ridges, pull_ridges = jax.vjp(_scale, ridge, x, weight)
    total = moments(fitted, x, weight)
    pull_step = jax.vjp(partial(maximise, fitted), total, ridges, prior)[1]
    nothing = jax.tree.map(jnp.zeros_like, total)
    direct = nothing._replace(log_lik=log_lik_bar / rows)

    units, unflatten = ravel_pytree(_units(fitted))

    def flat(cotangent: GMM) -> Array:
        return units * ravel_pytree(cotangent)[0]

    def unflat(u: Array) -> GMM:
        return unflatten(u / units)

    u = gmres(
        lambda u: u - flat(to_theta(pull_step(unflat(u))[0])),
        flat(jax.tree.map(jnp.add, bar, to_theta(direct))),
        vectors=KRYLOV,
        restarts=RESTARTS,
        tol=float(jnp.finfo(x.dtype).eps) ** 0.75,
    )
    by, ridges_bar, prior_bar = pull_step(unflat(u))
    x_bar, weight_bar = to_rows(by._replace(log_lik=by.log_lik + direct.log_lik))
    ridge_bar, x_more, weight_more = pull_ridges(ridges_bar)
    weight_more = weight_more - log_lik_bar * total.log_lik / rows**2
    return x_bar + x_more, weight_bar + weight_more, ridge_bar, prior_bar


class FixedPoint(NamedTuple):
    """Where EM came to rest; `log_lik` (nats per sample) is that of `mixture`.

    `moved`: the largest change of the last step, in standard deviations of the components and
    shares of the rows.  `converged`: it fell to the tolerance.  `steps` counts M-steps.
    """

    mixture: GMM
    log_lik: Float[Array, ""]
    moved: Float[Array, ""]
    converged: Bool[Array, ""]
    steps: Int[Array, ""]


def _moved(old: GMM, new: GMM) -> Float[Array, ""]:
    shares = [jax.tree.map(jnp.exp, m.log_weights) for m in (old, new)]
    old, new = old._replace(log_weights=shares[0]), new._replace(log_weights=shares[1])
    change = jax.tree.map(lambda a, b, unit: jnp.max(jnp.abs(a - b) / unit), old, new, _units(old))
    return jnp.max(jnp.stack(jax.tree.leaves(change)))


@jax.custom_vjp
@jax.jit
def _fixed_point(
    x: Array,
    weight: Array,
    ridge: Array,
    prior: Prior | None,
    start: GMM,
    tol: Array,
    max_steps: Array,
) -> FixedPoint:
    ridges = _scale(ridge, x, weight)

    def unfinished(state: tuple[GMM, Array, Array]) -> Bool[Array, ""]:
        return (state[1] > tol) & (state[2] < max_steps)

    def advance(state: tuple[GMM, Array, Array]) -> tuple[GMM, Array, Array]:
        old, _, steps = state
        new = maximise(old, moments(old, x, weight), ridges, prior)
        return new, _moved(old, new), steps + 1

    begin = (start, jnp.full_like(tol, jnp.inf), jnp.zeros((), jnp.int32))
    mixture, moved, steps = jax.lax.while_loop(unfinished, advance, begin)
    log_lik = moments(mixture, x, weight).log_lik / jnp.sum(weight)
    return FixedPoint(mixture, log_lik, moved, moved <= tol, steps)


def _forward(
    x: Array, weight: Array, ridge: Array, prior: Prior | None, *rest: Any
) -> tuple[FixedPoint, tuple]:
    fit = _fixed_point(x, weight, ridge, prior, *rest)
    return fit, (fit.mixture, x, weight, ridge, prior)


def _backward(kept: tuple, bar: FixedPoint) -> tuple:
    return (*_pull(*kept, bar.mixture, bar.log_lik), None, None, None)


_fixed_point.defvjp(_forward, _backward)


@memory.budgeted
def fit_implicit(
    mixture: GMM,
    x: Data,
    *,
    sample_weight: Weights | None = None,
    ridge: Scalar = 1e-6,
    prior: Prior | None = None,
    tol: Scalar = 1e-6,
    max_steps: int | Int[Array, ""] = 5000,
    memory_budget: memory.Budget = None,
) -> FixedPoint:
    """Runs EM to rest, and is differentiable in data, weights, ridge and prior.

    `jax.grad` of anything made from `mixture` and `log_lik` of the result sees the fixed point of
    EM move as `x`, `sample_weight`, `ridge` or `prior` do.  It does not see the start: a small
    change of it leads to the same fixed point.  The rest of the result is constant.

    Memory of the derivative: a tile, the gradient itself, and some 30 mixtures; no path is
    stored.  Time: one pass over the rows for each step of GMRES, mostly fewer than EM took.

    Args:
        mixture: where to start; full, tied, diag or spherical.
        x: rows of shape (n, d).
        sample_weight: shape (n,).
        ridge: a share of the variance of each column, as for `fit`.
        prior: as for `fit`; `log_lik` is without it.
        tol: the most that a last step may move a mean, a scale or a weight, in standard
            deviations of its component, relative, and absolute: not a gain of likelihood, which
            says little about the distance to the fixed point, and with a ridge may be negative.
        max_steps: as for `fit`.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Where `converged` is False, what is returned is the formula of a fixed point at a place that is
    none, off in proportion to the distance to it.  Where two components coincide or the
    likelihood has no strict maximum, there is no derivative, and what is returned means nothing.
    Reverse mode only, and once.

    Raises:
        TypeError, ValueError: as `fit` does; a family whose M-step is no closed formula.
    """
    where = "gmm.fit_implicit"
    x = door(where, mixture, x)
    if type(mixture.cov) not in UNITS:
        raise TypeError(f"{where}: mixture.cov must be one of "
                        f"{', '.join(kind.__name__ for kind in UNITS)}, "
                        f"got {type(mixture.cov).__name__}")  # fmt: skip
    checks.scalar(where, "ridge", ridge)
    checks.scalar(where, "tol", tol)
    max_steps = checks.steps(where, "max_steps", max_steps)
    k = mixture.means.shape[0]
    if k > x.shape[0]:
        raise ValueError(f"{where}: x must have at least {k} rows for {k} components, "
                         f"got {x.shape[0]}")  # fmt: skip
    return _fixed_point(
        x,
        row_weights(where, x, sample_weight),
        jnp.asarray(ridge, x.dtype),
        None if prior is None else priors.door(where, prior, mixture),
        mixture,
        jnp.asarray(tol, x.dtype),
        max_steps,
    )
