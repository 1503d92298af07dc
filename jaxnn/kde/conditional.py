"""Marginal and conditional densities: kernel densities again, of fewer features.

Shapes: n points, d features, of which c are given, m sets of values.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from jaxnn import checks, memory
from jaxnn.kde import scaling
from jaxnn.kde.averages import door
from jaxnn.kde.model import KDE, log_prob
from jaxnn.types import Data

Dims = tuple[int, ...]


class Conditional(NamedTuple):
    """A conditional density.

    Attributes:
        model: the density of the other features; with m sets of values every leaf has an axis m
            in front, as `jax.vmap` takes it.
        log_evidence: the log density of the given values, () or (m,), in nats.
        reached: whether any kernel reaches them; if not, `model` has the weights it had before.
    """

    model: KDE
    log_evidence: Float[Array, "*m"]
    reached: Bool[Array, "*m"]


def _dims(where: str, model: KDE, dims: Any, every: bool) -> Dims:
    """Returns features as a tuple of their numbers, checked; `every` allows all of them."""
    d = model.points.shape[1]
    try:
        numbers = tuple(dims)
    except TypeError:
        raise TypeError(f"{where}: dims must be a sequence of features, got {dims!r}") from None
    numbers = tuple(checks.count(where, "dims", j, 0, d - 1) for j in numbers)
    if len(set(numbers)) != len(numbers) or not numbers:
        raise ValueError(f"{where}: dims must be one or more different features, got {dims!r}")
    if not every and len(numbers) == d:
        raise ValueError(f"{where}: dims must leave at least one feature, got all {d} of them")
    if d > 1 and model.kernel.name != "gaussian":
        if model.kernel.form == "radial":
            raise ValueError(
                f"{where}: model must have a Gaussian or a product kernel, got "
                f"{model.kernel.name!r} in radial form, whose marginals are of another kernel; "
                "fit with form='product'"
            )
        if jnp.ndim(model.bandwidth) == 2:
            raise ValueError(
                f"{where}: model.bandwidth must be a number or one for each feature with a "
                "product kernel, got a matrix"
            )
    return numbers


def marginal(model: KDE, dims: tuple[int, ...]) -> KDE:
    """Returns the density of some of the features, the others integrated out.

    Args:
        model: what `fit` returns, with a Gaussian or a product kernel.
        dims: the features to keep, in this order, static.

    Raises:
        ValueError: for a radial kernel that is not Gaussian, or features that are none or repeated.
        TypeError: for arguments of wrong types.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> model = kde.fit(jnp.array([[0.0, 5.0]]), bandwidth=jnp.array([1.0, 2.0]))
    >>> marginal(model, (1,)).bandwidth.tolist()
    [2.0]
    """
    where = "kde.marginal"
    door(where, model)
    keep = jnp.array(_dims(where, model, dims, every=True))
    h = model.bandwidth
    if h.ndim > 0:
        h = h[keep] if h.ndim == 1 else h[keep][:, keep]
    return model._replace(points=model.points[:, keep], bandwidth=h)


def condition(
    model: KDE, dims: tuple[int, ...], values: Float[ArrayLike, " c"] | Float[ArrayLike, "m c"]
) -> Conditional:
    """Returns the density of the other features given the values of some.

    The points stay (with a matrix as bandwidth, they move by the regression of the one on the
    other), and each is weighted by its kernel at the values.  The weights are made in log space:
    however far the values are, an infinite kernel leaves weights that add up to one.

    Args:
        model: what `fit` returns, with a Gaussian or a product kernel.
        dims: the features that are given, static; the others keep their order.
        values: of those features, (c,) for one density or (m, c) for m of them.

    Raises:
        ValueError: for a radial kernel that is not Gaussian, features that are none, repeated or
            all of them, bad shapes or values.
        TypeError: for arguments of wrong types.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> model = kde.fit(jnp.array([[0.0, 1.0], [9.0, 2.0]]), bandwidth=1.0)
    >>> [round(float(w), 3) for w in jnp.exp(condition(model, (0,), jnp.array([8.0]))[0][2])]
    [0.0, 1.0]
    """
    where = "kde.condition"
    door(where, model)
    given = _dims(where, model, dims, every=False)
    values = checks.floating(where, "values", values)
    checks.shape(where, "values", values, (*(None,) * (values.ndim == 2), len(given)))
    checks.finite(where, "values", values)
    one = functools.partial(_condition, model, dims=given)
    return one(values) if values.ndim == 1 else jax.vmap(one)(values)


@functools.partial(jax.jit, static_argnames="dims")
def _condition(model: KDE, values: Float[Array, " c"], dims: Dims) -> Conditional:
    d, c = model.points.shape[1], len(dims)
    dtype = model.points.dtype
    given = jnp.array(dims)
    rest = jnp.array([j for j in range(d) if j not in dims])
    h = model.bandwidth
    away = values.astype(dtype)[None, :] - model.points[:, given]
    points = model.points[:, rest]
    if h.ndim == 2:
        order = jnp.concatenate([given, rest])
        tril = jnp.linalg.cholesky(h[order][:, order])
        # The factor of the block of the given features is the leading block of the factor.
        seen, cross, left = tril[:c, :c], tril[c:, :c], tril[c:, c:]
        scaled = scaling.whiten(seen @ seen.T, away)
        exact = lax.linalg.triangular_solve(seen, away.T, left_side=True, lower=True).T
        points = points + exact @ cross.T
        log_volume = scaling.log_det(seen @ seen.T, c)
        bandwidth = left @ left.T
    else:
        some = h if h.ndim == 0 else h[given]
        scaled = scaling.whiten(some, away)
        log_volume = scaling.log_det(some, c)
        bandwidth = h if h.ndim == 0 else h[rest]
    inverse = None
    log_weights = model.log_weights
    if model.factors is not None:
        log_weights = log_weights - c * jnp.log(model.factors)
        inverse = 1 / jnp.square(model.factors)
    origin = jnp.zeros((1, c), dtype)
    exponents = model.kernel.exponents(scaled, origin, inverse)[:, 0]
    joint = log_weights + exponents
    total = jax.nn.logsumexp(jnp.where(jnp.any(joint > -jnp.inf), joint, 0.0))
    reached = jnp.any(joint > -jnp.inf)
    weights = jnp.where(reached, joint - total, model.log_weights)
    evidence = jnp.where(reached, total - model.kernel.log_norm(c) - log_volume, -jnp.inf)
    conditional = model._replace(points=points, bandwidth=bandwidth, log_weights=weights)
    return Conditional(conditional, evidence, reached)


@memory.budgeted
def conditional_log_prob(
    model: KDE, dims: tuple[int, ...], x: Data, *, memory_budget: memory.Budget = None
) -> Float[Array, " m"]:
    """Returns the log density of each row's other features given its own features `dims`.

    log p(x) - log p(x[dims]), in nats, as `condition` would have it for the values of every row,
    but without a weight for each pair of a row and a point.  A row whose features `dims` no kernel
    reaches has -inf.

    Args:
        model: what `fit` returns, with a Gaussian or a product kernel.
        dims: the features that are given, static.
        x: rows of all features, (m, d).
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError, TypeError: as `condition`.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> model = kde.fit(jnp.array([[0.0, 1.0]]), bandwidth=1.0)
    >>> round(float(conditional_log_prob(model, (0,), jnp.array([[5.0, 1.0]]))[0]), 3)
    -0.919
    """
    where = "kde.conditional_log_prob"
    x = door(where, model, x)
    given = _dims(where, model, dims, every=False)
    part = log_prob(marginal(model, given), x[:, jnp.array(given)])
    some = jnp.isfinite(part)
    return jnp.where(some, log_prob(model, x) - jnp.where(some, part, 0.0), -jnp.inf)
