"""Probabilities under a kernel density: of a half line, of boxes, and quantiles in one dimension.

The integral of a product kernel over a box is the product of what one-dimensional kernels put on
its sides, closed for every kernel of the table; so is that of a Gaussian, and of any kernel in one
dimension.  Sides are measured from the nearer tail, so that small probabilities keep their digits.

Shapes: n points, m boxes or queries, d features.  The memory is O((n + m) d) and one tile.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from jaxnn import checks, linalg, memory
from jaxnn.kde.averages import door
from jaxnn.kde.kernels import Kernel
from jaxnn.kde.logsum import UNROLL
from jaxnn.kde.model import KDE
from jaxnn.types import Data

Tail = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def _beta_tail(p: int) -> Tail:
    """Returns the tail of (1 - u²)^p as a polynomial in t = 1 - u, exact to the edge."""
    log_norm = math.lgamma(0.5) + math.lgamma(p + 1) - math.lgamma(p + 1.5)
    terms = [(-1) ** k * math.comb(p, k) * 2.0 ** (p - k) / (p + k + 1) for k in range(p + 1)]

    def tail(u: Float[Array, "..."]) -> Float[Array, "..."]:
        t = jnp.maximum(1 - u, 0.0)
        value = jnp.full_like(t, terms[-1])
        for term in reversed(terms[:-1]):
            value = value * t + term
        return value * t ** (p + 1) * math.exp(-log_norm)

    return tail


def _student_tail(nu: int) -> Tail:
    def tail(u: Float[Array, "..."]) -> Float[Array, "..."]:
        half = jnp.asarray(nu / 2, u.dtype)
        return 0.5 * jax.scipy.special.betainc(half, jnp.asarray(0.5, u.dtype), nu / (nu + u * u))

    return tail


# P(U > u) for u >= 0 of the kernels in one dimension.
TAILS: dict[str, Tail] = {
    "gaussian": lambda u: jax.scipy.special.ndtr(-u),
    "tophat": _beta_tail(0),
    "epanechnikov": _beta_tail(1),
    "biweight": _beta_tail(2),
    "triweight": _beta_tail(3),
    "linear": lambda u: jnp.square(jnp.maximum(1 - u, 0.0)) / 2,
    "cosine": lambda u: jnp.square(jnp.sin(jnp.maximum(1 - u, 0.0) * (math.pi / 4))),
    "exponential": lambda u: jnp.exp(-u) / 2,
    "logistic": lambda u: jax.nn.sigmoid(-u),
    "sigmoid": lambda u: 2 / math.pi * jnp.arctan(jnp.exp(-u)),
    "student_t": _student_tail(3),
}


def tail_of(where: str, kernel: Kernel) -> None:
    """Raises ValueError unless the kernel has a tail."""
    if kernel.name not in TAILS and not kernel.name.startswith("student_t("):
        raise ValueError(
            f"{where}: kernel {kernel.name!r} has no closed distribution function; "
            f"choose from {', '.join(TAILS)}"
        )


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def between(kernel: Kernel, low: Float[Array, "..."], high: Float[Array, "..."]) -> Array:
    """Returns what a kernel in one dimension puts between two places, in bandwidths."""
    tail = TAILS.get(kernel.name) or _student_tail(int(kernel.name[10:-1]))
    right = low > 0
    inner, outer = jnp.where(right, low, -high), jnp.where(right, high, -low)
    # Now outer > 0, or the box is empty; both on one side, or one on each.
    same = inner > 0
    beyond = tail(jnp.abs(outer))
    return jnp.where(same, tail(jnp.abs(inner)) - beyond, 1 - tail(jnp.abs(inner)) - beyond)


@between.defjvp
def _between_jvp(kernel: Kernel, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # The derivative of a distribution function is the density.
    density = lambda u: jnp.exp(kernel.log_profile(u * u, 1) - _log_norm(kernel))
    down, up = (density(place) * move for place, move in zip(primals, tangents, strict=True))
    return between(kernel, *primals), up - down


def _log_norm(kernel: Kernel) -> float:
    return kernel.log_norm(1)


@memory.budgeted
def box(
    model: KDE, low: Data, high: Data, *, memory_budget: memory.Budget = None
) -> Float[Array, " m"]:
    """Returns the probabilities of boxes, ∫ p over low < x < high, in [0, 1].

    As `integrate_box` of SciPy's `gaussian_kde`, but exact instead of by Monte Carlo, for many
    boxes at once.  A side may be infinite: `low=-inf` and `high=x` is the distribution function,
    `low=x` and `high=inf` the survival function, with all digits where it is small.

    Args:
        model: what `fit` returns: a Gaussian or product form, or one feature; not with a matrix as
            bandwidth, which has no closed form.
        low: lower corners, (m, d).
        high: upper corners, (m, d), each above `low`.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for a radial kernel or a bandwidth without a closed form, for bad shapes, NaN,
            or a side whose low is not below its high.
        TypeError: unless the corners hold floating-point numbers.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> model = kde.fit(jnp.array([[0.0, 0.0]]), bandwidth=1.0)
    >>> round(float(box(model, jnp.array([[0.0, -1.0]]), jnp.array([[jnp.inf, 1.0]]))[0]), 4)
    0.3413
    """
    where = "kde.box"
    _closed(where, model)
    corners = []
    for name, given in (("low", low), ("high", high)):
        corner = checks.floating(where, name, given)
        checks.shape(where, name, corner, (None, model.points.shape[1]))
        if checks.concrete(corner) and not checks.holds(lambda a=corner: ~jnp.isnan(a)):
            raise ValueError(f"{where}: {name} must not hold NaN, got {corner.tolist()}")
        corners.append(corner)
    checks.shape(where, "high", corners[1], corners[0].shape)
    if all(map(checks.concrete, corners)) and not checks.holds(lambda: corners[0] < corners[1]):
        raise ValueError(
            f"{where}: low must be below high in every feature, "
            f"got {corners[0].tolist()} and {corners[1].tolist()}"
        )
    return _box(model, *corners)


def _closed(where: str, model: KDE) -> None:
    door(where, model)
    d = model.points.shape[1]
    tail_of(where, model.kernel)
    if d > 1 and model.kernel.name != "gaussian" and model.kernel.form == "radial":
        raise ValueError(
            f"{where}: model must have a product kernel, got {model.kernel.name!r} in radial form, "
            "whose integral over a box has no closed form; fit with form='product'"
        )
    if d > 1 and jnp.ndim(model.bandwidth) == 2:
        raise ValueError(
            f"{where}: model.bandwidth must be a number or one for each feature, got a matrix, "
            "for which boxes have no closed form; whiten the data first"
        )


@jax.jit
def _box(model: KDE, low: Float[Array, "m d"], high: Float[Array, "m d"]) -> Float[Array, " m"]:
    dtype = jnp.result_type(model.points, low, high)
    points, h = model.points.astype(dtype), model.bandwidth.astype(dtype)
    d = points.shape[1]
    h = jnp.sqrt(h[:, 0]) if h.ndim == 2 else jnp.broadcast_to(h, (d,))
    weights = jnp.exp(model.log_weights.astype(dtype))
    factors = None if model.factors is None else model.factors.astype(dtype)
    reach = float(jnp.finfo(dtype).max) ** 0.5 / 4

    def side(corner: Float[Array, " q"], at: Float[Array, " k"], h: Array) -> Float[Array, "k q"]:
        infinite = jnp.isinf(corner)
        away = jnp.where(infinite, 0.0, corner)[None, :] - at[:, None]
        scale = jnp.broadcast_to(h, at.shape)[:, None]
        edge = jnp.where(infinite, jnp.sign(corner) * reach, 0.0)[None, :]
        return jnp.where(infinite[None, :], edge, jnp.clip(away / scale, -reach, reach))

    @jax.checkpoint
    def step(corners: tuple, total: Array, tile: tuple, fresh: Bool[Array, " k"]) -> Array:
        at, weight, factor = tile
        weight = jnp.where(fresh, weight, 0.0)
        product = jnp.broadcast_to(weight[:, None], (at.shape[0], total.shape[0]))
        for j in range(d):
            width = h[j] if factor is None else h[j] * factor
            low, high = (side(corner[:, j], at[:, j], width) for corner in corners)
            product = product * between(model.kernel, low, high)
        return total + jnp.sum(product, axis=0)

    def of_tile(corners: tuple) -> Float[Array, " q"]:
        total = jnp.zeros_like(corners[0][:, 0])
        rows = (points, weights, factors)
        return linalg.fold_rows(lambda *a: step(corners, *a), total, rows, UNROLL)

    size = linalg.tile_rows(low.shape[0], 4 * UNROLL)
    return linalg.map_rows(of_tile, (low.astype(dtype), high.astype(dtype)), size)


@memory.budgeted
def cdf(model: KDE, x: Data, *, memory_budget: memory.Budget = None) -> Float[Array, " m"]:
    """Returns the probability of falling below each row of `x`, for a density of one feature.

    Small values keep all their digits; for small values of 1 - cdf see `box`.

    Args:
        model: what `fit` returns, with one feature.
        x: queries, (m, 1).
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for more features, a kernel without a closed form, bad shapes or values.
        TypeError: unless `x` holds floating-point numbers.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> model = kde.fit(jnp.array([[0.0], [1.0]]), bandwidth=0.5, kernel="tophat")
    >>> [round(float(p), 3) for p in cdf(model, jnp.array([[-1.0], [0.0], [0.5], [2.0]]))]
    [0.0, 0.25, 0.5, 1.0]
    """
    where = "kde.cdf"
    _line(where, model)
    x = door(where, model, x)
    return _box(model, jnp.full_like(x, -jnp.inf), x)


def _line(where: str, model: KDE) -> None:
    _closed(where, model)
    if model.points.shape[1] != 1:
        raise ValueError(
            f"{where}: model must have one feature, got {model.points.shape[1]}; "
            "see kde.box and kde.marginal"
        )


@memory.budgeted
def quantile(
    model: KDE, probability: Float[ArrayLike, " m"], *, memory_budget: memory.Budget = None
) -> Float[Array, " m"]:
    """Returns where the distribution function of a density of one feature takes given values.

    By bisection to the last digit; the derivative is that of the inverse function, (q - F(x))/p(x).
    In a gap between compact kernels any place will do, and the derivative is zero.

    Args:
        model: what `fit` returns, with one feature.
        probability: values of the distribution function, (m,), between 0 and 1, neither included.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for more features, a kernel without a closed form, or values outside (0, 1).
        TypeError: unless `probability` holds floating-point numbers.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> model = kde.fit(jnp.array([[0.0], [1.0]]), bandwidth=0.5, kernel="tophat")
    >>> [round(float(x), 3) for x in quantile(model, jnp.array([0.375, 0.5, 0.75]))]
    [0.25, 0.5, 1.0]
    """
    where = "kde.quantile"
    _line(where, model)
    share = checks.floating(where, "probability", probability)
    checks.shape(where, "probability", share, (None,))
    if checks.concrete(share) and not checks.holds(lambda: (share > 0) & (share < 1)):
        raise ValueError(f"{where}: probability must lie in (0, 1), got {share.tolist()}")
    return _quantile(model, share.astype(model.points.dtype))


@jax.jit
def _quantile(model: KDE, share: Float[Array, " m"]) -> Float[Array, " m"]:
    dtype = model.points.dtype
    below = lambda model, x: _box(model, jnp.full((x.shape[0], 1), -jnp.inf, dtype), x[:, None])
    frozen, target = lax.stop_gradient((model, share))
    least, most = jnp.min(frozen.points), jnp.max(frozen.points)
    h = jnp.sqrt(frozen.bandwidth[0, 0]) if frozen.bandwidth.ndim == 2 else frozen.bandwidth
    h = jnp.max(h) * (1.0 if frozen.factors is None else jnp.max(frozen.factors))

    def outside(reach: Array) -> Bool[Array, ""]:
        at = below(frozen, jnp.stack([least - reach, most + reach]))
        grows = reach < float(jnp.finfo(dtype).max) / 8
        return grows & ((at[0] > jnp.min(target)) | (at[1] < jnp.max(target)))

    reach = lax.while_loop(outside, lambda reach: 2 * reach, h)
    start = jnp.full_like(target, least - reach), jnp.full_like(target, most + reach)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = low + (high - low) / 2
        short = below(frozen, middle) < target
        return jnp.where(short, middle, low), jnp.where(short, high, middle)

    found = lax.fori_loop(0, jnp.finfo(dtype).nmant + 12, halve, start)
    # A Newton step from where the value stands still: it adds nothing but the derivative.
    at = lax.stop_gradient(found[1])
    _, density = jax.jvp(lambda at: below(frozen, at), (at,), (jnp.ones_like(at),))
    gap = share - below(model, at)
    some = density > 0
    move = jnp.where(some, (gap - lax.stop_gradient(gap)) / jnp.where(some, density, 1.0), 0.0)
    return at + move
