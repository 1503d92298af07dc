"""Distances to neighbours against a sorted table of all distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import kde
from jaxnn.kde import neighbours

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("k", "d"), [(1, 2), (3, 10)])
def test_equals_a_sorted_table_for_ragged_tiles(k, d, monkeypatch):
    monkeypatch.setattr(neighbours, "POINTS", 13)
    x = RNG.normal(size=(60, d)) * 1e-3 + 1e3
    table = np.sqrt(np.sum((x[:, None] - x[None]) ** 2, axis=2))
    expected = np.sort(table, axis=1)[:, k]  # the first is the row itself
    np.testing.assert_allclose(kde.nearest_neighbour(jnp.asarray(x), k), expected, rtol=1e-6)


def test_repeated_rows_take_the_smallest_positive_distance():
    x = jnp.asarray([[0.0], [0.0], [0.5], [3.0]])
    nearest = jax.jit(lambda x: kde.nearest_neighbour(x, 1))
    np.testing.assert_allclose(nearest(x), [0.5, 0.5, 0.5, 2.5])
    np.testing.assert_allclose(nearest(jnp.zeros((4, 1))), 1.0)
    assert jnp.all(jnp.isfinite(jax.jacobian(nearest)(x)))


def test_bad_input_is_named(unchecked_types):
    with pytest.raises(ValueError, match="nearest_neighbour: k must be between 1 and 3, got 4"):
        kde.nearest_neighbour(jnp.ones((4, 1)), 4)
    with pytest.raises(ValueError, match="nearest_neighbour: x must have at least 2 rows, got 1"):
        kde.nearest_neighbour(jnp.ones((1, 1)), 1)
