"""Cross-validation against scikit-learn's, loops over rows, and formulas by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold
from sklearn.neighbors import KernelDensity

from jaxnn import kde
from jaxnn.kde import cross_validation

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(size=(25, 1)), 6 + RNG.normal(size=(25, 1))])
W = RNG.uniform(0.2, 1.0, size=50)
PLANE = RNG.normal(size=(7, 2))


def test_scikit_learns_digits_example():
    """Its documented grid search, PCA to 15 and 5 folds, finds 3.79269; scores by its classes."""
    rows = PCA(n_components=15, whiten=False).fit_transform(load_digits().data)
    candidates = np.logspace(-1, 1, 20)
    found = kde.cross_validate(jnp.asarray(rows), jnp.asarray(candidates), folds=5)
    assert round(float(found.bandwidth), 5) == 3.79269
    best = KernelDensity(bandwidth=candidates[15], leaf_size=2000, rtol=0)
    total = sum(best.fit(rows[a]).score(rows[b]) for a, b in KFold(5).split(rows))
    assert float(found.scores[15]) == pytest.approx(total / len(rows), rel=1e-10)


def test_leave_one_out_equals_a_loop_in_every_unit():
    """Oracle: `log_prob` of densities of all other rows; the unit is a matrix."""
    x, w = np.concatenate([X, X**2], axis=1)[:20], W[:20]
    unit = kde.scott(jnp.asarray(x), full=True)
    scales = np.array([0.5, 1.3])
    got = kde.cross_validate(
        jnp.asarray(x), jnp.asarray(scales), unit=unit, sample_weight=jnp.asarray(7 * w),
        kernel="student_t", form="product",
    )  # fmt: skip

    @jax.jit
    def left_out(scale, i):
        mask = jnp.where(jnp.arange(20) == i, 0.0, jnp.asarray(w))
        model = kde.fit(jnp.asarray(x), bandwidth=scale**2 * unit, sample_weight=mask,
                        kernel="student_t", form="product")  # fmt: skip
        return kde.log_prob(model, jnp.asarray(x)[i][None])[0]

    expected = [sum(w[i] * left_out(s, i) for i in range(20)) / w.sum() for s in scales]
    np.testing.assert_allclose(got.scores, expected, rtol=1e-11)


@pytest.mark.parametrize("name", ["gaussian", "exponential"])
def test_the_likelihood_equals_fits_without_each_row(name):
    """Oracle: `log_prob` of a density fitted to all rows but one, with weights.

    One bandwidth for each feature, and one for both: those are the scores of `cross_validate`.
    """
    x, w = jnp.asarray(PLANE), jnp.asarray(W[:7]).at[2].set(0.0)
    widths = jnp.asarray([[0.5, 0.8], [0.7, 0.7]])
    got = kde.leave_one_out(x, widths, kernel=name, sample_weight=w)
    same = kde.leave_one_out(x, widths[1:, 0], kernel=name, sample_weight=w)

    def without(i, h):
        others = jnp.arange(6) + (jnp.arange(6) >= i)
        model = kde.fit(x[others], bandwidth=h, kernel=name, sample_weight=w[others])
        return kde.log_prob(model, x[i][None, :])[0]

    each = jax.vmap(jax.vmap(without, (0, None)), (None, 0))(jnp.arange(7), widths)
    expected = each @ (w / jnp.sum(w))
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    np.testing.assert_allclose(same[0], expected[1], rtol=1e-12)


def test_duplicates_drive_the_likelihood_up():
    x = jnp.asarray(np.repeat(PLANE[:5], 2, axis=0))
    values = kde.leave_one_out(x, jnp.asarray([1.0, 1e-2, 1e-4, 1e-6]))
    assert jnp.all(jnp.diff(values)[1:] > 1)


def test_folds_are_those_of_scikit_learn():
    for n, folds in ((10, 3), (11, 4), (6, 6)):
        blocks = np.empty(n, int)
        for i, (_, test) in enumerate(KFold(folds).split(np.zeros(n))):
            blocks[test] = i
        np.testing.assert_array_equal(cross_validation.blocks(n, folds), blocks)


def test_compact_kernels_score_minus_infinity_where_nothing_reaches():
    """E17: such a candidate never wins; E16: where all are such, `found` says so."""
    x = jnp.asarray([[0.0], [1.0], [9.0]])
    found = kde.cross_validate(x, jnp.array([0.5, 2.0, 10.0]), kernel="tophat")
    np.testing.assert_array_equal(jnp.isneginf(found.scores), [True, True, False])
    assert float(found.bandwidth) == 10
    assert bool(found.found)
    assert not bool(kde.cross_validate(x, jnp.array([0.5, 2.0]), kernel="tophat").found)


def cost(rule, weights):
    """The rules' criteria of a bandwidth, over all pairs, by SciPy's normal density."""
    x, w = X[:, 0], weights / weights.sum()
    gaps = x[:, None] - x[None]

    def of(h):
        phi = norm.pdf(gaps, scale=h)
        others = (phi - np.diag(np.diag(phi))) @ w / (1 - w)
        if rule == "likelihood":
            return -np.sum(w * np.log(others))
        square = w @ norm.pdf(gaps, scale=np.sqrt(2) * h) @ w
        return square - 2 * np.sum(w * others)

    return of


@pytest.mark.parametrize("rule", ["least_squares", "likelihood"])
@pytest.mark.parametrize("weights", [np.ones(50), W], ids=["equal", "weighted"])
def test_rules_equal_minimisation_by_scipy(rule, weights):
    """The parabola through three of 60 candidates is good to a hundredth."""
    found = getattr(kde, rule)(jnp.asarray(X), jnp.asarray(weights))
    assert bool(found.found)
    # Among all minima the rules take the largest; here there is but one in this range.
    best = minimize_scalar(cost(rule, weights), bounds=(0.2, 2.0), method="bounded").x
    assert float(found.bandwidth[0]) == pytest.approx(best, rel=0.01)


@pytest.mark.parametrize("rule", ["least_squares", "likelihood"])
def test_repeated_rows_fall_back_and_say_so(rule):
    """E14: rounded data have no local optimum; oracle: the fallback that the docstring names."""
    x = jnp.asarray(np.repeat(np.arange(5.0), 10)[:, None])
    with pytest.warns(UserWarning, match=f"kde.{rule}: no local optimum.*fell back"):
        found = getattr(kde, rule)(x)
    np.testing.assert_allclose(found.bandwidth, kde.silverman(x))
    assert not bool(found.found)


TWO_ROWS = "x must have at least 2 rows, to leave one out, got 1"
BAD = {
    "cross_validate": {
        "E16": (lambda f: f(X, jnp.zeros(0)), "bandwidths must not be empty"),
        "E1": (lambda f: f(X, jnp.array([0.0, 1.0])), "bandwidths must be positive"),
        "E29": (lambda f: f(X[:1], jnp.ones(1)), TWO_ROWS),
        "folds": (lambda f: f(X, jnp.ones(1), folds=51), "folds must be between 2 and"),
        "E9": (lambda f: f(X, jnp.ones(1), unit=jnp.eye(2)), "unit must have shape"),
        "E31": (lambda f: f(X, jnp.ones(1), kernel="box"), "unknown kernel 'box'"),
        "E18": (
            lambda f: f(X, jnp.ones(1), sample_weight=jnp.ones(3)),
            "sample_weight must have shape",
        ),
    },
    "leave_one_out": {
        "E16": (lambda f: f(X, jnp.zeros(0)), "bandwidths must not be empty"),
        "E1": (lambda f: f(PLANE, np.array([1.0, 0.0])), "bandwidths must be positive"),
        "E29": (lambda f: f(X[:1], np.ones(1)), TWO_ROWS),
        "E29 weights": (
            lambda f: f(X[:2], np.ones(1), sample_weight=np.array([0.0, 1.0])),
            "sample_weight must be positive for at least 2 rows",
        ),
        "E6": (lambda f: f(PLANE, np.ones((1, 3))), r"bandwidths must have shape \(any, 2\)"),
        "one": (lambda f: f(PLANE, np.float64(1.0)), "bandwidths must have shape"),
        "E31": (lambda f: f(PLANE, np.ones(1), kernel="gauss"), "unknown kernel 'gauss'"),
    },
}
CASES = [(verb, name) for verb, cases in BAD.items() for name in cases]


@pytest.mark.parametrize(("verb", "name"), CASES)
def test_bad_input_is_named(verb, name, unchecked_types):
    call, message = BAD[verb][name]
    with pytest.raises(ValueError, match=f"^kde.{verb}: {message}"):
        call(getattr(kde, verb))
