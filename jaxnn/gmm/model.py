"""Gaussian mixtures: density, posterior and samples.

p(x) = Σ_k w_k N(x | m_k, Σ_k) (Bishop, 2006, eq. 9.7).  Shapes: n rows, d features, k components.
Log-densities are nats.  A mixture is a pytree: a batch of mixtures has a leading axis on every
leaf, as `vmap` returns and takes it.  A weight of zero (log −inf) switches a component off.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxnn import checks
from jaxnn.gmm.families import COVARIANCES
from jaxnn.gmm.family import Covariances
from jaxnn.linalg import map_rows, tile_rows
from jaxnn.types import Data, Key


class GMM(NamedTuple):
    """A mixture: log-weights (nats), means (data units), and a covariance family."""

    log_weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    cov: Covariances


def from_covariances(
    weights: ArrayLike, means: ArrayLike, covariances: ArrayLike, *, family: str = "full"
) -> GMM:
    """Returns the mixture with these parameters.

    Args:
        weights: shape (k,), not negative, summing to 1.
        means: shape (k, d).
        covariances: data units squared; full (k, d, d), tied (d, d), diag (k, d), spherical (k,);
            where the family's constraint couples components, such as VEI, (k, d, d).
        family: a name in `COVARIANCES`.

    Raises:
        ValueError: wrong shapes, weights off the simplex, or a covariance that is not positive
            definite or not of the family.

    >>> means, variances = jnp.array([[-1.0], [1.0]]), jnp.array([0.25, 1.0])
    >>> mixture = from_covariances(jnp.array([0.5, 0.5]), means, variances, family="spherical")
    >>> [round(float(v), 3) for v in log_prob(mixture, jnp.array([[0.0]]))]
    [-1.743]
    """
    where = "gmm.from_covariances"
    checks.in_table(where, "family", family, COVARIANCES)
    means = checks.data(where, "means", means)
    checks.precise(where, "means", means)
    k, d = means.shape
    weights = checks.weights(where, "weights", weights, k)
    if checks.concrete(weights) and not checks.holds(lambda: jnp.abs(jnp.sum(weights) - 1) < 1e-5):
        raise ValueError(f"{where}: weights must sum to 1, got {weights.tolist()}")
    covariances = checks.floating(where, "covariances", covariances)
    checks.same_dtype(where, "weights", weights, "means", means.dtype)
    checks.same_dtype(where, "covariances", covariances, "means", means.dtype)
    checks.shape(where, "covariances", covariances, COVARIANCES[family].shape(k, d))
    checks.finite(where, "covariances", covariances)
    if checks.concrete(covariances) and not checks.holds(
        lambda: COVARIANCES[family].valid(covariances)
    ):
        raise ValueError(
            f"{where}: covariances must be symmetric, positive definite and of the family "
            f"{family}; add a small ridge to their diagonals, or choose another family"
        )
    cov = COVARIANCES[family].from_covariances(covariances)
    return GMM(log_weights=jnp.log(weights), means=means, cov=cov)


def door(where: str, mixture: GMM, x: Data) -> Array:
    """Returns `x` checked against `mixture`, whose own shapes are checked first."""
    checks.instance(where, "mixture", mixture, GMM)
    means = checks.floating(where, "mixture.means", mixture.means)
    checks.shape(where, "mixture.means", means, (None, None))
    checks.shape(where, "mixture.log_weights", mixture.log_weights, means.shape[:1])
    checks.instance(where, "mixture.cov", mixture.cov, Covariances)
    rows = checks.data(where, "x", x, means.shape[1])
    checks.same_dtype(where, "x", rows, "the mixture", means.dtype)
    return rows


def joint_rows(
    mixture: GMM,
) -> Callable[[Float[Array, "c d"]], tuple[Float[Array, "k d c"], Float[Array, "k c"]]]:
    """Returns the map of a tile of rows to whitened residuals and log w_k + log N(x | k)."""
    whiten = mixture.cov.whitener(mixture.means)
    d = mixture.means.shape[1]
    log_det = mixture.cov.log_det(mixture.means)
    constant = mixture.log_weights - log_det - 0.5 * d * math.log(2 * math.pi)

    def joint(x: Float[Array, "c d"]) -> tuple[Float[Array, "k d c"], Float[Array, "k c"]]:
        y = whiten(x)
        return y, constant[:, None] - 0.5 * jnp.sum(y * y, axis=1)

    return joint


def tile_of(mixture: GMM, n: int) -> int:
    """Returns the rows of a tile whose residuals fit the working set."""
    return tile_rows(n, mixture.means.size)


@jax.jit
def _log_joint(mixture: GMM, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
    joint = joint_rows(mixture)
    return map_rows(lambda tile: joint(tile)[1].T, x, tile_of(mixture, x.shape[0]))


def log_joint(mixture: GMM, x: Data) -> Float[Array, "n k"]:
    """Returns log w_k + log N(x_i | m_k, Σ_k) for every row and component (nats).

    Raises TypeError or ValueError for rows of another width, emptiness, NaN or infinity.
    """
    return _log_joint(mixture, door("gmm.log_joint", mixture, x))


@jax.jit
def _log_prob(mixture: GMM, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    joint = joint_rows(mixture)
    return map_rows(lambda tile: logsumexp(joint(tile)[1], axis=0), x, tile_of(mixture, x.shape[0]))


def log_prob(mixture: GMM, x: Data) -> Float[Array, " n"]:
    """Returns the log-density of each row (nats; density per data unit to the power d).

    Memory beyond the result is one tile.  Raises as `log_joint` does.
    """
    return _log_prob(mixture, door("gmm.log_prob", mixture, x))


def posterior(mixture: GMM, x: Data) -> Float[Array, "n k"]:
    """Returns the responsibilities p(k | x_i) (Bishop, 2006, eq. 9.13); rows sum to 1."""
    return jax.nn.softmax(_log_joint(mixture, door("gmm.posterior", mixture, x)), axis=1)


def predict(mixture: GMM, x: Data) -> Int[Array, " n"]:
    """Returns the component with the largest responsibility for each row."""
    return jnp.argmax(_log_joint(mixture, door("gmm.predict", mixture, x)), axis=1)


@partial(jax.jit, static_argnames="n")
def _sample(key: Key, mixture: GMM, n: int) -> Float[Array, "n d"]:
    key_component, key_noise = jax.random.split(key)
    component = jax.random.categorical(key_component, mixture.log_weights, shape=(n,))
    d = mixture.means.shape[1]
    noise = jax.random.normal(key_noise, (n, d), mixture.means.dtype)
    # In tiles, since a full covariance gathers a d × d factor for every row.
    return mixture.means[component] + map_rows(
        lambda rows: mixture.cov.colour(*rows), (component, noise), tile_rows(n, d * d)
    )


def sample(key: Key, mixture: GMM, n: int) -> Float[Array, "n d"]:
    """Returns `n` independent rows drawn from `mixture`: a component, then its Gaussian."""
    checks.key("gmm.sample", key)
    checks.instance("gmm.sample", "mixture", mixture, GMM)
    return _sample(key, mixture, checks.count("gmm.sample", "n", n))
