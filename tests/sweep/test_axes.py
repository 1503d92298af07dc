"""Oracles: distributions of SciPy, and columns taken apart by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnn import sweep
from jaxnn.sweep import axes

U = jnp.array([0.001, 0.25, 0.5, 0.83, 0.999])
QUANTILES = {
    "uniform": (sweep.Uniform(2.0, 5.0), stats.uniform(2, 3)),
    "log-uniform": (sweep.LogUniform(1e-3, 10.0), stats.loguniform(1e-3, 10)),
    "normal": (sweep.Normal(-1.0, 3.0), stats.norm(-1, 3)),
    "integers": (sweep.Integers(-2, 9), stats.randint(-2, 9)),
}


@pytest.mark.parametrize("name", QUANTILES)
def test_quantiles(name):
    """Oracle: scipy.stats."""
    axis, peer = QUANTILES[name]
    np.testing.assert_allclose(axis.quantile(U), peer.ppf(np.asarray(U)), rtol=1e-12)


def test_quantiles_of_a_choice_go_through_its_values_in_order():
    """Oracle: counting; names as names, numbers with their dtype."""
    u = (jnp.arange(6) + 0.5) / 6
    assert sweep.Choice(["b", (1, 2), "a"]).quantile(u).tolist() == [*"bb", (1, 2), (1, 2), *"aa"]
    half = sweep.Choice((1, 2), dtype="float16").quantile(u)
    assert half.dtype == jnp.float16
    assert half.tolist() == [1, 1, 1, 2, 2, 2]


def test_a_static_column_is_indexed_through_its_leaf():
    """Oracle: the list it was made of; vmap, jit and concatenation see codes only."""
    given = ["b", None, "a", "b"]
    column = axes.column("here", "x", given)
    assert column.shape == (4,)
    assert column.tolist() == given
    assert [jax.tree.map(lambda a, i=i: a[i], column).tolist() for i in range(4)] == given
    assert jax.jit(lambda c: jax.tree.map(lambda a: a[::-1], c))(column).tolist() == given[::-1]
    assert sweep.Static(("x",), jnp.array([0, -1])).tolist() == ["x", None]


@pytest.mark.parametrize("values", [["a", "b"], ("a", "b"), np.array(["a", "b"])], ids=type)
def test_names_in_any_sequence_are_static(values):
    """Oracle: the list."""
    assert sweep.grid(x=values)["x"].tolist() == ["a", "b"]
