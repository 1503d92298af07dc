"""Oracle: the bytes of an array."""

import jax
import jax.numpy as jnp
import pytest
import toys

from jaxnn import sweep
from jaxnn.sweep import constants

KEY = jax.random.key(0)
ROWS = jnp.ones((50, 20))
HP = {"x": jnp.arange(1.0, 9.0)}


def fit_one(hp, key, rows):
    return hp["x"] * jnp.sum(rows)


def test_large_constants_are_pointed_out(monkeypatch):
    """I16. Oracle: the warning counts the bytes; what is shared is none."""
    monkeypatch.setattr(constants, "LARGE", 8000)
    table = jnp.ones((50, 20))
    inside = lambda hp, key: hp["x"] * jnp.sum(table)
    with pytest.warns(UserWarning, match=r"fit_one should be given .* over 8000 bytes"):
        sweep.run(inside, HP, KEY)
    sweep.run(fit_one, HP, KEY, ROWS)  # warns nothing, or the test fails
    closed = toys.TOY._replace(advance=lambda s, c: toys.advance(s, c + 0 * jnp.sum(table)))
    with pytest.warns(UserWarning, match="advance should be given large arrays"):
        sweep.run(closed, toys.members(2, stop=1), KEY, 0.9)
