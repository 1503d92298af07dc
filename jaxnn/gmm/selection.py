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
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks
from jaxnn.gmm.covariances import COVARIANCES
from jaxnn.gmm.criteria import fit_and_entropy, n_parameters
from jaxnn.gmm.em import Fit
from jaxnn.gmm.model import GMM
from jaxnn.gmm.moments import row_weights
from jaxnn.gmm.restarts import (
    LAYOUTS,
    Limits,
    best_of,
    layout_or_default,
    limits,
    starts_and_continued,
)
from jaxnn.gmm.starts import STARTS, Seeds, draw_seeds, from_seeds
from jaxnn.types import Data, Key, Scalar, Weights

# Which way is better: −1 for the smallest, 1 for the largest.
CRITERIA = {"bic": -1, "aic": -1, "icl": -1, "held_out": 1}


class Table(NamedTuple):
    """One row for each family and number of components; `log_lik` and criteria are nats.

    `held_out` is the log-likelihood per row of data that the fit has not seen (NaN where it was
    not asked for).  `converged` and `steps` are those of the best start.
    """

    family: tuple[str, ...]
    n_components: Int[Array, " r"]
    n_parameters: Int[Array, " r"]
    log_lik: Float[Array, " r"]
    bic: Float[Array, " r"]
    aic: Float[Array, " r"]
    icl: Float[Array, " r"]
    held_out: Float[Array, " r"]
    converged: Bool[Array, " r"]
    steps: Int[Array, " r"]

    def __str__(self) -> str:
        """Returns the table as text, one line a row."""
        columns = [[name, *map(_text, column)] for name, column in self._asdict().items()]
        widths = [max(map(len, column)) for column in columns]
        return "\n".join(
            "  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True))
            for line in zip(*columns, strict=True)
        )


def _text(value: Any) -> str:
    value = value if isinstance(value, str) else value.item()
    return f"{value:.2f}" if isinstance(value, float) else str(value)


class Selection(NamedTuple):
    """All candidates, and the best of them by `criterion`: row `row` of `table`.

    `best` has no components that are switched off. `fits` holds the best start of every
    candidate, for each family with a leading axis of numbers of components, masked.
    """

    best: GMM
    row: int
    criterion: str
    table: Table
    fits: dict[str, Fit]

    def __str__(self) -> str:
        """Returns the table and its winner as text."""
        winner = f"{self.table.family[self.row]}, {self.table.n_components[self.row]} components"
        return f"{self.table}\nbest {self.criterion}: {winner}"


class Candidates(NamedTuple):
    """What the program of a family returns, with a leading axis of numbers of components."""

    fit: Fit
    n_parameters: Int[Array, " m"]
    log_lik: Float[Array, " m"]
    entropy: Float[Array, " m"]


@partial(jax.jit, static_argnames=("k", "start", "layout"))
def _draw(
    keys: Key, x: Float[Array, "n d"], weight: Float[Array, " n"], active: Int[Array, " m"],
    *, k: int, start: str, layout: str,
) -> Seeds:  # fmt: skip
    return draw_seeds(keys, x, weight, active, k, start, LAYOUTS[layout])


@partial(jax.jit, static_argnames=("k", "family", "start", "n_continued", "layout"))
def _fit_family(
    seeds: Seeds,
    x: Float[Array, "n d"],
    weight: Float[Array, " n"],
    judged: Float[Array, " n"],
    active: Int[Array, " m"],
    limits: Limits,
    *,
    k: int,
    family: str,
    start: str,
    n_continued: int,
    layout: str,
) -> Candidates:
    """Returns the best start for each number of components, judged on rows of weight `judged`."""

    def candidate(member: tuple[Seeds, Int[Array, ""]]) -> Candidates:
        drawn, use = member
        begin = lambda seed: from_seeds(seed, x, weight, use, k, family, start)
        best = best_of(begin, drawn, x, weight, limits, n_continued, layout).fit
        log_lik, entropy = fit_and_entropy(best.mixture, x, judged)
        return Candidates(best, jnp.asarray(n_parameters(best.mixture)), log_lik, entropy)

    return LAYOUTS[layout](candidate, (seeds, active))


def without_unused(mixture: GMM) -> GMM:
    """Returns the mixture without its components of weight zero (it must be concrete)."""
    used = jnp.flatnonzero(mixture.log_weights > -jnp.inf)
    variances = jax.ShapeDtypeStruct(mixture.means.shape[1:], mixture.means.dtype)
    shapes = [
        jax.eval_shape(partial(type(mixture.cov).from_variances, k=k), variances) for k in (1, 2)
    ]

    def take(leaf: Array, one: Any, two: Any) -> Array:
        axes = [i for i, sizes in enumerate(zip(one.shape, two.shape, strict=True)) if
                sizes[0] != sizes[1]]  # fmt: skip
        return jnp.take(leaf, used, axis=axes[0]) if axes else leaf  # shared by all components

    cov = jax.tree.map(take, mixture.cov, *shapes)
    return GMM(mixture.log_weights[used], mixture.means[used], cov)
