"""Characteristic functions against Gauss-Legendre integrals of the densities."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import roots_legendre

from jaxnn.kde import KERNELS, characteristic, student_t
from jaxnn.kde.kernels import product

NODES, NODE_WEIGHTS = roots_legendre(2000)
# Removable singularities, the seam of the series, and past it.
T = np.array([0.0, 1e-3, 0.7, math.pi / 2, 3.9, 4.0, 9.0])
ALL = [*KERNELS.values(), student_t(1), student_t(5)]


def integral(kernel, d: int, wave) -> np.ndarray:
    """E wave(t r) over the radii of the kernel's draws."""
    s = (NODES + 1) / 2
    r = s if kernel.compact else 12 * s / (1 - s)
    dr = 0.5 * NODE_WEIGHTS * (1 if kernel.compact else 12 / (1 - s) ** 2)
    log = np.asarray(kernel.log_profile(jnp.asarray(r**2), d)) - kernel.log_norm(d)
    area = {1: 2, 3: 4 * math.pi}[d]
    return np.array([np.sum(dr * area * r ** (d - 1) * np.exp(log) * wave(t * r)) for t in T])


# The tails of Student's t oscillate: quadrature of a frequency of 9 needs no more than this.
@pytest.mark.parametrize("kernel", ALL, ids=lambda k: k.name)
def test_equals_the_integral_in_one_dimension(kernel):
    tolerance = 1e-3 if kernel.name.startswith("student_t") else 1e-9
    got = jax.jit(characteristic)(kernel, jnp.asarray(np.concatenate([T, -T])[:, None]))
    expected = integral(kernel, 1, np.cos)
    np.testing.assert_allclose(got, np.tile(expected, 2), atol=tolerance)


@pytest.mark.parametrize("name", ["gaussian", "exponential", "student_t"])
def test_equals_the_integral_in_space(name):
    """The mean of cos(t·u) over a sphere of radius r is sin(|t| r) / (|t| r)."""
    direction = np.array([[2.0, -1.0, 2.0]]) / 3
    got = characteristic(KERNELS[name], jnp.asarray(T[:, None] * direction))
    expected = integral(KERNELS[name], 3, lambda z: np.sinc(z / np.pi))
    np.testing.assert_allclose(got, expected, atol=1e-3 if name == "student_t" else 1e-9)


def test_the_product_form_multiplies_features():
    kernel = KERNELS["triweight"]
    line = characteristic(kernel, jnp.asarray(T[:, None]))
    both = jnp.asarray(np.stack([T, T[::-1]], axis=1))
    got = characteristic(product(kernel), both)
    np.testing.assert_allclose(got, line * line[::-1], rtol=1e-12)


def test_bad_input_is_named(unchecked_types):
    with pytest.raises(ValueError, match=r"kde.characteristic: kernel 'tophat' has no closed form"):
        characteristic(KERNELS["tophat"], jnp.ones((2, 3)))
    with pytest.raises(TypeError, match=r"kde.characteristic: kernel must be a Kernel"):
        characteristic("tophat", jnp.ones((2, 1)))
