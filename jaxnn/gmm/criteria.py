"""Criteria that weigh fit against size: BIC, AIC and ICL.  Nats; lower is better in all three."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnn import memory
from jaxnn.gmm.forms import Form
from jaxnn.gmm.missing import counted
from jaxnn.gmm.model import GMM, by_form, door, evidence
from jaxnn.gmm.moments import row_weights
from jaxnn.linalg import sum_rows
from jaxnn.types import Data, Weights

Pair = tuple[Float[Array, ""], Float[Array, ""]]


def n_parameters(mixture: GMM) -> int | Array:
    """Returns how many free numbers the components of positive weight have."""
    d = mixture.means.shape[1]
    k = jnp.sum(mixture.log_weights > -jnp.inf)
    return mixture.cov.n_parameters(k, d) + k * d + k - 1


def fit_and_entropy(
    mixture: GMM, x: Float[Array, "n d"], weight: Float[Array, " n"], missing: bool = False
) -> Pair:
    """Returns the log-likelihood of the rows and the entropy of their responsibilities (nats)."""

    def run(form: Form) -> Pair:
        def of_tile(tile: tuple[Array, Array], fresh: Bool[Array, " c"]) -> Pair:
            rows, w = tile[0], tile[1] * fresh
            joint = form.joint(rows)[1]
            _, log_density = evidence(joint)
            log_resp = joint - log_density[None]
            # A component switched off has log_resp −inf and adds nothing, also to the gradient.
            resp = jnp.exp(log_resp)
            surprise = -jnp.sum(resp * jnp.where(resp > 0, log_resp, 0.0), axis=0)
            return jnp.sum(w * log_density), jnp.sum(w * surprise)

        return sum_rows(of_tile, (x, weight), form.tile(x.shape[0]), form.lanes)

    return by_form(mixture, x.shape[0], run, missing)


_fit_and_entropy = partial(jax.jit, static_argnames="missing")(fit_and_entropy)


def _sums(
    where: str, mixture: GMM, x: Data, sample_weight: Weights | None, missing: bool
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Returns minus twice the log-likelihood, the entropy, and the number of rows."""
    x = door(where, mixture, x, missing)
    weight = row_weights(where, x, sample_weight)
    if missing:
        weight = counted(x, weight)
    log_lik, entropy = _fit_and_entropy(mixture, x, weight, missing)
    return -2 * log_lik, entropy, jnp.sum(weight)


@memory.budgeted
def bic(
    mixture: GMM,
    x: Data,
    sample_weight: Weights | None = None,
    *,
    missing: bool = False,
    memory_budget: memory.Budget = None,
) -> Float[Array, ""]:
    """Returns the Bayesian information criterion −2 log L + p log n: lower is better.

    With `memory_budget` tiles are as small as it asks for; see `jaxnn.memory`.

    `missing`: NaN stands for what was not observed, and L is the likelihood of the rest; n counts
    the rows of which something was observed.  Static.
    Source: Schwarz (1978); the sign is scikit-learn's.  An integer weight counts as repetition.
    Raises TypeError or ValueError as `e_step` does.
    """
    deviance, _, n = _sums("gmm.bic", mixture, x, sample_weight, missing)
    return deviance + n_parameters(mixture) * jnp.log(n)


@memory.budgeted
def aic(
    mixture: GMM,
    x: Data,
    sample_weight: Weights | None = None,
    *,
    missing: bool = False,
    memory_budget: memory.Budget = None,
) -> Float[Array, ""]:
    """Returns Akaike's information criterion −2 log L + 2p (Akaike, 1974): lower is better.

    With `memory_budget` tiles are as small as it asks for; see `jaxnn.memory`.

    `missing` and errors are those of `bic`.
    """
    deviance, _, _ = _sums("gmm.aic", mixture, x, sample_weight, missing)
    return deviance + 2 * n_parameters(mixture)


@memory.budgeted
def icl(
    mixture: GMM,
    x: Data,
    sample_weight: Weights | None = None,
    *,
    missing: bool = False,
    memory_budget: memory.Budget = None,
) -> Float[Array, ""]:
    """Returns the integrated completed likelihood BIC + 2 E: lower is better.

    With `memory_budget` tiles are as small as it asks for; see `jaxnn.memory`.

    E = −Σ_i Σ_k r_ik log r_ik is the entropy of the responsibilities, so components that overlap
    cost more than under `bic`; where each row is sure of its component the two are equal.
    Source: Biernacki, Celeux and Govaert (2000), with −2 times their sign.
    `missing` and errors are those of `bic`; responsibilities are given what was observed.
    """
    deviance, entropy, n = _sums("gmm.icl", mixture, x, sample_weight, missing)
    return deviance + n_parameters(mixture) * jnp.log(n) + 2 * entropy
