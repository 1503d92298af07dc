"""The states of all members in one place on the device, and the programs that work on some rows.

Members that run are gathered into a batch, advanced, and scattered back, in one program that
updates the pool in place: who has stopped costs nothing, and results keep their places.
Each device of a mesh has its own part of the pool, and rows count within that part; the row just
behind the last stands for none, and fills a batch up.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnn.sweep.layouts import LAYOUTS, spread
from jaxnn.types import Segments

Rows = Int[Array, " rows"]
Seen = tuple[Float[Array, " rows"], Bool[Array, " rows"]]


class How(NamedTuple):
    """What is static: the functions, and how members are laid out."""

    protocol: Segments
    layout: str
    mesh: Mesh | None


def _take(tree: PyTree, rows: Rows) -> PyTree:
    return jax.tree.map(lambda a: a.at[rows].get(mode="clip"), tree)


def _put(tree: PyTree, rows: Rows, part: PyTree) -> PyTree:
    return jax.tree.map(lambda a, new: a.at[rows].set(new, mode="drop"), tree, part)


def _look(protocol: Segments, states: PyTree) -> Seen:
    return jax.vmap(protocol.score)(states), jax.vmap(protocol.halted)(states)


@partial(jax.jit, static_argnames="specs")
def _zeros(specs: tuple[tuple[tuple[int, ...], Any], ...]) -> list[Array]:
    return [jnp.zeros(shape, dtype) for shape, dtype in specs]


def room(state: PyTree, size: int) -> PyTree:
    """Returns a pool for `size` members whose states look like `state`, to be begun."""
    leaves, tree = jax.tree.flatten(state)
    return jax.tree.unflatten(tree, _zeros(tuple(((size, *s.shape), s.dtype) for s in leaves)))


@partial(jax.jit, static_argnames="how", donate_argnames="pool")
def begin(pool: PyTree, members: PyTree, rows: Rows, shared: Any, how: How) -> tuple[PyTree, Seen]:
    """Returns the pool with the first states of some members, their scores, and who has halted."""

    def local(pool: PyTree, members: PyTree, rows: Rows, shared: Any) -> tuple[PyTree, Seen]:
        one = lambda member: how.protocol.init(*member, *shared)
        states = LAYOUTS[how.layout](one, _take(members, rows))
        return _put(pool, rows, states), _look(how.protocol, states)

    return spread(how.mesh, local, 3)(pool, members, rows, shared)


# What is traced once serves batches of any size.
@partial(jax.jit, static_argnames="protocol", inline=True)
def further(protocol: Segments, state: PyTree, shared: Any) -> PyTree:
    """Returns the state of one member a piece further."""
    return protocol.advance(state, *shared)


@partial(jax.jit, static_argnames="how", donate_argnames="pool")
def advance(pool: PyTree, rows: Rows, shared: Any, how: How) -> tuple[PyTree, Seen]:
    """Returns the pool with some members one piece further, their scores, and who has halted."""

    def local(pool: PyTree, rows: Rows, shared: Any) -> tuple[PyTree, Seen]:
        size = jax.tree.leaves(pool)[0].shape[0]

        def one(member: tuple[Array, PyTree]) -> PyTree:
            row, state = member
            one_piece = lambda state: further(how.protocol, state, shared)
            if how.layout == "vmap":
                return one_piece(state)
            return jax.lax.cond(row < size, one_piece, lambda state: state, state)

        states = LAYOUTS[how.layout](one, (rows, _take(pool, rows)))
        return _put(pool, rows, states), _look(how.protocol, states)

    return spread(how.mesh, local, 2)(pool, rows, shared)


@partial(jax.jit, static_argnames="how")
def finish(pool: PyTree, how: How) -> PyTree:
    """Returns the results of all members, in the order of the pool."""
    return spread(how.mesh, jax.vmap(how.protocol.result), 1)(pool)


reorder = jax.jit(_take)
