"""Rows as the folds want them: in chunks on the devices of this process, pass after pass.

The first pass checks them and takes what scales are made of; see `survey`.
Shapes: n rows, d features.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.linalg import sum_rows, tile_rows
from jaxnn.scale import meshes, processes
from jaxnn.scale.chunks import ahead, chunk_rows, equal, filled
from jaxnn.scale.meshes import Team
from jaxnn.scale.sources import Source, source
from jaxnn.train.data import Batch


class Rows(NamedTuple):
    """Rows of this process, of which there may be none.

    Attributes:
        team: the devices that share all rows.
        chunks: `turn -> iterator` over the chunks of one pass, on the devices.
        origin: what they are read from.
        dtype: of the numbers in x, and of the weights.
        size: rows of a chunk.
        passes: how many chunks the first pass had, once it is over.
    """

    team: Team
    chunks: Callable[[int], Iterator[Batch]]
    origin: Source
    dtype: Any
    size: int
    passes: list[int]

    @property
    def columns(self) -> int:
        """How many features a row has."""
        return self.origin.like.x.shape[1]


def spread(where: str, team: Team, given: Any, chunk: int | None = None) -> Rows:
    """Returns checked rows of features (n, d), in chunks of `chunk` rows.

    Without `chunk`, arrays in memory are one chunk, and others are cut by their size in bytes.
    Raises TypeError or ValueError for what holds no rows of floating-point numbers.
    """
    origin = source(where, given)
    x = origin.like.x
    if not hasattr(x, "dtype") or x.ndim != 2 or x.shape[1] == 0:
        shape = f"(n, {', '.join(map(str, x.shape[1:]))})" if hasattr(x, "dtype") else "no array"
        raise ValueError(f"{where}: rows must have shape (n, d) with d at least 1, got {shape}")
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"{where}: rows must be float32 or float64, got {x.dtype}; cast them")
    if jax.dtypes.canonicalize_dtype(x.dtype) != x.dtype:
        raise TypeError(f"{where}: rows of {x.dtype} need "
                        "jax.config.update('jax_enable_x64', True); or cast them")  # fmt: skip
    origin = origin._replace(like=origin.like._replace(y=None), read=_without_targets(origin))
    devices = team.here.size
    if origin is not given and origin.name == "arrays" and chunk is None:
        size = -(-max(origin.rows or 0, 1) // devices) * devices
        held = [
            meshes.split(team.here, filled(block, size, x.dtype)) for block in origin.read(size, 0)
        ]
        return Rows(team, lambda _: iter(held), origin, x.dtype, size, [len(held)])
    if chunk is None:
        take = chunk_rows(origin.like, origin.rows, devices)
    else:
        take = checks.count(where, "chunk", chunk)
    size = -(-take // devices) * devices
    seen: list[int] = []

    def chunks(turn: int) -> Iterator[Batch]:
        place = lambda batch: meshes.split(team.here, batch)
        yield from ahead(_counted(where, equal(origin, take, size, turn, x.dtype), seen), place)

    return Rows(team, chunks, origin, x.dtype, size, seen)


def _without_targets(origin: Source) -> Callable[[int, int], Iterator[Batch]]:
    return lambda size, turn: (b._replace(y=None) for b in origin.read(size, turn))


def _counted(where: str, chunks: Iterator[Batch], seen: list[int]) -> Iterator[Batch]:
    """Yields chunks; raises ValueError if there are not as many as in the first pass."""
    count = 0
    for chunk in chunks:
        count += 1
        yield chunk
    if not seen:
        seen.append(count)
    if count != seen[0]:
        raise ValueError(
            f"{where}: rows must be the same in every pass, got {seen[0]} chunks in the first and "
            f"{count} later; a function for scale.batches must return a fresh iterator each time"
        )


class Survey(NamedTuple):
    """What one pass over all rows finds; numbers of the dtype of the rows.

    Attributes:
        rows: sum of the weights.
        squares: sum of the squares of the weights.
        counted: how many rows have a weight (beyond 2**24 in float32, about so many).
        mean: of each column.
        variance: of each column, with the sum of the weights below; exactly 0 for a constant one.
        bad_rows: rows with a NaN or an infinity.
        bad_weights: weights that are negative or not finite.
    """

    rows: Float[Array, ""]
    squares: Float[Array, ""]
    counted: Float[Array, ""]
    mean: Float[Array, " d"]
    variance: Float[Array, " d"]
    bad_rows: Float[Array, ""]
    bad_weights: Float[Array, ""]


def weights(chunk: Batch) -> Array:
    """Returns the weights of a chunk, which has some always."""
    assert chunk.weight is not None
    return chunk.weight


def _merge(parts: Survey) -> Survey:
    """Returns the survey of all parts, along the leading axis (Chan, Golub and LeVeque, 1979).

    About the mean of the first part with rows: a constant column then varies by exactly nothing.
    """
    rows = jnp.sum(parts.rows)
    share = parts.rows / jnp.where(rows > 0, rows, 1)
    first = parts.mean[jnp.argmax(parts.rows > 0)]
    apart = jnp.where((parts.rows > 0)[:, None], parts.mean - first[None], 0)
    shift = share @ apart
    spread = jnp.where((parts.rows > 0)[:, None], parts.variance, 0)
    variance = share @ (spread + jnp.square(apart - shift[None]))
    sums = jax.tree.map(lambda a: jnp.sum(a, axis=0), parts)
    return sums._replace(mean=first + shift, variance=variance)


def _survey_step(so_far: Survey, _: tuple, chunk: Batch) -> Survey:
    x, weight = chunk.x, weights(chunk)
    good = jnp.all(jnp.isfinite(x), axis=1)
    fine = jnp.isfinite(weight) & (weight >= 0)
    # Rows that will be refused must not spoil what is said about the others.
    first = jnp.where(jnp.isfinite(x[:1]), x[:1], 0)
    w = jnp.where(good & fine, weight, 0)
    rows = jnp.sum(w)
    share = w / jnp.where(rows > 0, rows, 1)
    size = tile_rows(x.shape[0], 2 * x.shape[1])

    def mean_of(f: Callable[[Array], Array]) -> Array:
        def of_tile(tile: tuple[Array, Array], fresh: Array) -> Array:
            apart = jnp.where(jnp.isfinite(tile[0]), tile[0], first) - first
            return (tile[1] * fresh) @ f(apart)

        return sum_rows(of_tile, (x, share), size)

    shift = mean_of(lambda apart: apart)
    variance = mean_of(lambda apart: jnp.square(apart - shift[None]))
    count = lambda flags: jnp.sum(flags.astype(x.dtype))
    new = Survey(
        rows=rows,
        squares=jnp.sum(jnp.square(w)),
        counted=count(w > 0),
        mean=first[0] + shift,
        variance=variance,
        bad_rows=count(~good),
        bad_weights=count(~fine),
    )
    return _merge(jax.tree.map(lambda a, b: jnp.stack([a, b]), so_far, new))


def _survey_close(carry: Survey) -> Survey:
    return _merge(meshes.collected(meshes.own(carry)))


def survey(where: str, rows: Rows) -> Survey:
    """Returns what one pass over the rows of all processes finds, on every device.

    Raises ValueError, in every process, for NaN, infinities, bad weights or no rows anywhere.
    """
    number: Any = np.zeros((), rows.dtype)
    columns: Any = np.zeros(rows.columns, rows.dtype)
    zero = Survey(number, number, number, columns, columns, number, number)
    carry = meshes.fold(rows.team, _survey_step, zero, (), rows.chunks(0))
    found = meshes.close(rows.team, carry, _survey_close)
    host = processes.on_host(found)
    if host.bad_rows > 0 or host.bad_weights > 0:
        raise ValueError(_what_is_bad(where, rows, bool(host.bad_rows > 0)))
    if host.rows == 0:
        raise ValueError(
            f"{where}: rows must hold at least one of positive weight, got none"
            f"{'' if rows.team.alone else ' in any process'}"
        )
    return found


def _what_is_bad(where: str, rows: Rows, in_x: bool) -> str:
    """Returns the message about the first bad row, which is looked for once more."""
    start = 0
    for block in rows.origin.read(chunk_rows(rows.origin.like, None, 1), 0):
        values = block.x if in_x else block.weight
        if values is not None:
            fine = np.isfinite(values) if in_x else np.isfinite(values) & (values >= 0)
            if not fine.all():
                place = tuple(int(i) for i in np.argwhere(~fine)[0])
                at = ", ".join(str(i) for i in (start + place[0], *place[1:]))
                if in_x:
                    return (f"{where}: x must be finite, got {values[place]} at row, column {at}; "
                            "drop or impute such entries")  # fmt: skip
                return (f"{where}: weight must be finite and not negative, "
                        f"got {values[place]} at row {at}")  # fmt: skip
        start += len(block.x)
    what = "x must be finite" if in_x else "weight must be finite and not negative"
    return f"{where}: {what}, which it is not in another process"
