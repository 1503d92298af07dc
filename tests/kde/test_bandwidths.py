"""Bandwidth rules against SciPy and against what a unit of measurement may not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.stats import gaussian_kde

from experiments import datasets
from jaxnn import kde
from jaxnn.kde import BANDWIDTHS

RULES = pytest.mark.parametrize("rule", BANDWIDTHS)
NORMAL = pytest.mark.parametrize("rule", ["scott", "silverman"])
SMOOTH = pytest.mark.parametrize("rule", ["scott", "silverman", "normal_reference"])
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)) * np.array([1.0, 50.0, 0.01]) + np.array([0.0, 300.0, -2.0])
W = RNG.uniform(size=40)
COMPILED = {name: jax.jit(rule) for name, rule in BANDWIDTHS.items()}  # once for all tests
EXACT = ("scott", "silverman", "normal_reference")  # the others bin or search


@NORMAL
@pytest.mark.parametrize("weights", [None, W], ids=["equal", "weighted"])
def test_equals_scipy(rule, weights):
    """In 1-D SciPy's bandwidth itself, in 3-D its covariance matrix and the diagonal of it."""
    f = BANDWIDTHS[rule]
    given = None if weights is None else jnp.asarray(weights)
    for x in (X[:, :1], X):
        matrix = np.atleast_2d(gaussian_kde(x.T, bw_method=rule, weights=weights).covariance)
        np.testing.assert_allclose(f(jnp.asarray(x), given), np.sqrt(np.diag(matrix)), rtol=1e-12)
        np.testing.assert_allclose(f(jnp.asarray(x), given, full=True), matrix, rtol=1e-10)


def test_equals_r_on_old_faithful():
    """R: bw.nrd0(faithful$eruptions); and by hand, with a range of quartiles of zero."""
    x = jnp.asarray(datasets.faithful()[:, :1], float)
    assert round(float(kde.normal_reference(x)[0]), 5) == 0.33478
    rare = np.zeros(272)
    rare[:5] = 1
    expected = 0.9 * rare.std(ddof=1) * 272**-0.2
    got = kde.normal_reference(jnp.asarray(rare[:, None], x.dtype))
    assert float(got[0]) == pytest.approx(expected)


@pytest.mark.parametrize("rule", [kde.scott])
def test_a_singular_covariance_is_named(rule, unchecked_types):
    """E10, E11: features that others determine, or fewer rows than features."""
    wide = jnp.asarray(RNG.normal(size=(3, 4)))
    with pytest.raises(ValueError, match="covariance of x must not be singular, got rank 2 of 4"):
        rule(wide, full=True)
    line = jnp.asarray(X[:, :1] * np.array([[1.0, -3.0]]))
    with pytest.raises(ValueError, match="got rank 1 of 2 features from 40 rows"):
        rule(line, full=True)
    assert jnp.all(jnp.isfinite(rule(line)))


@RULES
def test_follows_the_units_of_the_data(rule):
    """B10 to B12: shifts change nothing, scales factor out; so does the sum of the weights."""
    f = COMPILED[rule]
    scale, shift = np.array([1e-6, -3.0, 1e8]), np.array([5.0, -1e3, 1e9])
    expected = np.abs(scale) * f(jnp.asarray(X), jnp.asarray(W))
    given = f(jnp.asarray(X * scale + shift), jnp.asarray(W * 1e300))
    np.testing.assert_allclose(given, expected, rtol=1e-8 if rule in EXACT else 1e-5)


@SMOOTH
def test_float32_survives_offset_and_scale(rule):
    """Oracle: the same numbers in float64."""
    f = BANDWIDTHS[rule]
    x = jnp.asarray(X[:, :1] * np.array([[1.0, 1e30, 1e-30]]) + np.array([[1e4, 0.0, 0.0]]))
    x = x.astype(jnp.float32)
    given = f(x)
    assert given.dtype == jnp.float32
    np.testing.assert_allclose(given, f(x.astype(jnp.float64)), rtol=1e-5)


@RULES
def test_row_of_weight_zero_is_absent(rule):
    f = COMPILED[rule]
    outlier = jnp.asarray(np.concatenate([X[1:], [[1e6, 1e6, 1e6]]]))  # of one shape with X
    given = f(outlier, jnp.asarray(np.append(W[1:], 0.0)))
    expected = f(jnp.asarray(X), jnp.asarray(W).at[0].set(0.0))
    np.testing.assert_allclose(given, expected, rtol=1e-8)


@SMOOTH
def test_vmap_is_a_loop_and_the_gradient_is_that_of_differences(rule):
    f = COMPILED[rule]
    batch = jnp.asarray(RNG.normal(size=(3, 10, 2)))
    np.testing.assert_allclose(jax.vmap(f)(batch), jnp.stack([f(x) for x in batch]), rtol=1e-13)
    w = jnp.asarray(W[:10])
    check_grads(f, (batch[0], w), order=1, atol=1e-5, rtol=1e-5)


@RULES
def test_under_a_trace_a_constant_feature_stays_positive_and_finite(rule):
    f = COMPILED[rule]
    x = jnp.concatenate([jnp.full((40, 2), 0.1), X[:, :1]], axis=1)
    single = jnp.zeros(40).at[3].set(1.0)  # one row counts,
    most = jnp.full(40, 1e-12).at[3].set(1.0)  # or nearly so (E28)
    for h in (f(x, jnp.asarray(W)), *(f(jnp.asarray(X), w) for w in (single, most))):
        assert jnp.all((h > 0) & jnp.isfinite(h))
    if rule in EXACT:
        assert jnp.all(jnp.isfinite(jax.jit(jax.jacrev(f))(x, jnp.asarray(W))))


@pytest.mark.parametrize("rule", ["scott", "normal_reference", "plug_in", "likelihood"])
@pytest.mark.parametrize(
    ("x", "weights", "error", "message"),
    [
        ([[1.0, 0.1], [2.0, 0.1]], None, ValueError, "feature 1 of x must vary, got 0.1 .*number"),
        ([[1.0, 2.0]], None, ValueError, "feature 0 of x must vary"),
        ([[1.0], [2.0]], [0.0, 1.0], ValueError, "feature 0 of x must vary, got 2.0"),
        ([1.0, 2.0], None, ValueError, r"x must have shape \(any, any\).*reshape"),
        ([[1], [2]], None, TypeError, "x must hold floating-point"),
        ([[1.0], [2.0]], [1.0], ValueError, r"sample_weight must have shape \(2,\)"),
        ([[1.0], [2.0]], [-1.0, 1.0], ValueError, "sample_weight must not be negative"),
    ],
)
def test_bad_input_is_named(rule, x, weights, error, message, unchecked_types):
    w = None if weights is None else jnp.asarray(weights)
    with pytest.raises(error, match=f"kde.{rule}: {message}"):
        BANDWIDTHS[rule](jnp.asarray(x), w)


def test_the_table_holds_the_public_rules():
    names = ("scott", "silverman", "normal_reference", "sheather_jones", "plug_in",
             "improved_sheather_jones", "least_squares", "likelihood")  # fmt: skip
    assert tuple(BANDWIDTHS) == names
    assert all(callable(getattr(kde, name)) for name in names)
