"""Do two samples come from one density?  A likelihood-ratio test with kernel densities.

Shapes: n and m rows of the samples, N = n + m of both, d features, B permutations.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from jaxnn import checks, linalg, memory
from jaxnn.kde import scaling
from jaxnn.kde.averages import Tile, in_units, softmax_sums, weighted
from jaxnn.kde.bandwidths import BANDWIDTHS
from jaxnn.kde.kernels import Kernel, in_form
from jaxnn.kde.model import KDE
from jaxnn.types import Data, Key, Scalar

# Permutations of one pass over the pairs.
BATCH = 256


class TwoSample(NamedTuple):
    """The result of the test.

    Attributes:
        statistic: the mean log ratio of each row's density in its own sample to that in both, in
            nats; near or below zero where the samples are alike.
        p_value: the share of relabellings, the given one among them, with no smaller statistic.
        permuted: the statistics of the permutations.
    """

    statistic: Float[Array, ""]
    p_value: Float[Array, ""]
    permuted: Float[Array, " B"]


@memory.budgeted
def two_sample(
    key: Key,
    x: Data,
    y: Float[ArrayLike, "m d"],
    n_permutations: int = 999,
    *,
    bandwidth: str | Scalar | Array = "scott",
    kernel: str | Kernel = "gaussian",
    form: str = "radial",
    memory_budget: memory.Budget = None,
) -> TwoSample:
    """Returns a permutation test of whether the rows of `x` and `y` come from one density.

    The statistic is the mean over all rows of log p₋(z) - log q₋(z), p₋ the kernel density of the
    row's own sample and q₋ that of both, each *without the row itself* (leave-one-out), with one
    bandwidth for all, found from both samples together.  Nothing in it but the labels changes
    under a permutation, so the test is exact at any size: under the null the p-value is uniform
    on 1/(B+1), ..., 1 (Phipson and Smyth, 2010, for the + 1).  One pass over the pairs
    of rows serves 256 permutations, as products of kernels with labels.

    A row that its own sample does not reach counts as if it were reached by the rounding error
    of the density of both, eps q₋: finite, and the same for all permutations.

    Args:
        key: PRNG key for the permutations.
        x: one sample, (n, d), n at least 2.
        y: the other, (m, d), m at least 2.
        n_permutations: B, static.
        bandwidth: the name of a rule in `BANDWIDTHS`, or a bandwidth as in `fit`.
        kernel: as in `fit`.
        form: as in `fit`.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for samples of fewer than 2 rows or of different widths, bad shapes or values.
        TypeError: for arguments of wrong types.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (40, 1))
    >>> round(float(two_sample(jax.random.key(1), x, x + 3, 99).p_value), 6)
    0.01
    """
    where = "kde.two_sample"
    checks.key(where, key)
    x = checks.data(where, "x", x)
    checks.precise(where, "x", x)
    y = checks.data(where, "y", y, width=x.shape[1])
    checks.precise(where, "y", y)
    for name, rows in (("x", x), ("y", y)):
        if rows.shape[0] < 2:
            raise ValueError(
                f"{where}: {name} must have at least 2 rows, got {rows.shape[0]}; "
                "a row is judged by the others of its sample"
            )
    n_permutations = checks.count(where, "n_permutations", n_permutations)
    shape = in_form(where, kernel, form)
    both = jnp.concatenate([x, y])
    if isinstance(bandwidth, str):
        checks.in_table(where, "bandwidth", bandwidth, BANDWIDTHS)
        width = BANDWIDTHS[bandwidth](both, None)
    else:
        width = scaling.given(where, "bandwidth", bandwidth, x.shape[1]).astype(both.dtype)
    model = KDE(both, width, jnp.full(both.shape[0], -math.log(both.shape[0]), both.dtype), shape)
    return _two_sample(key, model, x.shape[0], n_permutations)


@functools.partial(jax.jit, static_argnames=("n", "n_permutations"))
def _two_sample(key: Key, model: KDE, n: int, n_permutations: int) -> TwoSample:
    first = jnp.arange(model.points.shape[0]) < n
    shuffle = lambda step: jax.random.permutation(jax.random.fold_in(key, step), first)

    def statistics(steps: Array) -> Float[Array, " b"]:
        # Step 0 is the labels as given.
        labels = jax.vmap(lambda step: jnp.where(step == 0, first, shuffle(step)))(steps)
        return _statistics(model, labels.T, n)

    steps = jnp.arange(n_permutations + 1)
    values = linalg.map_rows(statistics, steps, BATCH)
    # Equal up to rounding is equal: then the p-value is never too small.
    slack = 64 * jnp.finfo(values.dtype).eps * (1 + jnp.abs(values[0]))
    p_value = jnp.mean((values >= values[0] - slack).astype(values.dtype))
    return TwoSample(values[0], p_value, values[1:])


def _statistics(model: KDE, labels: Bool[Array, "N b"], n: int) -> Float[Array, " b"]:
    """Returns the statistic of each column of labels; True is the sample of n rows."""
    rows = labels.shape[0]
    dtype = model.points.dtype
    units, _ = in_units(model, model.points)

    def share(softmax: Array, tile: Tile, queries: Array) -> Array:
        mine = weighted(softmax, tile.values.astype(dtype))
        return jnp.concatenate([mine, jnp.sum(softmax, axis=0)[:, None]], axis=1)

    own = jnp.arange(rows)
    width = labels.shape[1] + 1
    _, sums = softmax_sums(model.kernel, units, labels, share, width, own)
    whole = jnp.where(sums[:, -1] > 0, sums[:, -1], 1.0)[:, None]
    inside = jnp.where(labels, sums[:, :-1], sums[:, -1:] - sums[:, :-1]) / whole
    sizes = jnp.where(labels, n, rows - n).astype(dtype)
    ratio = jnp.maximum(inside, jnp.finfo(dtype).eps) * (rows - 1) / (sizes - 1)
    return jnp.mean(jnp.log(ratio), axis=0)
