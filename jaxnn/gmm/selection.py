"""Model choice in one call: numbers of components by covariance families, many starts each.

One compiled program for each family, all of them compiled and run side by side; the numbers of
components are masked within the largest, and starts, which know nothing of families, are drawn
once for all.  Shapes: m numbers of components, s starts, n samples, d features, k components.
"""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxnn import checks
from jaxnn.gmm.criteria import fit_and_entropy, n_parameters
from jaxnn.gmm.families import family_of
from jaxnn.gmm.family import Family, NamedFamily
from jaxnn.gmm.missing import Observed, check_columns
from jaxnn.gmm.model import GMM
from jaxnn.gmm.moments import row_weights
from jaxnn.gmm.outcome import Fit, Status
from jaxnn.gmm.restarts import (
    LAYOUTS,
    Limits,
    best_of,
    complete,
    layout_or_default,
    limits,
    preferred,
    rows_with_gaps,
    starts_and_continued,
)
from jaxnn.gmm.starts import STARTS, Seeds, draw_seeds, from_seeds
from jaxnn.gmm.table import Selection, Table
from jaxnn.types import Data, Key, Scalar, Weights

# Which way is better: −1 for the smallest, 1 for the largest.
CRITERIA = {"bic": -1, "aic": -1, "icl": -1, "held_out": 1}


class Candidates(NamedTuple):
    """What the program of a family returns, with a leading axis of numbers of components."""

    fit: Fit
    n_parameters: Int[Array, " m"]
    log_lik: Float[Array, " m"]
    entropy: Float[Array, " m"]


@partial(jax.jit, static_argnames=("k", "start", "n_starts", "layout"))
def _draw(
    key: Key, x: Float[Array, "n d"] | Observed, weight: Float[Array, " n"],
    active: Int[Array, " m"], *, k: int, start: str, n_starts: int, layout: str,
) -> Seeds:  # fmt: skip
    keys = jax.random.split(key, n_starts)
    return draw_seeds(keys, complete(x, weight), weight, active, k, start, LAYOUTS[layout])


@partial(jax.jit, static_argnames=("k", "family", "start", "n_continued", "layout"))
def _fit_family(
    seeds: Seeds,
    x: Float[Array, "n d"] | Observed,
    weight: Float[Array, " n"],
    judged: Float[Array, " n"],
    active: Int[Array, " m"],
    limits: Limits,
    *,
    k: int,
    family: Family,
    start: str,
    n_continued: int,
    layout: str,
) -> Candidates:
    """Returns the best start for each number of components, judged on rows of weight `judged`."""
    rows, missing = complete(x, weight), isinstance(x, Observed)
    seen = x.x if isinstance(x, Observed) else x

    def candidate(member: tuple[Seeds, Int[Array, ""]]) -> Candidates:
        drawn, use = member
        begin = lambda seed: from_seeds(seed, rows, weight, use, k, family, start)
        best = best_of(begin, drawn, x, weight, limits, n_continued, layout).fit
        log_lik, entropy = fit_and_entropy(best.mixture, seen, judged, missing)
        return Candidates(best, jnp.asarray(n_parameters(best.mixture)), log_lik, entropy)

    return LAYOUTS[layout](candidate, (seeds, active))


def without_unused(mixtures: GMM, number: int, family: Family) -> GMM:
    """Returns one of a batch of (concrete) mixtures, without its components of weight zero."""
    weights = mixtures.log_weights.tolist()[number]
    used = jnp.asarray([k for k, weight in enumerate(weights) if weight > -jnp.inf])
    return _members(mixtures, jnp.asarray(number), used, family)


@partial(jax.jit, static_argnames="family")
def _members(mixtures: GMM, number: Int[Array, ""], used: Int[Array, " u"], family: Family) -> GMM:
    mixture = jax.tree.map(lambda a: a[number], mixtures)
    variances = jax.ShapeDtypeStruct(mixture.means.shape[1:], mixture.means.dtype)
    shapes = [jax.eval_shape(lambda v, k=k: family.from_variances(v, k), variances) for k in (1, 2)]

    def take(leaf: Array, one: Any, two: Any) -> Array:
        axes = [i for i, sizes in enumerate(zip(one.shape, two.shape, strict=True)) if
                sizes[0] != sizes[1]]  # fmt: skip
        return jnp.take(leaf, used, axis=axes[0]) if axes else leaf  # shared by all components

    cov = jax.tree.map(take, mixture.cov, *shapes)
    return GMM(mixture.log_weights[used], mixture.means[used], cov)


@partial(jax.jit, static_argnames="folds")
def _dealt(key: Key, weight: Float[Array, " n"], folds: int) -> Float[Array, "f n"]:
    """Returns the weights of each fold's own rows; rows that count are dealt out evenly."""
    order = jnp.argsort(jax.random.uniform(key, weight.shape) + (weight == 0))
    fold = jnp.argsort(order) % folds
    return jnp.where(fold[None, :] == jnp.arange(folds)[:, None], weight[None, :], 0.0)


@partial(jax.jit, static_argnames="criterion")
def _judged(
    results: list[list[Candidates]], sizes: Int[Array, " m"], rows: Float[Array, ""],
    criterion: str,
) -> tuple[dict[str, Array], Int[Array, ""], Float[Array, ""]]:  # fmt: skip
    """Returns the columns of the table, its best row, and what that is worth (−inf: nothing).

    `results[0]` are the candidates of each family, the others those of each fold.
    """
    columns: dict[str, list[Array]] = {name: [] for name in Table._fields if name != "family"}
    for i, (fit, p, log_lik, entropy) in enumerate(results[0]):
        bic = p * jnp.log(rows) - 2 * log_lik
        held_out = sum((part[i].log_lik for part in results[1:]), jnp.zeros_like(log_lik)) / rows
        held_out = held_out if len(results) > 1 else jnp.full_like(log_lik, jnp.nan)
        values = (sizes, p, log_lik, bic, 2 * p - 2 * log_lik, bic + 2 * entropy,
                  held_out, fit.status, fit.steps)  # fmt: skip
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    table = {name: jnp.concatenate(parts) for name, parts in columns.items()}
    fallen = table["status"] >= Status.DEGENERATE
    score = preferred(CRITERIA[criterion] * table[criterion], fallen)
    row = jnp.argmax(score)
    return table, row, score[row]


def _counts(where: str, n_components: Any, n: int) -> list[int]:
    if not isinstance(n_components, Iterable) or isinstance(n_components, str):
        raise TypeError(
            f"{where}: n_components must be whole numbers such as range(1, 11), "
            f"got {n_components!r}"
        )
    counts = [checks.count(where, "n_components", k, most=n) for k in n_components]
    if not counts or len(set(counts)) < len(counts):
        raise ValueError(f"{where}: n_components must be different numbers, at least one, "
                         f"got {counts}")  # fmt: skip
    return counts


def _families(where: str, families: str | Family | Iterable[str | Family]) -> dict[str, Family]:
    given = [families] if isinstance(families, str | Family) else list(families)
    found = {str(family): family_of(where, family) for family in given}
    if not found or len(found) < len(given):
        raise ValueError(f"{where}: families must be different names, at least one, got {given}")
    return found


def select(
    key: Key,
    x: Data,
    n_components: Iterable[int] = range(1, 11),
    families: Iterable[str | Family] = ("full", "tied", "diag", "spherical"),
    *,
    criterion: str = "bic",
    start: str = "k-means",
    n_starts: int = 10,
    short_steps: int = 10,
    n_continued: int | None = None,
    folds: int | None = None,
    sample_weight: Weights | None = None,
    ridge: Scalar = 1e-6,
    tol: Scalar = 1e-4,
    max_steps: int = 200,
    layout: str | None = None,
    missing: bool = False,
) -> Selection:
    """Fits every family with every number of components and returns the best by a criterion.

    Args:
        key: draws the starts and the folds.
        x: rows of shape (n, d).
        n_components: numbers of components, each from 1 to n.
        families: names in `COVARIANCES`, or `factors(rank)`.
        criterion: a name in `selection.CRITERIA`: "bic", "aic", "icl" or "held_out".
        start: a name in `STARTS`. All families share their seeds.
        n_starts: starts of each candidate; the best counts.
        short_steps: as in `fit_best`.
        n_continued: as in `fit_best`.
        folds: also fit on all but one part of the rows, for each of so many parts, and report the
            log-likelihood of the part left out; it takes as many times longer.
        sample_weight: shape (n,); an integer weight is a repetition, zero an absence.
        ridge: as in `fit`.
        tol: as in `fit`.
        max_steps: as in `fit`.
        layout: as in `fit_best`.
        missing: as in `fit_best`; criteria are of what was observed.

    A candidate that is degenerate (see `Status`) is chosen only if all are.
    The result has shapes that depend on values, so `x` cannot be traced: inside `jit` or `vmap`
    use `fit_best`.

    Raises:
        TypeError, ValueError: bad rows, weights or key; no candidates; counts out of range; an
            unknown name; a criterion that needs folds without any; no candidate that is finite;
            gaps in a family that knows none.
    """
    where = "gmm.select"
    checks.key(where, key)
    if not checks.concrete(x) or not checks.concrete(sample_weight):
        raise TypeError(f"{where}: x and sample_weight must not be traced; inside jit, vmap or "
                        "grad use gmm.fit_best")  # fmt: skip
    x = checks.data(where, "x", x, missing=missing)
    checks.precise(where, "x", x)
    counts = _counts(where, n_components, x.shape[0])
    kinds = _families(where, families)
    if all(isinstance(kind, NamedFamily) for kind in kinds.values()):
        checks.upright(where, "x", x)
    checks.in_table(where, "criterion", criterion, CRITERIA)
    checks.in_table(where, "start", start, STARTS)
    n_starts, n_continued = starts_and_continued(where, n_starts, n_continued)
    weight = row_weights(where, x, sample_weight)
    rows_of = [x for _ in kinds]
    if missing:
        check_columns(where, x, weight)
        seen = [rows_with_gaps(where, x, weight, kind, max(counts)) for kind in kinds.values()]
        rows_of, weight = [rows for rows, _ in seen], seen[0][1]
    numbers = limits(where, x.dtype, ridge, tol, max_steps, short_steps)
    if folds is not None:
        folds = checks.count(where, "folds", folds, 2, int(jnp.sum(weight > 0)))
    elif criterion == "held_out":
        raise ValueError(f"{where}: criterion 'held_out' needs folds, got None")

    key_starts, key_folds = jax.random.split(key)
    active = jnp.asarray(counts)
    held = [] if folds is None else list(_dealt(key_folds, weight, folds))
    results = _fit_all(
        key_starts, rows_of, [(weight, weight)] + [(weight - part, part) for part in held], active,
        numbers, k=max(counts), families=list(kinds.values()), start=start, n_starts=n_starts,
        n_continued=n_continued, layout=layout_or_default(where, layout),
    )  # fmt: skip
    columns, best, worth = _judged(results, active, jnp.sum(weight), criterion)
    if float(worth) == -jnp.inf:
        raise ValueError(f"{where}: no fit is finite; scale the columns or give a larger ridge")
    row = int(best)
    table = Table(tuple(name for name in kinds for _ in counts), **columns)
    fits = {name: found.fit for name, found in zip(kinds, results[0], strict=True)}
    family = table.family[row]
    best = without_unused(fits[family].mixture, row % len(counts), kinds[family])
    return Selection(best, row, criterion, table, fits)


def _fit_all(
    key: Key, x: Sequence[Array | Observed], splits: list[tuple[Array, Array]], active: Array,
    numbers: Limits, *, k: int, families: Sequence[Family], start: str, n_starts: int,
    n_continued: int, layout: str,
) -> list[list[Candidates]]:  # fmt: skip
    """Returns the candidates of each family for each pair of weights to fit and to judge by.

    `x` holds the rows as each family takes them.

    Tracing stays in this thread, whose settings JAX would not find in others; compiling and
    running, which leave Python, go side by side.
    """
    weight = splits[0][0]
    draw = _draw.lower(
        key, x[0], weight, active, k=k, start=start, n_starts=n_starts, layout=layout
    )
    seeds = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), draw.out_info)
    fit = [
        _fit_family.lower(seeds, rows, weight, weight, active, numbers, k=k, family=family,
                          start=start, n_continued=n_continued, layout=layout)
        for family, rows in zip(families, x, strict=True)
    ]  # fmt: skip
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        draw, *fit = pool.map(lambda lowered: lowered.compile(), [draw, *fit])

        def candidates(job: tuple[int, Any, tuple[Array, Array]]) -> Candidates:
            program, seeds, (weight, judged) = job
            done = fit[program](seeds, x[program], weight, judged, active, numbers)
            return jax.block_until_ready(done)

        drawn = list(pool.map(lambda split: draw(key, x[0], split[0], active), splits))
        jobs = [(i, drawn[j], split) for j, split in enumerate(splits) for i in range(len(fit))]
        done = list(pool.map(candidates, jobs))
    return [done[i : i + len(fit)] for i in range(0, len(done), len(fit))]
