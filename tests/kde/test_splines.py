"""Splines against SciPy's, and the sharpened kernel against a Fourier transform."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import BSpline

from jaxnn import linalg
from jaxnn.kde import splines

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("degree", [1, 3, 7])
def test_taps_are_the_basis_spline(degree):
    position = RNG.uniform(10, 20, size=40)
    first, weights = splines.taps(jnp.asarray(position), degree)
    basis = BSpline.basis_element(np.arange(degree + 2) - (degree + 1) / 2, extrapolate=False)
    nodes = np.asarray(first)[:, None] + np.arange(degree + 1)
    np.testing.assert_allclose(weights, basis(position[:, None] - nodes), atol=1e-14)


def test_scatter_and_gather_are_transposes(monkeypatch):
    """<scatter(w), g> = <w, gather(g)>, over ragged tiles; and the mass is kept."""
    monkeypatch.setitem(linalg.TILE, "cpu", 1)
    monkeypatch.setattr(splines, "WINDOWS", 50 * 16 * 8)
    positions = jnp.asarray(RNG.uniform(3, 9, size=(270, 2)))
    w, g = jnp.asarray(RNG.normal(size=270)), jnp.asarray(RNG.normal(size=(13, 14)))
    grid = splines.scatter(positions, w, 3, (13, 14))
    np.testing.assert_allclose(jnp.sum(grid * g), w @ splines.gather(g, positions, 3), rtol=1e-10)
    np.testing.assert_allclose(jnp.sum(grid), jnp.sum(w), rtol=1e-12)


@pytest.mark.parametrize(("rho", "order", "error"), [(1 / 6, 16, 1e-14), (0.25, 16, 1e-14),
                                                     (0.4, 4, 1e-12), (0.7, 2, 1e-5)])  # fmt: skip
def test_sharpened_gaussian_equals_a_fourier_transform(rho, order, error):
    omega = 2 * np.pi * np.fft.fftfreq(4096) / rho
    boxes = np.sinc(omega * rho / 2 / np.pi) ** order
    expected = np.fft.ifft(np.exp(-(omega**2) / 2) / boxes).real[:60] / rho
    got = splines.sharpened_gaussian(jnp.arange(60.0), rho, order)
    np.testing.assert_allclose(got, expected, atol=error)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sharpened_gaussian_ends(dtype):
    """Polynomials of degree 18 overflow where the Gaussian is long gone: that is zero."""
    got = splines.sharpened_gaussian(jnp.arange(0, 10**6, 7, dtype=dtype), 0.16, 16)
    assert got.dtype == dtype
    assert got[0] > 0.3
    np.testing.assert_array_equal(got[100:], 0)


@pytest.mark.parametrize("largest", [0, 10**6])
def test_convolve_is_that_of_numpy(largest, monkeypatch):
    """By Fourier transforms and by a matrix, one axis alone and two; nothing wraps around."""
    monkeypatch.setattr(splines, "LARGEST_MATRIX", largest)
    g, along, down = RNG.normal(size=(6, 9)), RNG.normal(size=13), RNG.normal(size=10)
    for row in (g[0], g[0, ::-1]):
        got = splines.convolve(jnp.asarray(row), [jnp.asarray(along)])
        np.testing.assert_allclose(got, np.convolve(along, row, "valid"), atol=1e-13)
    rows = [np.convolve(along, row, "valid") for row in g]
    expected = np.transpose([np.convolve(down, column, "valid") for column in np.transpose(rows)])
    got = splines.convolve(jnp.asarray(g), [jnp.asarray(down), jnp.asarray(along)])
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_lags_are_distances_of_places_from_nodes():
    """Place i is node i + pad: values of the kernel x² at the lags give Σ_j g_j (i + pad - j)²."""
    g, pad, size = RNG.normal(size=8), 2, 4
    got = splines.convolve(jnp.asarray(g), [splines.lags(size, 8, pad).astype(float) ** 2])
    apart = np.arange(size)[:, None] + pad - np.arange(8)[None, :]
    np.testing.assert_allclose(got, apart**2 @ g, atol=1e-12)
