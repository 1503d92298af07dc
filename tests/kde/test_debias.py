"""Oracles: NumPy loops; the expectation in closed form where the truth is Gaussian; its order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnn import kde

rng = np.random.default_rng(0)
N, M, D = 40, 12, 2
X, Y, W = rng.normal(size=(N, D)) + 50.0, rng.normal(size=(M, D)) + 50.0, rng.uniform(0.1, 1, N)
H = np.array([[0.5, 0.2], [0.2, 0.3]])
# Weights of a trapezoidal rule: as points they are the population itself, to a rounding, since
# the rule converges faster than any power of its step.
NODES = np.linspace(-12, 12, 241)
POPULATION = stats.norm.pdf(NODES)


def by_hand(y, x, w, h):
    """Kernels of all pairs times weights, and differences in units of the bandwidth matrix."""
    gap = x[None] - y[:, None]
    pull = gap @ np.linalg.inv(h)
    square = np.einsum("mnd,mnd->mn", gap, pull)
    norm = np.sqrt(np.linalg.det(2 * np.pi * h))
    return w / w.sum() * np.exp(-square / 2) / norm, pull, square


@pytest.mark.parametrize("pilot", [None, 0.6], ids=["its own", "another"])
def test_points_move_along_the_score(pilot):
    model = kde.debias(kde.fit(X, bandwidth=H, sample_weight=W), pilot)
    kernels, pull, _ = by_hand(X, X, W, H if pilot is None else pilot**2 * np.eye(D))
    score = np.einsum("mn,mnd->md", kernels, pull) / kernels.sum(axis=1)[:, None]
    np.testing.assert_allclose(model.points, X + score @ H / 2, rtol=1e-13)
    np.testing.assert_array_equal(model.bandwidth, H)


@pytest.mark.parametrize("h", [np.array([0.7, 1.1]), H], ids=["widths", "matrix"])
def test_points_and_pilot_have_the_variance_of_the_kernel(h):
    """The Epanechnikov kernel in two features has variance h²/6 (Wand and Jones, appendix B)."""
    covariance = (h if h.ndim == 2 else np.diag(h**2)) / 6
    model = kde.debias(kde.fit(X, bandwidth=h, kernel="epanechnikov"))
    kernels, pull, _ = by_hand(X, X, np.ones(N), covariance)
    score = np.einsum("mn,mnd->md", kernels, pull) / kernels.sum(axis=1)[:, None]
    np.testing.assert_allclose(model.points, X + score @ covariance / 2, rtol=1e-13)


def test_laplace_corrected_is_the_sum_by_hand():
    model = kde.fit(X, bandwidth=H, sample_weight=W)
    kernels, _, square = by_hand(Y, X, W, H)
    wanted = np.sum(kernels * (1 + (D - square) / 2), axis=1)
    # Under a trace NaN cannot be refused at the door: then it must not be lost.
    queries = jnp.concatenate([Y, jnp.full((1, D), jnp.nan)])
    ours = jax.jit(kde.laplace_corrected)(model, queries)
    np.testing.assert_allclose(ours, [*wanted, np.nan], rtol=1e-10)
    # Points with factors: each has a bandwidth, and with it a Laplacian, of its own.
    factors = rng.uniform(0.5, 2, N)
    each = [by_hand(Y, X[i : i + 1], np.ones(1), H * factors[i] ** 2) for i in range(N)]
    wanted = sum(
        w * k[:, 0] * (1 + (D - s[:, 0]) / 2)
        for w, (k, _, s) in zip(W / W.sum(), each, strict=True)
    )
    model = kde.fit(X, bandwidth=H, sample_weight=W, factors=factors)
    np.testing.assert_allclose(kde.laplace_corrected(model, Y), wanted, rtol=1e-10)


def test_expectations_under_a_normal_truth_are_the_closed_forms():
    """Blurred by h the unit normal has variance s = 1 + h², and score -x/s at the pilot.

    So points move to x (1 - h²/(2s)), and debiased the variance is (1 - h²/(2s))² + h².  The
    Laplacian of a normal density of variance s is ((x/s)² - 1/s) times it.
    """
    y = np.linspace(-3, 3, 25)
    for h in (0.3, 0.6):
        s = 1 + h * h
        model = kde.fit(NODES[:, None], bandwidth=h, sample_weight=POPULATION)
        ours = np.exp(kde.log_prob(kde.debias(model), y[:, None]))
        variance = (1 - h * h / (2 * s)) ** 2 + h * h
        np.testing.assert_allclose(ours, stats.norm.pdf(y, scale=variance**0.5), atol=1e-12)
        blurred = stats.norm.pdf(y, scale=s**0.5)
        wanted = blurred * (1 - h * h / 2 * ((y / s) ** 2 - 1 / s))
        ours = kde.laplace_corrected(model, y[:, None])
        np.testing.assert_allclose(ours, wanted, atol=1e-12)


def test_the_bias_is_of_fourth_order():
    """Halving h divides the bias by 4 for the plain density, by 16 for the other two."""
    y = np.linspace(-2.5, 2.5, 25)
    truth = stats.norm.pdf(y)

    def biases(h):
        model = kde.fit(NODES[:, None], bandwidth=h, sample_weight=POPULATION)
        found = (jnp.exp(kde.log_prob(model, y[:, None])),
                 jnp.exp(kde.log_prob(kde.debias(model), y[:, None])),
                 kde.laplace_corrected(model, y[:, None]))  # fmt: skip
        return np.array([np.sqrt(np.mean((f - truth) ** 2)) for f in found])

    orders = np.log2(biases(0.2) / biases(0.1))
    np.testing.assert_allclose(orders, [2, 4, 4], atol=0.1)


def test_a_weight_of_zero_is_an_absent_row_and_far_is_zero():
    weight = np.where(np.arange(N) < 5, 0.0, W)
    both = [kde.fit(X, bandwidth=0.5, sample_weight=weight),
            kde.fit(X[5:], bandwidth=0.5, sample_weight=W[5:])]  # fmt: skip
    np.testing.assert_allclose(*(kde.laplace_corrected(m, Y) for m in both), rtol=1e-10)
    moved = [kde.debias(m) for m in both]
    np.testing.assert_allclose(moved[0].points[5:], moved[1].points, rtol=1e-13)
    far = jnp.full((2, D), 1e30, jnp.float32)
    single = kde.fit(X.astype(np.float32), bandwidth=0.01)
    np.testing.assert_array_equal(kde.laplace_corrected(single, far), 0.0)
    lonely = kde.fit(np.array([[0.0], [1e9]]), bandwidth=1.0)
    np.testing.assert_array_equal(kde.debias(lonely).points, lonely.points)
    absent = lonely._replace(log_weights=jnp.array([0.0, -jnp.inf]))  # nothing pulls at it
    np.testing.assert_array_equal(kde.debias(absent).points, lonely.points)


@pytest.mark.usefixtures("unchecked_types")
def test_bad_input_is_refused():
    cauchy = kde.fit(X, bandwidth=1.0, kernel="student_t")._replace(kernel=kde.student_t(1))
    with pytest.raises(ValueError, match=r"kde.debias: .* finite variance, which student_t\(1\)"):
        kde.debias(cauchy)
    with pytest.raises(ValueError, match=r"kde.debias: .* got factors"):
        kde.debias(kde.fit(X, bandwidth=1.0, factors=np.ones(N)))
    with pytest.raises(ValueError, match=r"kde.debias: pilot must be positive and finite, got -1"):
        kde.debias(kde.fit(X, bandwidth=1.0), -1.0)
    with pytest.raises(ValueError, match=r"laplace_corrected: only the Gaussian .* 'tophat'"):
        kde.laplace_corrected(kde.fit(X, bandwidth=1.0, kernel="tophat"), Y)
    for function in (kde.debias, lambda x: kde.laplace_corrected(x, Y)):
        with pytest.raises(TypeError, match="model must be a KDE"):
            function(X)
    with pytest.raises(ValueError, match=r"x must have shape \(any, 2\)"):
        kde.laplace_corrected(kde.fit(X, bandwidth=1.0), Y[:, :1])
