"""Learning rates that change with the number of updates done, by name.

A schedule is a NamedTuple of numbers, all of them traced, whose type is the rule: it crosses `jit`
and `vmap` as data, so that a sweep over any of its numbers compiles once.  Called on the number of
updates done so far (0 before the first) it gives the rate of the next.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxnn import checks
from jaxnn.train import rules
from jaxnn.types import Scalar

Count = Int[ArrayLike, ""] | int
MOST_LOOKED_AT = 2**20  # rates of a user's own function that are looked at before the training


@runtime_checkable
class Schedule(Protocol):
    """A learning rate as a function of the number of updates done."""

    def __call__(self, count: Count, /) -> Float[Array, ""]:
        """Returns the rate of the next update."""
        ...


def _number(count: Any, numbers: tuple[Any, ...]) -> Array:
    """Returns the count in the dtype of the schedule, but never in half precision."""
    return jnp.asarray(count, jnp.promote_types(jnp.result_type(1.0, *numbers), jnp.float32))


def _ramp(start: Any, end: Any, progress: Any) -> Any:
    """Returns a rate on the line from start, at progress 0, to end, at 1 and beyond."""
    return start + (end - start) * jnp.clip(progress, 0, 1)


def _half_wave(start: Any, end: Any, progress: Any) -> Any:
    """Returns a rate on the half wave from start, at progress 0, to end, at 1 and beyond."""
    return _ramp(end, start, (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1))) / 2)


class Constant(NamedTuple):
    """The same rate always."""

    learning_rate: Scalar

    def __call__(self, count: Count) -> Float[Array, ""]:
        """Returns the rate of the next update."""
        return jnp.asarray(self.learning_rate, _number(count, self).dtype)


class Cosine(NamedTuple):
    """Half a cosine down to `end` after `steps` updates (Loshchilov and Hutter, 2017, eq. 5)."""

    learning_rate: Scalar
    steps: Any = None  # a Scalar; None to be resolved
    end: Scalar = 0.0

    def __call__(self, count: Count) -> Float[Array, ""]:
        """Returns the rate of the next update."""
        return _half_wave(self.learning_rate, self.end, _number(count, self) / self.steps)


class Warmup(NamedTuple):
    """A line from `start` up to the rate in `warmup` updates, then that (Goyal et al., 2017)."""

    learning_rate: Scalar
    warmup: Scalar
    start: Scalar = 0.0

    def __call__(self, count: Count) -> Float[Array, ""]:
        """Returns the rate of the next update."""
        c = _number(count, self)
        rising = _ramp(self.start, self.learning_rate, c / jnp.maximum(self.warmup, 1))
        return jnp.where(c < self.warmup, rising, self.learning_rate)


class WarmupCosine(NamedTuple):
    """`Warmup`, then half a cosine down to `end` after `steps` updates in all."""

    learning_rate: Scalar
    warmup: Scalar
    steps: Any = None  # a Scalar; None to be resolved
    start: Scalar = 0.0
    end: Scalar = 0.0

    def __call__(self, count: Count) -> Float[Array, ""]:
        """Returns the rate of the next update."""
        c = _number(count, self)
        rising = _ramp(self.start, self.learning_rate, c / jnp.maximum(self.warmup, 1))
        progress = (c - self.warmup) / jnp.maximum(self.steps - self.warmup, 1)
        falling = _half_wave(self.learning_rate, self.end, progress)
        return jnp.where(c < self.warmup, rising, falling)


class Exponential(NamedTuple):
    """Times `decay` every `every` updates, smoothly, and never below `end`."""

    learning_rate: Scalar
    decay: Scalar
    every: Scalar = 1.0
    end: Scalar = 0.0

    def __call__(self, count: Count) -> Float[Array, ""]:
        """Returns the rate of the next update."""
        power = _number(count, self) / self.every
        return jnp.maximum(self.learning_rate * self.decay**power, self.end)


class OneCycle(NamedTuple):
    """Half a wave up from rate/`divide`, then one down to rate/(`divide`·`final`) (Smith, 2018).

    The rise takes the part `rise` of all `steps` updates; the numbers are torch's and fastai's.
    """

    learning_rate: Scalar
    steps: Any = None  # a Scalar; None to be resolved
    rise: Scalar = 0.3
    divide: Scalar = 25.0
    final: Scalar = 1e4

    def __call__(self, count: Count) -> Float[Array, ""]:
        """Returns the rate of the next update."""
        c = _number(count, self)
        top = self.rise * self.steps
        start = self.learning_rate / self.divide
        rising = _half_wave(start, self.learning_rate, c / top)
        fall = jnp.maximum(self.steps - top, 1)
        falling = _half_wave(self.learning_rate, start / self.final, (c - top) / fall)
        return jnp.where(c < top, rising, falling)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "cosine": Cosine,
    "warmup": Warmup,
    "warmup_cosine": WarmupCosine,
    "exponential": Exponential,
    "one_cycle": OneCycle,
}
NAMES: dict[Any, str] = {kind: name for name, kind in SCHEDULES.items()}
RANGES = {
    "learning_rate": checks.non_negative,
    "steps": checks.positive,
    "end": checks.non_negative,
    "warmup": checks.non_negative,
    "start": checks.non_negative,
    "decay": checks.probability,
    "every": checks.positive,
    "rise": checks.probability,
    "divide": checks.positive,
    "final": checks.positive,
}


def schedule(name: str, learning_rate: Scalar, **numbers: Scalar | int) -> Schedule:
    """Returns the learning rate schedule called `name`, a pytree of traced numbers.

    Updates are counted, not epochs; after the last number of a schedule its rate stays.

    Args:
        name: an entry of `SCHEDULES`.
        learning_rate: the highest rate.
        **numbers: `cosine`: steps, end=0. `warmup`: warmup, start=0. `warmup_cosine`: warmup,
            steps, start=0, end=0. `exponential`: decay, every=1, end=0. `one_cycle`: steps,
            rise=0.3, divide=25, final=1e4. Without `steps` a schedule spans the whole training.

    Raises:
        ValueError: an unknown name, a negative rate, or a number out of its range.
        TypeError: a number that this schedule does not have or that is missing, or no number.

    >>> rate = schedule("warmup_cosine", 0.1, warmup=10, steps=100)
    >>> [round(float(rate(count)), 3) for count in (0, 5, 10, 55, 100)]
    [0.0, 0.05, 0.1, 0.05, 0.0]
    """
    where = "train.schedule"
    made = rules.make(where, "schedule", name, SCHEDULES, learning_rate, **numbers)
    check(where, made)
    return made


def check(where: str, rate: Any) -> None:
    """Raises unless a learning rate that is a number or a schedule has numbers in their ranges.

    A user's own function is taken as it is: see `resolve`.
    """
    if type(rate) not in NAMES:
        if not callable(rate):
            rules.number(where, "learning_rate", rate, checks.non_negative)
        return
    rules.within(where, rate, RANGES, optional="steps")
    numbers = rate._asdict()
    warmup, steps = numbers.get("warmup"), numbers.get("steps")
    if warmup is None or steps is None or not checks.concrete(warmup + steps):
        return
    if checks.holds(lambda: jnp.asarray(warmup >= steps)):
        raise ValueError(f"{where}: warmup must be below steps {steps}, got {warmup}")


def resolve(where: str, rate: Any, updates: int | Array) -> Any:
    """Returns a learning rate as data for a training of so many updates.

    A schedule without `steps` gets them; a number stays; a user's function of the count becomes a
    pytree around it, so that both may be arguments of one compiled program.

    Raises:
        ValueError: a schedule that ends before the training does, or a rate that is negative or
            not finite, in a function at any of the counts.
        TypeError: a function that cannot be traced.
    """
    if type(rate) not in NAMES:
        check(where, rate)
        return _looked_at(where, rate, updates) if callable(rate) else rate
    if getattr(rate, "steps", ()) is None:
        rate = rate._replace(steps=1.0 * updates)
    check(where, rate)
    steps = getattr(rate, "steps", updates)
    if checks.concrete(steps - updates) and checks.holds(lambda: jnp.asarray(steps < updates)):
        raise ValueError(
            f"{where}: schedule {NAMES[type(rate)]} must not end before the training, which takes "
            f"{updates} updates, got steps {steps}; without steps it spans all of it"
        )
    return rate


def _looked_at(where: str, rate: Callable[[Array], Any], updates: int | Array) -> Any:
    # Of a traced number of updates one is known to be: the first.
    most = min(int(updates), MOST_LOOKED_AT) if checks.concrete(updates) else 1
    counts = jnp.arange(most, dtype=jnp.int32)
    try:
        rates = jax.vmap(lambda count: jnp.asarray(rate(count), jnp.result_type(1.0)))(counts)
    except jax.errors.ConcretizationTypeError:
        raise TypeError(
            f"{where}: learning_rate must be a function that JAX can trace, of the number of "
            "updates done; choose with jnp.where, not with if"
        ) from None
    checks.shape(where, "the rates of learning_rate", rates, counts.shape)
    checks.non_negative(where, "the rates of learning_rate", rates)
    return rate if isinstance(rate, jax.tree_util.Partial) else jax.tree_util.Partial(rate)
