"""The slope of a density: its score, mean shift along it, and the modes where that ends.

Shapes: n points, m queries, d features.  Every step is a fold over the points of O(tile) memory.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks, memory
from jaxnn.kde import scaling
from jaxnn.kde.averages import Units, door, in_units, slopes, to_data
from jaxnn.kde.model import KDE, log_prob
from jaxnn.types import Data, Scalar

# The longest extrapolation of a step, in bandwidths: no farther than a kernel can see.
LEAP = 0.5


class MeanShift(NamedTuple):
    """Where mean shift ends.

    Attributes:
        ends: of the paths, in data units; rows that start in the same basin end at the same mode.
        converged: whether the last step was shorter than the tolerance.
        steps: how many steps were taken.
    """

    ends: Float[Array, "m d"]
    converged: Bool[Array, " m"]
    steps: Int[Array, ""]


class Modes(NamedTuple):
    """Modes of a density, the highest first; K is the room for them.

    Attributes:
        at: where, (K, d); rows from `n_modes` on are zero.
        log_density: there, in nats; -inf from `n_modes` on.
        n_modes: how many modes there are in `at`.
        labels: for each start the mode that it ends at: a clustering; -1 where it ends at a mode
            for which there was no room.
        converged: whether all paths ended.
    """

    at: Float[Array, "K d"]
    log_density: Float[Array, " K"]
    n_modes: Int[Array, ""]
    labels: Int[Array, " m"]
    converged: Bool[Array, ""]


@memory.budgeted
def score(model: KDE, x: Data, *, memory_budget: memory.Budget = None) -> Float[Array, "m d"]:
    """Returns the gradient of the log density by the rows of `x`, in nats per data unit.

    In closed form, Σ_i P_i ∇ log K((x - x_i)/h), one fold over the points instead of a backward
    pass.  Zero where no kernel reaches, and for kernels with a cusp at a point the mean of both
    sides.

    Args:
        model: what `fit` returns.
        x: queries, (m, d).
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for bad shapes or values; TypeError unless `x` holds floating-point numbers.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> score(kde.fit(jnp.zeros((1, 1)), bandwidth=2.0), jnp.array([[1.0]])).tolist()
    [[-0.25]]
    """
    return _score(model, door("kde.score", model, x))


@jax.jit
def _score(model: KDE, x: Float[Array, "m d"]) -> Float[Array, "m d"]:
    units, _ = in_units(model, x)
    return to_data(model, units.unit, slopes(model.kernel, units)[2])


@memory.budgeted
def mean_shift(
    model: KDE,
    x: Data,
    *,
    tol: Scalar = 1e-4,
    max_steps: int | Int[ArrayLike, ""] = 500,
    memory_budget: memory.Budget = None,
) -> MeanShift:
    """Returns where the rows of `x` end when each moves uphill to the mean of its kernel's shadow.

    A step is m(x) - x = Σ_i P_i c_i (x_i - x) / Σ_i P_i c_i with c = -dlogK/d(r²) (Cheng 1995;
    Comaniciu and Meer 2002, eq. 17), which never lowers the density for profiles convex in r²:
    all but the tophat's, whose slope is zero.  With the Epanechnikov kernel it is the mean of the
    points within h.  Two steps make one extrapolation (Varadhan and Roland 2008, scheme S3), kept
    only where the density has risen and never longer than half a bandwidth.

    Args:
        model: what `fit` returns, in radial form.
        x: where the paths start, (m, d).
        tol: a path ends with a step shorter than this, in bandwidths.
        max_steps: steps at most, taken in pairs; traced.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for a tophat or product form, bad shapes or values.
        TypeError: for arguments of wrong types.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> x = jnp.array([[0.0], [1.0], [9.0]])
    >>> ends = mean_shift(kde.fit(x, bandwidth=2.0, kernel="epanechnikov"), x).ends
    >>> [round(float(v), 3) for v in ends[:, 0]]
    [0.5, 0.5, 9.0]
    """
    where = "kde.mean_shift"
    x = door(where, model, x)
    kernel = model.kernel
    if kernel.name == "tophat" or kernel.form != "radial":
        raise ValueError(
            f"{where}: the kernel must be radial with a slope, got {kernel.name!r} in "
            f"{kernel.form} form; take 'epanechnikov', whose mean shift is flat, or 'gaussian'"
        )
    checks.positive(where, "tol", tol)
    steps = checks.steps(where, "max_steps", max_steps)
    return _mean_shift(model, x, jnp.asarray(tol, model.points.dtype), steps)


@jax.jit
def _mean_shift(
    model: KDE, x: Float[Array, "m d"], tol: Float[Array, ""], max_steps: Int[Array, ""]
) -> MeanShift:
    units, centre = in_units(model, x)
    tol = tol.astype(units.queries.dtype)

    def shift(at: Float[Array, "m d"]) -> tuple[Array, Array]:
        """Returns the log density up to a constant, and the step."""
        height, pull, moved = slopes(model.kernel, units._replace(queries=at))
        some = pull > 0
        return height, jnp.where(some, moved / jnp.where(some, pull, 1.0), 0.0)

    def length(step: Float[Array, "m d"]) -> Float[Array, " m"]:
        return jnp.sqrt(jnp.sum(step * step, axis=1)) * units.unit

    def unfinished(state: tuple) -> Bool[Array, ""]:
        return ~jnp.all(state[3]) & (state[4] < max_steps)

    def advance(state: tuple) -> tuple:
        at, safe, floor, done, steps = state
        height, first = shift(at)
        # An extrapolation that lost height: back to where the plain steps had led.
        lost = height < floor
        middle = jnp.where(lost[:, None], safe, at + first)
        height, second = shift(middle)
        settled = done | (~lost & (length(first) < tol)) | (length(second) < tol)
        plain = middle + second
        bend = second - first
        size = length(bend)
        ahead = jnp.where(lost | (size == 0), 1.0, length(first) / jnp.where(size > 0, size, 1.0))
        extra = (2 * ahead)[:, None] * first + jnp.square(ahead)[:, None] * bend - first - second
        far = length(extra)
        extra = extra * jnp.minimum(1.0, LEAP / jnp.where(far > 0, far, 1.0))[:, None]
        leap = jnp.where((lost | settled)[:, None] | (ahead <= 1)[:, None], 0.0, extra)
        new = jnp.where(done[:, None], at, plain + leap)
        return new, plain, height, settled, steps + 2

    m = x.shape[0]
    start = (units.queries, units.queries, jnp.full(m, -jnp.inf, tol.dtype), jnp.zeros(m, bool))
    ends, _, _, done, steps = lax.while_loop(unfinished, advance, (*start, jnp.array(0)))
    ends = scaling.colour(model.bandwidth.astype(ends.dtype), ends * units.unit) + centre[None, :]
    return MeanShift(ends, done, steps)


@memory.budgeted
def modes(
    model: KDE,
    starts: Data | None = None,
    *,
    max_modes: int = 32,
    merge: Scalar = 0.1,
    tol: Scalar = 1e-4,
    max_steps: int | Int[ArrayLike, ""] = 500,
    memory_budget: memory.Budget = None,
) -> Modes:
    """Returns the modes of a density: where mean shift ends, those close together counted once.

    Args:
        model: what `fit` returns, in radial form.
        starts: where paths start, (m, d); None for the points of the model.
        max_modes: room for modes, static; the highest are kept.
        merge: ends closer than this, in bandwidths, are one mode (the highest of them).  With 1.0,
            as in scikit-learn's `MeanShift`, maxima within a bandwidth of a higher one are lost.
        tol: see `mean_shift`.
        max_steps: see `mean_shift`.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for a tophat or product form, bad shapes or values.
        TypeError: for arguments of wrong types.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> found = modes(kde.fit(jnp.array([[0.0], [0.2], [5.0]]), bandwidth=0.5))
    >>> int(found.n_modes), [round(float(v), 2) for v in found.at[:2, 0]], found.labels.tolist()
    (2, [0.1, 5.0], [0, 0, 1])
    """
    where = "kde.modes"
    starts = door(where, model, starts)
    max_modes = checks.count(where, "max_modes", max_modes)
    checks.positive(where, "merge", merge)
    path = mean_shift(model, starts, tol=tol, max_steps=max_steps)
    limit = jnp.asarray(merge, path.ends.dtype)
    return _merged(model, path, log_prob(model, path.ends), limit, max_modes)


@functools.partial(jax.jit, static_argnames="max_modes")
def _merged(
    model: KDE, path: MeanShift, heights: Float[Array, " m"], merge: Array, max_modes: int
) -> Modes:
    units: Units = in_units(model, path.ends)[0]
    ends = units.queries * units.unit
    order = jnp.argsort(-heights)
    limit = jnp.square(merge.astype(ends.dtype))

    def place(state: tuple, row: Array) -> tuple[tuple, Array]:
        """Gives one end, the highest not yet seen, its mode: a near one, or itself."""
        found, chosen, count = state
        squares = jnp.sum(jnp.square(found - ends[row][None, :]), axis=1)
        squares = jnp.where(jnp.arange(max_modes) < count, squares, jnp.inf)
        nearest = jnp.argmin(squares)
        known = squares[nearest] < limit
        fresh = ~known & (count < max_modes)
        slot = jnp.where(fresh, count, max_modes)  # out of bounds: nothing is written
        found = found.at[slot].set(ends[row], mode="drop")
        chosen = chosen.at[slot].set(row, mode="drop")
        label = jnp.where(known, nearest, jnp.where(fresh, count, -1))
        return (found, chosen, count + fresh), label

    start = (jnp.zeros((max_modes, ends.shape[1]), ends.dtype), jnp.zeros(max_modes, int))
    (_, chosen, count), labels = lax.scan(place, (*start, jnp.array(0)), order)
    real = jnp.arange(max_modes) < count
    return Modes(
        at=jnp.where(real[:, None], path.ends[chosen], 0.0),
        log_density=jnp.where(real, heights[chosen], -jnp.inf),
        n_modes=count,
        labels=jnp.zeros_like(labels).at[order].set(labels),
        converged=jnp.all(path.converged),
    )
