"""Criteria that weigh fit against size: BIC, AIC and ICL.  Nats; lower is better in all three."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnn.gmm.model import GMM, door, joint_rows, tile_of
from jaxnn.gmm.moments import row_weights
from jaxnn.linalg import fold_rows
from jaxnn.types import Data, Weights


def n_parameters(mixture: GMM) -> int | Array:
    """Returns how many free numbers the components of positive weight have."""
    d = mixture.means.shape[1]
    k = jnp.sum(mixture.log_weights > -jnp.inf)
    return mixture.cov.n_parameters(k, d) + k * d + k - 1


def fit_and_entropy(
    mixture: GMM, x: Float[Array, "n d"], weight: Float[Array, " n"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the log-likelihood of the rows and the entropy of their responsibilities (nats)."""
    joint_of = joint_rows(mixture)

    def step(
        total: tuple[Array, Array], tile: tuple[Array, Array], fresh: Bool[Array, " c"]
    ) -> tuple[Array, Array]:
        rows, w = tile
        joint = joint_of(rows)[1]
        evidence = jax.nn.logsumexp(joint, axis=0)
        log_resp = joint - evidence[None]
        # A component switched off has log_resp −inf and adds nothing, also to the gradient.
        resp = jnp.exp(log_resp)
        surprise = -jnp.sum(resp * jnp.where(resp > 0, log_resp, 0.0), axis=0)
        w = w * fresh
        return total[0] + jnp.sum(w * evidence), total[1] + jnp.sum(w * surprise)

    zero = (jnp.zeros((), x.dtype), jnp.zeros((), x.dtype))
    return fold_rows(step, zero, (x, weight), tile_of(mixture, x.shape[0]))


_fit_and_entropy = jax.jit(fit_and_entropy)


def _sums(
    where: str, mixture: GMM, x: Data, sample_weight: Weights | None
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Returns minus twice the log-likelihood, the entropy, and the number of rows."""
    x = door(where, mixture, x)
    weight = row_weights(where, x, sample_weight)
    log_lik, entropy = _fit_and_entropy(mixture, x, weight)
    return -2 * log_lik, entropy, jnp.sum(weight)


def bic(mixture: GMM, x: Data, sample_weight: Weights | None = None) -> Float[Array, ""]:
    """Returns the Bayesian information criterion −2 log L + p log n: lower is better.

    Source: Schwarz (1978); the sign is scikit-learn's.  An integer weight counts as repetition.
    """
    deviance, _, n = _sums("gmm.bic", mixture, x, sample_weight)
    return deviance + n_parameters(mixture) * jnp.log(n)


def aic(mixture: GMM, x: Data, sample_weight: Weights | None = None) -> Float[Array, ""]:
    """Returns Akaike's information criterion −2 log L + 2p (Akaike, 1974): lower is better."""
    deviance, _, _ = _sums("gmm.aic", mixture, x, sample_weight)
    return deviance + 2 * n_parameters(mixture)


def icl(mixture: GMM, x: Data, sample_weight: Weights | None = None) -> Float[Array, ""]:
    """Returns the integrated completed likelihood BIC + 2 E: lower is better.

    E = −Σ_i Σ_k r_ik log r_ik is the entropy of the responsibilities, so components that overlap
    cost more than under `bic`; where each row is sure of its component the two are equal.
    Source: Biernacki, Celeux and Govaert (2000), with −2 times their sign.
    """
    deviance, entropy, n = _sums("gmm.icl", mixture, x, sample_weight)
    return deviance + n_parameters(mixture) * jnp.log(n) + 2 * entropy
