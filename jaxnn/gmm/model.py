"""Gaussian mixtures: density, posterior and samples.

p(x) = Σ_k w_k N(x | m_k, Σ_k) (Bishop, 2006, eq. 9.7).  Shapes: n rows, d features, k components.
Log-densities are nats.  A mixture is a pytree: a batch of mixtures has a leading axis on every
leaf, as `vmap` returns and takes it.  A weight of zero (log −inf) switches a component off.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxnn import checks, memory, shapes
from jaxnn.gmm import forms
from jaxnn.gmm.families import COVARIANCES
from jaxnn.gmm.family import Covariances
from jaxnn.gmm.observed import RULES, rule_of, with_gaps
from jaxnn.linalg import map_rows, tile_rows
from jaxnn.types import Data, Key

Result = TypeVar("Result")


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


def check_mixture(where: str, mixture: GMM) -> Array:
    """Returns the means; raises unless `mixture` is one mixture, its arrays of one dtype."""
    checks.instance(where, "mixture", mixture, GMM)
    means = checks.floating(where, "mixture.means", mixture.means)
    checks.shape(where, "mixture.means", means, (None, None))
    checks.instance(where, "mixture.cov", mixture.cov, Covariances)
    shapes.agree(where, "mixture", mixture, dict(zip("kd", means.shape, strict=True)))
    for leaf in jax.tree.leaves(mixture):
        checks.same_dtype(where, "each leaf of mixture", leaf, "mixture.means", means.dtype)
    return means


def door(where: str, mixture: GMM, x: Data, missing: bool | None = None) -> Array:
    """Returns `x` checked against `mixture`, which is checked first.

    With `missing`, NaN passes, unless the family knows no gaps; None without that argument.
    """
    means = check_mixture(where, mixture)
    if missing:
        rule_of(where, mixture.cov)
    gaps = missing if type(mixture.cov) in RULES else None
    rows = checks.data(where, "x", x, means.shape[1], gaps)
    checks.same_dtype(where, "x", rows, "the mixture", means.dtype)
    return rows


def by_form(
    mixture: GMM, n: int, run: Callable[[forms.Form], Result], missing: bool = False
) -> Result:
    """Returns `run(form)` for the form in which n rows are best evaluated; see `forms`.

    With `missing`, that is the form of rows with gaps, where they are NaN.
    """
    return run(with_gaps(*mixture)) if missing else forms.choose(*mixture, n, run)


def evidence(joint: Float[Array, "k c"]) -> tuple[Float[Array, "k c"], Float[Array, " c"]]:
    """Returns w_k N(x | k) up to a factor a row, and log Σ_k w_k N(x | k) (nats)."""
    # Not −inf, where all densities are zero: minus itself that is NaN.
    top = lax.stop_gradient(jnp.max(joint, axis=0, initial=jnp.finfo(joint.dtype).min))
    terms = jnp.exp(joint - top[None])
    return terms, top + jnp.log(jnp.sum(terms, axis=0))


@partial(jax.jit, static_argnames="missing")
def _log_joint(mixture: GMM, x: Float[Array, "n d"], missing: bool = False) -> Float[Array, "n k"]:
    def run(form: forms.Form) -> Float[Array, "n k"]:
        return map_rows(lambda tile: form.joint(tile)[1].T, x, form.tile(x.shape[0]), form.lanes)

    return by_form(mixture, x.shape[0], run, missing)


def _joint(where: str, mixture: GMM, x: Data, missing: bool) -> Float[Array, "n k"]:
    return _log_joint(mixture, door(where, mixture, x, missing), missing)


@memory.budgeted
def log_joint(
    mixture: GMM, x: Data, *, missing: bool = False, memory_budget: memory.Budget = None
) -> Float[Array, "n k"]:
    """Returns log w_k + log N(x_i | m_k, Σ_k) for every row and component (nats).

    With `memory_budget` tiles are as small as it asks for; see `jaxnn.memory`.

    `missing`: NaN stands for what was not observed, and densities are those of the rest (a row of
    nothing else has density 1); without it NaN is refused.  Static.
    Raises TypeError or ValueError for rows of another width, emptiness, NaN or infinity, and for
    gaps in a family that knows none.
    """
    return _joint("gmm.log_joint", mixture, x, missing)


@partial(jax.jit, static_argnames="missing")
def _log_prob(mixture: GMM, x: Float[Array, "n d"], missing: bool = False) -> Float[Array, " n"]:
    def run(form: forms.Form) -> Float[Array, " n"]:
        # Kept for the backward pass, the statistics of all rows would be larger than the data.
        of_tile = jax.checkpoint(lambda tile: evidence(form.joint(tile)[1])[1])
        return map_rows(of_tile, x, form.tile(x.shape[0]), form.lanes)

    return by_form(mixture, x.shape[0], run, missing)


@memory.budgeted
def log_prob(
    mixture: GMM, x: Data, *, missing: bool = False, memory_budget: memory.Budget = None
) -> Float[Array, " n"]:
    """Returns the log-density of each row (nats; density per data unit to the power d).

    With `memory_budget` tiles are as small as it asks for; see `jaxnn.memory`.

    Memory beyond the result is one tile.  `missing` and errors are those of `log_joint`.
    """
    return _log_prob(mixture, door("gmm.log_prob", mixture, x, missing), missing)


@memory.budgeted
def posterior(
    mixture: GMM, x: Data, *, missing: bool = False, memory_budget: memory.Budget = None
) -> Float[Array, "n k"]:
    """Returns the responsibilities p(k | x_i) (Bishop, 2006, eq. 9.13); rows sum to 1.

    With `memory_budget` tiles are as small as it asks for; see `jaxnn.memory`.

    A row so far out that the logarithms of all densities overflow (in float32 some 1e19 standard
    deviations) has the weights of the mixture.  `missing` and errors are those of `log_joint`.
    """
    joint = _joint("gmm.posterior", mixture, x, missing)
    return _responsibilities(mixture.log_weights, joint)


@jax.jit
def _responsibilities(
    log_weights: Float[Array, " k"], joint: Float[Array, "n k"]
) -> Float[Array, "n k"]:
    lost = jnp.all(jnp.isneginf(joint), axis=1, keepdims=True)
    return jax.nn.softmax(jnp.where(lost, log_weights[None], joint), axis=1)


@partial(jax.jit, static_argnames="missing")
def _predict(mixture: GMM, x: Float[Array, "n d"], missing: bool = False) -> Int[Array, " n"]:
    def run(form: forms.Form) -> Int[Array, " n"]:
        of_tile = lambda tile: jnp.argmax(form.joint(tile)[1], axis=0)
        return map_rows(of_tile, x, form.tile(x.shape[0]), form.lanes)

    return by_form(mixture, x.shape[0], run, missing)


@memory.budgeted
def predict(
    mixture: GMM, x: Data, *, missing: bool = False, memory_budget: memory.Budget = None
) -> Int[Array, " n"]:
    """Returns the component with the largest responsibility for each row.

    With `memory_budget` tiles are as small as it asks for; see `jaxnn.memory`.

    `missing` and errors are those of `log_joint`.
    """
    return _predict(mixture, door("gmm.predict", mixture, x, missing), missing)


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
    """Returns `n` independent rows drawn from `mixture`: a component, then its Gaussian.

    Weights count in proportion: of those that do not sum to 1 the draws are the same.
    """
    checks.key("gmm.sample", key)
    check_mixture("gmm.sample", mixture)
    return _sample(key, mixture, checks.count("gmm.sample", "n", n))
