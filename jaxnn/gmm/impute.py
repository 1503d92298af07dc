"""What was probably there: missing values filled by their mean, or by draws.

Given what is observed of a row, a mixture is a mixture again, of conditional normals (Little and
Rubin, 2002, section 11.2).
Shapes: n rows, d features, k components, c rows of a tile.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn import checks, memory
from jaxnn.gmm.model import GMM, door
from jaxnn.gmm.observed import RULES, width
from jaxnn.linalg import map_rows, tile_rows
from jaxnn.types import Data, Key


def _coloured(mixture: GMM, y: Float[Array, "k d c"]) -> Float[Array, "k c d"]:
    """Returns the rows m_k + S_k y."""
    k, _, c = y.shape
    flat = jnp.swapaxes(y, 1, 2).reshape(k * c, -1)
    rows = mixture.cov.colour(jnp.repeat(jnp.arange(k), c), flat)
    return rows.reshape(k, c, -1) + mixture.means[:, None, :]


@jax.jit
def _impute(mixture: GMM, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    given_rows = RULES[type(mixture.cov)].rows(mixture.log_weights, mixture.means, mixture.cov)

    def of_tile(rows: Float[Array, "c d"]) -> Float[Array, "c d"]:
        missing = jnp.isnan(rows)
        given = given_rows(jnp.where(missing, 0.0, rows), missing)
        resp = jax.nn.softmax(given.joint, axis=0)
        mean = jnp.sum(resp[:, :, None] * _coloured(mixture, given.y), axis=0)
        return jnp.where(missing, mean, rows)

    return map_rows(of_tile, x, tile_rows(x.shape[0], width(mixture.cov, mixture.means)))


@memory.budgeted
def impute(mixture: GMM, x: Data, *, memory_budget: memory.Budget = None) -> Float[Array, "n d"]:
    """Returns `x` with E[missing | observed] wherever it is NaN; the rest is as it was.

    With `memory_budget` tiles are as small as it asks for; see `jaxnn.memory`.

    The mean over all components: Σ_k p(k | observed) E[missing | observed, k], best in squared
    error.  A row of NaN alone becomes the mean of the mixture.
    Raises TypeError or ValueError for bad rows, infinity, or a family that knows no gaps.

    >>> from jaxnn.gmm import from_covariances
    >>> both = jnp.array([[[1.0, 0.8], [0.8, 1.0]]])
    >>> mixture = from_covariances(jnp.ones(1), jnp.zeros((1, 2)), both)
    >>> [round(float(v), 3) for v in impute(mixture, jnp.array([[2.0, jnp.nan]]))[0]]
    [2.0, 1.6]
    """
    return _impute(mixture, door("gmm.impute", mixture, x, missing=True))


@jax.jit
def _sample_missing(key: Key, mixture: GMM, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    rule = RULES[type(mixture.cov)]
    given_rows = rule.rows(mixture.log_weights, mixture.means, mixture.cov)
    key_component, key_noise = jax.random.split(key)
    n, d = x.shape
    gumbel = jax.random.gumbel(key_component, (n, mixture.means.shape[0]), x.dtype)
    noise = jax.random.normal(key_noise, (n, d), x.dtype)

    def of_tile(tile: tuple[Array, Array, Array]) -> Float[Array, "c d"]:
        rows, g, e = tile
        missing = jnp.isnan(rows)
        given = given_rows(jnp.where(missing, 0.0, rows), missing)
        drawn = jnp.argmax(given.joint + g.T, axis=0)  # Gumbel's way to draw a component
        own = jnp.arange(rows.shape[0])
        y = (given.y + rule.noise(given.free, e.T[None]))[drawn, :, own]
        value = mixture.means[drawn] + mixture.cov.colour(drawn, y)
        return jnp.where(missing, value, rows)

    return map_rows(of_tile, (x, gumbel, noise), tile_rows(n, width(mixture.cov, mixture.means)))


@memory.budgeted
def sample_missing(
    key: Key, mixture: GMM, x: Data, *, memory_budget: memory.Budget = None
) -> Float[Array, "n d"]:
    """Returns `x` with a draw from p(missing | observed) for NaN; the rest is as it was.

    With `memory_budget` tiles are as small as it asks for; see `jaxnn.memory`.

    First a component of p(k | observed), then its conditional normal: one imputation of several,
    with other keys (Rubin, 1987), or what a mixture makes up from half a row.
    Raises TypeError or ValueError for a bad key, bad rows, infinity, or a family without gaps.
    """
    checks.key("gmm.sample_missing", key)
    return _sample_missing(key, mixture, door("gmm.sample_missing", mixture, x, missing=True))
