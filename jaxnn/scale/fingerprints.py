"""A number that tells data sets apart, whoever holds which rows, in whatever order and chunks.

Each row is hashed by all its bits (the finalizer of MurmurHash3), and hashes add up modulo 2**32,
which is exact: the sum is the same on any number of devices and processes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from jaxnn.scale import meshes, processes
from jaxnn.scale.leaves import digest
from jaxnn.scale.rows import Rows
from jaxnn.train.data import Batch

SEEDS = (0x9E3779B9, 0x7F4A7C15)


def _mixed(h: Array) -> Array:
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def _hashes(rows: Array, seed: int) -> UInt32[Array, " n"]:
    bits = jax.lax.bitcast_convert_type(rows, jnp.uint32).reshape(rows.shape[0], -1)
    place = (jnp.arange(bits.shape[1], dtype=jnp.uint32) + 1) * jnp.uint32(seed)
    return _mixed(jnp.sum(_mixed(bits + place[None, :]), axis=1, dtype=jnp.uint32))


def _added(carry: UInt32[Array, "2"], given: tuple[()], chunk: Batch) -> UInt32[Array, "2"]:
    del given
    weight = jnp.asarray(chunk.weight)  # chunks always have one
    rows = jnp.concatenate([chunk.x, weight[:, None]], axis=1)
    real = weight != 0
    sums = [jnp.sum(jnp.where(real, _hashes(rows, seed), 0), dtype=jnp.uint32) for seed in SEEDS]
    return carry + jnp.stack(sums)


def _all(carry: Array) -> UInt32[Array, "2"]:
    return meshes.total(meshes.own(carry))


def fingerprint(rows: Rows) -> str:
    """Returns 64 bits, in hexadecimal, of all rows of all processes and their weights."""
    zero = np.zeros(2, np.uint32)
    carry = meshes.fold(rows.team, _added, zero, (), rows.chunks(0))
    found = processes.on_host(meshes.close(rows.team, carry, _all))
    return "".join(f"{int(part):08x}" for part in found)


def facts_about(rows: Rows, facts: dict[str, Any]) -> dict[str, Any]:
    """Returns what a fit is, as JSON has it: its rows, and a digest of what else is no number."""
    words = {
        name: fact if isinstance(fact, bool | int | float | str | None) else digest(fact)
        for name, fact in facts.items()
    }
    return {"data": fingerprint(rows), **words}
