"""Axes of a space: distributions of numbers, choices of names, and the columns that they fill."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxnn import checks
from jaxnn.types import Key

Values = ArrayLike | Sequence[Any]  # of one axis: numbers, or names and shapes


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Static:
    """A column of what programs are compiled for: names, sizes, flags.

    A pytree whose only leaf is `codes`, so that members are taken out of it by indexing the leaf.

    Attributes:
        values: the different values, hashable.
        codes: which of them each member has, (m,) or () for one member; -1 for none.
    """

    values: tuple[Hashable, ...] = field(metadata={"static": True})
    codes: Any

    def __repr__(self) -> str:
        known = isinstance(self.codes, np.ndarray | Array) and checks.concrete(self.codes)
        return f"Static({self.tolist()!r})" if known else f"Static({self.values!r}, {self.codes!r})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the codes: one entry a member."""
        return jnp.shape(self.codes)

    def tolist(self) -> Any:
        """Returns the value of every member in a list, or of the one; None for none."""
        # By place, not through an array: values may be tuples.
        name = lambda code: None if code < 0 else self.values[code]
        codes = np.asarray(self.codes).tolist()
        return [name(code) for code in codes] if isinstance(codes, list) else name(codes)


Column = Array | Static
HParams = dict[str, Any]  # of columns


@runtime_checkable
class Distribution(Protocol):
    """One axis of a random space.

    For `sobol` and `latin_hypercube` it also has `quantile(u)`, the values below which a share u
    in (0, 1) of all values lies.
    """

    def sample(self, key: Key, n: int) -> Column:
        """Returns n independent values."""
        ...


class Uniform(NamedTuple):
    """Uniform on [low, high)."""

    low: float
    high: float

    def quantile(self, u: Array) -> Array:
        """Returns the values below which a share `u` lies."""
        _ordered("sweep.Uniform", self.low, self.high)
        return jnp.clip(self.low + (self.high - self.low) * u, self.low, self.high)

    def sample(self, key: Key, n: int) -> Array:
        """Returns n independent values."""
        _ordered("sweep.Uniform", self.low, self.high)
        return jax.random.uniform(key, (n,), minval=self.low, maxval=self.high)


class LogUniform(NamedTuple):
    """Uniform in the logarithm on [low, high), for scales such as a learning rate."""

    low: float
    high: float

    def quantile(self, u: Array) -> Array:
        """Returns the values below which a share `u` lies."""
        checks.positive("sweep.LogUniform", "low", self.low)
        _ordered("sweep.LogUniform", self.low, self.high)
        low, high = jnp.log(self.low), jnp.log(self.high)
        # exp(log(low)) may lie below low.
        return jnp.clip(jnp.exp(low + (high - low) * u), self.low, self.high)

    def sample(self, key: Key, n: int) -> Array:
        """Returns n independent values."""
        return self.quantile(jax.random.uniform(key, (n,)))


class Normal(NamedTuple):
    """Normal with a mean and a standard deviation."""

    mean: float
    std: float

    def quantile(self, u: Array) -> Array:
        """Returns the values below which a share `u` lies."""
        self._check()
        return self.mean + self.std * jax.scipy.special.ndtri(u)

    def sample(self, key: Key, n: int) -> Array:
        """Returns n independent values."""
        self._check()
        return self.mean + self.std * jax.random.normal(key, (n,))

    def _check(self) -> None:
        checks.positive("sweep.Normal", "std", self.std)
        if not math.isfinite(self.mean):
            raise ValueError(f"sweep.Normal: mean must be finite, got {self.mean}")


class Integers(NamedTuple):
    """Uniform on the whole numbers low, …, high - 1."""

    low: int
    high: int

    def quantile(self, u: Array) -> Array:
        """Returns the values below which a share `u` lies."""
        self._check()
        steps = jnp.floor(u * (self.high - self.low))
        return jnp.clip(self.low + steps, self.low, self.high - 1).astype(int)

    def sample(self, key: Key, n: int) -> Array:
        """Returns n independent values."""
        self._check()
        return jax.random.randint(key, (n,), self.low, self.high)

    def _check(self) -> None:
        for name, value in (("low", self.low), ("high", self.high)):
            checks.count("sweep.Integers", name, value, least=-(2**31), most=2**31 - 1)
        _ordered("sweep.Integers", self.low, self.high)


class Choice(NamedTuple):
    """One of some values, each as likely: numbers, or names and shapes.

    Attributes:
        values: at least one.
        static: whether a program is compiled for each; True for values that are no numbers.
        dtype: name of the dtype of numbers; JAX's own for Python's by default.
    """

    values: Values
    static: bool = False
    dtype: str | None = None

    def __repr__(self) -> str:
        words = [repr(self.values), *(["static=True"] if self.static else [])]
        words += [] if self.dtype is None else [f"dtype={self.dtype!r}"]
        return f"Choice({', '.join(words)})"

    def column(self, where: str, name: str) -> Column:
        """Returns all values in order."""
        values = self.values
        if self.dtype is not None:
            values = np.asarray(values, jnp.dtype(self.dtype))
        return column(where, name, values, self.static)

    def quantile(self, u: Array) -> Column:
        """Returns the values below which a share `u` lies, in the order in which they are given."""
        return take(self.column("sweep.Choice", "values"), self._places().quantile(u))

    def sample(self, key: Key, n: int) -> Column:
        """Returns n independent values."""
        return take(self.column("sweep.Choice", "values"), self._places().sample(key, n))

    def _places(self) -> Integers:
        return Integers(0, len(self.column("sweep.Choice", "values").tolist()))


def plain(axis: Any) -> Any:
    """Returns an axis such that it can be hashed: lists as tuples, arrays as a `Choice`."""
    if isinstance(axis, Choice):
        values = plain(axis.values)
        return (
            values._replace(static=axis.static)
            if isinstance(values, Choice)
            else (axis._replace(values=values))
        )
    if hasattr(axis, "dtype") and hasattr(axis, "tolist") and jnp.ndim(axis) == 1:
        kind = None if axis.dtype.kind in "US" else axis.dtype.name
        return Choice(tuple(axis.tolist()), False, kind)
    return tuple(axis) if isinstance(axis, list | range) else axis


def _ordered(where: str, low: float | int, high: float | int) -> None:
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"{where}: low must be below high, both finite, got {low} and {high}")


def take(values: Column, places: Any) -> Column:
    """Returns the entries of a column at some places."""
    return jax.tree.map(lambda a: a[places], values)


def array_of(values: Any) -> Array:
    """Returns an array, of values if there are any to look at, also while JAX traces around it."""
    if not all(map(checks.concrete, jax.tree.leaves(values))):
        return jnp.asarray(values)
    with jax.ensure_compile_time_eval():
        return jnp.asarray(values)


def numbers(where: str, name: str, values: Any) -> Array:
    """Returns the values of an axis as an array; raises TypeError if they are no numbers."""
    try:
        array = array_of(values)
    except (TypeError, ValueError):
        given = values.tolist() if isinstance(values, Static) else values
        raise TypeError(
            f"{where}: {name} must hold numbers, got {given!r}; names and shapes are static: "
            "run one sweep for each, as sweep.run_groups does, and write shapes as tuples"
        ) from None
    except OverflowError:
        array = None
    # With x64 off JAX would wrap what has no place in 32 bits.
    wide = isinstance(values, np.ndarray) and values.dtype.kind in "iu"
    if array is None or (wide and not np.array_equal(np.asarray(array), values)):
        raise ValueError(f"{where}: {name} must fit into 32 bits, or jax_enable_x64 be set")
    return array


def _named(values: Any) -> Any:
    """Returns an array of strings as a list, and all else as it is."""
    kind = getattr(getattr(values, "dtype", None), "kind", "")
    return values.tolist() if kind in ("U", "S") else values


def members_of(where: str, name: str, values: Any) -> Column:
    """Returns what is given for all members as a column; numbers may be arrays for each."""
    if isinstance(values, Static):
        return values
    given = _named(values)
    return column(where, name, given) if _is_static(given) else numbers(where, name, given)


def _is_static(values: Any) -> bool:
    """Whether these are names or shapes: hashable, and not all numbers."""
    if not isinstance(values, list | tuple):
        return False
    number = lambda v: isinstance(v, bool | int | float | complex) or hasattr(v, "dtype")
    return not all(map(number, values)) and all(isinstance(v, Hashable) for v in values)


def column(where: str, name: str, values: Any, static: bool = False) -> Column:
    """Returns the values of an axis as a column.

    Raises TypeError or ValueError for what is neither numbers nor hashable, for no values, and
    for a static NaN, which is not even equal to itself.
    """
    values = _named(values)
    if not static and not _is_static(values):
        array = numbers(where, name, values)
        checks.shape(where, name, array, (None,))
        if array.size == 0:
            raise ValueError(f"{where}: {name} must hold at least one value")
        return array
    given = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(given, list | tuple | range) or len(given) == 0:
        raise ValueError(f"{where}: {name} must hold at least one value in a list, got {given!r}")
    distinct: dict[Any, int] = {}
    codes = []
    for value in given:
        if not isinstance(value, Hashable):
            raise TypeError(
                f"{where}: {name} must hold hashable values, since a program is compiled for "
                f"each, got {value!r}; write a list as a tuple"
            )
        if value != value:
            raise ValueError(f"{where}: {name} must not hold NaN as a static value")
        codes.append(distinct.setdefault(identity(value), len(distinct)))
    return Static(tuple(value for value, _ in distinct), array_of(np.asarray(codes, np.int32)))


def identity(value: Hashable) -> tuple[Hashable, str]:
    """Returns a key that also tells 1, 1.0 and True apart, which are equal and hash alike."""
    return value, repr(value)
