"""Data on a regular grid by B-splines, and Gaussian kernels that undo what the spline blurs.

A spline of odd degree p spreads a point over the p + 1 nearest nodes of each axis (p = 1 is linear
binning).  On average over positions that is a convolution with the spline, of transform
sinc(ωδ/2)^(p+1) for spacing δ, which the kernel divides out again.  What remains is aliasing.

Unit of length: one bandwidth.  ρ is the spacing in that unit.
"""

import itertools
import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxnn import linalg

# log(sin(x)/x) = -Σ_k c_k x^(2k), with c_k = ζ(2k) / (k π^(2k)).
_LOG_SINC = (1 / 6, 1 / 180, 1 / 2835, 1 / 37800, 1 / 467775, 691 / 3831077250, 2 / 127702575)
TERMS = 10
FAR = 40.0  # standard deviations: exp(-FAR²/2) is 0 in float64 too
# Bytes of the windows of one tile: within a loop scattering is half as fast, and larger arrays the
# system hands out page by page.
WINDOWS = 2**24
LARGEST_MATRIX = 2**24  # entries of the matrix of a convolution along one axis


def taps(position: Float[Array, " n"], degree: int) -> tuple[Int[Array, " n"], Float[Array, "n t"]]:
    """Returns the first node and the weights of the `degree` + 1 nodes around each position.

    Positions count nodes; the weights are positive and add up to one (de Boor's recurrence).
    """
    floor = jnp.floor(position)
    t = position - floor
    weights = [jnp.ones_like(t)]
    for k in range(1, degree + 1):
        saved = jnp.zeros_like(t)
        for r in range(k):
            part = weights[r] / k
            weights[r] = saved + (r + 1 - t) * part
            saved = (t + k - r - 1) * part
        weights.append(saved)
    return floor.astype(jnp.int32) - (degree - 1) // 2, jnp.stack(weights, axis=1)


def _windows(
    positions: Float[Array, "n d"], degree: int, nodes: Sequence[int]
) -> tuple[Int[Array, "n d"], Float[Array, "n ..."]]:
    """Returns the first node of the window around each position, and the weights of its nodes."""
    n = positions.shape[0]
    starts, products = [], jnp.ones(n, positions.dtype)
    for j, size in enumerate(nodes):
        first, weights = taps(positions[:, j], degree)
        starts.append(jnp.clip(first, 0, size - degree - 1))
        products = products[..., None] * weights.reshape((n, *(1,) * j, degree + 1))
    return jnp.stack(starts, axis=1), products


def scatter(
    positions: Float[Array, "n d"], weights: Float[Array, " n"], degree: int, nodes: Sequence[int]
) -> Float[Array, " *nodes"]:
    """Returns the sums of the weights on the nodes; a point off the grid is put on its edge."""
    d = len(nodes)
    # A window at a time: node by node takes eight times as long.
    dimensions = lax.ScatterDimensionNumbers(
        update_window_dims=tuple(range(1, d + 1)),
        inserted_window_dims=(),
        scatter_dims_to_operand_dims=tuple(range(d)),
    )

    def step(grid: Array, tile: tuple[Array, Array], fresh: Bool[Array, " k"]) -> Array:
        starts, products = _windows(tile[0], degree, nodes)
        weights = jnp.where(fresh, tile[1], 0.0).reshape((-1, *(1,) * d))
        return lax.scatter_add(
            grid, starts, products * weights, dimensions, mode="promise_in_bounds"
        )

    size = max(1, WINDOWS // (weights.dtype.itemsize * (degree + 1) ** d))
    return linalg.fold_rows(step, jnp.zeros(nodes, weights.dtype), (positions, weights), size)


def gather(
    grid: Float[Array, " *nodes"], positions: Float[Array, "m d"], degree: int
) -> Float[Array, " m"]:
    """Returns the spline with coefficients `grid` at the positions."""
    d = grid.ndim
    dimensions = lax.GatherDimensionNumbers(
        offset_dims=tuple(range(1, d + 1)),
        collapsed_slice_dims=(),
        start_index_map=tuple(range(d)),
    )

    def one(rows: Float[Array, "k d"]) -> Float[Array, " k"]:
        starts, products = _windows(rows, degree, grid.shape)
        window = (degree + 1,) * d
        values = lax.gather(grid, starts, dimensions, window, mode="promise_in_bounds")
        return jnp.sum(products * values, axis=tuple(range(1, d + 1)))

    size = linalg.tile_rows(positions.shape[0], 2 * (degree + 1) ** d)
    return linalg.map_rows(one, positions, size)


def sharpened_gaussian(
    steps: Float[Array, "*s"], rho: Float[Array, ""] | float, order: int
) -> Float[Array, "*s"]:
    """Returns the Gaussian density, `steps` nodes from its centre, freed of `order` boxes.

    That is, its transform is divided by that of a box of one spacing, `order` times.  The quadratic
    part of log sinc makes the Gaussian narrower; the rest, a power series in ω², is one in
    derivatives of the Gaussian, which are Hermite polynomials.  Needs order ρ²/12 < 1.
    """
    variance = 1 - order * rho**2 / 12
    z = steps * rho / jnp.sqrt(variance)
    # Nothing is left of the Gaussian there, and the polynomials would overflow.
    far = jnp.abs(z) > FAR
    z = jnp.where(far, 0.0, z)
    ratio = rho**2 / (4 * variance)
    # exp(order Σ_{k>=2} c_k u^k) as a series in u: k a_k = Σ_i i b_i a_(k-i).
    logs = [0.0, 0.0, *(order * c for c in _LOG_SINC[1:])] + [0.0] * TERMS
    series = [1.0]
    for k in range(1, TERMS):
        series.append(math.fsum(i * logs[i] * series[k - i] for i in range(1, k + 1)) / k)
    total, below, hermite = jnp.ones_like(z), jnp.zeros_like(z), jnp.ones_like(z)
    for degree in range(2 * TERMS - 2):
        below, hermite = hermite, z * hermite - degree * below
        k = (degree + 1) // 2
        if degree % 2 == 1 and series[k] != 0:
            total += series[k] * (-ratio) ** k * hermite
    values = total * jnp.exp(-0.5 * z * z) / jnp.sqrt(2 * math.pi * variance)
    return jnp.where(far, 0.0, values)


def lags(size: int, nodes: int, pad: int = 0) -> Int[Array, " l"]:
    """Returns the distances, in nodes, of `size` places from `nodes` nodes that begin `pad` before.

    One value of the kernel for each is what `convolve` takes.
    """
    return jnp.arange(size + nodes - 1) - (nodes - 1) + pad


def by_product(size: int, nodes: int, d: int) -> bool:
    """Returns whether `convolve` multiplies by a matrix rather than transform the axis."""
    return size * nodes <= (LARGEST_MATRIX if d > 1 else LARGEST_MATRIX // 16)


def transform_size(least: int) -> int:
    """Returns the least size from `least` on that has no prime factor above 5: those are fast."""

    def rest(size: int) -> int:
        for prime in (2, 3, 5):
            while size % prime == 0:
                size //= prime
        return size

    return next(size for size in itertools.count(least) if rest(size) == 1)


def convolve(
    grid: Float[Array, " *nodes"], kernels: Sequence[Float[Array, " _"]]
) -> Float[Array, "..."]:
    """Returns `grid` convolved along each axis with the kernel's values at `lags`: no wrap-around.

    By a matrix product, which is the faster for the sizes that a grid has, and whose rounding is
    relative to what it adds up; along a long axis by Fourier transforms.
    """
    for axis, values in enumerate(kernels):
        nodes = grid.shape[axis]
        size = values.shape[0] - nodes + 1
        if not by_product(size, nodes, grid.ndim):
            length = transform_size(values.shape[0])  # what wraps around is not read
            lines = jnp.fft.rfft(jnp.moveaxis(grid, axis, -1), length)
            lines = lines * jnp.fft.rfft(values, length).reshape((*(1,) * (grid.ndim - 1), -1))
            whole = jnp.fft.irfft(lines, length)[..., nodes - 1 : nodes - 1 + size]
            grid = jnp.moveaxis(whole, -1, axis)
        else:
            matrix = values[jnp.arange(size)[:, None] - jnp.arange(nodes)[None, :] + nodes - 1]
            product = jnp.tensordot(matrix, grid, axes=(1, axis), precision=lax.Precision.HIGHEST)
            grid = jnp.moveaxis(product, 0, axis)
    return grid


def alias_bound(rho: float, degree: int) -> float:
    """Returns a bound on the aliasing of one axis, as a share of the largest kernel value.

    It is the mean, over frequencies from the kernel's own (normal) transform, of the sum of the
    spline's transform over all aliases beside that at the frequency itself; for any data.
    """
    total, step = 0.0, 0.01
    for i in range(800):
        omega = (i + 0.5) * step
        x = omega * rho / 2
        if x >= math.pi / 2:
            ratio = 2.0
        else:
            near = [(x / abs(math.pi * k + x)) ** (degree + 1) for k in (-3, -2, -1, 1, 2, 3)]
            ratio = math.fsum(near) * (1 + 0.5 ** (degree + 1))
        total += ratio * math.exp(-0.5 * omega * omega) * step
    return total * math.sqrt(2 / math.pi)
