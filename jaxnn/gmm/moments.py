"""The E-step as a fold of rows into moments that add up; its public door is in `expectation`.

Tile by tile: no responsibilities of all rows are kept, and data that is streamed or spread over
devices only changes who adds.  Moments are taken in the whitened coordinates of the mixture that
made them (see `covariances`), so they belong to it.
Shapes: n samples, d features, k components.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from jaxnn import checks
from jaxnn.gmm.forms import Form
from jaxnn.gmm.model import GMM, by_form, evidence
from jaxnn.linalg import sum_rows
from jaxnn.types import Data, Weights


class Moments(NamedTuple):
    """Sums over rows, weighted by responsibilities; add them leaf by leaf.

    `counts` Σ r, `first` Σ r y and `second` Σ r yyᵀ (as far as the family needs it) with
    y = S⁻¹(x − m) of the mixture they belong to; `log_lik` is the log-likelihood (nats).
    """

    counts: Float[Array, " k"]
    first: Float[Array, "k d"]
    second: PyTree
    log_lik: Float[Array, ""]


def moments(
    mixture: GMM, x: Float[Array, "n d"], weight: Float[Array, " n"], missing: bool = False
) -> Moments:
    """Returns the E-step's moments; with `missing`, of rows in which NaN is a gap."""

    def run(form: Form) -> Moments:
        def of_tile(
            tile: tuple[Float[Array, "c d"], Float[Array, " c"]], fresh: Bool[Array, " c"]
        ) -> tuple[PyTree, Float[Array, ""]]:
            rows, w = tile[0], tile[1] * fresh
            state, joint = form.joint(rows)
            terms, log_density = evidence(joint)
            resp = terms * (w / jnp.sum(terms, axis=0))[None]
            return form.collect(state, resp), jnp.sum(w * log_density)

        sums, log_lik = sum_rows(of_tile, (x, weight), form.tile(x.shape[0]), form.lanes)
        counts, first, second = form.finish(sums)
        return Moments(counts=counts, first=first, second=second, log_lik=log_lik)

    return by_form(mixture, x.shape[0], run, missing)


def rows_to_learn(where: str, x: Data, missing: bool | None = None) -> Float[Array, "n d"]:
    """Returns checked rows of which means and variances can be taken."""
    rows = checks.data(where, "x", x, missing=missing)
    checks.precise(where, "x", rows)
    checks.room(where, "x", rows, 2)
    return rows


def row_weights(where: str, x: Array, sample_weight: Weights | None) -> Float[Array, " n"]:
    """Returns the checked weights of the rows of `x`, in its dtype; ones where there are none."""
    if sample_weight is None:
        return jnp.ones(x.shape[0], x.dtype)
    return checks.weights(where, "sample_weight", sample_weight, x.shape[0]).astype(x.dtype)
