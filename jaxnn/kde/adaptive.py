"""Abramson's adaptive kernel density: each point its own bandwidth, from a pilot density."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.kde.model import KDE, log_prob
from jaxnn.types import Scalar


def adaptive(model: KDE, alpha: Scalar = 0.5) -> KDE:
    """Returns the density whose bandwidth at each point falls with the density there.

    The factors are λ_i = (p(x_i) / g)^-α with the given model's density p and its weighted
    geometric mean g at the points (Abramson, 1982, for α = 1/2; Silverman, 1986, section 5.3).
    Factors that the model has are multiplied.

    Args:
        model: the pilot, what `fit` returns.
        alpha: sensitivity, not negative; 0 leaves the model as it is.  Traced.

    Raises:
        TypeError: unless `model` is a `KDE`; ValueError for a negative or infinite `alpha`.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> model = adaptive(kde.fit(jnp.array([[0.0], [0.1], [5.0]]), bandwidth=0.5))
    >>> bool(model.factors[2] > 1 > model.factors[0])
    True
    """
    where = "kde.adaptive"
    checks.scalar(where, "alpha", alpha)
    checks.instance(where, "model", model, KDE)
    alpha = jnp.asarray(alpha, model.points.dtype)
    return _adaptive(model, alpha, log_prob(model, model.points))


@jax.jit
def _adaptive(model: KDE, alpha: Float[Array, ""], log_density: Float[Array, " n"]) -> KDE:
    # A point of weight zero may be out of reach of all others.
    log_density = jnp.where(jnp.isfinite(log_density), log_density, 0.0)
    weights = jnp.exp(model.log_weights)
    present = weights > 0
    mean = jnp.sum(weights * log_density)
    log_factors = jnp.where(present, alpha * (mean - log_density), 0.0)
    # So that a power of a density of any contrast stays finite.
    limit = jnp.log(jnp.finfo(weights.dtype).max) / (4 * model.points.shape[1])
    factors = jnp.exp(jnp.clip(log_factors, -limit, limit))
    return model._replace(factors=factors if model.factors is None else factors * model.factors)
