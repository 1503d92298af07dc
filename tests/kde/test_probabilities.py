"""Probabilities against SciPy's distributions, `integrate_box` and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.stats import gaussian_kde

from jaxnn import kde
from jaxnn.kde import probabilities

RNG = np.random.default_rng(0)
N = 40
X1, X2 = RNG.normal(size=(N, 1)), RNG.normal(size=(N, 2))
W, F = RNG.uniform(0.5, 1.5, N), RNG.uniform(0.7, 1.5, N)
LOW = RNG.normal(size=(6, 2)) - 1
HIGH = LOW + RNG.uniform(0.5, 2, size=(6, 2))


@pytest.mark.parametrize("name", [*kde.KERNELS, "student_t(5)"])
def test_tails_integrate_the_kernel(name):
    """Oracle: Gauss-Legendre quadrature of the kernel in one dimension, relative to the tail."""
    kernel = kde.KERNELS.get(name) or kde.student_t(5)
    u = np.array([0.0, 0.3, 0.9, 0.99] if kernel.compact else [0.0, 0.3, 0.9, 0.99, 1.5, 6.0])
    nodes, weights = np.polynomial.legendre.leggauss(200)
    s, ds = (nodes + 1) / 2, weights / 2
    if kernel.compact:
        v, dv = u[:, None] + (1 - u[:, None]) * s, (1 - u[:, None]) * ds
    else:
        v, dv = u[:, None] + s / (1 - s), ds / (1 - s) ** 2
    density = np.exp(np.asarray(kernel.log_profile(jnp.asarray(v * v), 1)) - kernel.log_norm(1))
    between = jax.jit(probabilities.between, static_argnums=0)
    got = between(kernel, jnp.asarray(u), jnp.full(len(u), 1e9))
    # Beyond 1e9 Student's t holds less than 1e-27.
    np.testing.assert_allclose(got, np.sum(density * dv, axis=1), rtol=1e-9)


def fitted(x, **options):
    return kde.fit(jnp.asarray(x), sample_weight=jnp.asarray(W), **options)


def test_boxes_equal_scipy():
    """Oracle: `integrate_box` where SciPy's matrix is diagonal, by data of no correlation."""
    x = np.linalg.qr(X2 - X2.mean(axis=0))[0] * 5
    peer = gaussian_kde(x.T, bw_method=0.4)
    h = np.sqrt(np.diag(peer.covariance))
    assert abs(peer.covariance[0, 1]) < 1e-12
    model = kde.fit(jnp.asarray(x), bandwidth=h)
    got = kde.box(model, jnp.asarray(LOW), jnp.asarray(HIGH))
    expected = [peer.integrate_box(a, b, maxpts=200_000) for a, b in zip(LOW, HIGH, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kernel", ["gaussian", "cosine"])
def test_boxes_equal_a_loop_over_sides(kernel):
    """Oracle: NumPy over points and sides, with weights, factors and infinite sides."""
    below = {
        "gaussian": stats.norm.cdf,
        "cosine": lambda u: (1 + np.sin(np.pi * np.clip(u, -1, 1) / 2)) / 2,
    }[kernel]
    h = np.array([0.8, 1.3])
    low, high = LOW.copy(), HIGH.copy()
    low[0, 0], high[1, 1], low[2], high[2] = -np.inf, np.inf, -np.inf, np.inf
    side = lambda c: below((c[:, None, :] - X2[None]) / (h * F[:, None])[None])
    expected = np.prod(side(high) - side(low), axis=2) @ W / W.sum()
    model = fitted(X2, bandwidth=h, kernel=kernel, form="product", factors=jnp.asarray(F))
    got = kde.box(model, jnp.asarray(low), jnp.asarray(high))
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-14)
    assert abs(float(got[2]) - 1) < 1e-14


def test_small_probabilities_keep_their_digits():
    """Oracle: SciPy's survival function, 20 to 35 bandwidths out on either side."""
    model = kde.fit(jnp.zeros((1, 1)), bandwidth=2.0)
    far = jnp.array([[40.0], [70.0]])
    expected = stats.norm.sf(far[:, 0] / 2)
    np.testing.assert_allclose(kde.cdf(model, -far), expected, rtol=1e-12)
    got = kde.box(model, far, jnp.full_like(far, jnp.inf))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_the_cdf_differentiates_to_the_density():
    """Invariant: dF/dx = p, and by bandwidth and points it equals differences."""
    model = fitted(X1, bandwidth=0.5, kernel="student_t")
    q = jnp.asarray(X1[:5])
    slope = jax.grad(lambda q: jnp.sum(kde.cdf(model, q)))(q)[:, 0]
    np.testing.assert_allclose(slope, jnp.exp(kde.log_prob(model, q)), rtol=1e-11)


def test_the_cdf_equals_scipy_in_one_dimension():
    """Oracle: `integrate_box_1d`; the bandwidth is a matrix of one number."""
    peer = gaussian_kde(X1.T, bw_method=0.3, weights=W)
    model = fitted(X1, bandwidth=jnp.asarray(peer.covariance))
    expected = [peer.integrate_box_1d(-np.inf, q) for q in X1[:6, 0]]
    np.testing.assert_allclose(kde.cdf(model, jnp.asarray(X1[:6])), expected, rtol=1e-11)


def test_quantiles_invert_the_cdf():
    """Oracle: SciPy's normal: F(Q(q)) = q far in the tails too, and dQ/dq = 1 / p.

    Moving all points by s moves every quantile by s; scaling points and bandwidth scales it.
    """
    model = fitted(X1, bandwidth=0.5)
    q = jnp.array([1e-9, 0.01, 0.3, 0.5, 0.99])

    def f(theta):
        s, a = theta[5], theta[6]
        moved = model._replace(points=a * model.points + s, bandwidth=a * model.bandwidth)
        x = kde.quantile(moved, theta[:5])
        return x, x

    theta = jnp.concatenate([q, jnp.array([0.0, 1.0])])
    slope, x = jax.jit(jax.jacfwd(f, has_aux=True))(theta)
    peer = stats.norm(X1[None, :, 0], 0.5)
    share = W / W.sum()
    np.testing.assert_allclose(peer.cdf(x[:, None]) @ share, q, rtol=1e-6)
    np.testing.assert_allclose(peer.cdf(x[1:, None]) @ share, q[1:], rtol=1e-12)
    expected = np.diag(1 / (peer.pdf(x[:, None]) @ share))
    np.testing.assert_allclose(slope[:, :5], expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(slope[:, 5], 1.0, rtol=1e-8)
    np.testing.assert_allclose(slope[:, 6], x, rtol=1e-8)


def test_bad_input(unchecked_types):
    """E26 and the models without a closed form."""
    low, high = jnp.asarray(LOW), jnp.asarray(HIGH)
    radial = fitted(X2, bandwidth=1.0, kernel="biweight")
    with pytest.raises(ValueError, match=r"box: model must have a product kernel.*form='product'"):
        kde.box(radial, low, high)
    with pytest.raises(ValueError, match=r"box: model.bandwidth must be a number .* matrix"):
        kde.box(fitted(X2, bandwidth=jnp.eye(2)), low, high)
    model = fitted(X2, bandwidth=1.0)
    with pytest.raises(ValueError, match="box: low must be below high"):
        kde.box(model, high, low)
    with pytest.raises(ValueError, match="box: high must not hold NaN"):
        kde.box(model, low, high * jnp.nan)
    with pytest.raises(ValueError, match="box: low must have shape"):
        kde.box(model, low[:, :1], high)
    with pytest.raises(ValueError, match="box: high must have shape"):
        kde.box(model, low, high[:2])
    with pytest.raises(ValueError, match="cdf: model must have one feature, got 2"):
        kde.cdf(model, low)
    with pytest.raises(ValueError, match="quantile: probability must lie in"):
        kde.quantile(fitted(X1, bandwidth=1.0), jnp.array([0.5, 1.0]))
    odd = kde.KERNELS["gaussian"].__class__(**{**vars(kde.KERNELS["gaussian"]), "name": "odd"})
    with pytest.raises(ValueError, match="cdf: kernel 'odd' has no closed distribution"):
        kde.cdf(fitted(X1, bandwidth=1.0, kernel=odd), jnp.asarray(X1))
