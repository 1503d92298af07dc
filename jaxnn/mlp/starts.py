"""Random weights to start from.

A start is one entry of `STARTS`: a function of a key, the shape of a weight (..., o, i) and the
gain of the activation behind it.  Fan-in and fan-out are i and o.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxnn import draws
from jaxnn.types import Key

Shape: TypeAlias = tuple[int, ...]
Start: TypeAlias = Callable[[Key, Shape, float, DTypeLike], Float[Array, "... o i"]]
Variance: TypeAlias = Callable[[int, int, float], float]  # of fan-in, fan-out and gain


def _normal(variance: Variance) -> Start:
    def draw(key: Key, shape: Shape, gain: float, dtype: DTypeLike) -> Array:
        return draws.normal(key, shape, dtype) * variance(shape[-1], shape[-2], gain) ** 0.5

    return draw


def _uniform(variance: Variance) -> Start:
    def draw(key: Key, shape: Shape, gain: float, dtype: DTypeLike) -> Array:
        limit = (3 * variance(shape[-1], shape[-2], gain)) ** 0.5
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return draw


def _orthogonal(key: Key, shape: Shape, gain: float, dtype: DTypeLike) -> Array:
    wide = jnp.promote_types(dtype, jnp.float32)  # half precision has no QR
    *head, n_out, n_in = shape
    return (gain * jax.random.orthogonal(key, n_out, tuple(head), wide, n_in)).astype(dtype)


def _zeros(key: Key, shape: Shape, gain: float, dtype: DTypeLike) -> Array:
    del key, gain
    return jnp.zeros(shape, dtype)


def _glorot(n_in: int, n_out: int, gain: float) -> float:
    del gain
    return 2 / (n_in + n_out)


def _he(n_in: int, n_out: int, gain: float) -> float:
    del n_out, gain
    return 2 / n_in


def _lecun(n_in: int, n_out: int, gain: float) -> float:
    del n_out, gain
    return 1 / n_in


def _gain(n_in: int, n_out: int, gain: float) -> float:
    del n_out
    return gain**2 / n_in


STARTS: dict[str, Start] = {
    "gain": _normal(_gain),
    "glorot_normal": _normal(_glorot),
    "glorot_uniform": _uniform(_glorot),
    "he_normal": _normal(_he),
    "he_uniform": _uniform(_he),
    "lecun_normal": _normal(_lecun),
    "lecun_uniform": _uniform(_lecun),
    "orthogonal": _orthogonal,
    "zeros": _zeros,
}
"""Name -> `(key, shape, gain, dtype) -> weight`.

| name | variance of a weight, mean 0 | source |
|---|---|---|
| gain | gain² / i, with the gain of the activation | He et al. (2015), equation 10 |
| glorot | 2 / (i + o) | Glorot and Bengio (2010), equation 16 for uniform |
| he | 2 / i | He et al. (2015), for the ReLU |
| lecun | 1 / i | LeCun et al. (1998) |
| orthogonal | gain times a random matrix with orthonormal rows or columns | Saxe et al. (2014) |
| zeros | 0: all units of a layer stay alike, for study only | |

`_normal` and `_uniform` (on ± √(3 variance)) have the same variance.  Normal weights are not
truncated.
"""
