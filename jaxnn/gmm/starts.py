"""Where EM starts: a share of each row for each component, then one M-step.

A start draws its seeds, may refine them, and says which share of a row goes to which component.
It sees standardised columns, so that a change of units changes nothing; seeds know nothing of
covariances, so one draw serves every family.  The first seeds are those of a smaller mixture, so
one draw serves every number of components too.
Shapes: n samples, d features, k components, c rows of a tile.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnn import checks, memory
from jaxnn.gmm.families import family_of
from jaxnn.gmm.family import Family, NamedFamily
from jaxnn.gmm.forms import Form
from jaxnn.gmm.kmeans import BATCH, BATCH_STEPS, LARGE, lloyd, mini_batches, nearest, seeds
from jaxnn.gmm.loop import maximise
from jaxnn.gmm.missing import check_columns, fill
from jaxnn.gmm.model import GMM, by_form
from jaxnn.gmm.moments import Moments, row_weights, rows_to_learn
from jaxnn.linalg import mean_and_variance, sum_rows
from jaxnn.types import Data, Key, Weights

Seeds = Any  # what a start draws: k rows, a key
Active = Bool[Array, " k"]
Shares = Callable[[Float[Array, "c d"], Int[Array, " c"]], Float[Array, "c k"]]

# The start's ridge, as a share of the variance of the data: a seed that owns a single row must
# begin wide enough to take others in.
START_RIDGE = 1e-2
LLOYD_STEPS, LLOYD_TOL = 100, 1e-4


class Start(NamedTuple):
    """One way to start; `x` is standardised, and shares are zero where not `active`.

    `draw(key, x, weight, k)` the seeds; `refine(key, seeds, x, weight, active)` better ones;
    `share(seeds, rows, number, active)` the share of each row for each component, with `number`
    the place of the rows in the data.
    """

    draw: Callable[[Key, Array, Array, int], Seeds]
    refine: Callable[[Key, Seeds, Array, Array, Active], Seeds]
    share: Callable[[Seeds, Array, Int[Array, " c"], Active], Float[Array, "c k"]]


def random_points(
    key: Key, x: Float[Array, "n d"], weight: Float[Array, " n"], k: int
) -> Float[Array, "k d"]:
    """Returns k different rows drawn at random, in proportion to their weights."""
    return x[jax.random.choice(key, x.shape[0], (k,), replace=False, p=weight / jnp.sum(weight))]


def _as_drawn(key: Key, seeds: Seeds, x: Array, weight: Array, active: Active) -> Seeds:
    return seeds


def _by_k_means(
    key: Key, seeds: Float[Array, "k d"], x: Array, weight: Array, active: Active
) -> Float[Array, "k d"]:
    """Returns centres from Lloyd's steps, or from mini-batches where there are many rows."""
    if x.shape[0] > LARGE:
        return mini_batches(key, seeds, active, x, weight, BATCH, BATCH_STEPS)
    return lloyd(seeds, active, x, weight, jnp.asarray(LLOYD_TOL, x.dtype), LLOYD_STEPS)[0]


def _to_nearest(
    seeds: Float[Array, "k d"], rows: Array, number: Int[Array, " c"], active: Active
) -> Float[Array, "c k"]:
    return jax.nn.one_hot(nearest(seeds, active, rows)[0], seeds.shape[0], dtype=rows.dtype)


def _dirichlet(
    key: Key, rows: Array, number: Int[Array, " c"], active: Active
) -> Float[Array, "c k"]:
    """Returns shares uniform on the simplex, each row's from a key of its own: none is kept."""
    draw = lambda i: jax.random.exponential(jax.random.fold_in(key, i), active.shape, rows.dtype)
    gamma = jnp.where(active[None, :], jax.vmap(draw)(number), 0.0)
    return gamma / jnp.sum(gamma, axis=1, keepdims=True)


STARTS: dict[str, Start] = {
    "k-means++": Start(seeds, _as_drawn, _to_nearest),
    "k-means": Start(seeds, _by_k_means, _to_nearest),
    "random points": Start(random_points, _as_drawn, _to_nearest),
    "random responsibilities": Start(lambda key, x, weight, k: key, _as_drawn, _dirichlet),
}


def _shared_moments(
    mixture: GMM, x: Float[Array, "n d"], weight: Float[Array, " n"], share: Shares
) -> Moments:
    """Returns the moments of rows whose responsibilities are given by `share`."""
    data = (x, weight, jnp.arange(x.shape[0]))

    def run(form: Form) -> Moments:
        def of_tile(tile: tuple[Array, ...], fresh: Bool[Array, " c"]) -> PyTree:
            rows, w, number = tile
            resp = (share(rows, number) * (w * fresh)[:, None]).T
            return form.collect(form.joint(rows)[0], resp)

        sums = sum_rows(of_tile, data, form.tile(x.shape[0]), form.lanes)
        return Moments(*form.finish(sums), log_lik=jnp.zeros((), x.dtype))

    return by_form(mixture, x.shape[0], run)


def from_shares(
    family: Family, x: Float[Array, "n d"], weight: Float[Array, " n"], share: Shares, k: int,
    unit: tuple[Float[Array, " d"], Float[Array, " d"]],
) -> GMM:  # fmt: skip
    """Returns one M-step from the given shares; `unit` is the mean and variance of the data.

    A component without rows has weight zero, and the mean and variance of all rows.
    """
    mean, variance = unit
    even = GMM(
        log_weights=jnp.full(k, -jnp.log(jnp.asarray(k, x.dtype))),
        means=jnp.broadcast_to(mean, (k, *mean.shape)),
        cov=family.from_variances(variance, k),
    )
    return maximise(even, _shared_moments(even, x, weight, share), START_RIDGE * variance)


def from_seeds(
    seeds: Seeds, x: Float[Array, "n d"], weight: Float[Array, " n"], active: Int[Array, ""],
    k: int, family: Family, start: str,
) -> GMM:  # fmt: skip
    """Returns the mixture that `start` makes of its seeds, with `active` components in use."""
    mean, variance = mean_and_variance(x, weight)
    scale = jnp.sqrt(variance)
    use = jnp.arange(k) < active

    def share(rows: Array, number: Int[Array, " c"]) -> Float[Array, "c k"]:
        return STARTS[start].share(seeds, (rows - mean[None]) / scale[None], number, use)

    return from_shares(family, x, weight, share, k, (mean, variance))


def _standardised(x: Float[Array, "n d"], weight: Float[Array, " n"]) -> Float[Array, "n d"]:
    mean, variance = mean_and_variance(x, weight)
    return (x - mean[None]) / jnp.sqrt(variance)[None]


def draw_seeds(
    keys: Array, x: Float[Array, "n d"], weight: Float[Array, " n"], active: Int[Array, " m"],
    k: int, start: str, each: Callable[[Callable[[Any], Any], Any], Any],
) -> Seeds:  # fmt: skip
    """Returns seeds of each key for each of the m numbers of components: leading axes m, keys.

    One draw for a key serves all numbers of components. `each(f, members)` maps over members.
    """
    z, rule = _standardised(x, weight), STARTS[start]

    def of_key(key: Key) -> Seeds:
        drawn = rule.draw(key, z, weight, k)
        refined = lambda j: rule.refine(key, drawn, z, weight, jnp.arange(k) < j)
        return each(refined, active)

    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), each(of_key, keys))


@partial(jax.jit, static_argnames=("k", "family", "start"))
def _init(
    key: Key,
    x: Float[Array, "n d"],
    weight: Float[Array, " n"],
    active: Int[Array, ""],
    k: int,
    family: Family,
    start: str,
) -> GMM:
    z, rule = _standardised(x, weight), STARTS[start]
    drawn = rule.draw(key, z, weight, k)
    seeds = rule.refine(key, drawn, z, weight, jnp.arange(k) < active)
    return from_seeds(seeds, x, weight, active, k, family, start)


@memory.budgeted
def init(
    key: Key,
    x: Data,
    n_components: int,
    *,
    family: str | Family = "full",
    start: str = "k-means++",
    sample_weight: Weights | None = None,
    active: int | Int[Array, ""] | None = None,
    missing: bool = False,
    memory_budget: memory.Budget = None,
) -> GMM:
    """Returns a mixture to start EM from: seeds, each row to the nearest, then one M-step.

    Args:
        key: draws the seeds.
        x: rows of shape (n, d).
        n_components: k, from 1 to n.
        family: a name in `COVARIANCES`, or `factors(rank)`.
        start: a name in `STARTS`. "k-means++" spreads the seeds, "k-means" moves them to the
            centres of their rows (by mini-batches beyond 131,072 rows), "random points" takes
            any rows, "random responsibilities" gives each row random shares of all components.
        sample_weight: shape (n,).
        active: how many of the components to use, a traced number; the others have weight zero
            and stay empty. One compiled program thus serves every k up to `n_components`.
        missing: NaN stands for what is missing; the start sees the mean of the column there, EM
            no more. Static.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Columns are standardised before distances are taken. Where there are fewer distinct rows than
    components, those that own no row have weight zero. More columns than rows are legal, but look
    like data the wrong way round: unless the family is `factors`, a warning says so.

    Raises:
        TypeError, ValueError: bad rows, weights or key; k < 1 or k > n; an unknown name.
    """
    where = "gmm.init"
    checks.key(where, key)
    x, k = rows_and_count(where, x, n_components, missing)
    kind = family_of(where, family)
    if isinstance(kind, NamedFamily):  # the others are for more features than rows
        checks.upright(where, "x", x)
    checks.in_table(where, "start", start, STARTS)
    weight = row_weights(where, x, sample_weight)
    if missing:
        check_columns(where, x, weight)
        x, weight = fill(x, weight)
    if active is None:
        active = k
    elif checks.concrete(active):
        active = checks.count(where, "active", active, most=k)
    return _init(key, x, weight, jnp.asarray(active), k, kind, start)


def rows_and_count(
    where: str, x: Data, n_components: int, missing: bool | None = None
) -> tuple[Float[Array, "n d"], int]:
    """Returns the checked rows and the checked number of components."""
    x = rows_to_learn(where, x, missing)
    return x, checks.count(where, "n_components", n_components, most=x.shape[0])


@partial(jax.jit, static_argnames=("k", "family"))
def _from_labels(
    labels: Int[Array, " n"], x: Float[Array, "n d"], weight: Float[Array, " n"], k: int,
    family: Family,
) -> GMM:  # fmt: skip
    # No component has the number −1: rows of unknown label have no share in any.
    share = lambda rows, number: jax.nn.one_hot(labels[number], k, dtype=x.dtype)
    return from_shares(family, x, weight, share, k, mean_and_variance(x, weight))


def from_labels(
    labels: Int[ArrayLike, " n"],
    x: Data,
    n_components: int,
    *,
    family: str | Family = "full",
    sample_weight: Weights | None = None,
) -> GMM:
    """Returns the mixture of labelled rows: a start for EM where some answers are known.

    Args:
        labels: shape (n,), whole numbers from 0 to k − 1, or −1 where unknown: those rows take
            no part, and EM will place them.
        x: rows of shape (n, d).
        n_components: k, from 1 to n. A component that no label names has weight zero.
        family: a name in `COVARIANCES`, or `factors(rank)`.
        sample_weight: shape (n,).

    One hundredth of the variance of each column of `x` is added to the variances of the classes,
    so that a class of one row has a covariance.

    Raises:
        TypeError, ValueError: labels out of range, or none known; bad rows or weights; an unknown
            family.
    """
    where = "gmm.from_labels"
    x, k = rows_and_count(where, x, n_components)
    kind = family_of(where, family)
    labels = checks.labels(where, "labels", labels, x.shape[0], k, least=-1)
    weight = row_weights(where, x, sample_weight)
    known = checks.concrete(labels) and checks.concrete(weight)
    if known and checks.holds(lambda: (labels < 0) | (weight == 0)):
        raise ValueError(f"{where}: labels must name a component for some row that counts")
    return _from_labels(labels, x, weight, k, kind)
