"""Where data can be: the edges of a feature, as images of a query or as another coordinate.

A kernel density near a wall leaks mass through it.  Two cures are here, each feature having its
own.  *Images*: the line is cut into cells of the width of the support, every cell holds an image
of the query, and the density is the sum over the images; mirrored images make a wall, shifted ones
a circle.  *Coordinates*: the density is one of log(x - lower) or of a logit, and the Jacobian takes
it back.  A new kind is one more entry of `EDGES`.

Shapes: m rows, d features; everything below is for one feature, (m,).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.kde import scaling
from jaxnn.kde.kernels import Kernel

Rows = Float[Array, " m"]
Bound = Float[Array, ""]
# Images on each side of the support, at most.
MOST = 64


class Edge(NamedTuple):
    """One kind of edge.

    Attributes:
        enter: (x, lower, upper) to the coordinate in which the kernels stand.
        leave: its inverse, which also takes the coordinates of draws into the support.
        log_slope: log of the derivative of `enter`.
        image: (x, cell, lower, upper) to the image of a query in a cell, the support being cell 0;
            None where there are no images.
        open: whether a point on a bound is outside.
        needs: the numbers of finite bounds that it can have.
    """

    enter: Callable[[Rows, Bound, Bound], Rows]
    leave: Callable[[Rows, Bound, Bound], Rows]
    log_slope: Callable[[Rows, Bound, Bound], Rows]
    image: Callable[[Rows, Array, Bound, Bound], Rows] | None
    open: bool
    needs: tuple[int, ...]


def _flat(x: Rows, lower: Bound, upper: Bound) -> Rows:
    return jnp.zeros_like(x)


def _same(x: Rows, lower: Bound, upper: Bound) -> Rows:
    return x


def _cell_width(lower: Bound, upper: Bound) -> Bound:
    """Returns the width of a cell, 0 for one that is infinite and so has one neighbour only."""
    both = jnp.isfinite(lower) & jnp.isfinite(upper)
    return jnp.where(both, jnp.where(both, upper, 0.0) - jnp.where(both, lower, 0.0), 0.0)


def counts(cell: Array, lower: Bound, upper: Bound) -> Array:
    """Returns whether a cell exists: behind a wall there is one, between two walls any number."""
    wall = jnp.where(cell < 0, lower, upper)
    return (cell == 0) | (
        jnp.isfinite(wall) & ((jnp.abs(cell) == 1) | (_cell_width(lower, upper) > 0))
    )


def _mirrored(x: Rows, cell: Array, lower: Bound, upper: Bound) -> Rows:
    """Returns the image in a cell: shifted for an even one, mirrored for an odd one."""
    wall = jnp.where(cell < 0, lower, upper)
    behind = 2 * jnp.where(jnp.isfinite(wall), wall, 0.0) - x  # the image next to that wall
    width = _cell_width(lower, upper)
    further = (cell - jnp.sign(cell)) * width
    return jnp.where(cell % 2 == 0, x + cell * width, behind + further)


def _fold_back(x: Rows, lower: Bound, upper: Bound) -> Rows:
    """Returns where a ray that is mirrored at the walls ends."""
    width = _cell_width(lower, upper)
    two = width > 0
    safe = jnp.where(two, width, 1.0)
    start = jnp.where(jnp.isfinite(lower), lower, 0.0)
    turn = jnp.mod(x - start, 2 * safe)
    folded = start + jnp.where(turn > safe, 2 * safe - turn, turn)
    one = jnp.where(x < lower, 2 * lower - x, jnp.where(x > upper, 2 * upper - x, x))
    return jnp.clip(jnp.where(two, folded, one), lower, upper)


def _wrapped(x: Rows, lower: Bound, upper: Bound) -> Rows:
    return lower + jnp.mod(x - lower, upper - lower)


def _gap(x: Rows, lower: Bound, upper: Bound) -> Rows:
    """Returns the distance from the one bound that is finite."""
    below = jnp.isfinite(lower)
    return jnp.where(below, x - jnp.where(below, lower, 0.0), jnp.where(below, 0.0, upper) - x)


def _from_gap(z: Rows, lower: Bound, upper: Bound) -> Rows:
    below = jnp.isfinite(lower)
    x = jnp.where(below, jnp.where(below, lower, 0.0) + jnp.exp(z), upper - jnp.exp(z))
    return jnp.clip(x, lower, upper)


EDGES: dict[str, Edge] = {
    "reflect": Edge(_same, _fold_back, _flat, _mirrored, False, (0, 1, 2)),
    "periodic": Edge(
        _wrapped,
        _wrapped,
        _flat,
        lambda x, cell, lower, upper: x + cell * (upper - lower),
        False,
        (2,),
    ),
    "log": Edge(
        lambda x, lower, upper: jnp.log(_gap(x, lower, upper)),
        _from_gap,
        lambda x, lower, upper: -jnp.log(_gap(x, lower, upper)),
        None,
        True,
        (1,),
    ),
    "logit": Edge(
        lambda x, lower, upper: jnp.log(x - lower) - jnp.log(upper - x),
        lambda z, lower, upper: lower + (upper - lower) / (1 + jnp.exp(-z)),
        lambda x, lower, upper: jnp.log(upper - lower) - jnp.log(x - lower) - jnp.log(upper - x),
        None,
        True,
        (2,),
    ),
}


def outside(edge: str, x: Rows, lower: Bound, upper: Bound) -> Array:
    """Returns which rows are outside; none is on a circle, and NaN is not either."""
    if edge == "periodic":
        return jnp.zeros(x.shape, bool)
    if EDGES[edge].open:
        return (x <= lower) | (x >= upper)
    return (x < lower) | (x > upper)


def check_bounds(where: str, edges: tuple[str, ...], lower: Array, upper: Array) -> None:
    """Raises ValueError for bounds that enclose nothing, or that an edge cannot have."""
    if not (checks.concrete(lower) and checks.concrete(upper)):
        return
    for j, (edge, a, b) in enumerate(zip(edges, lower.tolist(), upper.tolist(), strict=True)):
        if math.isnan(a) or math.isnan(b):
            raise ValueError(f"{where}: bounds must not be NaN, got [{a}, {b}] for feature {j}")
        if edge == "periodic" and not b - a > 0:
            raise ValueError(
                f"{where}: the period, upper - lower, must be positive, got {b - a} for feature {j}"
            )
        if not a < b:
            raise ValueError(
                f"{where}: lower must be less than upper, got {a} and {b} for feature {j}"
            )
        bounds, needs = math.isfinite(a) + math.isfinite(b), EDGES[edge].needs
        if bounds not in needs:
            raise ValueError(
                f"{where}: edge {edge!r} takes {needs[0]} finite bound{'s' * (needs[0] > 1)}, "
                f"got [{a}, {b}] for feature {j}"
            )


def reach(kernel: Kernel, d: int, dtype: jnp.dtype) -> float:
    """Returns the radius beyond which a kernel is less than a rounding of its peak."""
    if kernel.compact:
        return kernel.support
    with jax.ensure_compile_time_eval():
        radii = jnp.arange(1.0, MOST)
        small = kernel.log_profile(radii * radii, d) < math.log(float(jnp.finfo(dtype).eps))
        return float(jnp.where(jnp.any(small), radii[jnp.argmax(small)], MOST))


def cells(
    where: str,
    edges: tuple[str, ...],
    lower: Array,
    upper: Array,
    images: int | None,
    scale: Callable[[], list[float]] | None,
) -> tuple[tuple[int, int], ...]:
    """Returns the first and the last cell of each feature that holds an image, static numbers.

    `scale` tells how far the kernels reach in each feature; None where that is being traced, and
    then there is one image on each side.
    """
    known = checks.concrete(lower) and checks.concrete(upper)
    reaches = scale() if known and images is None and scale is not None else None
    found = []
    for j, edge in enumerate(edges):
        if EDGES[edge].image is None:
            found.append((0, 0))
            continue
        most = 1 if images is None else images
        below, above = True, True
        if known:
            a, b = float(lower[j]), float(upper[j])
            below, above = math.isfinite(a), math.isfinite(b)
            if reaches is not None and below and above:
                most = max(1, math.ceil(reaches[j] / (b - a)))
        if most > MOST:
            raise ValueError(
                f"{where}: bandwidth must be small beside upper - lower, but its kernel reaches "
                f"over {most} times that in feature {j} (at most {MOST})"
            )
        one_sided = below != above
        found.append((-(1 if one_sided else most) * below, (1 if one_sided else most) * above))
    return tuple(found)


def reaches(kernel: Kernel, bandwidth: scaling.Bandwidth, factors: Array | None, d: int) -> list:
    """Returns how far the widest kernel reaches along each feature, in data units."""
    far = reach(kernel, d, bandwidth.dtype)
    with jax.ensure_compile_time_eval():
        diagonal = jnp.sqrt(jnp.diagonal(bandwidth)) if bandwidth.ndim == 2 else bandwidth
        widest = 1.0 if factors is None else float(jnp.max(factors))
        return [far * widest * h for h in jnp.broadcast_to(diagonal, (d,)).tolist()]
