"""What a belief about a mixture says of new rows, and what it comes down to.

Shapes: n rows, d features, k components.
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks, memory
from jaxnn.gmm.bayes import belief_door
from jaxnn.gmm.belief import BayesGMM
from jaxnn.gmm.model import GMM
from jaxnn.linalg import map_rows, tile_rows
from jaxnn.types import Data


def expected_mixture(posterior: BayesGMM) -> GMM:
    """Returns the mixture at the posterior's mean weights, means and precision matrices."""
    checks.instance("gmm.expected_mixture", "posterior", posterior, BayesGMM)
    return posterior.mixture()


def _log_gamma_ratio(z: Array, d: int) -> Array:
    """Returns log Γ(z + d/2) − log Γ(z) without cancellation, whatever the size of z."""
    whole = sum((jnp.log(z + i) for i in range(d // 2)), jnp.zeros_like(z))
    if d % 2 == 0:
        return whole
    z = z + d // 2
    inverse = 1 / jnp.maximum(z, 64.0)
    series = -1 / 8 + inverse * (1 / 128 + inverse * (5 / 1024 - inverse * (
        21 / 32768 + inverse * 399 / 262144)))  # fmt: skip
    far = jnp.log1p(inverse * series) - 0.5 * jnp.log(inverse)
    near = jnp.minimum(z, 64.0)
    return whole + jnp.where(z > 64.0, far, gammaln(near + 0.5) - gammaln(near))


@jax.jit
def _predictive(posterior: BayesGMM, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    d = posterior.means.shape[1]
    whiten = posterior.cov.whitener(posterior.means)
    free = posterior.dof + 1 - d
    shrink = posterior.mean_precision / ((1 + posterior.mean_precision) * posterior.dof)
    constant = (
        posterior.weights.log_mean()
        - posterior.cov.log_det(posterior.means)
        + _log_gamma_ratio(0.5 * free, d)
        + 0.5 * d * (jnp.log(shrink) - math.log(math.pi))
    )
    power = 0.5 * (posterior.dof + 1)

    def of_tile(rows: Float[Array, "c d"]) -> Float[Array, " c"]:
        y = whiten(rows)
        tails = jnp.log1p(shrink[:, None] * jnp.sum(y * y, axis=1))
        return jax.nn.logsumexp(constant[:, None] - power[:, None] * tails, axis=0)

    return map_rows(of_tile, x, tile_rows(x.shape[0], posterior.means.size))


@memory.budgeted
def predictive_log_prob(
    posterior: BayesGMM, x: Data, *, memory_budget: memory.Budget = None
) -> Float[Array, " n"]:
    """Returns the log-density of new rows, parameters integrated out (nats).

    With `memory_budget` tiles are as small as it asks for; see `jaxnn.memory`.

    A mixture of Student's t distributions (Bishop, 2006, eqs. 10.81 and 10.82).
    Raises TypeError or ValueError for rows of another width, emptiness, NaN or infinity.
    """
    where = "gmm.predictive_log_prob"
    checks.instance(where, "posterior", posterior, BayesGMM)
    return _predictive(posterior, belief_door(where, posterior, x))


def prune(mixture: GMM, least: ArrayLike = 1e-3) -> GMM:
    """Returns `mixture` with components of less weight than `least` switched off.

    Their log-weight is −inf, the others sum to 1 again; shapes stay, so that it can be compiled.
    The heaviest component always stays.  Raises ValueError unless 0 < least <= 1.
    """
    where = "gmm.prune"
    checks.instance(where, "mixture", mixture, GMM)
    checks.probability(where, "least", least)
    heaviest = jnp.max(mixture.log_weights)
    keep = mixture.log_weights >= jnp.minimum(jnp.log(jnp.asarray(least, heaviest.dtype)), heaviest)
    kept = jnp.where(keep, mixture.log_weights, -jnp.inf)
    return mixture._replace(log_weights=kept - jax.nn.logsumexp(kept))
