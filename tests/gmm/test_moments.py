"""The fold of the E-step: how moments add up."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_iris

from jaxnn import gmm

X = load_iris().data
FAMILIES = ["full", "tied", "diag", "spherical"]
STARTS = {f: gmm.init(jax.random.key(1), X, 3, family=f) for f in FAMILIES}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def test_moments_add_up(family):
    """Oracle: the moments of all rows at once."""
    start = STARTS[family]
    parts = [gmm.e_step(start, part) for part in (X[:50], X[50:137], X[137:])]
    total = jax.tree.map(lambda *leaves: sum(leaves), *parts)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11),
        total, gmm.e_step(start, X),
    )  # fmt: skip


def test_tiles_change_nothing(family, monkeypatch):
    """Oracle: the untiled moments; 150 rows in tiles of 32 and a ragged rest."""
    whole = gmm.e_step(STARTS[family], X)
    monkeypatch.setattr("jaxnn.gmm.forms.tile_rows", lambda n, width: 32)
    jax.clear_caches()
    tiled = gmm.e_step(STARTS[family], X)
    jax.clear_caches()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11), tiled, whole
    )
