"""Kernel densities of any number of points at any number of queries, on many devices.

Two ways to share the work: a `kde.KDE` in memory is copied to every device, and the queries are
shared; a `Points` of this module shares the points, whose sums add up (`kde.logsum.LogSum`).
Shapes: n points, m queries, d features.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.kde import model as memory
from jaxnn.kde import scaling
from jaxnn.kde.kernels import Kernel, in_form
from jaxnn.kde.logsum import LogSum
from jaxnn.kde.model import KDE
from jaxnn.scale import meshes, processes
from jaxnn.scale.meshes import Team
from jaxnn.scale.rows import Rows, Survey, spread, survey, weights
from jaxnn.scale.sources import Source
from jaxnn.train.data import Batch
from jaxnn.types import Scalar

Given = Source | Batch | ArrayLike


class Points(NamedTuple):
    """A kernel density whose points are read anew for each evaluation.

    Attributes:
        rows: the points of this process.
        bandwidth: as in `kde.KDE`.
        kernel: an entry of `KERNELS`, in one of its forms.
        total: sum of the weights of the points of all processes.
    """

    rows: Rows
    bandwidth: scaling.Bandwidth
    kernel: Kernel
    total: Float[Array, ""]


def _scott(size: np.floating, d: int) -> np.floating:
    return size ** (-1 / (d + 4))


# Rules that need no more of the data than their variance and their number.
RULES = {"scott": _scott, "silverman": lambda size, d: _scott(size * (d + 2) / 4, d)}


def fit(
    rows: Given,
    *,
    bandwidth: str | Scalar | Float[ArrayLike, " d"] | Float[ArrayLike, "d d"] = "scott",
    kernel: str | Kernel = "gaussian",
    form: str = "radial",
    mesh: Mesh | None = None,
    chunk: int | None = None,
) -> Points:
    """Returns the kernel density of rows that need not fit into memory: one pass over them.

    Args:
        rows: points of this process: an array (n, d), a `train.Batch` with weights, or a source.
        bandwidth: as in `kde.fit`, the same in every process; of its rules "scott" and "silverman".
        kernel: as in `kde.fit`.
        form: as in `kde.fit`.
        mesh: whose devices share the points; by default all.
        chunk: points on the devices of this process at a time, as in `scale.gmm.fit`.

    Raises:
        TypeError, ValueError: what `kde.fit` refuses; processes that do not agree.
    """
    where = "scale.kde.fit"
    shape = in_form(where, kernel, form)
    data = spread(where, meshes.team(where, mesh), rows, chunk)
    d = data.columns
    if isinstance(bandwidth, str):
        checks.in_table(where, "bandwidth", bandwidth, RULES)
        width = None
    else:
        width = scaling.given(where, "bandwidth", bandwidth, d).astype(data.dtype)
    processes.agree(where, {"the number of columns": d, "the dtype": str(data.dtype),
                            "kernel": f"{shape.name} {form}",
                            "bandwidth": bandwidth if width is None else width})  # fmt: skip
    found = processes.on_host(survey(where, data))
    if width is None:
        width = _by_rule(where, str(bandwidth), found, d)
    return Points(data, jnp.asarray(width, data.dtype), shape, jnp.asarray(found.rows))


def _by_rule(where: str, rule: str, found: Survey, d: int) -> np.ndarray:
    size = found.rows**2 / found.squares  # effective number of points, as in `kde.scott`
    flat = [int(j) for j in np.flatnonzero(found.variance <= 0)]
    if flat or size <= 1:
        what = f"feature {flat[0]} of the rows" if flat else "the rows"
        raise ValueError(f"{where}: {what} must vary, got {found.mean.tolist()} in all; "
                         "drop it, or give the bandwidth as a number")  # fmt: skip
    sigma = np.sqrt(found.variance / (1 - 1 / size))
    return sigma * RULES[rule](size, d)


def log_prob(
    model: KDE | Points, x: Given, *, mesh: Mesh | None = None, chunk: int | None = None
) -> Float[np.ndarray, " m"]:
    """Returns the log density of each row of `x` (nats), as `kde.log_prob` does, exactly.

    Args:
        model: a `kde.KDE`, the same in every process, which each device has a copy of; or the
            `Points` of `fit`, of which each has a share.
        x: queries (m, d), an array or a source.  Of a `KDE` those of this process; of `Points` the
            same ones in every process, and not more than fit into memory `chunk` at a time: each
            chunk takes one pass over the points.  Weights of queries are not looked at.
        mesh: whose devices share the queries of a `KDE`; by default all.  `Points` have theirs.
        chunk: queries at a time.

    Returns:
        As many numbers as there are queries, on the host, where there is most room.

    Raises:
        TypeError, ValueError: what `kde.log_prob` refuses; processes that do not agree.
    """
    where = "scale.kde.log_prob"
    if isinstance(model, Points):
        return _of_points(where, model, x, chunk)
    memory.check_model(where, model)
    # Each process has its own queries, and asks nobody.
    team = meshes.team(where, mesh)
    team = Team(all=team.here, here=team.here)
    queries = spread(where, team, _unweighted(x), chunk)
    _check(where, queries, model.points.shape[1], model.points.dtype)
    copies = meshes.everywhere(team, model)
    parts = []
    with jax.set_mesh(team.here):
        for part, real in _parts(where, queries):
            density = meshes.each_alone(_log_density, team.here, copies, part)
            parts.append(np.asarray(density)[real])
    return _whole(parts, model.points.dtype)


def _unweighted(x: Given) -> Given:
    """Returns queries without weights: for `Rows`, what weighs nothing only fills a chunk up."""
    if isinstance(x, Batch):
        return x._replace(weight=None)
    if isinstance(x, Source):
        read = lambda size, turn: (b._replace(weight=None) for b in x.read(size, turn))
        return x._replace(read=read, like=x.like._replace(weight=None))
    return x


def _log_density(model: KDE, x: Float[Array, "m d"]) -> Float[Array, " m"]:
    return memory.log_prob(model, x, method="exact")


def _whole(parts: list[np.ndarray], dtype: Any) -> Float[np.ndarray, " m"]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _check(where: str, queries: Rows, d: int, dtype: Any) -> None:
    if queries.columns != d:
        raise ValueError(f"{where}: x must have the {d} columns of the points, got "
                         f"{queries.columns}")  # fmt: skip
    if queries.dtype != dtype:
        raise TypeError(f"{where}: x must be {dtype} like the points, got {queries.dtype}; cast it")


def _parts(where: str, queries: Rows) -> Iterator[tuple[Array, np.ndarray]]:
    """Yields the queries of each chunk, and which of them are no filling."""
    done = 0
    for chunk in queries.chunks(0):
        real = np.asarray(chunk.weight) > 0
        if not bool(jnp.all(jnp.isfinite(chunk.x))):
            row, column = np.argwhere(~np.isfinite(np.asarray(chunk.x)))[0]
            raise ValueError(f"{where}: x must be finite, got a NaN or an infinity at row, column "
                             f"{done + int(row)}, {int(column)}")  # fmt: skip
        done += int(real.sum())
        yield chunk.x, real


def _step(carry: LogSum, given: tuple[Any, ...], chunk: Batch) -> LogSum:
    bandwidth, kernel, total, queries = given
    some = weights(chunk) > 0
    share = jnp.where(some, weights(chunk), 1) / total
    part = KDE(
        points=chunk.x,
        bandwidth=bandwidth,
        log_weights=jnp.where(some, jnp.log(share), -jnp.inf),
        kernel=kernel,
    )
    peak = _log_density(part, queries)
    return carry.merge(LogSum(peak=peak, total=(~jnp.isneginf(peak)).astype(peak.dtype)))


def _close(carry: LogSum) -> Float[Array, " m"]:
    parts = meshes.collected(meshes.own(carry))
    whole = LogSum.empty(parts.peak.shape[1:], parts.peak.dtype)
    for i in range(parts.peak.shape[0]):
        whole = whole.merge(jax.tree.map(lambda a, i=i: a[i], parts))
    return whole.value()


def _of_points(where: str, model: Points, x: Given, chunk: int | None) -> Float[np.ndarray, " m"]:
    team = model.rows.team
    alone = meshes.mesh(team.here.devices.ravel()[:1])
    queries = spread(where, Team(all=alone, here=alone), _unweighted(x), chunk)
    _check(where, queries, model.rows.columns, model.rows.dtype)
    parts = []
    for number, (part, real) in enumerate(_parts(where, queries)):
        host = np.asarray(part)
        processes.agree(where, {f"x (chunk {number})": host})
        given = meshes.everywhere(team, (model.bandwidth, model.kernel, model.total, host))
        zero = jax.tree.map(np.asarray, LogSum.empty(host.shape[:1], host.dtype))
        carry = meshes.fold(team, _step, zero, given, model.rows.chunks(0))
        parts.append(processes.on_host(meshes.close(team, carry, _close))[real])
    return _whole(parts, model.rows.dtype)
