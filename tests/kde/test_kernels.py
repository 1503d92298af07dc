"""Kernels against numerical integrals, their samplers against Kolmogorov-Smirnov bands."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxnn.kde import KERNELS, Kernel

ALL = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
# The area of the unit sphere, from school for d up to 3 and by its Gamma function beyond.
AREAS = {1: 2.0, 2: 2 * math.pi, 3: 4 * math.pi, 8: 2 * math.pi**4 / special.gamma(4)}
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(400)


def radial_density(kernel: Kernel, d: int, radii: np.ndarray) -> np.ndarray:
    """The density of |u|, from the profile, its normaliser and the area of a sphere."""
    log = np.asarray(kernel.log_profile(jnp.asarray(radii**2))) - kernel.log_norm(d)
    return AREAS[d] * radii ** (d - 1) * np.exp(log)


def radial_mean(kernel: Kernel, d: int, power: int) -> float:
    """E |u|^power by Gauss-Legendre quadrature; both infinite kernels are over at 90."""
    end = min(kernel.support, 90.0)
    radii = end * (NODES + 1) / 2
    return float(np.sum(end / 2 * NODE_WEIGHTS * radial_density(kernel, d, radii) * radii**power))


@ALL
@pytest.mark.parametrize("d", AREAS)
def test_integrates_to_one_with_the_stated_variance(kernel, d):
    assert radial_mean(kernel, d, 0) == pytest.approx(1, abs=1e-10)
    assert radial_mean(kernel, d, 2) / d == pytest.approx(kernel.variance(d), rel=1e-10)


@ALL
@pytest.mark.parametrize("d", [1, 3, 8])
def test_draws_follow_the_density(kernel, d):
    """Oracles: the integral of the profile (Kolmogorov-Smirnov, p about 1e-6), and isotropy."""
    n = 20_000
    draws = np.asarray(kernel.draw(jax.random.key(d), n, d, jnp.float64))
    radii = np.sort(np.linalg.norm(draws, axis=1))
    grid = np.linspace(0, min(kernel.support, 60.0), 200_001)
    density = radial_density(kernel, d, grid)
    steps = np.diff(grid) * (density[1:] + density[:-1]) / 2
    expected = np.interp(radii, grid, np.concatenate([[0], np.cumsum(steps)]))
    gap = np.max(np.abs(expected - (np.arange(n) + 0.5) / n)) + 0.5 / n
    assert gap * math.sqrt(n) < 2.7

    second = draws[:, :, None] * draws[:, None, :]
    error = second.std(axis=0) / math.sqrt(n)
    assert np.all(np.abs(second.mean(axis=0) - kernel.variance(d) * np.eye(d)) < 5 * error)
    assert np.all(np.abs(draws.mean(axis=0)) < 5 * draws.std(axis=0) / math.sqrt(n))


@ALL
def test_profile_is_that_of_the_formula(kernel):
    """Oracle: the textbook formulas, in NumPy."""
    formulas = {
        "gaussian": lambda r: np.exp(-r * r / 2),
        "tophat": lambda r: np.where(r < 1, 1.0, 0.0),
        "epanechnikov": lambda r: np.where(r < 1, 1 - r * r, 0.0),
        "exponential": lambda r: np.exp(-r),
        "linear": lambda r: np.where(r < 1, 1 - r, 0.0),
        "cosine": lambda r: np.where(r < 1, np.cos(np.pi * r / 2), 0.0),
    }
    radii = np.linspace(0, 2, 1001)
    values = np.exp(np.asarray(kernel.log_profile(jnp.asarray(radii**2))))
    np.testing.assert_allclose(values, formulas[kernel.name](radii), rtol=1e-12, atol=1e-14)
    assert kernel.compact == (values[-1] == 0) == (kernel.profile is not None)
    if kernel.profile is not None:
        np.testing.assert_allclose(kernel.profile(jnp.asarray(radii**2)), values, atol=1e-15)
        assert kernel.profile(jnp.float32(1e38)) == 0


@ALL
def test_edges_and_gradients_are_never_nan(kernel):
    """At the centre, one rounding error inside the edge, on the edge, outside, far away."""
    for dtype in (jnp.float32, jnp.float64):
        inside = 1 - jnp.finfo(dtype).epsneg
        r2 = jnp.asarray([0.0, jnp.finfo(dtype).tiny, 0.5, inside, 1.0, 2.0, 1e30], dtype)
        values, slopes = jax.vmap(jax.value_and_grad(kernel.log_profile))(r2)
        assert values.dtype == dtype
        assert values[0] == 0
        assert jnp.all(jnp.isfinite(values[:4]))
        assert jnp.all(jnp.isneginf(values[4:]) if kernel.compact else jnp.isfinite(values[4:]))
        assert jnp.all(jnp.isfinite(slopes))
        assert jnp.all(slopes <= 0)


@ALL
def test_cosine_and_others_stay_normalised_in_many_dimensions(kernel):
    """Oracle: the variance is E|u|²/d by the ratio of normalisers for d and d + 2.

    With S_d the area of the sphere, ∫ r^(d+1) profile dr = exp(log_norm(d + 2)) / S_(d+2).
    """
    for d in (30, 400):
        log_area = [
            math.log(2) + s / 2 * math.log(math.pi) - math.lgamma(s / 2) for s in (d, d + 2)
        ]
        log_moment = kernel.log_norm(d + 2) - log_area[1] - (kernel.log_norm(d) - log_area[0])
        assert math.exp(log_moment) / d == pytest.approx(kernel.variance(d), rel=1e-8)


@ALL
def test_is_static_and_draws_in_the_dtype_asked_for(kernel):
    assert jax.tree.leaves(kernel) == []
    assert hash(kernel) == hash(KERNELS[kernel.name])
    assert kernel.draw(jax.random.PRNGKey(0), 3, 2, jnp.float32).dtype == jnp.float32
