"""Oracles: NumPy's weighted mean, for the share of each row; the rest is tested in backprop."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import mlp
from jaxnn.mlp.objective import decay, objective, penalty, rows_of

RNG = np.random.default_rng(0)
OUTPUTS = jnp.asarray(RNG.normal(size=(6, 2)))
Y = jnp.asarray(RNG.normal(size=(6, 2)))


class Batch(NamedTuple):
    y: object
    weight: object


def test_shares_are_those_of_a_weighted_mean():
    weight = RNG.uniform(size=(2, 3))
    loss = mlp.LOSSES["squared"]
    value = np.sum((np.asarray(OUTPUTS) - np.asarray(Y)) ** 2, axis=1)
    for given, full in [(weight, weight), (weight[:, 0], weight[:, :1] + np.zeros((2, 3))),
                        (None, np.ones((2, 3)))]:  # fmt: skip
        rows = rows_of("here", Batch(Y.reshape(2, 3, 2), given), OUTPUTS, (2, 3), loss)
        found = jnp.sum(rows.share * loss.value(OUTPUTS, rows.targets))
        assert float(found) == pytest.approx(np.average(value, weights=full.ravel()), rel=1e-12)


def test_no_penalty_costs_nothing():
    goal = objective("here", "squared", "relu", "tanh", 1.0, "inverted", 1.0, 0.0)
    assert goal.names == ("relu", "tanh")
    assert goal.l2 is None
    params = (mlp.Dense(jnp.ones((2, 2)), None),)
    assert penalty(params, None) == 0
    assert decay(params, params, None) is params
