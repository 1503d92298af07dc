"""How far apart mixtures are, and how spread out: bounds on the entropy, and KL by Monte Carlo.

Neither has a closed form for more than one component.  All in nats.
Shapes: k components, d features, n draws.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.gmm.gaussians import roots
from jaxnn.gmm.model import GMM, log_prob, sample
from jaxnn.gmm.summary import covariance
from jaxnn.linalg import inverse_tril, log_det_tril, root_tril
from jaxnn.types import Key


class Bounds(NamedTuple):
    """The entropy lies between `lower` and `upper` (nats; density per data unit to the d)."""

    lower: Float[Array, ""]
    upper: Float[Array, ""]


@jax.jit
def _entropy_bounds(mixture: GMM) -> Bounds:
    d = mixture.means.shape[1]
    scales, means, log_weights = roots(mixture), mixture.means, mixture.log_weights
    weights, log_det = jnp.exp(log_weights), log_det_tril(scales)
    inverse = inverse_tril(scales)
    constant = 0.5 * d * math.log(2 * math.pi)

    def row(one: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """Returns log Σ_j w_j exp(−distance from component i to j), for three distances."""
        mean, root, half = one
        apart = means - mean[None]
        both = root_tril(jnp.concatenate([scales, jnp.broadcast_to(root, scales.shape)], axis=2))
        # Root of Σ_i + Σ_j, in which Bhattacharyya's distance and N(m_i; m_j, Σ_i + Σ_j) live.
        y = jnp.sum(jnp.square(jnp.einsum("kij,kj->ki", inverse_tril(both), apart)), axis=1)
        both_det = log_det_tril(both)
        bhattacharyya = 0.25 * y + (both_det - 0.5 * d * math.log(2)) - 0.5 * (log_det + half)
        overlap = constant + both_det + 0.5 * y
        spread = jnp.sum(jnp.square(inverse @ root[None]), axis=(1, 2))
        z = jnp.sum(jnp.square(jnp.einsum("kij,kj->ki", inverse, apart)), axis=1)
        divergence = 0.5 * (spread - d + z) + log_det - half
        nearby = lambda distance: logsumexp(log_weights - distance)
        return nearby(bhattacharyya), nearby(divergence), nearby(overlap)

    close, far, overlap = jax.lax.map(row, (means, scales, log_det))
    own = weights @ (log_det + constant + 0.5 * d)
    gaussian = 0.5 * jnp.linalg.slogdet(covariance(mixture))[1] + constant + 0.5 * d
    return Bounds(
        lower=jnp.maximum(own - weights @ close, -(weights @ overlap)),
        upper=jnp.minimum(own - weights @ far, gaussian),
    )


def entropy_bounds(mixture: GMM) -> Bounds:
    """Returns a lower and an upper bound of the differential entropy, in closed form.

    Lower: the larger of the pairwise bound with Bhattacharyya's distance (Kolchinsky and Tracey,
    2017, eq. 10 with Chernoff's α = 1/2) and Jensen's −Σ w_i log Σ w_j N(m_i; m_j, Σ_i + Σ_j)
    (Huber et al., 2008, theorem 2).  Upper: the smaller of the pairwise bound with the
    Kullback-Leibler divergence (never above theorem 3 of Huber et al.) and the entropy of the
    Gaussian of the same covariance.  Both are exact for one component and for components far
    apart.  Work O(k² d³), memory O(k d²).
    """
    checks.instance("gmm.entropy_bounds", "mixture", mixture, GMM)
    return _entropy_bounds(mixture)


class Estimate(NamedTuple):
    """A Monte Carlo mean and its standard error (nats)."""

    value: Float[Array, ""]
    standard_error: Float[Array, ""]


@partial(jax.jit, static_argnames="n")
def _kl(key: Key, p: GMM, q: GMM, n: int) -> Estimate:
    x = jax.lax.stop_gradient(sample(key, p, n))
    log_p = log_prob(p, x)
    ratio = jax.lax.stop_gradient(log_p) - log_prob(q, x)
    apart = jax.lax.stop_gradient(ratio - jnp.mean(ratio))
    # A term of value 0 whose derivative is that of drawing from p: score times log-ratio, the
    # latter about its mean, which costs a degree of freedom and most of the noise.
    drawn = jnp.sum(jnp.expm1(log_p - jax.lax.stop_gradient(log_p)) * apart) / (n - 1)
    value = jnp.mean(ratio) + drawn
    error = jnp.sqrt(jnp.sum(jnp.square(apart)) / (n * (n - 1)))
    return Estimate(value, error)


def kl(key: Key, p: GMM, q: GMM, n: int) -> Estimate:
    """Returns KL(p ‖ q) = E_p[log p − log q] from `n` draws of p, with its standard error.

    Args:
        key: draws.
        p: the mixture that is drawn from.
        q: another of the same number of columns, of any family and size.
        n: draws, at least 2 (static).

    The gradient in q is that of the estimate; in p it is unbiased for that of KL (by the score
    function: no draw depends on p smoothly), the standard error is a constant.

    Raises:
        TypeError, ValueError: no key or mixtures; mixtures of different columns or dtypes; n < 2.
    """
    where = "gmm.kl"
    checks.key(where, key)
    checks.instance(where, "p", p, GMM)
    checks.instance(where, "q", q, GMM)
    checks.shape(where, "q.means", q.means, (None, p.means.shape[1]))
    checks.same_dtype(where, "q", q.means, "p", p.means.dtype)
    return _kl(key, p, q, checks.count(where, "n", n, least=2))
