"""Series, moments and rejection of the radial kernels against known constants and quadrature."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from jaxnn.kde import radial


def test_alternating_series_equal_known_constants():
    """η(0) = 1/2 in Abel's sense, η(1) = log 2, η(2) = π²/12, β(1) = π/4, β(2) = Catalan's."""
    eta = [radial.alternating_sum(lambda k, s=s: (k + 1.0) ** -s) for s in (0, 1, 2)]
    np.testing.assert_allclose(eta, [0.5, math.log(2), math.pi**2 / 12], rtol=1e-14)
    beta = [radial.alternating_sum(lambda k, s=s: (2 * k + 1.0) ** -s) for s in (1, 2)]
    np.testing.assert_allclose(beta, [math.pi / 4, 0.915965594177219015], rtol=1e-14)


@pytest.mark.parametrize("s", [1, 2, 5])
def test_moments_equal_quadrature(s):
    moment = lambda f: math.log(integrate.quad(lambda r: r ** (s - 1) * f(r), 0, 200)[0])
    assert radial.log_logistic_moment(s) == pytest.approx(
        moment(lambda r: 4 * special.expit(r) * special.expit(-r)), rel=1e-8
    )
    assert radial.log_sigmoid_moment(s) == pytest.approx(moment(lambda r: 1 / np.cosh(r)), rel=1e-8)


def test_volume_and_area_are_those_from_school():
    volumes = [math.exp(radial.log_volume(d)) for d in (1, 2, 3)]
    np.testing.assert_allclose(volumes, [2, math.pi, 4 / 3 * math.pi])
    np.testing.assert_allclose(math.exp(radial.log_area(3)), 4 * math.pi)


def test_the_root_has_a_gradient_of_zero_at_zero():
    values, slopes = jax.vmap(jax.value_and_grad(radial.root))(jnp.array([0.0, 4.0]))
    np.testing.assert_allclose(values, [0, 2])
    np.testing.assert_allclose(slopes, [0, 0.25])


def test_thinning_keeps_the_chance():
    """Uniform proposals taken with chance r have the density 2 r: mean 2/3, in 5 errors."""
    uniform = lambda key, d, n, dtype: jax.random.uniform(key, (n,), dtype)
    draws = radial.thinned(uniform, lambda r: r)(jax.random.key(0), 1, 10_000, jnp.float64)
    assert abs(float(draws.mean()) - 2 / 3) < 5 * math.sqrt(1 / 18 / 10_000)
