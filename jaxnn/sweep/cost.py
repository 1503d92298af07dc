"""What padding costs and what it saves: operations of a fit, and the cheapest set of programs.

A program that is compiled for size s fits members of size s and below, the rest of their arrays
masked.  Fewer programs compile for less time, and their small members work for more.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

TURNS = 100  # taken for a loop of which the number of turns depends on values


def _inside(value: Any) -> list[Any]:
    if isinstance(value, ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, Jaxpr):
        return [value]
    return [j for v in value for j in _inside(v)] if isinstance(value, list | tuple) else []


def _count(jaxpr: Any) -> float:
    total = 0.0
    for eqn in jaxpr.eqns:
        parts = [_count(j) for value in eqn.params.values() for j in _inside(value)]
        name = eqn.primitive.name
        if name == "scan":
            total += eqn.params["length"] * sum(parts)
        elif name == "while":
            total += TURNS * sum(parts)
        elif name == "cond":
            total += max(parts)
        elif parts:
            total += sum(parts)
        else:
            size = sum(math.prod(v.aval.shape) for v in eqn.outvars)
            if name == "dot_general":
                (contract, _), _ = eqn.params["dimension_numbers"]
                size *= 2 * math.prod(eqn.invars[0].aval.shape[i] for i in contract)
            total += size
    return total


def operations_of(jaxpr: ClosedJaxpr) -> float:
    """Returns what `operations` does, of a program that is traced already."""
    return _count(jaxpr.jaxpr)


def carried(jaxpr: ClosedJaxpr | Jaxpr) -> int:
    """Returns the bytes that the largest loop of a program hands from turn to turn."""
    most = 0
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        for value in eqn.params.values():
            most = max(most, *map(carried, _inside(value)), 0)
        if eqn.primitive.name in ("scan", "while"):
            turns = eqn.params.get("num_carry", len(eqn.outvars))
            shapes: list[Any] = [v.aval for v in eqn.outvars[:turns]]
            most = max(most, sum(a.size * a.dtype.itemsize for a in shapes))
    return most


def operations(function: Callable[..., Any], *args: Any) -> float:
    """Returns roughly how many operations a call takes, from its trace; nothing is compiled.

    One for each number that is made, two for each product within a matrix product. Loops count as
    often as they turn, those that stop by themselves as `TURNS` turns, branches as the longest.
    """
    return operations_of(jax.make_jaxpr(function)(*args))


def programs(seconds: Sequence[float], members: Sequence[int], compile_seconds: float) -> list[int]:
    """Returns for each size, in rising order, the place of the size that its program has.

    The least sum of compile_seconds for each program and, for each member, the seconds of one
    member at the size of its program; exact, by dynamic programming over the largest sizes.
    """
    total = np.concatenate([[0], np.cumsum(members)])
    best, start = [0.0], [0]
    for end in range(1, len(seconds) + 1):
        costs = [
            best[begin] + compile_seconds + seconds[end - 1] * (total[end] - total[begin])
            for begin in range(end)
        ]
        start.append(int(np.argmin(costs)))
        best.append(float(min(costs)))
    places, end = [], len(seconds)
    while end > 0:
        places = [end - 1] * (end - start[end]) + places
        end = start[end]
    return places
