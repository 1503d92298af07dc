"""Gaussian sums of many queries and points in few dimensions, to a stated error.

Points are spread over a grid by B-splines, the grid is convolved with the kernel, and queries read
it through the same spline (Greengard and Lee, SIAM Review 2004, with splines for their Gaussians).
What the splines blur the kernel undoes; what remains, aliasing, has the bound of
`splines.alias_bound`.  That error is the same everywhere, so where the density is low, or the grid
ends, a query is summed exactly.

Shapes: m queries, n points, d features, in units of the bandwidth.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.kde import splines
from jaxnn.kde.gaussian import log_gaussian_sum, log_gaussian_tangent

METHODS = ("auto", "exact", "fast")
DEGREE = 7
SPACINGS = (1 / 3, 1 / 4, 1 / 6, 1 / 8)  # in bandwidths
MARGIN = 1.0  # bandwidths of grid beyond the outermost points
MOST_NODES = 2**23
LEAST_PAIRS = 2**27  # from here on `auto` leaves the exact sum
LEAST_TOLERANCE = 40.0  # in units of eps, below which rounding sends all queries to the exact sum
ROUNDING = 8.0  # error of a convolved grid in units of eps, relative to what is added up
REPAIR = 512  # queries of one exact tile


class Grid(NamedTuple):
    """Nodes along each axis and their spacing in bandwidths; static."""

    nodes: tuple[int, ...]
    rho: float


def plan(
    where: str,
    method: str,
    tolerance: Any,
    points: Float[Array, "n d"],
    widths: Float[Array, " d"],
    queries: int,
    gaussian: bool,
) -> Grid | None:
    """Returns the grid that `method` asks for, None for the exact sum.

    Raises:
        ValueError: for an unknown method, a tolerance that it cannot keep, or "fast" where there
            is no grid: another kernel, more than 3 features, traced data, too many nodes.
    """
    checks.in_table(where, "method", method, METHODS)
    checks.non_negative(where, "tolerance", tolerance)
    if method == "exact" or (method == "auto" and not checks.concrete(tolerance)):
        return None
    n, d = points.shape
    eps = float(jnp.finfo(points.dtype).eps)
    reasons = {
        "a Gaussian kernel and one bandwidth a feature for all points": gaussian,
        "at most 3 features": d <= 3,
        "concrete points, bandwidth and tolerance (not traced by jit, vmap or grad)": all(
            map(checks.concrete, (points, widths, tolerance))
        ),
    }
    if all(reasons.values()):
        reasons[f"tolerance of at least {LEAST_TOLERANCE * eps:.0e} in {points.dtype}"] = (
            float(tolerance) >= LEAST_TOLERANCE * eps
        )
    grid = None
    if all(reasons.values()):
        grid, good = _grid(float(tolerance), points, widths)
        reasons[f"a grid of at most {MOST_NODES} nodes (data ranges within fewer bandwidths)"] = (
            grid is not None
        )
        if method == "auto" and not (good and n * queries >= LEAST_PAIRS):
            return None
    missing = [reason for reason, holds in reasons.items() if not holds]
    if method == "fast" and missing:
        raise ValueError(f"{where}: method 'fast' needs {missing[0]}; use method='exact'")
    return grid


def _grid(
    tolerance: float, points: Float[Array, "n d"], widths: Float[Array, " d"]
) -> tuple[Grid | None, bool]:
    """Returns the coarsest grid that is good for the tolerance, else the finest that fits."""
    d = points.shape[1]
    with jax.ensure_compile_time_eval():
        spans = (jnp.max(points, axis=0) - jnp.min(points, axis=0)) / widths
        lengths = [float(span) for span in spans]
    grid = None
    for rho in SPACINGS:
        # Rounded up to 16 nodes: similar data share a program.
        nodes = [16 * math.ceil(((s + 2 * MARGIN) / rho + DEGREE + 2) / 16) for s in lengths]
        if math.prod(nodes) > MOST_NODES:
            break
        grid = Grid(nodes=tuple(nodes), rho=rho)
        # Most of the density stands above the error over the tolerance; the more features, the
        # farther is its peak below that of a single kernel.
        if 2 * d * splines.alias_bound(rho, DEGREE) <= 0.03 * 0.1**d * tolerance:
            return grid, True
    return grid, False


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def log_gaussian_sum_near(
    grid: Grid,
    queries: Float[Array, "m d"],
    points: Float[Array, "n d"],
    log_weights: Float[Array, " n"],
    tolerance: Float[Array, ""],
) -> Float[Array, " m"]:
    """Returns `log_gaussian_sum`, each value off by at most about `tolerance` nats.

    The density from the grid is off by at most 2 d `alias_bound` of the largest possible density
    (all points in one place), and by rounding: some eps of itself, or of its peak where an axis is
    so long that it is transformed.  Queries whose density is below these over the tolerance, and
    those off the grid, are summed exactly.
    """
    d = points.shape[1]
    top = jnp.max(log_weights)
    weights = jnp.exp(log_weights - jnp.where(jnp.isneginf(top), 0.0, top))
    low = jnp.min(points, axis=0)[None, :] - MARGIN
    place = lambda rows: (rows - low) / grid.rho + DEGREE // 2
    sums = splines.scatter(place(points), weights, DEGREE, grid.nodes)
    kernels = [
        splines.sharpened_gaussian(
            splines.lags(nodes, nodes).astype(low.dtype), grid.rho, 2 * (DEGREE + 1)
        )
        for nodes in grid.nodes
    ]
    unit = (2 * math.pi) ** (d / 2)
    convolved = splines.convolve(sums, kernels) * unit
    positions = place(queries)
    last = jnp.asarray(grid.nodes, low.dtype)[None, :] - (DEGREE // 2 + 2)
    inside = jnp.all((positions >= DEGREE // 2) & (positions <= last), axis=1)
    density = splines.gather(convolved, jnp.where(inside[:, None], positions, 0.0), DEGREE)

    alias = 2 * d * splines.alias_bound(grid.rho, DEGREE) * jnp.sum(weights)
    rounding = ROUNDING * float(jnp.finfo(low.dtype).eps)
    if all(splines.by_product(nodes, nodes, d) for nodes in grid.nodes):
        # Relative to the sum of absolute terms, which is no more than the sum but for cancellation.
        terms = splines.convolve(sums, [jnp.abs(kernel) for kernel in kernels]) * unit
        enough = convolved * tolerance >= alias
        rounding *= jnp.max(jnp.where(enough, terms / jnp.where(enough, convolved, 1.0), 1.0))
        good = inside & (density * (tolerance - rounding) >= alias)
    else:
        good = inside & (density * tolerance >= alias + rounding * jnp.max(convolved))
    values = top + jnp.log(jnp.where(good, density, 1.0))

    m = queries.shape[0]
    tile = min(m, REPAIR)
    rest = jnp.nonzero(~good, size=m)[0]

    def repair(i: Array, values: Array) -> Array:
        # The last tile may hold rows done before, or good ones: exact is right for them as well.
        rows = lax.dynamic_slice_in_dim(rest, i * tile, tile)
        return values.at[rows].set(log_gaussian_sum(queries[rows], points, log_weights))

    return lax.fori_loop(0, (jnp.sum(~good) + tile - 1) // tile, repair, values)


@log_gaussian_sum_near.defjvp
def _log_gaussian_sum_near_jvp(grid: Grid, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    value = log_gaussian_sum_near(grid, *primals)
    rows, drows = (*primals[:3], None), (*tangents[:3], None)
    return value, log_gaussian_tangent(value, rows, drows)
