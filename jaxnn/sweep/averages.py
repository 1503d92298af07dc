"""Seeds, folds and repeats averaged out: a mean and its interval for each configuration."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxnn import checks
from jaxnn.sweep.axes import Column, Static, take
from jaxnn.sweep.run import Sweep, members
from jaxnn.types import Scalar


class Average(NamedTuple):
    """What the members of each configuration reached.

    Attributes:
        mean: NaN if one of them failed.
        std: standard deviation between them, n - 1 below the root; NaN for a single one.
        low: lower end of the interval for the mean (Student's); -inf for a single one.
        high: upper end; inf for a single one.
        members: how many the configuration has.
        failed: how many of them have a NaN.
    """

    mean: Float[Array, " c"]
    std: Float[Array, " c"]
    low: Float[Array, " c"]
    high: Float[Array, " c"]
    members: Int[Array, " c"]
    failed: Int[Array, " c"]


def student(level: Scalar, freedom: Float[Array, " c"]) -> Float[Array, " c"]:
    """Returns t for which Student's distribution has `level` between -t and t, by bisection."""
    outside = lambda t: jax.scipy.special.betainc(freedom / 2, 0.5, freedom / (freedom + t**2))

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = jnp.sqrt(low * high)  # t may be hundreds, or a tenth
        far = outside(middle) > 1 - level
        return jnp.where(far, middle, low), jnp.where(far, high, middle)

    ends = (jnp.full_like(freedom, 1e-4), jnp.full_like(freedom, 1e6))
    return jax.lax.fori_loop(0, 60, halve, ends)[1]


@partial(jax.jit, static_argnames="c")
def _average(
    values: Float[Array, " m"], group: Int[Array, " m"], c: int, level: Float[Array, ""]
) -> Average:
    add = lambda a: jax.ops.segment_sum(a, group, c)
    count = add(jnp.ones_like(values))
    mean = add(values) / count
    # Of one value alone nothing is known about the spread.
    std = jnp.sqrt(add((values - mean[group]) ** 2) / (count - 1))
    half = student(level, jnp.maximum(count - 1, 1)) * std / jnp.sqrt(count)
    alone = count < 2
    return Average(
        mean=mean,
        std=std,
        low=jnp.where(alone, -jnp.inf, mean - half),
        high=jnp.where(alone, jnp.inf, mean + half),
        members=count.astype(jnp.int32),
        failed=add(jnp.isnan(values).astype(jnp.int32)),
    )


def _words(column: Column) -> list[str]:
    values = column.tolist() if isinstance(column, Static) else np.asarray(column).tolist()
    return [repr(v) for v in values]  # in which NaN is equal to itself


def average(
    sweep: Sweep,
    by: Callable[[PyTree], Array],
    *,
    over: Sequence[str] = ("seed", "repeat", "fold"),
    level: float = 0.95,
) -> Sweep:
    """Returns a sweep of configurations: members that differ in `over` only are one of them.

    Its results are an `Average`, so `best(average(...), lambda r: r.mean)` is the best
    configuration. On the host. Folds share their training rows, so that intervals over folds are
    a little too narrow; those over seeds are what they say.

    Args:
        sweep: what `run`, `run_groups` or `cross_validate` returned.
        by: picks one number per member, shape (members,).
        over: axes to average out, as far as there are any.
        level: probability that the interval covers the mean.

    Raises:
        ValueError: none of `over` is an axis; values of another shape; a level outside (0, 1).

    >>> done = Sweep({"x": jnp.array([1, 1, 2, 2]), "seed": jnp.array([0, 1, 0, 1])},
    ...              jnp.array([1.0, 3.0, 5.0, 5.0]))
    >>> means = average(done, lambda r: r)
    >>> means.hparams["x"].tolist(), means.results.mean.tolist()
    ([1, 2], [2.0, 5.0])
    """
    where = "sweep.average"
    checks.instance(where, "sweep", sweep, Sweep)
    n = members(where, sweep.hparams)
    averaged = (over,) if isinstance(over, str) else tuple(over)
    if not set(averaged) & set(sweep.hparams):
        raise ValueError(
            f"{where}: over must name an axis, got {', '.join(averaged)}; "
            f"there are {', '.join(sweep.hparams)}"
        )
    if not 0 < level < 1:
        raise ValueError(f"{where}: level must be in (0, 1), got {level}")
    values = jnp.asarray(by(sweep.results))
    checks.shape(where, "by(results)", values, (n,))
    if not jnp.issubdtype(values.dtype, jnp.floating):
        values = values.astype(jnp.zeros(()).dtype)
    kept = {name: column for name, column in sweep.hparams.items() if name not in averaged}
    words = [_words(column) for column in kept.values()]
    number: dict[tuple[str, ...], int] = {}
    group = [number.setdefault(tuple(w[i] for w in words), len(number)) for i in range(n)]
    first = np.unique(group, return_index=True)[1]
    results = _average(values, jnp.asarray(group), len(number), jnp.asarray(level, values.dtype))
    hparams = {name: take(column, first) for name, column in kept.items()}
    return Sweep(hparams=hparams, results=results)
