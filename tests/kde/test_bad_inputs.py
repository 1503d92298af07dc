"""Bad input to the doors of the density; the names are the cases of the project's list."""

import importlib
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import ACCEPTED, NAN, ROWS, X, columns_count_by_their_places, programs, refused

from jaxnn import kde
from jaxnn.kde import model, regions

adapted = importlib.import_module("jaxnn.kde.adaptive")  # the package has a function of that name

GOOD = jnp.ones((3, 2)) * jnp.arange(3.0)[:, None]
MODEL = kde.fit(GOOD, bandwidth=1.0)
KEY = jax.random.key(0)
BAD = {
    "E1": (lambda: kde.fit(GOOD, bandwidth=0), ValueError, "fit: bandwidth must be positive"),
    "E2": (lambda: kde.fit(GOOD, bandwidth=-1.0), ValueError, "bandwidth must be pos.*got -1.0"),
    "E3": (lambda: kde.fit(GOOD, bandwidth=math.nan), ValueError, "bandwidth must be pos.*nan"),
    "E4": (lambda: kde.fit(GOOD, bandwidth=math.inf), ValueError, "bandwidth must be pos.*inf"),
    "E5": (lambda: kde.fit(GOOD, bandwidth="silvermann"), ValueError, "did you mean 'silverman'"),
    "E6": (lambda: kde.fit(GOOD, bandwidth=jnp.ones(3)), ValueError, r"bandwidth must have shape"),
    "E7": (
        lambda: kde.fit(GOOD, bandwidth=jnp.array([[1.0, 0.5], [0.0, 1.0]])),
        ValueError,
        "fit: bandwidth must be a symmetric matrix",
    ),
    "E8": (
        lambda: kde.fit(GOOD, bandwidth=-jnp.eye(2)),
        ValueError,
        "fit: bandwidth must be positive definite",
    ),
    "E9": (lambda: kde.fit(GOOD, bandwidth=jnp.eye(3)), ValueError, r"bandwidth must have shape"),
    "E9 cube": (lambda: kde.fit(GOOD, bandwidth=jnp.ones((2, 2, 2))), ValueError, "have shape"),
    "E10": (lambda: kde.scott(GOOD, full=True), ValueError, "scott: the covariance of x must not"),
    "factors": (lambda: kde.fit(GOOD, factors=jnp.ones(2)), ValueError, "factors must have shape"),
    "factors zero": (
        lambda: kde.fit(GOOD, factors=jnp.zeros(3)),
        ValueError,
        "fit: factors must be positive",
    ),
    "form": (lambda: kde.fit(GOOD, form="cube"), ValueError, "fit: unknown form 'cube'.*product"),
    "E none": (lambda: kde.fit(GOOD, bandwidth=None), TypeError, "fit: bandwidth must be an array"),
    "E bool": (lambda: kde.fit(GOOD, bandwidth=True), TypeError, "fit: bandwidth must hold"),
    "E12": (lambda: kde.fit(GOOD[:1]), ValueError, "feature 0 of x must vary.*bandwidth as a n"),
    "E13": (lambda: kde.fit(jnp.ones((3, 2))), ValueError, "feature 0 of x must vary, got 1.0"),
    "E18 negative": (
        lambda: kde.fit(GOOD, sample_weight=jnp.array([1.0, -1.0, 1.0])),
        ValueError,
        "fit: sample_weight must not be negative",
    ),
    "E18 zero": (lambda: kde.fit(GOOD, sample_weight=jnp.zeros(3)), ValueError, "must not be zero"),
    "E18 NaN": (
        lambda: kde.fit(GOOD, sample_weight=jnp.full(3, jnp.nan)),
        ValueError,
        "fit: sample_weight must be finite",
    ),
    "E18 length": (
        lambda: kde.fit(GOOD, sample_weight=jnp.ones(4)),
        ValueError,
        r"fit: sample_weight must have shape \(3,\), got \(4,\)",
    ),
    "E19": (lambda: kde.log_prob(MODEL, GOOD[:, :1]), ValueError, r"log_prob: x .*\(any, 2\)"),
    "E20": (lambda: kde.log_prob(MODEL, GOOD * jnp.nan), ValueError, "log_prob: x must be finite"),
    "E21": (lambda: kde.log_prob(MODEL, GOOD[:0]), ValueError, "log_prob: x must not be empty"),
    "E31": (lambda: kde.fit(GOOD, kernel="gauss"), ValueError, "unknown kernel 'gauss'.*cosine"),
    "E31 type": (lambda: kde.fit(GOOD, kernel=None), ValueError, "fit: unknown kernel None"),
    "B4": (lambda: kde.fit(X.astype(np.float16)), TypeError, "x must be float32 or .*got float16"),
    "B5": (lambda: kde.scott(jnp.asarray(X, jnp.bfloat16)), TypeError, "x .*got bfloat16; cast it"),
    "B6": (
        lambda: kde.log_prob(MODEL, jnp.asarray(X, jnp.float8_e4m3fn)),
        TypeError,
        "x must hold floating-point numbers, got float8_e4m3fn",
    ),
    "B13": (lambda: kde.fit(X * 1e-310), ValueError, "feature 0 of x must vary"),
    "B13 width": (lambda: kde.fit(X, bandwidth=1e-310), ValueError, "bandwidth must be positive"),
    "B14": (
        lambda: kde.fit((X * 1e38).astype(np.float32)),
        ValueError,
        r"x must not exceed 3e\+35 in size, so that sums stay within float32; scale",
    ),
    "E32": (
        lambda: kde.fit(GOOD, kernel="precomputed"),
        ValueError,
        "unknown kernel 'precomputed'",
    ),
    "A34": (
        lambda: jax.jit(lambda n: kde.sample(KEY, MODEL, n))(3),
        TypeError,
        "sample: n must not be traced.*static",
    ),
    "steps": (
        lambda: kde.maximise_leave_one_out(GOOD, max_steps=-1),
        ValueError,
        "maximise_leave_one_out: max_steps must be at least 0",
    ),
    "steps shift": (
        lambda: kde.mean_shift(MODEL, GOOD, max_steps=2.5),
        TypeError,
        "mean_shift: max_steps must be a whole number, got 2.5",
    ),
    "H1": (lambda: kde.sample(0, MODEL, 1), TypeError, "sample: key must be a PRNG key"),
    "n zero": (lambda: kde.sample(KEY, MODEL, 0), ValueError, "sample: n must be at least 1"),
    "n float": (lambda: kde.sample(KEY, MODEL, 2.0), TypeError, "sample: n must be a whole number"),
    "order": (lambda: kde.log_prob(GOOD, MODEL), TypeError, "log_prob: model must be a KDE"),
    "batch": (
        lambda: kde.log_prob(jax.tree.map(lambda a: a[None], MODEL), GOOD),
        ValueError,
        "log_prob: model.points must have shape",
    ),
    "edited": (
        lambda: kde.log_prob(MODEL._replace(bandwidth=jnp.array(-1.0)), GOOD),
        ValueError,
        "log_prob: model.bandwidth must be positive",
    ),
    "mixture": (
        lambda: kde.as_mixture(kde.fit(GOOD, kernel="tophat")),
        ValueError,
        "as_mixture: only a Gaussian kernel .* got 'tophat'",
    ),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    refused(*BAD[case], where="kde.")


TWO = kde.fit(X, bandwidth=0.5)
DOORS = {
    "fit": kde.fit,
    "log_prob": lambda x: kde.log_prob(TWO, x),
    "scott": kde.scott,
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", ROWS)
def test_refused_rows(case):
    """Every function with rows says the same, in its own name."""
    rows, error, message = ROWS[case]
    for name, door in DOORS.items():
        refused(lambda door=door: door(rows()), error, message, f"kde.{name}: x must ")


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted_rows(case):
    """Oracle: the same rows as a plain array; nobody's array is written to."""
    x = ACCEPTED[case]()
    np.testing.assert_array_equal(kde.fit(x).bandwidth, kde.fit(X).bandwidth)
    np.testing.assert_array_equal(kde.log_prob(TWO, x), kde.log_prob(TWO, X))
    np.testing.assert_array_equal(np.asarray(x), X)


def test_a_nan_in_the_last_tile_stays_in_its_row(monkeypatch):
    """A5: traced rows cannot be refused; the last tile reaches back over rows of another."""
    monkeypatch.setattr("jaxnn.linalg.tile_rows", lambda n, width: 5)
    x = jnp.asarray(X).at[11, 1].set(jnp.nan)
    got = jax.jit(lambda m, x: model._log_prob.__wrapped__(m, x, jnp.zeros(()), None))(TWO, x)
    np.testing.assert_array_equal(np.isnan(got), np.arange(12) == 11)


def test_one_row_is_scored_and_takes_a_given_bandwidth():
    """A20; an automatic one is refused (E12).  Oracle: the kernel itself."""
    one = kde.fit(X[:1], bandwidth=0.5)
    np.testing.assert_allclose(kde.log_prob(one, X[:1]), -math.log(2 * math.pi * 0.25))


@pytest.mark.usefixtures("unchecked_types")
def test_rows_and_columns_exchanged_are_noticed():
    """A21: by a warning (an error in these tests) where a rule learns from them; no nuisance else.

    A few rows with a bandwidth of their own, one row, and traced rows pass in silence.
    """
    words = r"kde.fit: rows of x are samples, got shape \(2, 12\) .*give x.T"
    with pytest.raises(UserWarning, match=words):
        kde.fit(X.T)
    kde.fit(X.T, bandwidth=0.5)
    jax.eval_shape(kde.fit, X.T)
    refused(
        lambda: kde.log_prob(TWO, X.T), ValueError, r"\(any, 2\), got \(2, 12\)", "kde.log_prob"
    )


@pytest.mark.usefixtures("unchecked_types")
def test_a_table_is_its_numbers():
    columns_count_by_their_places(lambda x: kde.log_prob(TWO, x))


@pytest.mark.usefixtures("unchecked_types")
def test_nan_is_refused_without_an_advice_that_would_not_help():
    """A1: no density takes NaN as missing."""
    refused(lambda: kde.fit(NAN), ValueError, r"float64\)$", "kde.fit")


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_number_too_large_for_float32_is_refused():
    """B1: float64 data with x64 off would silently be infinite."""
    with jax.enable_x64(False), pytest.raises(ValueError, match="mind the range of float32"):
        kde.fit(np.full((12, 2), 1e300))


@pytest.mark.parametrize(
    ("core", "call"),
    [
        (model._log_prob, lambda v: kde.log_prob(kde.fit(X, bandwidth=v), X, tolerance=v)),
        (adapted._adaptive, lambda v: kde.adaptive(TWO, v)),
        (regions._level, lambda v: kde.density_level(TWO, v)),
    ],
)
def test_numbers_of_all_kinds_share_a_program(core, call):
    """B9."""
    assert programs(core, call) == 0


def test_float64_is_never_asked_for_by_name():
    """B17: no public function has a `dtype`; what is made has that of the data."""
    for name in kde.__all__:
        if inspect.isfunction(getattr(kde, name)):
            assert "dtype" not in inspect.signature(getattr(kde, name)).parameters


def test_x64_may_be_switched_between_calls():
    """B7: to arrays of the precision that is on, and back to the same numbers."""
    before = kde.log_prob(TWO, X)
    with jax.enable_x64(False):
        found = kde.log_prob(kde.fit(X, bandwidth=0.5), X)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, before, rtol=1e-5)
    np.testing.assert_array_equal(kde.log_prob(TWO, X), before)


@pytest.mark.parametrize("kernel", ["gaussian", "epanechnikov"])
def test_sums_of_many_points_in_float32(kernel):
    """B16, oracle: a million points at two places, in float64; one by one they are 0.004 off."""
    x = np.tile(np.float32([0.1, 0.3]), 2**19)[:, None]
    model = kde.fit(x, bandwidth=np.float32(1), kernel=kernel)
    few = kde.fit(x[:2].astype(float), bandwidth=1.0, kernel=kernel)
    found, expected = kde.log_prob(model, x[:2]), kde.log_prob(few, x[:2].astype(float))
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_large_numbers_of_one_sign_have_a_middle():
    """B14: their sum overflows float32, their mean does not.  Oracle: float64."""
    x = (3e37 + 1e36 * X).astype(np.float32)
    single = kde.log_prob(kde.fit(x, bandwidth=np.float32(1e36)), x)
    double = kde.log_prob(kde.fit(x.astype(float), bandwidth=1e36), x.astype(float))
    np.testing.assert_allclose(single, double, rtol=1e-5)
