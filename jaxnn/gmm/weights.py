"""Beliefs about the weights of a mixture: Dirichlet, or the sticks of a Dirichlet process.

Prior and posterior are of the same class: `observe` adds the rows that each component owns.
Shapes: k components.  Divergences and logarithms are nats.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float


def _log_beta(a: Array, b: Array) -> Array:
    """Returns log B(a, b); that of jax.scipy is wrong in the seventh digit for b of 8 and more."""
    return gammaln(a) + gammaln(b) - gammaln(a + b)


@runtime_checkable
class Weights(Protocol):
    """What a belief about weights must offer."""

    @classmethod
    def prior(cls, concentration: Float[Array, ""], k: int) -> "Weights":
        """Returns the belief before any row: a small concentration favours few components."""
        ...

    def observe(self, counts: Float[Array, " k"]) -> "Weights":
        """Returns the belief after `counts` rows in each component."""
        ...

    def expected_log(self) -> Float[Array, " k"]:
        """Returns E[log w]."""
        ...

    def log_mean(self) -> Float[Array, " k"]:
        """Returns log E[w], of weights that sum to 1."""
        ...

    def divergence(self, prior: Any) -> Float[Array, ""]:
        """Returns the Kullback-Leibler divergence of this belief from `prior`."""
        ...


class Dirichlet(NamedTuple):
    """Weights of a known number of components (Bishop, 2006, eq. 10.39)."""

    concentration: Float[Array, " k"]

    @classmethod
    def prior(cls, concentration: Float[Array, ""], k: int) -> "Dirichlet":
        """Returns the same concentration for each of k components."""
        return cls(concentration=jnp.broadcast_to(concentration, (k,)))

    def observe(self, counts: Float[Array, " k"]) -> "Dirichlet":
        """Returns eq. 10.58."""
        return Dirichlet(concentration=self.concentration + counts)

    def expected_log(self) -> Float[Array, " k"]:
        """Returns eq. 10.66."""
        return digamma(self.concentration) - digamma(jnp.sum(self.concentration))

    def log_mean(self) -> Float[Array, " k"]:
        """Returns the logarithm of eq. 10.69."""
        return jnp.log(self.concentration) - jnp.log(jnp.sum(self.concentration))

    def divergence(self, prior: "Dirichlet") -> Float[Array, ""]:
        """Returns minus eq. 10.73 plus eq. 10.76."""
        a, b = self.concentration, prior.concentration
        norm = gammaln(jnp.sum(a)) - jnp.sum(gammaln(a))
        norm_prior = gammaln(jnp.sum(b)) - jnp.sum(gammaln(b))
        return norm - norm_prior + jnp.sum((a - b) * self.expected_log())


class StickBreaking(NamedTuple):
    """Weights of a Dirichlet process: w_j = v_j Π_{l<j} (1 − v_l), v_j ~ Beta(taken, left).

    Blei and Jordan (2006).  Rows belong to the first k components only; all sticks, the k-th
    among them, keep a Beta posterior, and those beyond keep their prior (Kurihara, Welling and
    Vlassis, 2007): what scikit-learn does.  `log_mean` shares out what is left of the stick.
    """

    taken: Float[Array, " k"]
    left: Float[Array, " k"]

    @classmethod
    def prior(cls, concentration: Float[Array, ""], k: int) -> "StickBreaking":
        """Returns sticks v ~ Beta(1, concentration)."""
        left = jnp.broadcast_to(concentration, (k,))
        return cls(taken=jnp.ones_like(left), left=left)

    def observe(self, counts: Float[Array, " k"]) -> "StickBreaking":
        """Returns Blei and Jordan (2006), eqs. 18 and 19."""
        after = jnp.cumsum(counts[::-1])[::-1] - counts
        return StickBreaking(taken=self.taken + counts, left=self.left + jnp.maximum(after, 0.0))

    def expected_log(self) -> Float[Array, " k"]:
        """Returns E[log v_j] + Σ_{l<j} E[log(1 − v_l)]."""
        total = digamma(self.taken + self.left)
        rest = digamma(self.left) - total
        return digamma(self.taken) - total + jnp.cumsum(rest) - rest

    def log_mean(self) -> Float[Array, " k"]:
        """Returns the logarithm of E[v_j] Π_{l<j} E[1 − v_l], made to sum to 1."""
        total = jnp.log(self.taken + self.left)
        rest = jnp.log(self.left) - total
        log_mean = jnp.log(self.taken) - total + jnp.cumsum(rest) - rest
        return log_mean - jnp.log(jnp.sum(jnp.exp(log_mean)))

    def divergence(self, prior: "StickBreaking") -> Float[Array, ""]:
        """Returns the sum over the k sticks."""
        total = digamma(self.taken + self.left)
        gained = (self.taken - prior.taken) * (digamma(self.taken) - total)
        gained += (self.left - prior.left) * (digamma(self.left) - total)
        return jnp.sum(
            gained - _log_beta(self.taken, self.left) + _log_beta(prior.taken, prior.left)
        )


WEIGHT_PRIORS: dict[str, type[Weights]] = {
    "dirichlet": Dirichlet,
    "dirichlet process": StickBreaking,
}
