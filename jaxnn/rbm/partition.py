"""The partition function Z, exact and estimated, and the likelihood that needs it.

Shapes: n samples, v visible and h hidden units, m chains.  Everything is in nats.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxnn import checks, memory
from jaxnn.linalg import map_rows, tile_rows
from jaxnn.rbm.model import (
    RBM,
    States,
    check_machine,
    check_visible,
    free_energies,
    sweep,
    visible_field,
)
from jaxnn.types import Key, Scalar

MOST_UNITS = 24  # of the layer that is enumerated: 2^24 states


class Annealed(NamedTuple):
    """An estimate of log Z by annealed importance sampling.

    Attributes:
        log_partition: The logarithm of the mean weight, times the start's partition function.
        standard_error: Of `log_partition`: that of the mean weight, relative to it.
        log_weights: The logarithms of the importance weights of the chains.
    """

    log_partition: Float[Array, ""]
    standard_error: Float[Array, ""]
    log_weights: Float[Array, " m"]


@memory.budgeted
def log_partition(params: RBM, *, memory_budget: memory.Budget = None) -> Float[Array, ""]:
    """Returns log Z exactly, by a sum over all states of the smaller layer, tile by tile.

    With `memory_budget` tiles are as small as it asks for; see `jaxnn.memory`.

    The other layer is summed (or integrated, if it is Gaussian) in closed form.

    Raises:
        ValueError: If that layer has more than 24 units: see `annealed_log_partition`.
        TypeError: If `params` are none.

    >>> from jaxnn import rbm
    >>> params = rbm.init(jax.random.key(0), 3, 2, scale=0.0)
    >>> round(float(jnp.exp(log_partition(params))))  # all 2^5 states have energy zero
    32
    """
    where = "rbm.log_partition"
    check_machine(where, params)
    visible, hidden = params.weight.shape
    by_visible = params.discrete and visible < hidden
    units = visible if by_visible else hidden
    if units > MOST_UNITS:
        raise ValueError(
            f"{where}: the smaller layer must have at most {MOST_UNITS} units to be enumerated "
            f"(Gaussian units cannot be), got {units}; use rbm.annealed_log_partition"
        )

    def of_states(numbers: Int[Array, " s"]) -> Float[Array, " s"]:
        states = (numbers[:, None] >> jnp.arange(units)[None]) & 1
        states = states.astype(params.weight.dtype)
        if by_visible:
            return -free_energies(params, states)
        return states @ params.hidden_bias + params.log_sum(visible_field(params, states))

    rows = 2**units
    size = tile_rows(rows, 2 * (visible + hidden))
    return jax.nn.logsumexp(map_rows(of_states, jnp.arange(rows), size))


def log_prob(params: RBM, v: States, log_partition: Scalar) -> Float[Array, " n"]:
    """Returns log p(v) = -F(v) - log Z of each row, a density for Gaussian visible units.

    Args:
        params: The machine.
        v: Rows of states of the visible units.
        log_partition: log Z, from `log_partition` or from `annealed_log_partition`.

    Raises:
        TypeError, ValueError: Rows that are no states of the machine; a log Z that is no finite
            number.
    """
    where = "rbm.log_prob"
    v = check_visible(where, params, v)
    checks.shape(where, "log_partition", log_partition, ())
    constant = jnp.asarray(log_partition, v.dtype)
    checks.finite(where, "log_partition", constant)
    return -free_energies(params, v) - constant


def _between(base: RBM, params: RBM, beta: Array) -> RBM:
    return jax.tree.map(lambda a, b: (1 - beta) * a + beta * b, base, params)


@partial(jax.jit, static_argnames=("chains", "temperatures"))
def _anneal(key: Key, base: RBM, params: RBM, chains: int, temperatures: int) -> Annealed:
    dtype = params.weight.dtype
    hidden = params.weight.shape[1]
    key_start, key_sweeps = jax.random.split(key)
    field = jnp.broadcast_to(base.visible_bias[None], (chains, base.visible_bias.shape[0]))

    def warm(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
        v, log_weights = carry
        colder = _between(base, params, ((i + 1) / temperatures).astype(dtype))
        warmer = _between(base, params, (i / temperatures).astype(dtype))
        log_weights += free_energies(warmer, v) - free_energies(colder, v)
        return (sweep(jax.random.fold_in(key_sweeps, i), colder, v), log_weights), None

    start = (params.draw(key_start, field), jnp.zeros(chains, dtype))
    (_, log_weights), _ = jax.lax.scan(warm, start, jnp.arange(temperatures))
    log_mean = jax.nn.logsumexp(log_weights) - jnp.log(chains).astype(dtype)
    relative = jnp.exp(log_weights - log_mean)  # weights over their mean
    log_base = hidden * jnp.log(2).astype(dtype) + base.log_sum(field[:1])[0]
    return Annealed(
        log_partition=log_base + log_mean,
        standard_error=jnp.std(relative, ddof=1) / chains**0.5,
        log_weights=log_weights,
    )


def annealed_log_partition(
    key: Key,
    params: RBM,
    *,
    chains: int = 100,
    temperatures: int = 1000,
    base_bias: Float[ArrayLike, " v"] | None = None,
) -> Annealed:
    """Returns log Z by annealed importance sampling (Neal, 2001; Salakhutdinov and Murray, 2008).

    Chains start in independent units with visible biases `base_bias`, and the weights and biases
    are turned on in equal steps of β from 0 to 1, one sweep of Gibbs at each.  The mean of the
    importance weights is an unbiased estimate of Z / Z_base (S. and M., eqs. 11 to 18), whose
    standard error is given; where the chains miss a mode, it is too small, and more temperatures
    help.

    Args:
        key: A PRNG key.
        params: The machine.
        chains: Independent runs, at least 2 (static).
        temperatures: Steps of β (static).
        base_bias: Visible biases of the start, the machine's own by default; for Bernoulli units
            the log-odds of the data's means are a good choice.

    Raises:
        TypeError, ValueError: If `params` are none, the key is no key, a number is too small, or
            `base_bias` does not fit.
    """
    where = "rbm.annealed_log_partition"
    checks.key(where, key)
    check_machine(where, params)
    chains = checks.count(where, "chains", chains, least=2)
    temperatures = checks.count(where, "temperatures", temperatures)
    bias = params.visible_bias
    if base_bias is not None:
        bias = checks.floating(where, "base_bias", base_bias).astype(bias.dtype)
        checks.shape(where, "base_bias", bias, params.visible_bias.shape)
        checks.finite(where, "base_bias", bias)
    base = jax.tree.map(jnp.zeros_like, params)._replace(visible_bias=bias)
    return _anneal(key, base, params, chains, temperatures)
