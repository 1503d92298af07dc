"""Mixtures as plain numbers without constraints, for any optimiser.

Weights are a softmax of logits, means are as they are, and covariances are `coordinates` in units
of their own, so that a change of units moves logarithms and leaves the rest.
Shapes: k components, d features.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnn import checks
from jaxnn.gmm.coordinates import Free, coordinates_of
from jaxnn.gmm.families import family_of
from jaxnn.gmm.family import Family
from jaxnn.gmm.model import GMM, log_prob
from jaxnn.gmm.moments import row_weights
from jaxnn.types import Key, ValueAndGrad


class Unconstrained(NamedTuple):
    """A mixture as free numbers.

    `logits`: any shift of all of them is the same mixture; `unconstrain` gives log-weights.
    `means`: data units.  `log_scale`: logarithms of standard deviations, of volumes and shapes, or
    of the diagonals of Cholesky factors.  `rest`: the strictly lower triangle of Cholesky factors,
    in units of the diagonal (zeros elsewhere); loadings, in units of the noise; the strictly lower
    triangle of the Cayley transform of axes; None in families without any of these.
    """

    logits: Float[Array, " k"]
    means: Float[Array, "k d"]
    log_scale: PyTree
    rest: Array | None


def unconstrain(mixture: GMM) -> Unconstrained:
    """Returns the mixture as free numbers: `constrain` makes it from them again, to rounding.

    A weight of zero has a logit of −inf, whose gradient is zero: it stays.  Axes of mclust's
    families may come back with another sign, and their covariances as they were.
    Raises TypeError for no mixture, or one of a family without such coordinates.

    >>> from jaxnn.gmm.covariances import Diag
    >>> mixture = GMM(jnp.zeros(1), jnp.zeros((1, 2)), Diag(jnp.array([[1.0, 4.0]])))
    >>> constrain(unconstrain(mixture), family="diag").cov.scale.tolist()
    [[1.0, 4.0]]
    """
    where = "gmm.unconstrain"
    checks.instance(where, "mixture", mixture, GMM)
    free = coordinates_of(where, mixture.cov).free(mixture.cov, None)
    return Unconstrained(mixture.log_weights, mixture.means, *free)


def constrain(params: Unconstrained, *, family: str | Family) -> GMM:
    """Returns the mixture that free numbers stand for.

    Args:
        params: as `unconstrain` gives them, or any numbers of the same shapes.
        family: a name in `COVARIANCES`, or `factors(rank)` (static).

    Raises TypeError for no such parameters, ValueError for an unknown family or other shapes.
    """
    where = "gmm.constrain"
    kind = family_of(where, family)
    checks.instance(where, "params", params, Unconstrained)
    means = checks.floating(where, "params.means", params.means)
    checks.shape(where, "params.means", means, (None, None))
    k, d = means.shape
    checks.shape(where, "params.logits", params.logits, (k,))
    variances = jax.ShapeDtypeStruct((d,), means.dtype)
    like = jax.eval_shape(lambda v: kind.from_variances(v, k), variances)
    rule = coordinates_of(where, like)
    free = Free(params.log_scale, params.rest)
    shapes = jax.eval_shape(lambda cov: rule.free(cov, None), like)
    for name, given, wanted in zip(Free._fields, free, shapes, strict=True):
        if jax.tree.structure(given) != jax.tree.structure(wanted):
            raise ValueError(f"{where}: params.{name} must have the parts that gmm.unconstrain "
                             f"gives it for {family}, got {jax.tree.structure(given)}")  # fmt: skip
        for leaf, wanted_leaf in zip(*map(jax.tree.leaves, (given, wanted)), strict=True):
            checks.shape(where, f"params.{name}", leaf, wanted_leaf.shape)
    return GMM(
        log_weights=jax.nn.log_softmax(params.logits),
        means=means,
        cov=rule.bound(free, None),
    )


def negative_log_likelihood(family: str | Family, *, missing: bool = False) -> ValueAndGrad:
    """Returns −log p averaged over rows, and its gradient, as the function a trainer descends.

    So any optimiser fits a mixture, on mini-batches: maximum likelihood by gradients, from
    `unconstrain(init(...))`.  Standardise the columns first: steps of an optimiser have no units.

    Args:
        family: a name in `COVARIANCES`, or `factors(rank)`.
        missing: NaN stands for what was not observed, as in `log_prob`.

    Returns:
        `(params, batch, key) -> (value, gradient)` for `Unconstrained` params; `batch` has the
        fields `x` (n, d) and `weight`, (n,) or None for ones.  `key` is not used.

    Raises:
        ValueError: an unknown family; from the returned function, what `log_prob` raises.

    >>> class Batch(NamedTuple):
    ...     x: Array
    ...     weight: Array | None = None
    >>> from jaxnn.gmm.covariances import Spherical
    >>> mixture = GMM(jnp.zeros(1), jnp.zeros((1, 1)), Spherical(jnp.ones(1)))
    >>> descend = negative_log_likelihood("spherical")
    >>> value, gradient = descend(unconstrain(mixture), Batch(jnp.array([[0.0], [2.0]])), None)
    >>> round(float(value), 3), gradient.means.tolist()
    (1.919, [[-1.0]])
    """
    where = "gmm.negative_log_likelihood"
    family_of(where, family)

    def value(params: Unconstrained, batch: Any) -> Float[Array, ""]:
        mixture = constrain(params, family=family)
        density = log_prob(mixture, batch.x, missing=missing)
        weight = row_weights(where, density, batch.weight)
        return -jnp.sum(weight * density) / jnp.sum(weight)

    def value_and_grad(
        params: Unconstrained, batch: Any, key: Key | None
    ) -> tuple[Float[Array, ""], Unconstrained]:
        return jax.value_and_grad(value)(params, batch)

    return value_and_grad
