"""Averages of the parameters along a run, by name: what they settle around, without the noise.

A rule is a NamedTuple of traced numbers whose type is the rule; its state holds the average.  Both
kinds are one running mean, average + weight·(parameters - average), and differ in the weight.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxnn import checks
from jaxnn.train import rules
from jaxnn.types import Scalar


class Average(NamedTuple):
    """The average so far, fit for use at any time, and the number of updates seen."""

    params: PyTree
    updates: Int[Array, ""]


def _start(params: PyTree) -> Average:
    return Average(params=params, updates=jnp.zeros((), jnp.int32))


def _mix(average: Average, params: PyTree, weight: Float[Array, ""]) -> Average:
    mix = lambda a, p: a + weight.astype(a.dtype) * (p - a)
    return Average(params=jax.tree.map(mix, average.params, params), updates=average.updates + 1)


class EMA(NamedTuple):
    """The exponential moving average from update `start` on, corrected for its short beginning.

    After t updates the parameters of i updates ago weigh decay^i (1 - decay) / (1 - decay^t), as in
    Kingma and Ba (2014, section 3; 7.2 for parameters). Before `start` it is the parameters.
    """

    decay: Scalar = 0.999
    start: Scalar = 0.0

    def init(self, params: PyTree) -> Average:
        """Returns the average before the first update: the parameters."""
        return _start(params)

    def update(self, average: Average, params: PyTree) -> Average:
        """Returns the average with the parameters that an update has led to."""
        age = jnp.maximum(average.updates + 1 - self.start, 1)  # 1: it begins anew
        forgotten = jnp.log(self.decay)  # of both, the difference from 1 in full precision
        return _mix(average, params, jnp.expm1(forgotten) / jnp.expm1(age * forgotten))


class SWA(NamedTuple):
    """Stochastic weight averaging: the mean of every `every`-th parameters from update `start` on.

    Izmailov et al. (2018), algorithm 1. Before `start` it is the parameters.
    """

    start: Scalar = 0.0
    every: Scalar = 1.0

    def init(self, params: PyTree) -> Average:
        """Returns the average before the first update: the parameters."""
        return _start(params)

    def update(self, average: Average, params: PyTree) -> Average:
        """Returns the average with the parameters that an update has led to."""
        age = jnp.maximum(average.updates + 1 - self.start, 1) - 1
        taken = jnp.floor(age / self.every)
        return _mix(average, params, jnp.where(age % self.every == 0, 1 / (taken + 1), 0))


Averaging = EMA | SWA
AVERAGES: dict[str, Callable[..., Averaging]] = {"ema": EMA, "swa": SWA}
RANGES = {"decay": rules.fraction, "start": checks.non_negative, "every": checks.positive}


def averaging(name: str, **numbers: Scalar | int) -> Averaging:
    """Returns the rule called `name` by which parameters are averaged, a pytree of numbers.

    `rule.init(params)` starts an `Average`, `rule.update(average, params)` takes in what an update
    led to, and `average.params` are to be used. In half precision small weights round to nothing.

    Args:
        name: an entry of `AVERAGES`.
        **numbers: `ema`: decay=0.999, start=0. `swa`: start=0, every=1. Updates are counted.

    Raises:
        ValueError: an unknown name, or a number out of its range.
        TypeError: a number that this rule does not have, or no number.

    >>> rule = averaging("ema", decay=0.9)
    """
    where = "train.averaging"
    rule = rules.make(where, "average", name, AVERAGES, **numbers)
    rules.within(where, rule, RANGES)
    return rule
