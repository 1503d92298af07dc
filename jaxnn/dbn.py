"""Deep belief networks: a stack of restricted Boltzmann machines, learned one at a time.

Each machine learns the states that the hidden units of the machine below take on the data; under
conditions this never lowers a bound on the likelihood of the data (Hinton, Osindero and Teh, 2006,
section 4).  `unroll` makes the stack into a network of sigmoid layers, from which the gradient of
a supervised loss starts ("pretraining and fine-tuning").

Shapes: n samples, v visible units, t hidden units of the last machine.
"""

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn import checks, mlp, rbm
from jaxnn.types import Data, Key

__all__ = ["Fit", "pretrain", "sample", "unroll"]

Stack: TypeAlias = tuple[rbm.RBM, ...]


@runtime_checkable
class Fit(Protocol):
    """How one machine learns: any optimizer, by contrastive divergence or otherwise."""

    def __call__(self, key: Key, params: rbm.RBM, v: Array, /) -> rbm.RBM:
        """Returns the machine after learning the rows `v`, from `params` on."""
        ...


def _check_stack(where: str, stack: Stack) -> None:
    if not isinstance(stack, tuple) or isinstance(stack, rbm.RBM) or not stack:
        raise TypeError(f"{where}: stack must be a tuple of machines, got {type(stack).__name__}")
    width = None
    for i, machine in enumerate(stack):
        wanted = rbm.RBM if i == 0 else rbm.Bernoulli
        if not isinstance(machine, wanted):
            raise TypeError(
                f"{where}: stack[{i}] must be {'an RBM' if i == 0 else 'rbm.Bernoulli'}, "
                f"got {type(machine).__name__}"
            )
        checks.shape(where, f"weight of stack[{i}]", machine.weight, (width, None))
        width = machine.weight.shape[1]


def _draw(key: Key, probability: Array) -> Array:
    return jax.random.bernoulli(key, probability).astype(probability.dtype)


def pretrain(
    key: Key, v: Data, hidden: Sequence[int], fit: Fit, *, units: str = "bernoulli"
) -> Stack:
    """Returns machines learned greedily, from the data up (Hinton, Osindero and Teh, 2006).

    Args:
        key: A PRNG key; machine i takes `fold_in(key, i)`.
        v: Rows of data, states of the visible units.
        hidden: Number of hidden units of each machine, from the data up.
        fit: `(key, params, v) -> params`, how one machine learns.  With the trainer:
            `lambda key, p, v: train.fit(key, p, train.Batch(v), cd, epochs=20).params`, where
            `cd = rbm.contrastive_divergence()`.
        units: What the units of the data are, a name in `rbm.VISIBLE`; all others are 0 or 1.

    Returns:
        A tuple of machines.  The rows of machine i + 1 are draws of the hidden units of machine i.

    Raises:
        TypeError, ValueError: A bad key; no widths, or one below 1; an unknown name; a `fit` that
            returns no machine of the same shape; and what `fit` raises for the rows.

    >>> from jaxnn import train
    >>> cd = rbm.contrastive_divergence()
    >>> fit = lambda key, p, v: train.fit(key, p, train.Batch(v), cd, epochs=2).params
    >>> v = jax.random.bernoulli(jax.random.key(0), 0.3, (20, 6)).astype(jnp.float32)
    >>> [type(m).__name__ for m in pretrain(jax.random.key(1), v, (4, 3), fit)]
    ['Bernoulli', 'Bernoulli']
    """
    where = "dbn.pretrain"
    checks.key(where, key)
    rows = checks.data(where, "v", v)
    if not hasattr(hidden, "__len__"):
        raise TypeError(f"{where}: hidden must be the widths from the data up, got {hidden!r}")
    checks.count(where, "the number of machines", len(hidden))
    stack = ()
    for i, width in enumerate(hidden):
        key_init, key_fit, key_draw = jax.random.split(jax.random.fold_in(key, i), 3)
        start = rbm.init(
            key_init,
            rows.shape[1],
            checks.count(where, f"hidden[{i}]", width),
            units=units if i == 0 else "bernoulli",
            dtype=rows.dtype,
        )
        machine = fit(key_fit, start, rows)
        if type(machine) is not type(start):
            raise TypeError(
                f"{where}: fit must return {type(start).__name__}, got {type(machine).__name__}"
            )
        checks.shape(where, "weight from fit", machine.weight, start.weight.shape)
        stack = (*stack, machine)
        if i < len(hidden) - 1:
            rows = _draw(key_draw, rbm.hidden_given_visible(machine, rows))
    return stack


def unroll(key: Key, stack: Stack, outputs: int) -> mlp.Params:
    """Returns a network whose hidden layers are the stack, under a fresh output layer.

    Its activation is "sigmoid": layer i then gives the mean-field probabilities of the hidden
    units of machine i.  The output layer is that of `mlp.init`.

    Args:
        key: A PRNG key, for the output layer.
        stack: Machines, as from `pretrain`.
        outputs: Width of the output layer.

    Raises:
        TypeError, ValueError: A bad key, machines that do not fit together, or no outputs.
    """
    where = "dbn.unroll"
    checks.key(where, key)
    _check_stack(where, stack)
    outputs = checks.count(where, "outputs", outputs)
    top = stack[-1].weight
    last = mlp.init(key, (top.shape[1], outputs), dtype=top.dtype)
    layers = (mlp.Dense(weight=m.weight.T, bias=m.hidden_bias) for m in stack)
    return (*layers, *last)


def sample(key: Key, stack: Stack, n: int, *, steps: int) -> Float[Array, "n v"]:
    """Returns n draws: Gibbs sweeps in the last machine, then one pass down to the data.

    The lower machines are directed, from top to data (Hinton, Osindero and Teh, 2006, figure 5).
    Chains start at fair coins, or standard normal where the last machine is Gaussian.

    Args:
        key: A PRNG key.
        stack: Machines, as from `pretrain`.
        n: Number of rows.
        steps: Sweeps, at least 1; too few of them are draws of another distribution.

    Raises:
        TypeError, ValueError: A bad key, machines that do not fit together, a number below 1.
    """
    where = "dbn.sample"
    checks.key(where, key)
    _check_stack(where, stack)
    n, steps = checks.count(where, "n", n), checks.count(where, "steps", steps)
    key_start, key_gibbs, key_down = jax.random.split(key, 3)
    top = stack[-1]
    zero = jnp.zeros((n, top.weight.shape[0]), top.weight.dtype)
    rows = rbm.gibbs(key_gibbs, top, top.draw(key_start, zero), steps)
    for i, machine in enumerate(reversed(stack[:-1])):
        field = rows @ machine.weight.T + machine.visible_bias[None]
        rows = machine.draw(jax.random.fold_in(key_down, i), field)
    return rows
