"""Tile loops against whole arrays; distances and factors against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import linalg

rng = np.random.default_rng(0)
X = jnp.asarray(rng.normal(size=(103, 3)))


@pytest.mark.parametrize("size", [1, 10, 51, 102, 103, 1000])
def test_fold_counts_every_row_once(size):
    """Oracle: the sum of the whole array."""

    def step(total, tile, fresh):
        return total + jnp.sum(tile * fresh[:, None], axis=0)

    np.testing.assert_allclose(linalg.fold_rows(step, jnp.zeros(3), X, size), X.sum(0), rtol=1e-12)


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 10, 48, 51, 52, 102, 1000])
def test_sum_counts_every_row_once(size, lanes):
    """Oracle: the sums of the whole array, for a pytree; no tile is longer than `size`.

    Tiles are whole units where `size` is: an odd number of rows costs EM a quarter of its time.
    """

    def f(tile, fresh):
        assert tile.shape[0] <= size
        assert size != 48 or tile.shape[0] % 16 == 0
        return {"sum": jnp.sum(tile * fresh[:, None], axis=0), "count": jnp.sum(fresh)}

    total = linalg.sum_rows(f, X, size, lanes)
    np.testing.assert_allclose(total["sum"], X.sum(0), rtol=1e-12)
    assert total["count"] == 103


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 10, 51, 102, 103, 1000])
def test_map_returns_every_row_in_order(size, lanes):
    """Oracle: the function of the whole array, for a pytree in and out."""
    rows = {"a": X, "b": jnp.arange(103)}
    out = linalg.map_rows(lambda r: (r["a"] * 2, r["b"] + 1), rows, size, lanes)
    np.testing.assert_array_equal(out[0], X * 2)
    np.testing.assert_array_equal(out[1], jnp.arange(103) + 1)


def test_tiles_bound_the_working_set():
    assert linalg.tile_rows(50, 10) == 50
    wide, narrow = linalg.tile_rows(10**9, 1024), linalg.tile_rows(10**9, 16)
    assert 128 <= wide < narrow
    assert wide * 1024 <= linalg.TILE["cpu"]
    assert linalg.tile_rows(10**9, 46) % 16 == 0  # the quotient itself is odd


@pytest.mark.parametrize("d", [1, 8, 9, 40])
def test_square_distances(d):
    """Oracle: NumPy by differences; the offset must not cost precision."""
    x, y = rng.normal(size=(7, d)) + 1e4, rng.normal(size=(5, d)) + 1e4
    brute = ((x[:, None] - y[None]) ** 2).sum(-1)
    np.testing.assert_allclose(linalg.square_distances(jnp.asarray(x), jnp.asarray(y)), brute,
                               rtol=1e-9)  # fmt: skip


def test_triangular_factors():
    """Oracle: numpy.linalg."""
    a = rng.normal(size=(2, 4, 4))
    tril = np.linalg.cholesky(a @ a.transpose(0, 2, 1) + np.eye(4))
    np.testing.assert_allclose(linalg.inverse_tril(jnp.asarray(tril)), np.linalg.inv(tril),
                               atol=1e-12)  # fmt: skip
    np.testing.assert_allclose(linalg.log_det_tril(jnp.asarray(tril)),
                               np.linalg.slogdet(tril)[1], rtol=1e-12)  # fmt: skip
    gradient = jax.grad(lambda t: linalg.log_det_tril(t).sum())(jnp.asarray(tril))
    assert bool(jnp.all(jnp.isfinite(gradient)))


def test_weighted_moments_of_columns():
    """Oracle: numpy.repeat for integer weights; a constant column has unit variance."""
    w = rng.integers(0, 4, 103)
    x = np.asarray(X).copy()
    x[:, 2] = 5.0
    mean, variance = linalg.mean_and_variance(jnp.asarray(x), jnp.asarray(w, jnp.float64))
    repeated = np.repeat(x, w, axis=0)
    np.testing.assert_allclose(mean, repeated.mean(0), rtol=1e-12)
    np.testing.assert_allclose(variance[:2], repeated.var(0)[:2], rtol=1e-12)
    assert variance[2] == 1.0


def test_root_of_a_product():
    """Oracle: numpy.linalg.cholesky of the product; the diagonal is positive."""
    a = rng.normal(size=(2, 3, 5))
    root = linalg.root_tril(jnp.asarray(a))
    np.testing.assert_allclose(root, np.linalg.cholesky(a @ a.transpose(0, 2, 1)), atol=1e-12)


def test_gmres():
    """Oracle: numpy.linalg.solve; in rounds of 4 vectors; a zero right-hand side gives zero."""
    a = np.eye(9) - 0.8 * np.diag(rng.uniform(size=9)) + 0.02 * rng.normal(size=(9, 9))
    b = rng.normal(size=9)
    solve = jax.jit(
        lambda a, b: linalg.gmres(lambda x: a @ x, b, vectors=4, restarts=20, tol=1e-12)
    )
    np.testing.assert_allclose(solve(a, b), np.linalg.solve(a, b), rtol=1e-10)
    np.testing.assert_array_equal(solve(a, np.zeros(9)), 0)
    np.testing.assert_allclose(solve(np.eye(9) * 2, b), b / 2, rtol=1e-14)
    turn = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    stiff = turn @ np.diag(np.geomspace(1e-6, 1, 30)) @ turn.T
    x = linalg.gmres(lambda x: stiff @ x, jnp.ones(30), vectors=30, restarts=1, tol=1e-14)
    left = np.linalg.norm(stiff @ np.asarray(x) - 1) / np.sqrt(30)
    assert left < 1e6 * np.finfo(float).eps  # the condition number: the basis stays orthogonal
    singular = np.diag([1.0, 0.5, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(solve(singular, singular @ b), singular.astype(bool) @ b, rtol=1e-9)
