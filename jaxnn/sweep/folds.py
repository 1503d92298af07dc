"""Cross-validation as one more axis of a sweep: folds are weights of rows, and no data is copied.

A row of folds says for each row of the data in which fold it is held out; -1 uses it in none.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from jaxnn import checks
from jaxnn.sweep.axes import HParams, array_of, members_of, take
from jaxnn.sweep.groups import run_groups
from jaxnn.sweep.held import Folds, held_out
from jaxnn.sweep.run import FitOne, Sweep, members
from jaxnn.types import Key, Segments


def _repeats(where: str, key: Key | None, repeats: int) -> int:
    if key is not None:
        checks.key(where, key)
    elif repeats != 1:
        raise ValueError(f"{where}: repeats must be 1 without a key to shuffle by, got {repeats}")
    return checks.count(where, "repeats", repeats)


def _blocks(rank: np.ndarray, n: int | np.ndarray, folds: int) -> np.ndarray:
    """Returns the fold of each rank among n: consecutive blocks, the first ones longer by one."""
    size, longer = n // folds, n % folds
    head = longer * (size + 1)
    after = longer + (rank - head) // np.maximum(size, 1)
    return np.where(rank < head, rank // (size + 1), after).astype(np.int32)


def k_fold(n: int, folds: int, *, key: Key | None = None, repeats: int = 1) -> Folds:
    """Returns the fold of each of n rows, (repeats, n): folds of equal size, or nearly.

    Blocks of consecutive rows, as scikit-learn's `KFold`; with a key rows are shuffled first, anew
    for each of the repeats. Raises ValueError for fewer than 2 folds or more than rows.

    >>> k_fold(5, 2).tolist()
    [[0, 0, 0, 1, 1]]
    """
    where = "sweep.k_fold"
    n = checks.count(where, "n", n, least=2)
    folds = checks.count(where, "folds", folds, least=2, most=n)
    repeats = _repeats(where, key, repeats)
    blocks = jnp.asarray(_blocks(np.arange(n), n, folds))
    if key is None:
        return blocks[None]
    return jax.vmap(lambda k: jax.random.permutation(k, blocks))(jax.random.split(key, repeats))


def stratified(
    y: Int[ArrayLike, " n"], folds: int, *, key: Key | None = None, repeats: int = 1
) -> Folds:
    """Returns the fold of each row, (repeats, n), with each class spread evenly over the folds.

    As scikit-learn's `StratifiedKFold`; with a key the rows of each class are shuffled first, anew
    for each of the repeats. On the host. Raises TypeError or ValueError for labels that are not
    whole numbers, and if no class has a row for each fold.
    """
    where = "sweep.stratified"
    labels = jnp.asarray(y)
    checks.shape(where, "y", labels, (None,))
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"{where}: y must hold whole numbers, got {labels.dtype}")
    folds = checks.count(where, "folds", folds, least=2, most=len(labels))
    repeats = _repeats(where, key, repeats)
    _, first, which = np.unique(np.asarray(labels), return_index=True, return_inverse=True)
    if np.bincount(which).max() < folds:
        raise ValueError(f"{where}: folds must not exceed the rows of every class, got {folds}")
    group = first[which]  # classes in the order in which they appear
    turn = np.arange(len(group)) % folds
    by_class = np.sort(group, kind="stable")
    dealt = turn[np.lexsort((turn, by_class))]
    shuffle = np.zeros((repeats, len(group)))
    if key is not None:
        shuffle = np.asarray(jax.random.uniform(key, (repeats, len(group))))
    found = np.empty((repeats, len(group)), np.int32)
    for row, order in zip(found, shuffle, strict=True):
        row[np.lexsort((order, group))] = dealt
    return jnp.asarray(found)


def _run(
    where: str, fit_one: FitOne | Segments, hparams: HParams, key: Key, folds: Folds,
    pairs: Sequence[tuple[int, int]], shared: tuple[PyTree, ...], options: dict[str, Any],
) -> Sweep:  # fmt: skip
    """Returns the sweep over all members and, fastest, pairs of a repeat and a fold."""
    columns = {name: members_of(where, name, values) for name, values in hparams.items()}
    n, seeded = members(where, columns), "seed" in columns
    for name in ("repeat", "fold"):
        if name in columns:
            raise ValueError(f"{where}: hparams must not have an axis {name!r} of its own")
    member = array_of(np.repeat(np.arange(n), len(pairs)))
    of_pair = np.tile(np.asarray(pairs, np.int32), (n, 1))
    own = {name: take(values, member) for name, values in columns.items()}
    own |= {"repeat": array_of(of_pair[:, 0]), "fold": array_of(of_pair[:, 1])}
    floats = [jnp.asarray(leaf).dtype for leaf in jax.tree.leaves(shared)]
    floats = [kind for kind in floats if jnp.issubdtype(kind, jnp.floating)]
    held = held_out(where, fit_one, seeded, floats[0] if floats else jnp.zeros(()).dtype)
    seed = {} if seeded else {"seed": member}
    done = run_groups(held, own | seed, key, folds, *shared, **options)
    return done._replace(hparams=own)


def _checked(where: str, folds: ArrayLike) -> Folds:
    array = jnp.asarray(folds)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{where}: folds must hold whole numbers, got {array.dtype}")
    array = array[None] if array.ndim == 1 else array
    checks.shape(where, "folds", array, (None, None))
    if array.size == 0 or int(jnp.max(array)) < 1:
        raise ValueError(f"{where}: folds must name at least 2 folds, got shape {array.shape}")
    return array


def cross_validate(
    fit_one: FitOne | Segments, hparams: HParams, key: Key, folds: Int[ArrayLike, "..."],
    *shared: PyTree, **options: Any,
) -> Sweep:  # fmt: skip
    """Returns `fit_one(hparams_i, key, train, held_out, *shared)` for every member and fold.

    `train` and `held_out` are weights of the rows, (n,), zeros and ones of the dtype of the shared
    data: fit with the former, score with the latter. Folds run under the same `vmap` as the
    members, and no rows are copied. Members of one seed share their random numbers in each fold.

    Args:
        fit_one: any pure function; or a fit in pieces, whose `init` and `advance` take the weights
            before the shared data.
        hparams: dict of columns, names among them (see `run_groups`).
        key: of a member's `seed`, or its number, and of the fold.
        folds: (n,) or (repeats, n) from `k_fold` or `stratified`, or by hand.
        *shared: arrays that all members use; rows must be n.
        **options: of `run_groups` and `run`.

    Returns:
        A `Sweep` with axes `repeat` and `fold` besides those of `hparams`, the folds fastest; see
        `average`.

    Raises:
        TypeError, ValueError: as `run_groups`, and for folds that are none.

    >>> x = jnp.array([1.0, 2.0, 6.0, 9.0])
    >>> def fit_one(hp, key, train, held_out, x):
    ...     mean = train @ x / (train.sum() + hp["pull"])
    ...     return held_out @ (x - mean) ** 2 / held_out.sum()
    >>> done = cross_validate(fit_one, {"pull": jnp.array([0.0])}, jax.random.key(0),
    ...                       k_fold(4, 2), x)
    >>> done.results.tolist()
    [36.25, 38.25]
    """
    where = "sweep.cross_validate"
    array = _checked(where, folds)
    count = int(jnp.max(array)) + 1
    pairs = [(repeat, fold) for repeat in range(len(array)) for fold in range(count)]
    return _run(where, fit_one, hparams, key, array, pairs, shared, options)


class Nested(NamedTuple):
    """Nested cross-validation: what a choice by cross-validation scores on rows it never saw.

    Attributes:
        scores: of the chosen member on the rows of each outer fold, (o,).
        chosen: number of that member, (o,).
        hparams: its hyperparameters, one entry an outer fold.
        inner: mean score of each member over the inner folds, (members, o).
    """

    scores: Float[Array, " o"]
    chosen: Int[Array, " o"]
    hparams: HParams
    inner: Float[Array, "m o"]


def nested(
    fit_one: Callable[..., Float[Array, ""]], hparams: HParams, key: Key,
    outer: Int[ArrayLike, "..."], inner: int, *shared: PyTree, mode: str = "min",
    shuffle: Key | None = None, **options: Any,
) -> Nested:  # fmt: skip
    """Chooses a member by cross-validation within each outer fold's training rows, and scores it.

    All inner folds and the final fits of all members are one sweep.

    Args:
        fit_one: as for `cross_validate`, returning one number.
        hparams: dict of columns.
        key: as for `cross_validate`.
        outer: the outer fold of each row, (n,), or (1, n).
        inner: number of inner folds, blocks of consecutive training rows.
        *shared: arrays that all members use.
        mode: whether the least (`min`) or the largest (`max`) score is best; NaN never is.
        shuffle: a key by which training rows are shuffled before they are cut into inner folds.
        **options: of `run_groups` and `run`.

    Raises:
        TypeError, ValueError: as `cross_validate`; more inner folds than training rows; scores
            that are not one number; a fold in which every member's score is NaN.
    """
    where = "sweep.nested"
    array = _checked(where, outer)
    checks.shape(where, "outer", array, (1, None))
    best = {"min": (jnp.nanargmin, jnp.inf), "max": (jnp.nanargmax, -jnp.inf)}
    checks.in_table(where, "mode", mode, best)
    # On the host: a program for each of these small steps would take longer than all of them.
    of_row = np.asarray(array[0])
    count = int(of_row.max()) + 1
    train = (of_row[None] != np.arange(count)[:, None]) & (of_row >= 0)[None]
    sizes = train.sum(axis=1, keepdims=True)
    inner = checks.count(where, "inner", inner, least=2, most=int(sizes.min()))
    order = np.arange(len(of_row))
    if shuffle is not None:
        checks.key(where, shuffle)
        order = np.asarray(jax.random.permutation(shuffle, len(order)))
    rank = np.empty(train.shape, int)
    rank[:, order] = np.cumsum(train[:, order], axis=1) - 1
    within = np.where(train, _blocks(rank, sizes, inner), -1)
    final = np.where(train, 1, np.where(of_row >= 0, 0, -1))
    pairs = [(o, i) for o in range(count) for i in range(inner)]
    pairs += [(count + o, 0) for o in range(count)]
    folds = jnp.asarray(np.concatenate([within, final.astype(np.int32)]))
    done = _run(where, fit_one, hparams, key, folds, pairs, shared, options)
    size = done.hparams["fold"].shape[0]
    checks.shape(where, "each score", done.results, (size,))
    scores = done.results.reshape(-1, len(pairs))
    means = jnp.mean(scores[:, : count * inner].reshape(-1, count, inner), axis=2)
    if bool(jnp.any(jnp.all(jnp.isnan(means), axis=0))):
        raise ValueError(
            f"{where}: scores must be a number for some member, got only NaN in a fold"
        )
    chosen = best[mode][0](means, axis=0)
    own = {name: take(values[:: len(pairs)] if hasattr(values, "dtype") else
                      jax.tree.map(lambda a: a[:: len(pairs)], values), chosen)
           for name, values in done.hparams.items() if name not in ("repeat", "fold")}  # fmt: skip
    last = scores[chosen, count * inner + jnp.arange(count)]
    return Nested(scores=last, chosen=chosen, hparams=own, inner=means)
