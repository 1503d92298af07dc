"""The components of a mixture as plain Gaussians, whatever their family.

Shapes: k components, d features, c rows.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn.gmm.covariances import Full
from jaxnn.gmm.model import GMM


def roots(mixture: GMM) -> Float[Array, "k d d"]:
    """Returns a lower triangular root of every covariance."""
    cov = mixture.cov
    if type(cov) is Full:
        return cov.scale_tril
    return jnp.linalg.cholesky(cov.covariances(mixture.means))


def joint(mixture: GMM, y: Float[Array, "k d c"]) -> Float[Array, "k c"]:
    """Returns log w_k + log N(x | k) from whitened rows y (nats): the safe form, in full."""
    d = mixture.means.shape[1]
    constant = mixture.log_weights - mixture.cov.log_det(mixture.means)
    return (constant - 0.5 * d * math.log(2 * math.pi))[:, None] - 0.5 * jnp.sum(y * y, axis=1)
