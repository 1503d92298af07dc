"""Kernel densities of data with bounds: `bounded.fit`, `bounded.log_prob`, `bounded.sample`.

The model is an ordinary kernel density and the support it is folded into, so its verbs are those
of every model, under a name of their own: an ordinary density pays nothing for bounds.
Shapes: n points, d features, m queries.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.kde import model as plain
from jaxnn.kde import support
from jaxnn.kde.kernels import Kernel
from jaxnn.kde.logsum import LogSum
from jaxnn.types import Data, Key, Scalar, Weights

Edges = str | Sequence[str]


@jax.tree_util.register_static
@dataclass(frozen=True)
class Shape:
    """What is static of a support: the edge of each feature, and the cells that hold images."""

    edges: tuple[str, ...]
    cells: tuple[tuple[int, int], ...]


class Bounded(NamedTuple):
    """A kernel density on a support.  `shape` is static; the arrays are traced.

    Attributes:
        model: the ordinary density; its points are in the coordinates of the edges (the logarithm
            of a distance from a bound, say).
        lower: bounds of each feature, (d,); -inf for none.
        upper: the same above.
        shape: the edges, and how many images of a query count.
    """

    model: plain.KDE
    lower: Float[Array, " d"]
    upper: Float[Array, " d"]
    shape: Shape


def fit(
    x: Data,
    *,
    lower: Scalar | Float[ArrayLike, " d"] = -jnp.inf,
    upper: Scalar | Float[ArrayLike, " d"] = jnp.inf,
    edges: Edges = "reflect",
    bandwidth: str | Scalar | Float[ArrayLike, " d"] | Float[ArrayLike, "d d"] = "scott",
    kernel: str | Kernel = "gaussian",
    form: str = "radial",
    sample_weight: Weights | None = None,
    factors: Float[ArrayLike, " n"] | None = None,
    images: int | None = None,
) -> Bounded:
    """Returns the kernel density of `x` on the support between `lower` and `upper`.

    Edges, one for all features or one for each:

    - "reflect": kernels are mirrored at each finite bound (Silverman, 1986, section 2.10).  The
      density is flat at the bound.
    - "periodic": lower and upper are the same place, and kernels are wrapped (Mardia and Jupp,
      2000, section 3.5.7); rows and queries anywhere are taken around the circle.
    - "log": the density of the logarithm of the distance from the only finite bound, brought back
      by its Jacobian (Silverman, 1986, section 2.10); it is zero at the bound.
    - "logit": the same with log((x - lower) / (upper - x)), for two bounds.

    Args:
        x: data, (n, d), inside the support.
        lower: least values, one or one for each feature; -inf for none.  Traced.
        upper: greatest values; inf for none.  Traced.
        edges: names in `EDGES`.
        bandwidth: as for `kde.fit`, in the coordinate of the edge: in data units for images, in
            units of the logarithm or the logit for the others.  Rules see that coordinate.
        kernel: as for `kde.fit`.
        form: as for `kde.fit`.
        sample_weight: as for `kde.fit`.
        factors: as for `kde.fit`.
        images: how many images of a query count on each side of two bounds, static; None for as
            many as the kernels reach, up to a rounding.  While the bandwidth is being traced None
            means one, enough unless the kernels reach farther than upper - lower.

    Raises:
        ValueError: for a row outside, lower >= upper, a period <= 0, an edge without the bounds
            it needs, a bandwidth far wider than the support, and all that `kde.fit` refuses.
        TypeError: for arguments that do not hold floating-point numbers.

    >>> import jax.numpy as jnp
    >>> model = fit(jnp.array([[0.1], [0.5]]), lower=0.0, bandwidth=0.5)
    >>> [round(float(p), 3) for p in log_prob(model, jnp.array([[0.0], [-0.1]]))]
    [0.236, -inf]
    """
    where = "kde.bounded.fit"
    x = checks.data(where, "x", x)
    d = x.shape[1]
    names = (edges,) * d if isinstance(edges, str) else tuple(edges)
    for name in names:
        checks.in_table(where, "edges", name, support.EDGES)
    if len(names) != d:
        raise ValueError(
            f"{where}: edges must be one name or {d}, one for each feature, got {edges}"
        )
    low, high = (_bound(where, *side, d, x) for side in (("lower", lower), ("upper", upper)))
    support.check_bounds(where, names, low, high)
    _check_inside(where, names, x, low, high)
    inner = plain.fit(
        _enter(x, low, high, names),
        bandwidth=bandwidth,
        kernel=kernel,
        form=form,
        sample_weight=sample_weight,
        factors=factors,
    )
    if images is not None:
        images = checks.count(where, "images", images, 1, support.MOST)
    known = checks.concrete(inner.bandwidth) and checks.concrete(inner.factors)
    scale = lambda: support.reaches(inner.kernel, inner.bandwidth, inner.factors, d)
    held = support.cells(where, names, low, high, images, scale if known else None)
    return Bounded(inner, lower=low, upper=high, shape=Shape(names, held))


def log_prob(model: Bounded, x: Data) -> Float[Array, " m"]:
    """Returns the log density of each row of `x`, in nats: -inf outside, with a gradient of zero.

    The images of the queries are summed one after the other, so that the memory is that of
    `kde.log_prob`, and m numbers an image for the gradient.  Their number is the product over the
    features: 2 for a wall, 3 for two walls or a circle, more for kernels wider than the support.

    Args:
        model: what `bounded.fit` returns.
        x: queries, (m, d).

    Raises:
        ValueError: for bad shapes or values; TypeError unless `x` holds floating-point numbers.

    >>> import jax.numpy as jnp
    >>> night = jnp.array([[23.5], [0.5]])
    >>> model = fit(night, lower=0.0, upper=24.0, edges="periodic", bandwidth=1.0)
    >>> [round(float(p), 3) for p in log_prob(model, jnp.array([[0.0], [24.0], [12.0]]))]
    [-1.044, -1.044, -67.044]
    """
    where = "kde.bounded.log_prob"
    checks.instance(where, "model", model, Bounded)
    return _log_prob(model, checks.data(where, "x", x, width=model.lower.shape[0]))


@jax.jit
def _log_prob(model: Bounded, x: Float[Array, "m d"]) -> Float[Array, " m"]:
    edges, low, high = model.shape.edges, model.lower.astype(x.dtype), model.upper.astype(x.dtype)
    out = functools.reduce(
        jnp.logical_or,
        [support.outside(e, x[:, j], low[j], high[j]) for j, e in enumerate(edges)],
    )
    # Any row inside serves for those outside: what is computed there is not used.
    inside = jnp.where(out[:, None], _leave(model.model.points[:1], model), x)
    at = _enter(inside, low, high, edges)
    slopes = [
        support.EDGES[e].log_slope(inside[:, j], low[j], high[j]) for j, e in enumerate(edges)
    ]
    cells = jnp.array(list(itertools.product(*(range(a, b + 1) for a, b in model.shape.cells))))

    @jax.checkpoint
    def one(cell: Array) -> Float[Array, " m"]:
        columns, counts = [at[:, j] for j in range(len(edges))], jnp.array(True)
        for j, e in enumerate(edges):
            image = support.EDGES[e].image
            if image is not None:
                columns[j] = image(columns[j], cell[j], low[j], high[j])
                counts &= support.counts(cell[j], low[j], high[j])
        log_density = plain.log_prob(model.model, jnp.stack(columns, axis=1))
        return jnp.where(counts, log_density, -jnp.inf)

    if cells.shape[0] == 1:
        log_density = one(cells[0])
    else:
        step = lambda sums, cell: (sums.add(one(cell)[None]), None)
        empty = LogSum.empty(x.shape[:1], jnp.result_type(model.model.points, x))
        log_density = jax.lax.scan(step, empty, cells)[0].value()
    return jnp.where(out, -jnp.inf, log_density + functools.reduce(jnp.add, slopes))


def sample(key: Key, model: Bounded, n: int) -> Float[Array, "n d"]:
    """Returns n draws, all inside the support: draws of the ordinary density, folded into it.

    Args:
        key: PRNG key, typed or old-style.
        model: what `bounded.fit` returns.
        n: how many rows, static, at least 1.

    Raises:
        TypeError: for a key or a number that is none; ValueError for n below 1.

    >>> import jax
    >>> model = fit(jax.numpy.zeros((1, 1)), lower=0.0, upper=1.0, bandwidth=0.3)
    >>> rows = sample(jax.random.key(0), model, 50)
    >>> bool((rows >= 0).all() and (rows <= 1).all())
    True
    """
    checks.instance("kde.bounded.sample", "model", model, Bounded)
    return _leave(plain.sample(key, model.model, n), model)


def _bound(where: str, name: str, bound: ArrayLike, d: int, x: Array) -> Float[Array, " d"]:
    given = checks.floating(where, name, float(bound) if isinstance(bound, int) else bound)
    checks.shape(where, name, given, (d,) if given.ndim else ())
    with jax.ensure_compile_time_eval():  # so that bounds that are known stay known under a trace
        return jnp.broadcast_to(given.astype(x.dtype), (d,))


def _check_inside(where: str, edges: tuple, x: Array, low: Array, high: Array) -> None:
    """Raises ValueError, naming the first, for a row outside the support."""
    if not all(checks.concrete(a) for a in (x, low, high)):
        return
    with jax.ensure_compile_time_eval():
        out = jnp.stack(
            [support.outside(e, x[:, j], low[j], high[j]) for j, e in enumerate(edges)], axis=1
        )
        if not bool(jnp.any(out)):
            return
        row, j = (int(i) for i in jnp.argwhere(out)[0])
    strictly = "strictly between" if support.EDGES[edges[j]].open else "between"
    raise ValueError(
        f"{where}: x must lie {strictly} lower = {float(low[j])} and upper = {float(high[j])} "
        f"in feature {j}, got {float(x[row, j])} in row {row}; drop such rows or widen the bounds"
    )


def _enter(x: Array, low: Array, high: Array, edges: tuple) -> Float[Array, "n d"]:
    columns = [support.EDGES[e].enter(x[:, j], low[j], high[j]) for j, e in enumerate(edges)]
    return jnp.stack(columns, axis=1)


def _leave(z: Array, model: Bounded) -> Float[Array, "n d"]:
    low, high = model.lower.astype(z.dtype), model.upper.astype(z.dtype)
    columns = [
        support.EDGES[e].leave(z[:, j], low[j], high[j]) for j, e in enumerate(model.shape.edges)
    ]
    return jnp.stack(columns, axis=1)
