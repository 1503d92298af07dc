"""Mixtures as plain numbers without constraints, for any optimiser.

Weights are a softmax of logits; scales are exponentials; a Cholesky factor is exp(log-diagonal)
and, below it, entries in units of their row's diagonal, so that a change of units moves
logarithms and leaves the rest.  Shapes: k components, d features.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.family import Covariances
from jaxnn.gmm.model import GMM, log_prob
from jaxnn.gmm.moments import row_weights
from jaxnn.types import Key, ValueAndGrad


class Unconstrained(NamedTuple):
    """A mixture as free numbers.

    `logits`: any shift of all of them is the same mixture; `unconstrain` gives log-weights.
    `means`: data units.  `log_scale`: logarithms of standard deviations, or of the diagonals of
    Cholesky factors.  `below`: strictly lower triangle, in units of the diagonal (zeros elsewhere);
    of size 0 in families without one.
    """

    logits: Float[Array, " k"]
    means: Float[Array, "k d"]
    log_scale: Array
    below: Array


Scales = tuple[Array, Array]  # log_scale, below


def _from_tril(cov: Full | Tied) -> Scales:
    diagonal = jnp.diagonal(cov.scale_tril, axis1=-2, axis2=-1)
    return jnp.log(diagonal), jnp.tril(cov.scale_tril, -1) / diagonal[..., :, None]


def _to_tril(log_scale: Float[Array, "*k d"], below: Float[Array, "*k d d"]) -> Array:
    eye = jnp.eye(below.shape[-1], dtype=below.dtype)
    unit = jnp.tril(below, -1) + jnp.broadcast_to(eye, below.shape)
    return unit * jnp.exp(log_scale)[..., :, None]


def _from_scale(cov: Diag | Spherical) -> Scales:
    return jnp.log(cov.scale), jnp.zeros(0, cov.scale.dtype)


class Coordinates(NamedTuple):
    """How a family becomes free numbers, and how it is made from them."""

    kind: type[Full] | type[Tied] | type[Diag] | type[Spherical]
    free: Callable[[Any], Scales]
    bound: Callable[[Array, Array], Covariances]


COORDINATES: dict[str, Coordinates] = {
    "full": Coordinates(
        Full, _from_tril, lambda log_scale, below: Full(_to_tril(log_scale, below))
    ),
    "tied": Coordinates(
        Tied, _from_tril, lambda log_scale, below: Tied(_to_tril(log_scale, below))
    ),
    "diag": Coordinates(Diag, _from_scale, lambda log_scale, _: Diag(jnp.exp(log_scale))),
    "spherical": Coordinates(
        Spherical, _from_scale, lambda log_scale, _: Spherical(jnp.exp(log_scale))
    ),
}


def unconstrain(mixture: GMM) -> Unconstrained:
    """Returns the mixture as free numbers: `constrain` makes it from them again, to rounding.

    A weight of zero has a logit of −inf, whose gradient is zero: it stays.
    Raises TypeError for no mixture, ValueError for a family without such coordinates.

    >>> mixture = GMM(jnp.zeros(1), jnp.zeros((1, 2)), Diag(jnp.array([[1.0, 4.0]])))
    >>> constrain(unconstrain(mixture), family="diag").cov.scale.tolist()
    [[1.0, 4.0]]
    """
    where = "gmm.unconstrain"
    checks.instance(where, "mixture", mixture, GMM)
    cov = mixture.cov
    entries = [entry for entry in COORDINATES.values() if type(cov) is entry.kind]
    if not entries:
        raise ValueError(f"{where}: mixture.cov must be of a family in {', '.join(COORDINATES)}, "
                         f"got {type(cov).__name__}")  # fmt: skip
    log_scale, below = entries[0].free(cov)
    return Unconstrained(mixture.log_weights, mixture.means, log_scale, below)


def constrain(params: Unconstrained, *, family: str) -> GMM:
    """Returns the mixture that free numbers stand for.

    Args:
        params: as `unconstrain` gives them, or any numbers of the same shapes.
        family: a name in `COORDINATES`: full, tied, diag or spherical (static).

    Raises TypeError for no such parameters, ValueError for an unknown family or other shapes.
    """
    where = "gmm.constrain"
    checks.in_table(where, "family", family, COORDINATES)
    checks.instance(where, "params", params, Unconstrained)
    means = checks.floating(where, "params.means", params.means)
    checks.shape(where, "params.means", means, (None, None))
    k, d = means.shape
    checks.shape(where, "params.logits", params.logits, (k,))
    shape = COORDINATES[family].kind.shape(k, d)
    triangular = shape[-2:] == (d, d) and COORDINATES[family].free is _from_tril
    checks.shape(where, "params.log_scale", params.log_scale, shape[:-1] if triangular else shape)
    checks.shape(where, "params.below", params.below, shape if triangular else (0,))
    return GMM(
        log_weights=jax.nn.log_softmax(params.logits),
        means=means,
        cov=COORDINATES[family].bound(params.log_scale, params.below),
    )


def negative_log_likelihood(family: str) -> ValueAndGrad:
    """Returns −log p averaged over rows, and its gradient, as the function a trainer descends.

    So any optimiser fits a mixture, on mini-batches: maximum likelihood by gradients, from
    `unconstrain(init(...))`.  Standardise the columns first: steps of an optimiser have no units.

    Args:
        family: full, tied, diag or spherical.

    Returns:
        `(params, batch, key) -> (value, gradient)` for `Unconstrained` params; `batch` has the
        fields `x` (n, d) and `weight`, (n,) or None for ones.  `key` is not used.

    Raises:
        ValueError: an unknown family; from the returned function, what `log_prob` raises.

    >>> class Batch(NamedTuple):
    ...     x: Array
    ...     weight: Array | None = None
    >>> mixture = GMM(jnp.zeros(1), jnp.zeros((1, 1)), Spherical(jnp.ones(1)))
    >>> descend = negative_log_likelihood("spherical")
    >>> value, gradient = descend(unconstrain(mixture), Batch(jnp.array([[0.0], [2.0]])), None)
    >>> round(float(value), 3), gradient.means.tolist()
    (1.919, [[-1.0]])
    """
    where = "gmm.negative_log_likelihood"
    checks.in_table(where, "family", family, COORDINATES)

    def value(params: Unconstrained, batch: Any) -> Float[Array, ""]:
        mixture = constrain(params, family=family)
        density = log_prob(mixture, batch.x)
        weight = row_weights(where, density, batch.weight)
        return -jnp.sum(weight * density) / jnp.sum(weight)

    def value_and_grad(
        params: Unconstrained, batch: Any, key: Key | None
    ) -> tuple[Float[Array, ""], Unconstrained]:
        return jax.value_and_grad(value)(params, batch)

    return value_and_grad
