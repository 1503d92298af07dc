"""Regions of highest density: the smallest sets that hold a given share of the mass."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnn import checks, memory
from jaxnn.kde.averages import door
from jaxnn.kde.model import KDE, log_prob, sample
from jaxnn.types import Data, Key, Scalar


@memory.budgeted
def density_level(
    model: KDE,
    mass: Scalar,
    key: Key | None = None,
    *,
    draws: int = 10_000,
    memory_budget: memory.Budget = None,
) -> Float[Array, ""]:
    """Returns the log density on the edge of the smallest region that holds `mass` of the density.

    It is the weighted (1 - mass)-quantile of the log density at rows of that density (Hyndman,
    1996, section 3.2): at the model's own points, or with a key at draws from it.  The points are
    no draws of the smoothed density: for h not small the level they give is a little high.

    Args:
        model: what `fit` returns.
        mass: share of the probability inside, in (0, 1]; traced.
        key: for draws; None for the points.
        draws: how many, static.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for a mass outside (0, 1]; TypeError for arguments of wrong types.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> model = kde.fit(jnp.array([[0.0], [0.1], [0.2], [9.0]]), bandwidth=0.5)
    >>> kde.in_region(model, density_level(model, 0.75), model.points).tolist()
    [True, True, True, False]
    """
    where = "kde.density_level"
    door(where, model)
    checks.probability(where, "mass", mass)
    checks.shape(where, "mass", mass, ())
    mass = jnp.asarray(mass, model.points.dtype)
    if key is None:
        return _level(log_prob(model, model.points), model.log_weights, mass)
    checks.key(where, key)
    rows = sample(key, model, checks.count(where, "draws", draws))
    return _level(log_prob(model, rows), jnp.zeros(draws, rows.dtype), mass)


@jax.jit
def _level(
    heights: Float[Array, " n"], log_weights: Float[Array, " n"], mass: Float[Array, ""]
) -> Float[Array, ""]:
    order = jnp.argsort(-heights)
    weights = jnp.exp(log_weights[order])
    inside = jnp.cumsum(weights)
    # The first row with which the mass is reached, give or take the rounding of the sums.
    slack = 4 * jnp.finfo(inside.dtype).eps * heights.shape[0] ** 0.5
    wanted = mass.astype(inside.dtype) * inside[-1] * (1 - slack)
    return heights[order][jnp.argmax(inside >= wanted)]


def in_region(model: KDE, level: Scalar, x: Data) -> Bool[Array, " m"]:
    """Returns whether the log density at each row of `x` is at least `level`.

    Args:
        model: what `fit` returns.
        level: a log density, in nats, as of `density_level`.
        x: queries, (m, d).

    Raises:
        ValueError: for bad shapes or values; TypeError for arguments of wrong types.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> model = kde.fit(jnp.zeros((1, 1)), bandwidth=1.0)
    >>> in_region(model, -1.5, jnp.array([[0.0], [2.0]])).tolist()
    [True, False]
    """
    where = "kde.in_region"
    x = door(where, model, x)
    checks.shape(where, "level", level, ())
    return log_prob(model, x) >= jnp.asarray(level, x.dtype)
