"""The density on a regular grid in one to three dimensions, from binned data.

A point costs the few nodes around it (see `jaxnn.kde.splines`), whatever the size of the grid.
The binned data are then convolved with the kernel, along each axis where it is a product over them
and else by one Fourier transform, without wrap-around, and bins beyond the grid keep the edges free
of piled-up points.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.kde import splines
from jaxnn.kde.kernels import Kernel
from jaxnn.kde.model import KDE, check_model, one_width_per_feature

MOST = 4096  # nodes of an axis
REACH = 4.0  # bandwidths of the default grid beyond the data

# The order of the lowest derivative that jumps or is largest, and its largest size along an axis,
# as a share of the kernel's peak: what linear binning is off by (see `linear_bound`).
ROUGHNESS: dict[str, tuple[int, float]] = {
    "tophat": (0, 1.0),
    "epanechnikov": (1, 2.0),
    "biweight": (2, 8.0),
    "triweight": (2, 6.0),
    "linear": (1, 1.0),
    "cosine": (1, math.pi / 2),
    "exponential": (1, 1.0),
    "logistic": (2, 0.5),
    "sigmoid": (2, 1.0),
}


def on_grid(
    model: KDE,
    size: int | Sequence[int],
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    degree: int = 3,
) -> tuple[tuple[Array, ...], Array]:
    """Returns the density on a regular grid, from data binned by B-splines (Wand 1994).

    For a Gaussian kernel the kernel undoes what binning blurs.  What remains is aliasing: with a
    step of ρ bandwidths the error is at most d · `splines.alias_bound(ρ, degree)` of the largest
    possible density, Σ w / Π (h_j √(2π)), on any data, and far less on data from a smooth density
    (bounds for degree 3: 2e-5 at ρ = 1/4, 2e-3 at ρ = 0.7), and some eps of the density's peak by
    rounding.  Other kernels are binned linearly without that correction: the error is at most
    `grid.linear_bound` of the largest possible density, which is of the order of ρ² for smooth
    kernels, of ρ for those with a kink, and says nothing of the tophat; on most data it is far
    less.  Radial forms take a Fourier transform of 2^d times the grid, whose rounding is some eps
    times the root of the number of nodes under a kernel.  Values may be negative by the error.

    Args:
        model: what `fit` returns, with at most 3 features.
        size: nodes of each axis, at least 2; one number for all or one each.  Static.
        low: first node of each axis, () or (d,); by default 4 bandwidths below the data.
        high: last node of each axis, likewise.
        degree: of the splines of a Gaussian kernel: 1 is linear binning; 3 and 5 are more accurate
            and cost (degree + 1)^d nodes for each point.

    Returns:
        The nodes of each axis, and the density, of shape `size`.

    Raises:
        ValueError: for a grid that does not enclose the data, runs backwards, is coarser than the
            bandwidth or finer than 4,096 nodes an axis, or for too many features.

    >>> import jax.numpy as jnp
    >>> from jaxnn.kde import fit
    >>> (axis,), density = on_grid(fit(jnp.array([[0.0], [1.0]]), bandwidth=0.5), 65)
    >>> bool(jnp.isclose(jnp.sum(density) * (axis[1] - axis[0]), 1.0, atol=1e-4))
    True
    """
    where = "kde.on_grid"
    check_model(where, model)
    if not one_width_per_feature(model):
        raise ValueError(
            f"{where}: a grid needs one bandwidth, or one for each feature, the same for all "
            "points; got a matrix or factors: use log_prob"
        )
    points, kernel = model.points, model.kernel
    d = points.shape[1]
    if d > 3:
        raise ValueError(f"{where}: model must have at most 3 features, got {d}; use log_prob")
    given = tuple(size) if isinstance(size, Sequence) else (size,) * d
    if len(given) != d:
        raise ValueError(f"{where}: size must be one number or {d}, got {len(given)}")
    nodes = tuple(checks.count(where, "size", s, least=2, most=MOST) for s in given)
    if degree not in (1, 3, 5):
        raise ValueError(f"{where}: degree must be 1, 3 or 5, got {degree!r}")
    widths, least, most, before, after = _extent(points, model.bandwidth)
    start, stop = _edge(where, "low", low, before), _edge(where, "high", high, after)
    if all(map(checks.concrete, (start, stop, points, widths))):
        _check_fits(where, kernel, nodes, start, stop, (least, most), widths)
    return _evaluate(points, widths, model.log_weights, start, stop, kernel, nodes, degree)


@jax.jit
def _extent(points: Float[Array, "n d"], bandwidth: Array) -> tuple[Float[Array, " d"], ...]:
    """Returns bandwidths, the least and the largest values, and the default first and last node."""
    widths = jnp.broadcast_to(bandwidth, points.shape[1:])
    least, most = jnp.min(points, axis=0), jnp.max(points, axis=0)
    return widths, least, most, least - REACH * widths, most + REACH * widths


def _edge(
    where: str, name: str, given: ArrayLike | None, default: Float[Array, " d"]
) -> Float[Array, " d"]:
    if given is None:
        return default
    edge = checks.floating(where, name, given).astype(default.dtype)
    if edge.ndim > 0:
        checks.shape(where, name, edge, default.shape)
    checks.finite(where, name, edge)
    return jnp.broadcast_to(edge, default.shape)


def _check_fits(
    where: str,
    kernel: Kernel,
    nodes: tuple[int, ...],
    start: Float[Array, " d"],
    stop: Float[Array, " d"],
    data: tuple[Float[Array, " d"], Float[Array, " d"]],
    widths: Float[Array, " d"],
) -> None:
    columns = (a.tolist() for a in (start, stop, *data, widths))
    for j, (a, b, least, most, h) in enumerate(zip(*columns, strict=True)):
        if a >= b:
            raise ValueError(f"{where}: low must be below high, got {a} and {b} in feature {j}")
        if least < a or most > b:
            raise ValueError(
                f"{where}: low and high must enclose the data, which in feature {j} reach from "
                f"{least} to {most}, got {a} and {b}"
            )
        if kernel.name == "gaussian" and (b - a) / (nodes[j] - 1) > h:
            raise ValueError(
                f"{where}: size must be at least {int((b - a) / h) + 2} in feature {j}, so that a "
                f"step is no longer than the bandwidth, got {nodes[j]}"
            )


@functools.partial(jax.jit, static_argnames=("kernel", "nodes", "degree"))
def _evaluate(
    points: Float[Array, "n d"],
    widths: Float[Array, " d"],
    log_weights: Float[Array, " n"],
    start: Float[Array, " d"],
    stop: Float[Array, " d"],
    kernel: Kernel,
    nodes: tuple[int, ...],
    degree: int,
) -> tuple[tuple[Array, ...], Array]:
    gaussian = kernel.name == "gaussian"
    degree = degree if gaussian else 1
    pad = degree // 2 + 1
    dtype = points.dtype
    steps = (stop - start) / (jnp.asarray(nodes, dtype) - 1)
    positions = (points - start[None, :]) / steps[None, :] + pad
    padded = [size + 2 * pad for size in nodes]
    bins = splines.scatter(positions, jnp.exp(log_weights), degree, padded)
    axes = [start[j] + steps[j] * jnp.arange(size, dtype=dtype) for j, size in enumerate(nodes)]
    if kernel.form == "radial" and not gaussian and len(nodes) > 1:
        norm = math.exp(-kernel.log_norm(len(nodes))) / jnp.prod(widths)
        return tuple(axes), norm * _convolve_radial(bins, kernel, steps / widths, nodes)
    kernels = []
    for j, size in enumerate(nodes):
        apart = splines.lags(size, padded[j], pad)
        rho = steps[j] / widths[j]
        if gaussian:
            value = splines.sharpened_gaussian(apart.astype(dtype), rho, degree + 1)
            plain = splines.sharpened_gaussian(apart.astype(dtype), rho, 0)
            value = jnp.where(rho <= 1, value, plain)  # too coarse; refused unless traced
        else:
            value = jnp.exp(kernel.log_profile(jnp.square(apart * rho)) - kernel.log_norm(1))
        kernels.append(value / widths[j])
    return tuple(axes), splines.convolve(bins, kernels)


def _convolve_radial(
    bins: Float[Array, " *padded"],
    kernel: Kernel,
    rhos: Float[Array, " d"],
    nodes: tuple[int, ...],
) -> Float[Array, " *nodes"]:
    """Returns Σ_b bins_b K(node - b) of an unnormalised kernel, with as many bins at each end."""
    d, dtype = bins.ndim, jnp.promote_types(bins.dtype, jnp.float32)  # the least of a transform
    squares = jnp.zeros((1,) * d, dtype)
    for j, (size, padded) in enumerate(zip(nodes, bins.shape, strict=True)):
        apart = splines.lags(size, padded, (padded - size) // 2).astype(dtype) * rhos[j]
        squares = squares + jnp.square(apart).reshape((1,) * j + (-1,) + (1,) * (d - 1 - j))
    values = jnp.exp(kernel.log_profile(squares, d))
    sizes = [splines.transform_size(lags) for lags in values.shape]  # what wraps around is not read
    product = jnp.fft.rfftn(bins.astype(dtype), s=sizes) * jnp.fft.rfftn(values, s=sizes)
    found = jnp.fft.irfftn(product, s=sizes).astype(bins.dtype)
    read = zip(bins.shape, nodes, strict=True)
    return found[tuple(slice(padded - 1, padded - 1 + size) for padded, size in read)]


def linear_bound(kernel: Kernel, rhos: Sequence[float]) -> float:
    """Returns a bound on the error of linear binning, as a share of the largest kernel value.

    What binning does to a kernel is to interpolate it linearly between the nodes of each axis.  The
    error of that is at most Σ_j c ρ_j²/8 for a curvature of at most c along the axes, Σ_j s ρ_j/2
    for slopes of at most s, and 1 where the kernel jumps.  For any data; ρ_j are steps in
    bandwidths.  The Gaussian has a better one, `splines.alias_bound`.
    """
    if kernel.name.startswith("student_t"):
        nu = int(kernel.name[10:-1] or 3)
        order, most = 2, 1 + (len(rhos) if kernel.form == "radial" else 1) / nu
    else:
        order, most = ROUGHNESS[kernel.name]
    if order == 0:
        return 1.0
    return math.fsum(most * (rho / 2 if order == 1 else rho**2 / 8) for rho in rhos)
