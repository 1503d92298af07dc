"""The fold of the E-step: how moments add up."""

from functools import cache

import jax
import numpy as np
import pytest
from sklearn.datasets import load_iris

from jaxnn import gmm
from jaxnn.gmm.moments import moments

X = load_iris().data
FAMILIES = ["tied", "diag"]  # one that sums over components, one that does not


@cache
def start_of(family: str) -> gmm.GMM:
    return gmm.init(jax.random.key(1), X, 3, family=family)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def test_moments_add_up(family):
    """Oracle: the moments of all rows at once."""
    start = start_of(family)
    parts = [gmm.e_step(start, part) for part in (X[:75], X[75:])]
    total = jax.tree.map(lambda *leaves: sum(leaves), *parts)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11),
        total, gmm.e_step(start, X),
    )  # fmt: skip


def test_tiles_change_nothing(family, monkeypatch):
    """Oracle: the untiled moments; 150 rows in tiles of 32 and a ragged rest."""
    whole = gmm.e_step(start_of(family), X)
    monkeypatch.setattr("jaxnn.gmm.forms.tile_rows", lambda n, width: 32)
    # Jitted anew, so that the patch is seen.
    tiled = jax.jit(lambda m, x, w: moments(m, x, w))(start_of(family), X, np.ones(len(X)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11), tiled, whole
    )
