"""Two ways to evaluate a mixture, and the choice between them.

The natural form (`natural`) is the fast one and the whitened form (`covariances`) the one that no
data can upset.  Both map a tile of rows to log w_k + log N(x | k) and sum the same moments.
Shapes: n rows, c rows of a tile, k components, d features.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from jaxnn.gmm.family import Covariances, Means
from jaxnn.gmm.natural import EXACT, NATURAL, Natural, Sums
from jaxnn.linalg import tile_rows

# The largest sum of absolute terms of a log-density for which the natural form is trusted: rounding
# in every term then adds up to 2e-3 nats in float32, 4e-12 in float64; in practice to far less.
LARGEST_SUM = 2**14
# Fewer multiplications than this are done before a second program would have been compiled.
SMALL = 2**15

LogWeights = Float[Array, " k"]
Joint = Float[Array, "k c"]
Result = TypeVar("Result")


class Form(NamedTuple):
    """A way to evaluate one mixture, tile by tile.

    `joint` maps rows to what `collect` needs and to log w_k + log N(x | k) (nats); `collect` sums
    over the tile, weighted by responsibilities; `finish` turns such sums, added up, into counts
    and first and second whitened moments.  `width` is how much a row occupies meanwhile (numbers
    of 8 bytes), and `lanes` how many tiles are worth working on at a time.
    """

    joint: Callable[[Float[Array, "c d"]], tuple[Any, Joint]]
    collect: Callable[[Any, Joint], PyTree]
    finish: Callable[[Any], Sums]
    width: int
    lanes: int

    def tile(self, n: int) -> int:
        """Returns how many of n rows a tile holds."""
        return tile_rows(n, self.width)


def _constant(log_weights: LogWeights, means: Means, cov: Covariances) -> Float[Array, " k"]:
    return log_weights - cov.log_det(means) - 0.5 * means.shape[1] * math.log(2 * math.pi)


def whitened(log_weights: LogWeights, means: Means, cov: Covariances) -> Form:
    """Returns the form that is right for every mixture."""
    whiten = cov.whitener(means)
    constant = _constant(log_weights, means, cov)

    def joint(x: Float[Array, "c d"]) -> tuple[Float[Array, "k d c"], Joint]:
        y = whiten(x)
        return y, constant[:, None] - 0.5 * jnp.sum(y * y, axis=1)

    def collect(y: Float[Array, "k d c"], resp: Joint) -> Sums:
        # As products: a sum over long rows compiles to three loops, a product to a call.
        counts = resp @ jnp.ones(resp.shape[1], resp.dtype)
        first = jnp.einsum("kdc,kc->kd", y, resp)
        return counts, first, cov.second(y, resp)

    return Form(joint, collect, finish=lambda sums: sums, width=means.size, lanes=1)


def linear(natural: Natural, log_weights: LogWeights, means: Means, cov: Covariances) -> Form:
    """Returns the fast form, linear in the statistics of a row."""
    constant = _constant(log_weights, means, cov)

    def joint(x: Float[Array, "c d"]) -> tuple[Float[Array, "f c"], Joint]:
        t = natural.statistics(natural.place(x))
        return t, jnp.matmul(natural.eta, t, precision=EXACT) + constant[:, None]

    k, f = natural.eta.shape
    width = (f + 3 * k) * means.dtype.itemsize // 8
    return Form(joint, natural.collect, natural.finish, width, lanes=2)


def choose(
    log_weights: LogWeights,
    means: Means,
    cov: Covariances,
    n: int,
    run: Callable[[Form], Result],
) -> Result:
    """Returns `run(form)` of the fast form where it is accurate, else of the whitened one.

    The choice is made by the mixture's own numbers, inside the program; under `vmap` it is one for
    all members, since both forms would be run otherwise.
    """
    safe = lambda: run(whitened(log_weights, means, cov))
    if type(cov) not in NATURAL or n * means.size < SMALL:
        return safe()
    alive = log_weights > -jnp.inf
    centre = lax.stop_gradient(jax.nn.softmax(log_weights) @ means)
    natural = NATURAL[type(cov)](cov, means, centre)
    natural = natural._replace(eta=jnp.where(alive[:, None], natural.eta, 0.0))
    return lax.cond(
        _for_all(trusted(natural, alive)),
        lambda: run(linear(natural, log_weights, means, cov)),
        safe,
    )


@jax.custom_batching.custom_vmap
def _for_all(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """Returns the flag; under `vmap` whether that of every member is set."""
    return flag


@_for_all.def_vmap
def _for_all_members(
    size: int, batched: list[bool], flags: Bool[Array, " b"]
) -> tuple[Bool[Array, ""], bool]:
    return _for_all(jnp.all(flags, axis=0)), False


def trusted(natural: Natural, alive: Bool[Array, " k"]) -> Bool[Array, ""]:
    """Returns whether rounding stays invisible for rows as far out as the components reach."""
    probes = jnp.where(alive[None, :], natural.probes, 0.0)
    terms = jnp.abs(natural.eta) @ jnp.abs(natural.statistics(probes))
    return jnp.max(terms) < LARGEST_SUM  # false for NaN too
