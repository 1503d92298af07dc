"""Kernel regression against NumPy's least squares, one query at a time."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import kde

RNG = np.random.default_rng(0)
N, M, D = 40, 12, 2
X, Q = RNG.normal(size=(N, D)), RNG.normal(size=(M, D))
Y = np.stack([np.sin(X[:, 0]) + X[:, 1], 100 + X[:, 0] * X[:, 1]], axis=1)
W = RNG.uniform(0.5, 1.5, N)
H = np.array([0.8, 1.2])
KINDS = {
    "gaussian": lambda u: np.exp(-0.5 * np.sum(u * u, axis=1)),
    "biweight": lambda u: np.maximum(1 - np.sum(u * u, axis=1), 0) ** 2,
}


def by_lstsq(kernel, degree):
    """Mean and slope at each query by NumPy's least squares on root-weighted rows."""
    means, slopes = [], []
    for q in Q:
        root = np.sqrt(W * KINDS[kernel]((X - q) / H))[:, None]
        design = np.ones((N, 1)) if degree == 0 else np.c_[np.ones(N), X - q]
        line = np.linalg.lstsq(root * design, root * Y, rcond=None)[0]
        means.append(line[0])
        slopes.append(line[1:])
    return np.array(means), np.array(slopes)


def model(kernel, scale=1.0):
    h = jnp.asarray(scale * H)
    return kde.fit(jnp.asarray(X), bandwidth=h, kernel=kernel, sample_weight=jnp.asarray(W))


@pytest.mark.parametrize("kernel", KINDS)
def test_means_and_lines_equal_least_squares(kernel):
    """Oracle: `numpy.linalg.lstsq`; for a compact kernel of a width that reaches all queries."""
    means, _ = by_lstsq(kernel, 0)
    got = kde.nadaraya_watson(model(kernel), jnp.asarray(Y), jnp.asarray(Q))
    assert bool(jnp.all(got.reached))
    np.testing.assert_allclose(got.mean, means, rtol=1e-10)
    means, slopes = by_lstsq(kernel, 1)
    line = kde.local_linear(model(kernel), jnp.asarray(Y), jnp.asarray(Q))
    np.testing.assert_allclose(line.mean, means, rtol=1e-9)
    some = np.asarray(line.full_rank)
    assert some.sum() >= M - 3
    np.testing.assert_allclose(line.slope[some], slopes[some], rtol=1e-7, atol=1e-8)


def test_a_plane_is_found_exactly_with_a_matrix_and_factors():
    """Closed form: a local line reproduces a plane, with any weights, at the edge and beyond."""
    matrix = jnp.array([[0.5, 0.3], [0.3, 0.8]])
    density = kde.fit(jnp.asarray(X), bandwidth=matrix, factors=jnp.asarray(W))
    plane = jnp.asarray(3 + X @ np.array([2.0, -1.0]))
    line = kde.local_linear(density, plane, jnp.asarray(2 * Q))
    np.testing.assert_allclose(line.mean, 3 + 2 * Q @ np.array([2.0, -1.0]), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(line.slope, np.tile([2.0, -1.0], (M, 1)), rtol=1e-6)
    assert bool(jnp.all(line.full_rank))


def test_points_on_a_line_have_no_slope_across_it():
    """Closed form: y = 2 t along (1, 0.3); a query far away sees one point."""
    t = jnp.linspace(0.0, 1.0, N)
    x = jnp.stack([t, 0.3 * t], axis=1)
    s = jnp.linspace(0.05, 0.95, M).at[1].set(1e8)
    queries = jnp.stack([s, 0.3 * s], axis=1)
    line = kde.local_linear(kde.fit(x, bandwidth=0.3), 2 * t, queries)
    assert not bool(jnp.any(line.full_rank))
    np.testing.assert_allclose(line.slope[0] @ jnp.array([1.0, 0.3]), 2.0, rtol=1e-9)
    np.testing.assert_allclose(line.mean, (2 * s).at[1].set(2.0), rtol=1e-9)


def test_out_of_reach_the_mean_of_all_is_flagged():
    far = jnp.asarray(Q + 1e3)
    expected = np.broadcast_to(W @ Y / W.sum(), (M, 2))
    got = kde.nadaraya_watson(model("biweight"), jnp.asarray(Y), far)
    line = kde.local_linear(model("biweight"), jnp.asarray(Y), far)
    assert not bool(jnp.any(got.reached | line.reached | line.full_rank))
    np.testing.assert_allclose(got.mean, expected, rtol=1e-12)
    np.testing.assert_allclose(line.mean, expected, rtol=1e-12)
    assert float(jnp.max(jnp.abs(line.slope))) == 0.0


def test_far_from_all_points_the_nearest_one_answers():
    """Limit of the softmax: even where every kernel has underflowed."""
    got = kde.nadaraya_watson(model("gaussian"), jnp.asarray(Y), jnp.asarray(Q) + 1e4)
    away = (Q[:, None] + 1e4 - X[None]) / H
    nearest = np.argmin(np.sum(away**2, axis=2), axis=1)
    np.testing.assert_allclose(got.mean, Y[nearest], rtol=1e-12)


def test_bad_input(unchecked_types):
    """A16, A1 and lengths."""
    density = model("gaussian")
    for f in (kde.nadaraya_watson, kde.local_linear):
        with pytest.raises(ValueError, match=rf"{f.__name__}: y must have shape \(40,\)"):
            f(density, jnp.ones(3), jnp.asarray(Q))
        with pytest.raises(ValueError, match="y must be finite"):
            f(density, jnp.full(N, jnp.nan), jnp.asarray(Q))
        with pytest.raises(ValueError, match="x must have shape"):
            f(density, jnp.ones(N), jnp.ones((3, 5)))
        with pytest.raises(TypeError, match="y must hold floating-point"):
            f(density, jnp.ones(N, int), jnp.asarray(Q))
        with pytest.raises(TypeError, match="model must be a KDE"):
            f(X, jnp.ones(N), jnp.asarray(Q))
