"""Fewer components: merge pairs so that the mean and covariance of the whole stay the same.

Shapes: k components, d features.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxnn import checks
from jaxnn.gmm.covariances import Full
from jaxnn.gmm.gaussians import roots
from jaxnn.gmm.model import GMM
from jaxnn.linalg import log_det_tril, root_tril


class Component(NamedTuple):
    """One component: log-weight, mean, root of its covariance, half its log-determinant."""

    log_weight: Float[Array, "*k"]
    mean: Float[Array, "*k d"]
    root: Float[Array, "*k d d"]
    log_det: Float[Array, "*k"]


def _components(mixture: GMM) -> Component:
    root = roots(mixture)
    return Component(mixture.log_weights, mixture.means, root, log_det_tril(root))


def _mixture(parts: Component) -> GMM:
    return GMM(log_weights=parts.log_weight, means=parts.mean, cov=Full(parts.root))


def _root(x: Array) -> Array:
    """Returns √x with derivative 0 at 0, where a component of weight zero would give NaN."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)


def _join(a: Component, b: Component) -> Component:
    """Returns the Gaussian with the weight, the mean and the covariance of both together."""
    alive = jnp.maximum(a.log_weight, b.log_weight) > -jnp.inf
    log_a, log_b = jnp.where(alive, a.log_weight, 0), jnp.where(alive, b.log_weight, 0)
    log_both = jnp.logaddexp(log_a, log_b)
    share_a, share_b = jnp.exp(log_a - log_both), jnp.exp(log_b - log_both)
    apart = b.mean - a.mean
    columns = [
        _root(share_a) * a.root,
        _root(share_b) * b.root,
        (_root(share_a) * _root(share_b) * apart)[:, None],
    ]
    root = root_tril(jnp.concatenate(columns, axis=1))
    log_weight = jnp.where(alive, log_both, -jnp.inf)
    return Component(log_weight, a.mean + share_b * apart, root, log_det_tril(root))


def _cost(a: Component, b: Component) -> Float[Array, ""]:
    """Returns Runnalls' bound of the KL divergence that joining two components costs."""
    both = _join(a, b)
    parts = [jnp.exp(c.log_weight) * c.log_det for c in (both, a, b)]
    return jnp.maximum(parts[0] - parts[1] - parts[2], 0)


def _at(parts: Component, i: Int[Array, "*any"]) -> Component:
    return jax.tree.map(lambda leaf: leaf[i], parts)


def _set(parts: Component, i: Int[Array, ""], one: Component) -> Component:
    return jax.tree.map(lambda leaf, new: leaf.at[i].set(new), parts, one)


@jax.jit
def _merge(mixture: GMM, i: Int[Array, ""], j: Int[Array, ""]) -> GMM:
    parts = _components(mixture)
    parts = _set(parts, i, _join(_at(parts, i), _at(parts, j)))
    rest = jnp.arange(mixture.log_weights.shape[0] - 1)
    return _mixture(_at(parts, rest + (rest >= j)))


def merge(mixture: GMM, i: int | Int[Array, ""], j: int | Int[Array, ""]) -> GMM:
    """Returns the mixture with components `i` and `j` made one, which takes the place of `i`.

    The new component has the weight, mean and covariance that the two have together, so those of
    the whole mixture stay.  Such covariances belong to no smaller family: the result is full.

    Args:
        mixture: of k >= 2 components, of any family.
        i: a component, from 0 to k - 1 (traced).
        j: another; those behind it move up by one.

    Raises:
        TypeError, ValueError: no mixture, fewer than 2 components, or no two different ones.
    """
    where = "gmm.merge"
    checks.instance(where, "mixture", mixture, GMM)
    k = mixture.log_weights.shape[-1]
    if k < 2:
        raise ValueError(f"{where}: mixture must have at least 2 components, got {k}")
    for name, number in (("i", i), ("j", j)):
        if checks.concrete(number):
            checks.count(where, name, number, least=0, most=k - 1)
    if checks.concrete(i) and checks.concrete(j) and int(i) == int(j):
        raise ValueError(f"{where}: i and j must be different components, got {int(i)} twice")
    return _merge(mixture, jnp.asarray(i), jnp.asarray(j))


class Reduction(NamedTuple):
    """A smaller mixture, and for each merge Runnalls' bound on its KL divergence (nats)."""

    mixture: GMM
    costs: Float[Array, " merges"]


@partial(jax.jit, static_argnames="k")
def _reduce(mixture: GMM, k: int) -> Reduction:
    parts = _components(mixture)
    many = mixture.log_weights.shape[0]
    each = jnp.arange(many)

    def costs_of(i: Int[Array, ""], parts: Component, alive: Array) -> Float[Array, " k"]:
        costs = jax.vmap(_cost, in_axes=(None, 0))(_at(parts, i), parts)
        return jnp.where(alive & (each != i), costs, jnp.inf)

    def step(state: tuple[Component, Array, Array], _: None) -> tuple[tuple, Array]:
        parts, table, alive = state
        place = jnp.argmin(table)
        i, j = jnp.sort(jnp.stack([place // many, place % many]))
        one, other = _at(parts, i), _at(parts, j)
        parts, alive = _set(parts, i, _join(one, other)), alive.at[j].set(False)
        new = costs_of(i, jax.lax.stop_gradient(parts), alive)
        table = table.at[j].set(jnp.inf).at[:, j].set(jnp.inf)
        return (parts, table.at[i].set(new).at[:, i].set(new), alive), _cost(one, other)

    fixed, alive = jax.lax.stop_gradient(parts), jnp.ones(many, bool)
    table = jax.lax.map(lambda i: costs_of(i, fixed, alive), each)
    (parts, _, alive), costs = jax.lax.scan(step, (parts, table, alive), length=many - k)
    kept = jnp.argsort(~alive, stable=True)[:k]
    return Reduction(_mixture(_at(parts, kept)), costs)


def reduce(mixture: GMM, k: int) -> Reduction:
    """Returns a mixture of `k` components, made by merging the cheapest pair again and again.

    A pair's price is the upper bound ½[(w_i + w_j) log|Σ_ij| − w_i log|Σ_i| − w_j log|Σ_j|] of the
    KL divergence of the mixture before from the one after (Runnalls, 2007, eq. 21).  Mean and
    covariance of the whole stay the same, and the result is full, as for `merge`.

    Args:
        mixture: of any family.
        k: how many components to keep, from 1 to as many as there are (static).

    Differentiable as long as the order of merges stays the same. Memory O(K² + K d²) for K
    components. Raises TypeError or ValueError for no mixture or a bad `k`.
    """
    where = "gmm.reduce"
    checks.instance(where, "mixture", mixture, GMM)
    return _reduce(mixture, checks.count(where, "k", k, most=mixture.log_weights.shape[-1]))
