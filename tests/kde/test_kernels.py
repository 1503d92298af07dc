"""Kernels against numerical integrals, their samplers against Kolmogorov-Smirnov bands."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxnn.kde import KERNELS, Kernel, kernels, student_t
from jaxnn.kde.kernels import product

ALL = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
# The area of the unit sphere, from school for d up to 3 and by its Gamma function beyond.
AREAS = {1: 2.0, 2: 2 * math.pi, 3: 4 * math.pi, 8: 2 * math.pi**4 / special.gamma(4)}
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(400)


def radial_density(kernel: Kernel, d: int, radii: np.ndarray) -> np.ndarray:
    """The density of |u|, from the profile, its normaliser and the area of a sphere."""
    log = np.asarray(kernel.log_profile(jnp.asarray(radii**2), d)) - kernel.log_norm(d)
    return AREAS[d] * radii ** (d - 1) * np.exp(log)


def radii_of(kernel: Kernel, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radii for s in [0, 1) and their derivative: all the way to infinity where the support is."""
    if kernel.compact:
        return s, np.ones_like(s)
    return 4 * s / (1 - s), 4 / (1 - s) ** 2


def radial_mean(kernel: Kernel, d: int, power: int) -> float:
    """E |u|^power by Gauss-Legendre quadrature."""
    radii, stretch = radii_of(kernel, (NODES + 1) / 2)
    terms = radial_density(kernel, d, radii) * radii**power * stretch
    return float(np.sum(NODE_WEIGHTS / 2 * terms))


@ALL
@pytest.mark.parametrize("d", AREAS)
def test_integrates_to_one_with_the_stated_variance(kernel, d):
    assert radial_mean(kernel, d, 0) == pytest.approx(1, abs=1e-10)
    assert radial_mean(kernel, d, 2) / d == pytest.approx(kernel.variance(d), rel=1e-10)


@ALL
@pytest.mark.parametrize("d", [3])
def test_draws_follow_the_density(kernel, d):
    """Oracles: the integral of the profile (Kolmogorov-Smirnov, p about 1e-6), and isotropy."""
    n = 20_000
    draws = np.asarray(kernel.draw(jax.random.key(d), n, d, jnp.float64))
    radii = np.sort(np.linalg.norm(draws, axis=1))
    s = np.linspace(0, 1, 100_001)[:-1]
    grid, stretch = radii_of(kernel, s)
    density = radial_density(kernel, d, grid) * stretch
    steps = np.diff(s) * (density[1:] + density[:-1]) / 2
    expected = np.interp(radii, grid, np.concatenate([[0], np.cumsum(steps)]))
    gap = np.max(np.abs(expected - (np.arange(n) + 0.5) / n)) + 0.5 / n
    assert gap * math.sqrt(n) < 2.7

    # Student's t has no fourth moment, so no standard error of its second ones: clip it.
    if kernel.name == "student_t":
        assert np.all(np.abs(np.mean(np.sign(draws), axis=0)) < 5 / math.sqrt(n))
        return
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
        "biweight": lambda r: np.where(r < 1, (1 - r * r) ** 2, 0.0),
        "triweight": lambda r: np.where(r < 1, (1 - r * r) ** 3, 0.0),
        "exponential": lambda r: np.exp(-r),
        "logistic": lambda r: 4 / (np.exp(r) + 2 + np.exp(-r)),
        "sigmoid": lambda r: 2 / (np.exp(r) + np.exp(-r)),
        "student_t": lambda r: (1 + r * r / 3) ** -2,
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
        values, slopes = jax.jit(jax.vmap(jax.value_and_grad(kernel.log_profile)))(r2)
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
    if kernel.name == "student_t":  # its profile changes with d
        assert kernel.variance(400) == 3
        return
    for d in (30, 150):
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
    assert product(kernel) is product(kernel)
    assert (product(kernel) == kernel) == (kernel.name == "gaussian")


@ALL
def test_product_form_is_the_product_over_features(kernel):
    """Oracle: densities, variances and draws of one dimension; factors scale the distances."""
    form, d = product(kernel), 2
    rng = np.random.default_rng(0)
    points, queries = jnp.asarray(rng.normal(size=(3, d))), jnp.asarray(rng.normal(size=(5, d)))
    factors = jnp.array([0.2, 0.1, 0.4])
    gap2 = (queries[None] - points[:, None]) ** 2 * factors[:, None, None]
    expected = kernel.log_profile(gap2[..., 0]) + kernel.log_profile(gap2[..., 1])
    np.testing.assert_allclose(form.exponents(points, queries, factors), expected, rtol=1e-12)
    if form.profile is not None:
        values = form.values(points, queries, factors)
        np.testing.assert_allclose(values, np.exp(expected), rtol=1e-12, atol=1e-15)
    assert form.log_norm(5) == pytest.approx(5 * kernel.log_norm(1))
    assert form.variance(5) == kernel.variance(1)


def test_product_draws_follow_one_dimension_and_are_independent():
    """Kolmogorov-Smirnov as above, for each feature; correlations of sizes in 5 errors."""
    n = 20_000
    draws = np.asarray(product(KERNELS["biweight"]).draw(jax.random.key(0), n, 2, jnp.float64))
    u = np.sort(draws, axis=0)
    cdf = 0.5 + 15 / 16 * (u - 2 * u**3 / 3 + u**5 / 5)
    gap = np.max(np.abs(cdf - (np.arange(n) + 0.5)[:, None] / n)) + 0.5 / n
    assert gap * math.sqrt(n) < 2.7
    for power in (1, 2):
        assert abs(np.corrcoef((draws**power).T)[0, 1]) < 5 / math.sqrt(n)


def test_students_t_of_any_freedom():
    """Oracle: SciPy's density, on the line and in space; the same ν is the same kernel."""
    u = np.linspace(-4, 4, 9)
    for nu in (1, 5):
        kernel = student_t(nu)
        log = np.asarray(kernel.log_profile(jnp.asarray(u**2), 1)) - kernel.log_norm(1)
        np.testing.assert_allclose(log, stats.t(nu).logpdf(u), rtol=1e-12)
        space = np.stack([u, 2 - u, u * 0], axis=1)
        log = np.asarray(kernel.log_profile(jnp.asarray(np.sum(space**2, axis=1)), 3))
        peer = stats.multivariate_t(np.zeros(3), np.eye(3), df=nu)
        np.testing.assert_allclose(log - kernel.log_norm(3), peer.logpdf(space), rtol=1e-12)
    assert student_t(5) is student_t(5)
    assert student_t(2).variance(1) == math.inf


def test_bad_names_are_named(unchecked_types):
    with pytest.raises(ValueError, match=r"f: unknown form 'sum'.*radial, product"):
        kernels.in_form("f", "tophat", "sum")
    with pytest.raises(ValueError, match=r"kde.student_t: nu must be at least 1, got 0"):
        student_t(0)
