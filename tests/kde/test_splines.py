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
    positions = jnp.asarray(RNG.uniform(3, 9, size=(200, 2)))
    w, g = jnp.asarray(RNG.normal(size=200)), jnp.asarray(RNG.normal(size=(13, 14)))
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
