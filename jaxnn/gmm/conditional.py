"""Marginals, conditionals and regression: what a mixture says of some columns, given others.

All from square roots.  With the given columns first and the rest last, the root of a covariance is

    [L_gg   0  ]      whitened y = L_gg⁻¹(v − m_g),
    [L_rg  L_rr]      mean of the rest m_r + L_rg y,   its root L_rr,

so the conditional of a Gaussian (Bishop, 2006, eqs. 2.81 and 2.82) needs no Schur complement,
which would cancel.  The components are then weighed by how well they explain v.
Shapes: k components, d features of which g are given and q are left, m rows of given values.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn import checks, memory
from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.family import Covariances
from jaxnn.gmm.gaussians import roots
from jaxnn.gmm.model import GMM
from jaxnn.linalg import map_rows, root_tril, tile_rows
from jaxnn.types import Data

# Families that stay themselves under a choice of columns; any other becomes full.
CHOOSE: dict[type, Callable[[Any, Array], Covariances]] = {
    Full: lambda cov, at: Full(scale_tril=root_tril(cov.scale_tril[:, at])),
    Tied: lambda cov, at: Tied(scale_tril=root_tril(cov.scale_tril[at])),
    Diag: lambda cov, at: Diag(scale=cov.scale[:, at]),
    Spherical: lambda cov, _: cov,
}


class Split(NamedTuple):
    """A family cut in two: the given columns, the slope L_rg (None: zero), and what is left."""

    given: Covariances
    slope: Float[Array, "k q g"] | None
    rest: Covariances


def _split_full(cov: Full, g: int, k: int) -> Split:
    root = cov.scale_tril
    return Split(Full(root[:, :g, :g]), root[:, g:, :g], Full(root[:, g:, g:]))


def _split_tied(cov: Tied, g: int, k: int) -> Split:
    root = cov.scale_tril
    slope = jnp.broadcast_to(root[g:, :g], (k, root.shape[0] - g, g))
    return Split(Tied(root[:g, :g]), slope, Tied(root[g:, g:]))


SPLIT: dict[type, Callable[[Any, int, int], Split]] = {
    Full: _split_full,
    Tied: _split_tied,
    Diag: lambda cov, g, _: Split(Diag(cov.scale[:, :g]), None, Diag(cov.scale[:, g:])),
    Spherical: lambda cov, g, _: Split(cov, None, cov),
}


@partial(jax.jit, static_argnames="dims")
def _marginal(mixture: GMM, dims: tuple[int, ...]) -> GMM:
    if type(mixture.cov) not in CHOOSE:
        mixture = mixture._replace(cov=Full(roots(mixture)))
    at = jnp.asarray(dims)
    cov = CHOOSE[type(mixture.cov)](mixture.cov, at)
    return GMM(log_weights=mixture.log_weights, means=mixture.means[:, at], cov=cov)


def _columns(where: str, mixture: GMM, dims: Sequence[int], most: int) -> tuple[int, ...]:
    """Returns the columns `dims` as a tuple, checked; at least one and at most `most`."""
    checks.instance(where, "mixture", mixture, GMM)
    d = mixture.means.shape[-1]
    try:
        found = tuple(dims)
    except TypeError:
        raise TypeError(
            f"{where}: dims must be a sequence of column numbers, got {dims!r}"
        ) from None
    found = tuple(checks.count(where, "dims", j, least=0, most=d - 1) for j in found)
    if len(set(found)) < len(found):
        raise ValueError(f"{where}: dims must not repeat a column, got {found}")
    if not 1 <= len(found) <= most:
        raise ValueError(f"{where}: dims must name between 1 and {most} of the {d} columns, "
                         f"got {found}")  # fmt: skip
    return found


def marginal(mixture: GMM, dims: Sequence[int]) -> GMM:
    """Returns the distribution of the columns `dims` alone, in that order.

    Args:
        mixture: full, tied, diag and spherical covariances keep their family; others become full.
        dims: column numbers (static), each from 0 to d - 1.

    Raises:
        TypeError, ValueError: no mixture; no column, a repeated or an unknown one.

    >>> means, scale = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[4.0, 5.0, 6.0]])
    >>> mixture = GMM(jnp.zeros(1), means, Diag(scale))
    >>> marginal(mixture, (2, 0)).means.tolist()
    [[3.0, 1.0]]
    """
    where = "gmm.marginal"
    checks.instance(where, "mixture", mixture, GMM)
    return _marginal(mixture, _columns(where, mixture, dims, mixture.means.shape[-1]))


def _share(
    log_weights: Float[Array, " k"], log_det: Float[Array, " k"], y: Float[Array, "k g c"]
) -> Float[Array, "k c"]:
    """Returns log p(k | given) from whitened given values, however far out they lie.

    |y|² may overflow, so y is measured in units of its largest entry, and from the nearest
    component: only the differences of the components are ever scaled up again.
    """
    alive = (log_weights > -jnp.inf)[:, None]
    size = jax.lax.stop_gradient(jnp.maximum(jnp.max(jnp.abs(y), axis=(0, 1)), 1))[None]
    square = jnp.sum(jnp.square(y / size[None]), axis=1)
    reach = jax.lax.stop_gradient(jnp.where(alive, square, jnp.inf))
    nearest = jnp.argmin(reach, axis=0, keepdims=True)
    # The nearest has no excess by definition, not by a subtraction whose rounding is scaled up.
    beyond = alive & (jnp.arange(alive.shape[0])[:, None] != nearest)
    excess = jnp.where(beyond, square - jnp.take_along_axis(square, nearest, axis=0), 0)
    joint = (log_weights - log_det)[:, None] - 0.5 * size * (size * excess)
    return jax.nn.log_softmax(joint, axis=0)


class Given(NamedTuple):
    """The rest of the columns, for a tile of rows of the given ones."""

    log_weights: Float[Array, "c k"]
    means: Float[Array, "c k q"]


def _conditioner(
    mixture: GMM, dims: tuple[int, ...]
) -> tuple[Callable[[Float[Array, "c g"]], Given], GMM]:
    """Returns the map of given values to components of the rest, and the rest's marginal shape.

    The covariances of the second are the conditional ones, which do not depend on the values.
    """
    k, d = mixture.means.shape
    g = len(dims)
    ordered = _marginal(mixture, dims + tuple(j for j in range(d) if j not in dims))
    cut = SPLIT[type(ordered.cov)](ordered.cov, g, k)
    given, rest = ordered.means[:, :g], ordered.means[:, g:]
    whiten, log_det = cut.given.whitener(given), cut.given.log_det(given)

    def condition_tile(values: Float[Array, "c g"]) -> Given:
        y = whiten(values)
        means = jnp.broadcast_to(rest[None], (values.shape[0], *rest.shape))
        if cut.slope is not None:
            means = means + jnp.einsum("kqg,kgc->ckq", cut.slope, y)
        return Given(_share(ordered.log_weights, log_det, y).T, means)

    return condition_tile, GMM(ordered.log_weights, rest, cut.rest)


@partial(jax.jit, static_argnames="dims")
def _condition(mixture: GMM, dims: tuple[int, ...], values: Float[Array, "m g"]) -> GMM:
    of_tile, rest = _conditioner(mixture, dims)
    m = values.shape[0]
    log_weights, means = map_rows(of_tile, values, tile_rows(m, mixture.means.size))
    cov = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (m, *leaf.shape)), rest.cov)
    return GMM(log_weights=log_weights, means=means, cov=cov)


def _given(
    where: str, mixture: GMM, dims: Sequence[int], values: Data
) -> tuple[tuple[int, ...], Array]:
    """Returns the columns and their values, checked."""
    checks.instance(where, "mixture", mixture, GMM)
    d = mixture.means.shape[-1]
    if d == 1:
        raise ValueError(f"{where}: mixture must have at least 2 columns, one to give and one left")
    columns = _columns(where, mixture, dims, d - 1)
    rows = checks.data(where, "values", values, len(columns))
    checks.same_dtype(where, "values", rows, "the mixture", mixture.means.dtype)
    return columns, rows


def condition(mixture: GMM, dims: Sequence[int], values: Data) -> GMM:
    """Returns p(other columns | columns `dims` = values), one mixture for each row of `values`.

    Args:
        mixture: full, tied, diag and spherical covariances keep their family; others become full.
        dims: the given columns (static); the others are left, in their old order.
        values: shape (m, len(dims)), data units.

    Returns:
        A batch of m mixtures: a leading axis on every leaf, as `vmap` takes it. Values far from
        every component leave finite weights that sum to 1.

    Raises:
        TypeError, ValueError: no mixture; all or none of the columns, a repeated or an unknown
            one; bad values.
    """
    return _condition(mixture, *_given("gmm.condition", mixture, dims, values))


class Regression(NamedTuple):
    """Mean (data units) and covariance (squared) of the columns that were not given."""

    mean: Float[Array, "m q"]
    covariance: Float[Array, "m q q"]


@partial(jax.jit, static_argnames="dims")
def _regress(mixture: GMM, dims: tuple[int, ...], values: Float[Array, "m g"]) -> Regression:
    of_tile, rest = _conditioner(mixture, dims)
    within = rest.cov.covariances(rest.means)

    def regress_tile(values: Float[Array, "c g"]) -> Regression:
        given = of_tile(values)
        share = jnp.exp(given.log_weights)
        mean = jnp.einsum("ck,ckq->cq", share, given.means)
        apart = given.means - mean[:, None]
        between = jnp.einsum("cki,ckj->cij", share[:, :, None] * apart, apart)
        return Regression(mean, jnp.einsum("ck,kij->cij", share, within) + between)

    width = mixture.means.size + rest.means.shape[1] ** 2
    return map_rows(regress_tile, values, tile_rows(values.shape[0], width))


@memory.budgeted
def regress(
    mixture: GMM, dims: Sequence[int], values: Data, *, memory_budget: memory.Budget = None
) -> Regression:
    """Returns mean and covariance of the other columns given `dims`: Gaussian mixture regression.

    With `memory_budget` tiles are as small as it asks for; see `jaxnn.memory`.

    The mean is the least-squares prediction (Ghahramani and Jordan, 1994).  Arguments and
    errors are those of `condition`, but only the two moments are ever stored for all rows.
    """
    return _regress(mixture, *_given("gmm.regress", mixture, dims, values))
