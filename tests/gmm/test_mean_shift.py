"""Modes against a brute-force search of a grid, and against what must hold at a maximum."""

import jax
import numpy as np
import pytest
from refusals import refused

from jaxnn import gmm

# Two means whose bumps are one hill, two hills of their own, and a dead component.
MEANS = np.array([[0.0, 0.0], [0.9, 0.1], [6.0, 5.0], [-5.0, 6.0], [3.0, 3.0]])
WEIGHTS = np.array([0.3, 0.2, 0.1, 0.4, 0.0])
ROOT = np.random.default_rng(8).normal(size=(5, 2, 2)) / 2
COVARIANCES = ROOT @ ROOT.transpose(0, 2, 1) + 0.5 * np.eye(2)
MIXTURE = gmm.from_covariances(WEIGHTS, MEANS, COVARIANCES)


def balls(variances: list[float]) -> np.ndarray:
    return np.asarray(variances, float)[:, None, None] * np.eye(2)


def grid_maxima(mixture: gmm.GMM, side: np.ndarray) -> np.ndarray:
    """Points of a grid above all eight neighbours, the highest first."""
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1)
    log_prob = np.asarray(gmm.log_prob(mixture, grid.reshape(-1, 2))).reshape(grid.shape[:2])
    inner = log_prob[1:-1, 1:-1]
    shifts = [(i, j) for i in (0, 1, 2) for j in (0, 1, 2) if (i, j) != (1, 1)]
    n = len(side) - 2
    peak = np.all([inner > log_prob[i : i + n, j : j + n] for i, j in shifts], axis=0)
    points, heights = grid[1:-1, 1:-1][peak], inner[peak]
    return points[np.argsort(-heights)]


def test_modes_are_those_of_a_grid():
    """Oracle: brute force on a grid 0.05 apart; at each mode the slope is zero."""
    modes = gmm.modes(MIXTURE)
    expected = grid_maxima(MIXTURE, np.arange(-9, 10, 0.05))
    count = int(modes.n_modes)
    assert count == len(expected) == 3
    assert modes.converged
    np.testing.assert_array_equal(modes.found, np.arange(5) < count)
    np.testing.assert_allclose(modes.points[:count], expected, atol=0.05)
    np.testing.assert_allclose(modes.log_prob, gmm.log_prob(MIXTURE, modes.points), rtol=1e-12)
    slope = jax.grad(lambda x: gmm.log_prob(MIXTURE, x).sum())(modes.points)
    np.testing.assert_allclose(slope, 0, atol=1e-12)
    np.testing.assert_array_equal(modes.points[count:], modes.points[:1].repeat(5 - count, 0))


def test_units_change_nothing():
    """Columns times 1e-6 and 1e6: the same modes in the new units."""
    scale = np.array([1e-6, 1e6])
    moved = gmm.from_covariances(WEIGHTS, MEANS * scale, COVARIANCES * np.outer(scale, scale))
    plain, found = gmm.modes(MIXTURE), gmm.modes(moved)
    assert found.n_modes == plain.n_modes
    np.testing.assert_allclose(np.asarray(found.points) / scale, plain.points, atol=1e-9)


def test_a_valley_between_is_no_mode():
    """A wide component whose mean is the saddle or the minimum between two others, by symmetry."""
    means = np.array([[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    mixture = gmm.from_covariances(
        np.array([0.45, 0.1, 0.45, 0, 0]), means, balls([0.3, 2.0, 0.3, 1, 1])
    )  # fmt: skip
    modes = gmm.modes(mixture)
    assert modes.n_modes == 2
    np.testing.assert_allclose(np.sort(modes.points[:2, 0]), [-2, 2], atol=0.1)


def test_one_hill_has_one_mode():
    """Two equal bumps 1.98 deviations apart are one hill (below 2), whose top is in the middle.

    The top is so flat that the fixed-point iteration stops at 1e-3 of it: Newton goes on.
    """
    means = np.array([[-0.99, 0.0], [0.99, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]) + 7
    hill = gmm.from_covariances(np.array([0.5, 0.5, 0, 0, 0]), means, balls([1, 1, 1, 1, 1]))
    modes = gmm.modes(hill)
    assert modes.n_modes == 1
    np.testing.assert_allclose(modes.points, 7, rtol=1e-12)


def test_stopped_early_says_so():
    modes = gmm.modes(MIXTURE, max_steps=1)
    assert not modes.converged


BAD = {
    "no mixture": (lambda: gmm.modes(None), TypeError, "mixture must be a GMM"),
    "steps": (lambda: gmm.modes(MIXTURE, max_steps=0), ValueError, "max_steps must be at least 1"),
    "float": (lambda: gmm.modes(MIXTURE, max_steps=1.5), TypeError, "whole number"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    refused(*BAD[case], where="gmm.")
