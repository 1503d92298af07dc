"""Oracles: the functions of the protocol themselves, and NumPy's indexing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxnn import sweep
from jaxnn.sweep import pool

KEYS = jax.random.split(jax.random.key(0), 4)
HP = toys.members(4, stop=3)
SHARED = (0.9,)


@pytest.mark.parametrize("layout", sweep.LAYOUTS)
def test_only_the_rows_that_were_asked_for_move(layout):
    """Oracle: `vmap` of the toy's functions; row 4 of four stands for none."""
    how = pool.How(toys.TOY, layout, None)
    first = jax.vmap(toys.init, (0, 0, None))(HP, KEYS, *SHARED)
    shapes = jax.eval_shape(lambda states: jax.tree.map(lambda a: a[0], states), first)
    empty = pool.room(shapes, 4)
    assert all(a.shape[0] == 4 for a in jax.tree.leaves(empty))
    states, _ = pool.begin(empty, (HP, KEYS), jnp.arange(4), SHARED, how=how)
    np.testing.assert_array_equal(states.hp["rate"], HP["rate"])
    rows = jnp.array([2, 0, 4])
    states, (scores, halted) = pool.advance(states, rows, SHARED, how=how)
    w = np.where([True, False, True, False], 0.9 * (1 - HP["rate"]), 1.0)
    np.testing.assert_allclose(states.w, w, rtol=1e-14)
    np.testing.assert_array_equal(states.t, [1, 0, 1, 0])
    np.testing.assert_array_equal(scores[:2], states.w[jnp.array([2, 0])])
    assert not bool(halted.any())
    got = pool.finish(states, how=how)
    np.testing.assert_array_equal(got["t"], states.t)
    back = pool.reorder(states, jnp.array([3, 2, 1, 0]))
    np.testing.assert_array_equal(back.w, states.w[::-1])
