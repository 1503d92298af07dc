"""The density on a regular grid in one to three dimensions, from binned data.

A point costs the few nodes around it (see `jaxnn.kde.splines`), whatever the size of the grid.
The binned data are then multiplied along each axis by a matrix of kernel values, so that there is
no wrap-around, and bins beyond the grid keep the edges free of piled-up points.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.kde import splines
from jaxnn.kde.kernels import Kernel

MOST = 4096  # nodes of an axis: the kernel matrix has their square
REACH = 4.0  # bandwidths of the default grid beyond the data


def evaluate(
    where: str,
    kernel: Kernel,
    points: Float[Array, "n d"],
    widths: Float[Array, " d"],
    log_weights: Float[Array, " n"],
    size: int | Sequence[int],
    low: ArrayLike | None,
    high: ArrayLike | None,
    degree: int,
) -> tuple[tuple[Array, ...], Array]:
    """Checks the arguments of `kde.on_grid` and returns its result."""
    d = points.shape[1]
    if d > 3:
        raise ValueError(f"{where}: model must have at most 3 features, got {d}; use log_prob")
    if kernel.name != "gaussian" and d > 1:
        raise ValueError(
            f"{where}: kernel {kernel.name!r} needs data of 1 feature, got {d}; use log_prob"
        )
    given = tuple(size) if isinstance(size, Sequence) else (size,) * d
    if len(given) != d:
        raise ValueError(f"{where}: size must be one number or {d}, got {len(given)}")
    nodes = tuple(checks.count(where, "size", s, least=2, most=MOST) for s in given)
    if degree not in (1, 3, 5):
        raise ValueError(f"{where}: degree must be 1, 3 or 5, got {degree!r}")
    least, most = jnp.min(points, axis=0), jnp.max(points, axis=0)
    start = _edge(where, "low", low, least - REACH * widths)
    stop = _edge(where, "high", high, most + REACH * widths)
    if all(map(checks.concrete, (start, stop, points, widths))):
        _check_fits(where, kernel, nodes, start, stop, (least, most), widths)
    return _evaluate(points, widths, log_weights, start, stop, kernel, nodes, degree)


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
    matrices = []
    for j, size in enumerate(nodes):
        apart = jnp.arange(size)[:, None] + pad - jnp.arange(padded[j])[None, :]
        rho = steps[j] / widths[j]
        if gaussian:
            value = splines.sharpened_gaussian(apart.astype(dtype), rho, degree + 1)
            plain = splines.sharpened_gaussian(apart.astype(dtype), rho, 0)
            value = jnp.where(rho <= 1, value, plain)  # too coarse; refused unless traced
        else:
            value = jnp.exp(kernel.log_profile(jnp.square(apart * rho)) - kernel.log_norm(1))
        matrices.append(value / widths[j])
    axes = [start[j] + steps[j] * jnp.arange(size, dtype=dtype) for j, size in enumerate(nodes)]
    return tuple(axes), splines.convolve(bins, matrices)
