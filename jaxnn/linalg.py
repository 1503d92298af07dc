"""Distances, triangular factors, and the tile loops under every fold over rows.

Shapes: n and m rows, d features.  A tile is a block of consecutive rows; its size is static.
Where n is no multiple of the size, the last tile reaches back over rows already seen, so that
every tile has the same shape, nothing is padded, and the data is never copied.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from jaxnn import memory

Carry = TypeVar("Carry")

# Numbers in the working set of one tile: a core's cache on CPU, plenty of parallel work elsewhere.
TILE = {"cpu": 2**19}
TILE_ACCELERATOR = 2**25
# Rows of a tile come in whole cache lines of float32: an odd number made EM a quarter slower.
UNIT = 16


def tile_rows(n: int, width: int) -> int:
    """Returns how many of `n` rows a tile should hold if each row needs `width` numbers.

    At least 128, unless a budget of memory has it smaller; see `jaxnn.memory`.
    """
    cut = memory.halvings.value
    budget = TILE.get(jax.default_backend(), TILE_ACCELERATOR)
    rows = max(128, budget // max(width, 1) // UNIT * UNIT) >> cut
    return max(1, min(n, max(UNIT, rows // UNIT * UNIT)))


def _length(rows: PyTree) -> int:
    return jax.tree.leaves(rows)[0].shape[0]


def _tile(rows: PyTree, start: Array, n: int, size: int) -> tuple[PyTree, Bool[Array, " size"]]:
    """Returns `size` rows from `start` (earlier, if too few are left), and which are new."""
    begin = jnp.minimum(start, n - size)
    tile = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, begin, size), rows)
    return tile, begin + jnp.arange(size) >= start


def _even(n: int, size: int, lanes: int) -> int:
    """Returns the length of equal tiles, in whole turns of `lanes`: hardly a row is seen twice.

    At most `size`, and in whole units where that is.
    """
    unit = math.gcd(size, UNIT)
    return -(-n // (lanes * -(-n // (lanes * size)) * unit)) * unit


def fold_rows(
    step: Callable[[Carry, PyTree, Bool[Array, " size"]], Carry],
    carry: Carry,
    rows: PyTree,
    size: int,
) -> Carry:
    """Returns `carry` after `step(carry, tile, fresh)` on every tile of `rows`.

    `rows` is a pytree of arrays with the same leading axis.  `fresh` marks the rows of a tile
    that no earlier tile held: give the others weight zero.
    """
    n = _length(rows)
    if size >= n:
        return step(carry, rows, jnp.ones(n, bool))

    def body(carry: Carry, start: Array) -> tuple[Carry, None]:
        return step(carry, *_tile(rows, start, n, size)), None

    return lax.scan(body, carry, jnp.arange(0, n, size))[0]


def sum_rows(
    f: Callable[[PyTree, Bool[Array, " size"]], PyTree], rows: PyTree, size: int, lanes: int = 1
) -> PyTree:
    """Returns the sum of `f(tile, fresh)` over the tiles of `rows`; `fresh` as in `fold_rows`.

    `lanes` tiles at a time do not wait for one another, so that each can have a core.
    """
    n = _length(rows)
    if size >= n:
        return f(rows, jnp.ones(n, bool))
    size = _even(n, size, lanes)

    # A backward pass reads a tile once more rather than keep what was made of it.
    part = jax.checkpoint(lambda start: f(*_tile(rows, start, n, size)), prevent_cse=False)

    def body(total: PyTree, start: Array) -> tuple[PyTree, None]:
        parts = [part(start + lane * size) for lane in range(lanes)]
        return jax.tree.map(lambda *leaves: sum(leaves), total, *parts), None

    first = jax.tree.map(lambda a: a[:size], rows)
    zero = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(f, first, jnp.ones(size, bool)),
    )
    return lax.scan(body, zero, jnp.arange(0, n, lanes * size))[0]


def map_rows(f: Callable[[PyTree], PyTree], rows: PyTree, size: int, lanes: int = 1) -> PyTree:
    """Returns `f(rows)` for a row-wise `f`, evaluated tile by tile; `lanes` as in `sum_rows`."""
    n = _length(rows)
    if size >= n:
        return f(rows)
    size = _even(n, size, lanes)

    def body(_: None, start: Array) -> tuple[None, list[PyTree]]:
        return None, [f(_tile(rows, start + lane * size, n, size)[0]) for lane in range(lanes)]

    def join(*tiles: Array) -> Array:
        each = jnp.stack(tiles, axis=1).reshape((-1, size, *tiles[0].shape[2:]))
        whole, rest = n // size, n % size
        head = each[:whole].reshape((whole * size, *each.shape[2:]))
        return jnp.concatenate([head, each[whole, size - rest :]]) if rest else head

    return jax.tree.map(join, *lax.scan(body, None, jnp.arange(0, n, lanes * size))[1])


def square_distances(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """Returns |x_i - y_j|² for all pairs of rows.

    Up to 8 features by differences, exact for near neighbours; beyond that by one matrix product
    about the mean of `y`, where the absolute error is about eps times the largest |y_j - mean|².
    """
    if x.shape[1] <= 8:
        total = jnp.square(x[:, 0, None] - y[None, :, 0])
        for j in range(1, x.shape[1]):
            total += jnp.square(x[:, j, None] - y[None, :, j])
        return total
    centre = jnp.mean(y, axis=0, keepdims=True)
    return jnp.maximum(product_distances(x - centre, y - centre), 0.0)


def product_distances(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """Returns |x_i - y_j|² by one matrix product, up to rounding in the largest |x_i|², |y_j|²."""
    cross = jnp.matmul(x, y.T, precision=lax.Precision.HIGHEST)
    return jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)[None, :] - 2 * cross


def log_det_tril(tril: Float[Array, "*batch d d"]) -> Float[Array, "*batch"]:
    """Returns the log-determinant of a triangular matrix with a positive diagonal."""
    # The diagonal first: the logarithm of the zeros above it has a NaN gradient.
    return jnp.sum(jnp.log(jnp.diagonal(tril, axis1=-2, axis2=-1)), axis=-1)


def inverse_tril(tril: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """Returns the inverse of a lower triangular matrix."""
    eye = jnp.broadcast_to(jnp.eye(tril.shape[-1], dtype=tril.dtype), tril.shape)
    return lax.linalg.triangular_solve(tril, eye, left_side=True, lower=True)


def root_tril(a: Float[Array, "*batch d m"]) -> Float[Array, "*batch d d"]:
    """Returns the lower triangular L, diagonal not negative, with L Lᵀ = a aᵀ; m >= d.

    By the QR decomposition of aᵀ: the product, whose condition number is the square, is not formed.
    """
    upper = jnp.linalg.qr(jnp.swapaxes(a, -1, -2), mode="reduced")[1]
    sign = jnp.where(jnp.diagonal(upper, axis1=-2, axis2=-1) < 0, -1, 1).astype(a.dtype)
    return jnp.swapaxes(upper * sign[..., :, None], -1, -2)


def gmres(
    product: Callable[[Float[Array, " p"]], Float[Array, " p"]],
    b: Float[Array, " p"],
    *,
    vectors: int,
    restarts: int,
    tol: float,
) -> Float[Array, " p"]:
    """Returns x with A x = b, given only the linear map x ↦ A x (Saad and Schultz, 1986).

    Args:
        product: the map.
        b: right-hand side.
        vectors: the most directions kept before starting again from what is left over.
        restarts: the most such rounds; a round that does not halve what is left is the last.
        tol: residual to reach, as a share of |b|.
    """
    goal = tol * jnp.linalg.norm(b)
    vectors = min(vectors, b.shape[0])

    def extend(state: tuple[Array, ...]) -> tuple[Array, ...]:
        basis, projected, length, _, _, j = state
        w = product(basis[j])
        size = jnp.linalg.norm(w)
        column = basis @ w
        w = w - column @ basis
        again = basis @ w  # once more, so that the basis is orthogonal to rounding
        w = w - again @ basis
        norm = jnp.linalg.norm(w)
        norm = jnp.where(norm > 10 * jnp.finfo(b.dtype).eps * size, norm, 0)  # nothing new
        projected = projected.at[:, j].set((column + again).at[j + 1].set(norm))
        basis = basis.at[j + 1].set(w / jnp.where(norm > 0, norm, 1) * (norm > 0))
        target = jnp.zeros(vectors + 1, b.dtype).at[0].set(length)
        y = jnp.linalg.lstsq(projected, target)[0]
        left = jnp.linalg.norm(projected @ y - target)
        return basis, projected, length, y, jnp.where(norm > 0, left, 0), j + 1

    def unfinished(state: tuple[Array, ...]) -> Bool[Array, ""]:
        return (state[4] > goal) & (state[5] < vectors)

    def round_(state: tuple[Array, ...]) -> tuple[Array, ...]:
        x, residual, length, _, count = state
        basis = jnp.zeros((vectors + 1, b.shape[0]), b.dtype)
        basis = basis.at[0].set(residual / jnp.where(length > 0, length, 1))
        projected = jnp.zeros((vectors + 1, vectors), b.dtype)
        start = (basis, projected, length, projected[0], length, jnp.zeros((), jnp.int32))
        basis, _, _, y, _, _ = lax.while_loop(unfinished, extend, start)
        x = x + y @ basis[:-1]
        residual = b - product(x)
        return x, residual, jnp.linalg.norm(residual), length, count + 1

    def worth_it(state: tuple[Array, ...]) -> Bool[Array, ""]:
        _, _, length, before, count = state
        return (length > goal) & (length < 0.5 * before) & (count < restarts)

    length = jnp.linalg.norm(b)
    start = (jnp.zeros_like(b), b, length, jnp.full_like(length, jnp.inf), jnp.zeros((), jnp.int32))
    return lax.while_loop(worth_it, round_, start)[0]


def mean_and_variance(
    x: Float[Array, "n d"], weight: Float[Array, " n"]
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """Returns the weighted mean and variance of each column; a constant column has variance 1.

    So the variance is always a usable unit of scale. Sums are taken about the first row: a constant
    column then varies by exactly nothing, and a large offset costs no precision.
    """
    share = weight / jnp.sum(weight)
    size = tile_rows(x.shape[0], 2 * x.shape[1])

    def mean_of(f: Callable[[Float[Array, "c d"]], Float[Array, "c d"]]) -> Float[Array, " d"]:
        def of_tile(tile: tuple[Array, Array], fresh: Bool[Array, " c"]) -> Float[Array, " d"]:
            return (tile[1] * fresh) @ f(tile[0] - x[:1])

        return sum_rows(of_tile, (x, share), size)

    shift = mean_of(lambda centred: centred)
    variance = mean_of(lambda centred: jnp.square(centred - shift[None]))
    return x[0] + shift, jnp.where(variance > 0, variance, 1.0)
