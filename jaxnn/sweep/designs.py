"""Points spread evenly over the unit cube: scrambled Sobol nets and Latin hypercubes."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, UInt32

from jaxnn.types import Key

BITS = 32

# Joe and Kuo (2008), the first dimensions of new-joe-kuo-6: a primitive polynomial over GF(2), its
# coefficients the bits of a number, and the first direction numbers m.  The very first dimension,
# van der Corput's sequence, has none.
_JOE_KUO = """
3: 1; 7: 1 3; 11: 1 3 1; 13: 1 1 1; 19: 1 1 3 3; 25: 1 3 5 13; 37: 1 1 5 5 17; 41: 1 1 5 5 5;
47: 1 1 7 11 19; 55: 1 1 5 1 1; 59: 1 1 1 3 11; 61: 1 3 5 5 31; 67: 1 3 3 9 7 49;
91: 1 1 1 15 21 21; 97: 1 3 1 13 27 49; 103: 1 1 1 15 7 5; 109: 1 3 1 15 13 25;
115: 1 1 5 5 19 61; 131: 1 3 7 11 23 15 103; 137: 1 3 7 13 13 15 69; 143: 1 1 3 13 7 35 63;
145: 1 3 5 9 1 25 53; 157: 1 3 1 13 9 35 107; 167: 1 3 1 5 27 61 31; 171: 1 1 5 11 19 41 61;
185: 1 3 5 3 3 13 69; 191: 1 1 7 13 1 19 1; 193: 1 3 7 5 13 19 59; 203: 1 1 3 9 25 29 41;
211: 1 3 5 13 23 1 55; 213: 1 3 7 3 13 59 17; 229: 1 3 1 3 5 53 69; 239: 1 1 5 5 23 33 13;
241: 1 1 7 7 1 61 123; 247: 1 1 7 9 13 61 49; 253: 1 3 3 5 3 55 33; 285: 1 3 1 15 31 13 49 245;
299: 1 3 5 15 31 59 63 97; 301: 1 3 1 11 11 11 77 249; 333: 1 3 1 11 27 43 71 9;
351: 1 1 7 15 21 11 81 45; 355: 1 3 7 3 25 31 65 79; 357: 1 3 1 1 19 11 3 205;
361: 1 1 5 9 19 21 29 157; 369: 1 3 7 11 1 33 89 185; 391: 1 3 3 3 15 9 79 71;
397: 1 3 7 11 15 39 119 27; 425: 1 1 3 1 11 31 97 225; 451: 1 1 1 3 23 43 57 177;
463: 1 3 7 7 17 17 37 71; 487: 1 3 1 5 27 63 123 213; 501: 1 1 3 5 11 43 53 133;
529: 1 3 5 5 29 17 47 173 479; 539: 1 3 3 11 3 1 109 9 69; 545: 1 1 1 5 17 39 23 5 343;
557: 1 3 1 5 25 15 31 103 499; 563: 1 1 1 11 11 17 63 105 183; 601: 1 1 5 11 9 29 97 231 363;
607: 1 1 5 15 19 45 41 7 383; 617: 1 3 7 7 31 19 83 137 221; 623: 1 1 1 3 23 15 111 223 83;
631: 1 1 5 13 31 15 55 25 161; 637: 1 1 3 13 25 47 39 87 257
"""
MOST_AXES = 1 + _JOE_KUO.count(":")


def direction_numbers(d: int) -> list[list[int]]:
    """Returns the direction numbers of the first `d` dimensions, 32 bits each (ibid., eq. 2)."""
    table = [[1 << (BITS - 1 - k) for k in range(BITS)]]
    for entry in _JOE_KUO.split(";")[: d - 1]:
        polynomial, start = entry.split(":")
        coefficients, m = int(polynomial), [int(word) for word in start.split()]
        degree = len(m)
        for k in range(degree, BITS):
            new = m[k - degree] ^ (m[k - degree] << degree)
            for i in range(1, degree):
                if coefficients >> (degree - i) & 1:
                    new ^= m[k - i] << i
            m.append(new)
        table.append([value << (BITS - 1 - k) for k, value in enumerate(m)])
    return table


def _scramble(key: Key, directions: UInt32[Array, " b"]) -> UInt32[Array, " b"]:
    """Returns them times a random lower triangular matrix of bits (Matoušek, 1998)."""
    row = jnp.arange(BITS, dtype=jnp.uint32)
    diagonal = jnp.uint32(1) << (BITS - 1 - row)
    lower = jax.random.bits(key, (BITS,), jnp.uint32) & ~(diagonal | (diagonal - 1)) | diagonal
    odd = lax.population_count(lower[:, None] & directions[None, :]) & 1
    return jnp.sum(odd << (BITS - 1 - row)[:, None], axis=0, dtype=jnp.uint32)


def _unit(x: UInt32[Array, "n d"]) -> Float[Array, "n d"]:
    """Returns the middles of the cells of a fine grid that the integers name, within (0, 1)."""
    kind = jnp.zeros(()).dtype
    bits = BITS if kind == jnp.float64 else jnp.finfo(kind).nmant  # exact, hence never 1
    return ((x >> (BITS - bits)).astype(kind) + 0.5) * 2.0**-bits


@partial(jax.jit, static_argnames="n")
def _points(
    directions: UInt32[Array, "d b"], shift: UInt32[Array, " d"], n: int
) -> Float[Array, "n d"]:
    number = jnp.arange(n, dtype=jnp.uint32)
    gray = number ^ (number >> 1)

    def add(k: Array, x: UInt32[Array, "n d"]) -> UInt32[Array, "n d"]:
        digit = (gray >> k.astype(jnp.uint32)) & 1
        return x ^ (digit[:, None] * directions[None, :, k])

    return _unit(lax.fori_loop(0, BITS, add, jnp.broadcast_to(shift[None], (n, len(shift)))))


@jax.jit
def _scrambled(
    keys: Array, directions: UInt32[Array, "d b"]
) -> tuple[UInt32[Array, "d b"], UInt32[Array, " d"]]:
    def axis(key: Key, row: UInt32[Array, " b"]) -> tuple[Array, Array]:
        of_matrix, of_shift = jax.random.split(key)
        return _scramble(of_matrix, row), jax.random.bits(of_shift, (), jnp.uint32)

    return jax.vmap(axis)(keys, directions)


def sobol(keys: Sequence[Key] | None, n: int, d: int) -> Float[Array, "n d"]:
    """Returns the first n points of a Sobol sequence in `d` dimensions (Joe and Kuo, 2008).

    Each dimension is scrambled with a key of its own, by a linear matrix and a digital shift: the
    points are uniform one by one, and the first 2^m of them remain a net.  None for the sequence
    as it is.  The first points of a longer sequence are those of a shorter one.
    """
    directions, shift = jnp.asarray(direction_numbers(d), jnp.uint32), jnp.zeros(d, jnp.uint32)
    if keys is not None:
        directions, shift = _scrambled(jnp.stack(list(keys)), directions)
    return _points(directions, shift, n)


@partial(jax.jit, static_argnames="n")
def _cells(keys: Array, n: int) -> Float[Array, "n d"]:
    def axis(key: Key) -> Float[Array, " n"]:
        of_order, of_place = jax.random.split(key)
        slices = jax.random.permutation(of_order, n)
        u = (slices + jax.random.uniform(of_place, (n,))) / n
        eps = jnp.finfo(u.dtype).eps
        return jnp.clip(u, eps, 1 - eps)  # at 0 and 1 a quantile may be infinite

    return jax.vmap(axis, out_axes=1)(keys)


def latin_hypercube(keys: Sequence[Key], n: int, d: int) -> Float[Array, "n d"]:
    """Returns n points, one in each of n equal slices of every axis (McKay et al., 1979)."""
    del d  # one dimension a key
    return _cells(jnp.stack(list(keys)), n)
