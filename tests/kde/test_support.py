"""Oracles: each entry's own inverse and derivative, and the mass of a kernel beyond its reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnn.kde import KERNELS, support

BOUNDS = {"reflect": (-1.0, 2.0), "periodic": (-1.0, 2.0), "log": (-1.0, jnp.inf),
          "logit": (-1.0, 2.0)}  # fmt: skip
X = jnp.array([-0.9, 0.1, 1.0, 1.9])


@pytest.mark.parametrize("name", support.EDGES)
def test_leaving_undoes_entering_and_the_slope_is_its_derivative(name):
    edge, (low, high) = support.EDGES[name], map(jnp.array, BOUNDS[name])
    entered = edge.enter(X, low, high)
    np.testing.assert_allclose(edge.leave(entered, low, high), X, rtol=1e-13)
    slope = jax.vmap(jax.grad(lambda x: edge.enter(x[None], low, high)[0]))(X)
    np.testing.assert_allclose(edge.log_slope(X, low, high), jnp.log(jnp.abs(slope)), atol=1e-13)
    assert not np.any(support.outside(name, X, low, high))
    assert np.all(support.outside(name, jnp.array([-1.1]), low, high)) == (name != "periodic")


@pytest.mark.parametrize("name", ["reflect", "periodic"])
def test_an_image_is_what_folds_back_onto_the_query(name):
    """Invariant: every image lies in its cell, and leaving takes it back to the query."""
    edge, (low, high) = support.EDGES[name], map(jnp.array, BOUNDS[name])
    for cell in range(-4, 5):
        image = edge.image(X, jnp.array(cell), low, high)
        assert np.all((image > low + 3 * cell) & (image < high + 3 * cell))
        np.testing.assert_allclose(edge.leave(image, low, high), X, atol=1e-14)


def test_cells_are_as_many_as_the_kernels_reach():
    low, high = jnp.array([0.0, 0.0, -jnp.inf, 0.0]), jnp.array([1.0, jnp.inf, jnp.inf, 1.0])
    edges = ("periodic", "reflect", "reflect", "logit")
    find = lambda images: support.cells("here", edges, low, high, images, lambda: [2.5] * 4)
    assert find(None) == ((-3, 3), (-1, 0), (0, 0), (0, 0))
    assert find(1) == ((-1, 1), (-1, 0), (0, 0), (0, 0))
    assert find(3) == ((-3, 3), (-1, 0), (0, 0), (0, 0))  # behind one wall there is one image


def test_kernels_reach_by_their_widest_along_each_feature():
    """Closed form: a kernel with matrix H has the marginal bandwidths √H_jj; the largest factor."""
    matrix, factors = jnp.array([[0.25, 0.1], [0.1, 4.0]]), jnp.array([0.5, 3.0])
    given = lambda h: support.reaches(KERNELS["biweight"], h, factors, 2)
    np.testing.assert_allclose(given(matrix), [1.5, 6.0], rtol=1e-12)
    np.testing.assert_allclose(given(jnp.array([0.5, 2.0])), [1.5, 6.0], rtol=1e-12)


def test_reach_leaves_less_than_a_rounding():
    """SciPy's tails: less than the dtype resolves lies beyond, and compact kernels end."""
    for dtype in map(jnp.dtype, ("float32", "float64")):
        eps = float(jnp.finfo(dtype).eps)
        assert 2 * stats.norm.sf(support.reach(KERNELS["gaussian"], 1, dtype)) < eps
        assert 2 * stats.norm.sf(support.reach(KERNELS["gaussian"], 1, dtype) - 2) > eps
    assert support.reach(KERNELS["biweight"], 2, jnp.dtype("float32")) == 1.0
