"""Spaces of hyperparameters: a sample of one is a dict of arrays, one entry a member."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxnn import checks
from jaxnn.types import Key

HParams = dict[str, Array]
Values = ArrayLike | Sequence[float | int]  # of one axis


@runtime_checkable
class Distribution(Protocol):
    """One axis of a random space."""

    def sample(self, key: Key, n: int) -> Array:
        """Returns n independent values."""
        ...


class Uniform(NamedTuple):
    """Uniform on [low, high)."""

    low: float
    high: float

    def sample(self, key: Key, n: int) -> Array:
        """Returns n independent values."""
        _ordered("sweep.Uniform", self.low, self.high)
        return jax.random.uniform(key, (n,), minval=self.low, maxval=self.high)


class LogUniform(NamedTuple):
    """Uniform in the logarithm on [low, high), for scales such as a learning rate."""

    low: float
    high: float

    def sample(self, key: Key, n: int) -> Array:
        """Returns n independent values."""
        checks.positive("sweep.LogUniform", "low", self.low)
        _ordered("sweep.LogUniform", self.low, self.high)
        low, high = jnp.log(self.low), jnp.log(self.high)
        values = jnp.exp(jax.random.uniform(key, (n,), minval=low, maxval=high))
        return jnp.clip(values, self.low, self.high)  # exp(log(low)) may lie below low


class Integers(NamedTuple):
    """Uniform on the whole numbers low, …, high - 1."""

    low: int
    high: int

    def sample(self, key: Key, n: int) -> Array:
        """Returns n independent values."""
        for name, value in (("low", self.low), ("high", self.high)):
            checks.count("sweep.Integers", name, value, least=-(2**31), most=2**31 - 1)
        _ordered("sweep.Integers", self.low, self.high)
        return jax.random.randint(key, (n,), self.low, self.high)


class Choice(NamedTuple):
    """One of some numbers, each as likely."""

    values: Values

    def sample(self, key: Key, n: int) -> Array:
        """Returns n independent values."""
        return jax.random.choice(key, _axis("sweep.Choice", "values", self.values), (n,))


def _ordered(where: str, low: float | int, high: float | int) -> None:
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"{where}: low must be below high, both finite, got {low} and {high}")


def numbers(where: str, name: str, values: Values) -> Array:
    """Returns the values of an axis as an array; raises TypeError if they are no numbers."""
    try:
        return jnp.asarray(values)
    except (TypeError, ValueError):
        raise TypeError(
            f"{where}: {name} must hold numbers, got {values!r}; names and shapes are static: "
            "run one sweep for each"
        ) from None


def _axis(where: str, name: str, values: Values) -> Array:
    array = numbers(where, name, values)
    checks.shape(where, name, array, (None,))
    if array.size == 0:
        raise ValueError(f"{where}: {name} must hold at least one value")
    return array


def grid(**axes: Values) -> HParams:
    """Returns every combination of the values of the axes; the last axis varies fastest.

    Raises TypeError or ValueError for no axes, an empty one, or one that holds no numbers.

    >>> {name: values.tolist() for name, values in grid(decay=[0, 1], seed=[1, 2, 3]).items()}
    {'decay': [0, 0, 0, 1, 1, 1], 'seed': [1, 2, 3, 1, 2, 3]}
    """
    if not axes:
        raise ValueError("sweep.grid: at least one axis must be given")
    arrays = {name: _axis("sweep.grid", name, values) for name, values in axes.items()}
    sizes = tuple(len(array) for array in arrays.values())
    places = jnp.unravel_index(jnp.arange(math.prod(sizes)), sizes)
    return {name: array[i] for (name, array), i in zip(arrays.items(), places, strict=True)}


def random(key: Key, n: int, space: Mapping[str, Distribution]) -> HParams:
    """Returns n independent samples of a space, a dict of distributions by name.

    An axis depends on `key` and its own name only: adding another one leaves it unchanged.
    Raises TypeError or ValueError for a bad key, n < 1, or an empty space.
    """
    checks.key("sweep.random", key)
    n = checks.count("sweep.random", "n", n)
    if not space:
        raise ValueError("sweep.random: space must have at least one axis")
    for name, axis in space.items():
        if not isinstance(axis, Distribution):
            raise TypeError(
                f"sweep.random: {name} must be a distribution such as Uniform(low, high) or "
                f"Choice(values), got {axis!r}"
            )
    # A hash that is the same in every process, unlike Python's own.
    number = lambda name: int.from_bytes(name.encode()) % (2**31 - 1)
    return {
        name: axis.sample(jax.random.fold_in(key, number(name)), n) for name, axis in space.items()
    }
