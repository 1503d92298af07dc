"""Learning by contrastive divergence, from fresh chains and from persistent ones.

The gradient of the mean of -log p(v) is ∂F/∂θ averaged over the data, less its average over the
machine's own states.  Chains of Gibbs sweeps stand in for the latter: started at the data (Hinton,
2002), or carried on from update to update (Tieleman, 2008).

Persistent chains are a state, and a `ValueAndGrad` has none: `(params, batch, key)` must be all
that a gradient depends on.  To hide the chains among the parameters would hand them to the
optimizer, whose step is no Gibbs sweep.  So `persistent_divergence` takes the chains and returns
them moved on, for a loop with any optimizer, and `fit_persistent` is such a loop.

Shapes: n samples, v visible and h hidden units, m chains.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.rbm.model import (
    RBM,
    States,
    Visible,
    check_visible,
    free_energies,
    hidden_field,
    sweeps,
    visible_field,
)
from jaxnn.types import Key, Scalar, ValueAndGrad, Weights

Shares = Float[Array, " n"]
Chains = Float[ArrayLike, "m v"]


class Persistent(NamedTuple):
    """What `fit_persistent` returns.

    Attributes:
        params: The machine.
        chains: The states of its chains after the last update, samples of the machine.
        errors: The reconstruction error of the rows of each update.
    """

    params: RBM
    chains: Float[Array, "m v"]
    errors: Float[Array, " updates"]


def _means(params: RBM, v: Visible) -> Visible:
    """Returns the mean-field sweep: probabilities where `sweep` draws."""
    return params.mean(visible_field(params, jax.nn.sigmoid(hidden_field(params, v))))


def _shares(where: str, weight: Weights | None, v: Visible) -> Shares:
    """Returns each row's share in a mean: its weight over their sum."""
    n = v.shape[0]
    if weight is None:
        return jnp.full(n, 1 / n, v.dtype)
    weight = checks.weights(where, "weight", weight, n).astype(v.dtype)
    total = jnp.sum(weight)
    return weight / jnp.where(total > 0, total, 1)  # padding alone has no gradient


def _contrast(
    params: RBM,
    v: Visible,
    shares: Shares,
    chains: Float[Array, "m v"],
    chain_shares: Float[Array, " m"],
) -> tuple[Float[Array, ""], RBM]:
    """Returns the reconstruction error, and the gradient of F at the data less F at the chains."""

    def difference(params: RBM) -> Float[Array, ""]:
        data = jnp.sum(shares * free_energies(params, v))
        return data - jnp.sum(chain_shares * free_energies(params, chains))

    error = jnp.sum(shares * jnp.sum(jnp.square(v - _means(params, v)), axis=1))
    return error, jax.grad(difference)(params)


def contrastive_divergence(steps: int = 1) -> ValueAndGrad:
    """Returns CD-k, k = `steps`, as the function that a trainer descends (Hinton, 2002, eq. 5).

    The chains start at the rows of the batch and run k sweeps; as k grows, the gradient becomes
    that of the mean of -log p(v).  It is the gradient of no function, so the value is another
    one, the reconstruction error: the squared distance of a row to its mean-field reconstruction,
    summed over units and averaged over rows by weight.  It is cheap and draws nothing, but it is
    not what is descended: use `log_prob` to judge machines.

    Args:
        steps: Sweeps of block Gibbs, at least 1.

    Returns:
        `(params, batch, key) -> (value, gradient)`.  `batch` has the fields `x` (n, visible) and
        `weight`, (n,) with zeros for rows that only pad, or None for ones.  `key` None runs the
        chains on means instead of draws (Welling and Hinton, 2002).

    Raises:
        TypeError, ValueError: Fewer than one step; from the returned function, rows that are no
            states of the machine, or weights or a key that are none.

    >>> from typing import NamedTuple
    >>> from jaxnn import rbm
    >>> class Batch(NamedTuple):
    ...     x: Array
    ...     weight: Array | None
    >>> params = rbm.init(jax.random.key(0), 3, 2)
    >>> batch = Batch(x=jnp.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]], jnp.float32), weight=None)
    >>> value, gradient = contrastive_divergence(steps=5)(params, batch, jax.random.key(1))
    >>> value.shape, gradient.weight.shape
    ((), (3, 2))
    """
    where = "rbm.contrastive_divergence"
    steps = checks.count(where, "steps", steps)

    def descend(params: RBM, batch: Any, key: Key | None) -> tuple[Float[Array, ""], RBM]:
        v = check_visible(where, params, batch.x)
        shares = _shares(where, batch.weight, v)
        if key is None:
            chains = jax.lax.fori_loop(0, steps, lambda _, v: _means(params, v), v)
        else:
            checks.key(where, key)
            chains = sweeps(key, params, v, steps)
        return _contrast(params, v, shares, chains, shares)

    return descend


def persistent_divergence(
    key: Key,
    params: RBM,
    v: States,
    chains: Chains,
    steps: int = 1,
    *,
    sample_weight: Weights | None = None,
) -> tuple[Float[Array, ""], RBM, Float[Array, "m v"]]:
    """Returns the reconstruction error, the gradient, and the chains moved on (Tieleman, 2008).

    Args:
        key: A PRNG key, for the sweeps.
        params: The machine.
        v: Rows of data.
        chains: States of the visible units, from the last update; any number of rows.
        steps: Sweeps of block Gibbs, at least 1.
        sample_weight: Weights of the rows of `v`.

    Raises:
        TypeError, ValueError: A bad key, rows that are no states of the machine, bad weights, or
            fewer than one step.
    """
    where = "rbm.persistent_divergence"
    checks.key(where, key)
    steps = checks.count(where, "steps", steps)
    v, states = check_visible(where, params, v), check_visible(where, params, chains)
    states = sweeps(key, params, states, steps)
    shares = _shares(where, sample_weight, v)
    error, gradient = _contrast(params, v, shares, states, _shares(where, None, states))
    return error, gradient, states


@partial(jax.jit, static_argnames=("updates", "batch_size"))
def _fit_persistent(
    key: Key,
    params: RBM,
    v: Visible,
    weight: Float[Array, " n"],
    chains: Float[Array, "m v"],
    learning_rate: Float[Array, ""],
    steps: int | Array,
    updates: int,
    batch_size: int,
) -> Persistent:
    n = v.shape[0]

    def update(carry: tuple[RBM, Array], i: Array) -> tuple[tuple[RBM, Array], Array]:
        params, chains = carry
        key_rows, key_chains = jax.random.split(jax.random.fold_in(key, i))
        rows = jnp.arange(n)
        if batch_size < n:  # by weight, with replacement: the mean over rows is then plain
            rows = jax.random.choice(key_rows, n, (batch_size,), p=weight / jnp.sum(weight))
        shares = _shares("", weight if batch_size >= n else None, v[rows])
        chains = sweeps(key_chains, params, chains, steps)
        error, gradient = _contrast(params, v[rows], shares, chains, _shares("", None, chains))
        rate = learning_rate * (1 - i / updates).astype(v.dtype)
        return (jax.tree.map(lambda p, g: p - rate * g, params, gradient), chains), error

    (params, chains), errors = jax.lax.scan(update, (params, chains), jnp.arange(updates))
    return Persistent(params=params, chains=chains, errors=errors)


def fit_persistent(
    key: Key,
    params: RBM,
    v: States,
    *,
    updates: int,
    learning_rate: Scalar = 0.05,
    chains: int = 100,
    steps: int = 1,
    batch_size: int | None = None,
    sample_weight: Weights | None = None,
) -> Persistent:
    """Learns from persistent chains by plain gradient steps that shrink to zero (Tieleman, 2008).

    The chains start at fair coins (Bernoulli) or standard normal (Gaussian), and the learning rate
    falls linearly, so that the chains keep up with the machine.

    Args:
        key: A PRNG key.
        params: The machine to start from.
        v: Rows of data.
        updates: Steps of the parameters (static).
        learning_rate: Length of the first step (traced).
        chains: Number of persistent chains (static).
        steps: Sweeps of block Gibbs for each update.
        batch_size: Rows for each update, drawn by weight with replacement; all by default.
        sample_weight: Weights of the rows.

    Raises:
        TypeError, ValueError: A bad key, rows that are no states of the machine, bad weights, a
            number below 1, or a negative rate.
    """
    where = "rbm.fit_persistent"
    checks.key(where, key)
    v = check_visible(where, params, v)
    n, width = v.shape
    size = n if batch_size is None else batch_size
    counts = {"updates": updates, "chains": chains, "steps": steps, "batch_size": size}
    counts = {name: checks.count(where, name, value) for name, value in counts.items()}
    checks.non_negative(where, "learning_rate", learning_rate)
    if sample_weight is None:
        weight = jnp.ones(n, v.dtype)
    else:
        weight = checks.weights(where, "sample_weight", sample_weight, n).astype(v.dtype)
    key_start, key_updates = jax.random.split(key)
    return _fit_persistent(
        key_updates,
        params,
        v,
        weight,
        params.draw(key_start, jnp.zeros((counts["chains"], width), v.dtype)),
        jnp.asarray(learning_rate, v.dtype),
        counts["steps"],
        updates=counts["updates"],
        batch_size=counts["batch_size"],
    )
