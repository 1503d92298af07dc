"""The E-step: a fold of rows into moments that add up.

Tile by tile: no responsibilities of all rows are kept, and data that is streamed or spread over
devices only changes who adds.  Moments are taken in the whitened coordinates of the mixture that
made them (see `covariances`), so they belong to it.
Shapes: n samples, d features, k components.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from jaxnn import checks
from jaxnn.gmm.model import GMM, door, joint_rows, tile_of
from jaxnn.linalg import fold_rows
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
    mixture: GMM, x: Float[Array, "n d"], weight: Float[Array, " n"], hard: bool = False
) -> Moments:
    """Returns the E-step's moments; `hard` gives each row wholly to its best component.

    The hard form is the classification EM of Celeux and Govaert (1992).
    """
    joint_of = joint_rows(mixture)
    k = mixture.means.shape[0]

    def of_tile(rows: Float[Array, "c d"], w: Float[Array, " c"]) -> Moments:
        y, joint = joint_of(rows)
        evidence = jax.nn.logsumexp(joint, axis=0)
        if hard:
            resp = jax.nn.one_hot(jnp.argmax(joint, axis=0), k, dtype=y.dtype, axis=0)
        else:
            resp = jnp.exp(joint - evidence[None])
        resp *= w[None]
        return Moments(
            counts=jnp.sum(resp, axis=1),
            first=jnp.sum(y * resp[:, None, :], axis=2),
            second=mixture.cov.second(y, resp),
            log_lik=jnp.sum(w * evidence),
        )

    def step(total: Moments, tile: tuple[Array, Array], fresh: Bool[Array, " c"]) -> Moments:
        rows, w = tile
        return jax.tree.map(jnp.add, total, of_tile(rows, w * fresh))

    zero = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(of_tile, x[:1], weight[:1]),
    )
    return fold_rows(step, zero, (x, weight), tile_of(mixture, x.shape[0]))


_moments = jax.jit(moments, static_argnames="hard")


def row_weights(where: str, x: Array, sample_weight: Weights | None) -> Float[Array, " n"]:
    """Returns the checked weights of the rows of `x`, in its dtype; ones where there are none."""
    if sample_weight is None:
        return jnp.ones(x.shape[0], x.dtype)
    return checks.weights(where, "sample_weight", sample_weight, x.shape[0]).astype(x.dtype)


def e_step(mixture: GMM, x: Data, sample_weight: Weights | None = None) -> Moments:
    """Returns the additive moments of `x` under `mixture` (Bishop, 2006, eq. 9.23).

    Moments of parts of the data, under the same mixture, add up to the moments of the whole.
    Raises TypeError or ValueError for bad rows or weights.
    """
    x = door("gmm.e_step", mixture, x)
    return _moments(mixture, x, row_weights("gmm.e_step", x, sample_weight))
