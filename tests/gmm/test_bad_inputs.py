"""Bad input to mixtures, by the numbers of its catalogue: groups A (arrays), B (precision), C."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import ACCEPTED, NAN, ROWS, X, columns_count_by_their_places, programs, refused
from scipy import stats

from jaxnn import gmm
from jaxnn.gmm import em, model, outcome

MIXTURE = jax.tree.map(
    jnp.asarray, gmm.GMM(np.log([0.5, 0.5]), X[:2], gmm.Full(np.stack([np.eye(2)] * 2)))
)
KEY = jax.random.key(0)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted_rows(case):
    """Oracle: the same rows as a plain array; nobody's array is written to."""
    x = ACCEPTED[case]()
    np.testing.assert_array_equal(gmm.log_prob(MIXTURE, x), gmm.log_prob(MIXTURE, X))
    np.testing.assert_array_equal(np.asarray(x), X)


# Beside what no door takes: rows that do not fit the mixture.
BESIDE = {
    "A21": (lambda: X.T, ValueError, r"must have shape \(any, 2\), got \(2, 12\)"),
    "A22": (lambda: X[:, :1], ValueError, r"got \(12, 1\)"),
    "B4": (lambda: X.astype(np.float16), TypeError, "like the mixture, got float16"),
    "B5": (lambda: jnp.asarray(X, jnp.bfloat16), TypeError, "got bfloat16"),
    "B6": (lambda: jnp.asarray(X, jnp.float8_e4m3fn), TypeError, "got float8_e4m3fn"),
    "B6 int4": (lambda: jnp.asarray(np.ones((12, 2), int), jnp.int4), TypeError, "got int4"),
    "B8": (lambda: X.astype(np.float32), TypeError, "must be float64 like the mixture"),
}  # fmt: skip
DOORS = {
    "fit": gmm.fit, "log_prob": gmm.log_prob, "predict": gmm.predict, "e_step": gmm.e_step
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", ROWS | BESIDE)
def test_refused_rows(case):
    """Every function with rows says the same, in its own name."""
    rows, error, message = (ROWS | BESIDE)[case]
    for name, door in DOORS.items():
        refused(lambda door=door: door(MIXTURE, rows()), error, message, f"gmm.{name}: x must ")


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_number_too_large_for_float32_is_refused():
    """B1: float64 data with x64 off would silently be infinite."""
    with jax.enable_x64(False), pytest.raises(ValueError, match="mind the range of float32"):
        gmm.init(KEY, np.full((12, 2), 1e300), 2)


def fit(x=X, mixture=MIXTURE, **options):
    return gmm.fit(mixture, x, **options)


UNITS = np.stack([np.eye(2)] * 2)


def made(weights=(0.5, 0.5), means=X[:2], covariances=UNITS, family="full"):
    return gmm.from_covariances(np.array(weights), means, covariances, family=family)


SKEW = np.array([[[1.0, 0.5], [0.0, 1.0]]] * 2)
CALLS = {
    "B8 leaf": (lambda: fit(mixture=jax.tree.map(jnp.asarray, MIXTURE._replace(
        log_weights=np.log(np.ones(2, np.float32) / 2)))), TypeError,
                "each leaf of mixture must be float64 like mixture.means, got float32"),
    "B14": (lambda: gmm.init(KEY, X * 1e200, 2), ValueError,
            r"x must not exceed 1e\+151 in size, so that squares stay within float64; scale"),
    "B14 float32": (lambda: gmm.k_means(KEY, (X * 1e38).astype(np.float32), 2), ValueError,
                    r"x must not exceed 2e\+16 in size"),
    "C1": (lambda: gmm.init(KEY, X, 0), ValueError, "n_components must be between 1 and 12, got 0"),
    "C2": (lambda: gmm.init(KEY, X, -1), ValueError, "n_components must be"),
    "C3": (lambda: gmm.init(KEY, X, 2.5), TypeError, "n_components must be a whole number"),
    "C4": (lambda: gmm.init(KEY, X, True), TypeError, "n_components must be a whole number"),
    "C5": (lambda: fit(X[:1]), ValueError, "at least 2 rows for 2 components, got 1"),
    "C5 weights": (lambda: fit(sample_weight=np.eye(12)[0]), ValueError, "at least 2 rows"),
    "C7": (lambda: made(family="Full"), ValueError, "unknown family 'Full' .did you mean 'full'"),
    "C8": (lambda: fit(tol=-1e-3), ValueError, "tol must be non-negative"),
    "C8 NaN": (lambda: fit(tol=np.nan), ValueError, "tol must be non-negative"),
    "C9": (lambda: fit(max_steps=-1), ValueError, "max_steps must be at least 0, got -1"),
    "C9 huge": (lambda: fit(max_steps=2**31), ValueError, "max_steps must be .* got 2147483648"),
    "C9 array": (lambda: fit(max_steps=np.array(2.5)), TypeError, r"max_steps must be a whole num"),
    "C10": (lambda: fit(ridge=-1e-3), ValueError, "ridge must be non-negative"),
    "C10 absolute": (lambda: fit(ridge_absolute=-np.ones(2)), ValueError, "ridge_absolute must be"),
    "C10 shape": (lambda: fit(ridge_absolute=np.ones(3)), ValueError, r"ridge_absolute .* \(2,\)"),
    "C10 step": (lambda: gmm.m_step(MIXTURE, gmm.e_step(MIXTURE, X), np.nan), ValueError,
                 "ridge must be"),
    "C11": (lambda: made((-0.5, 1.5)), ValueError, "weights must not be negative, got -0.5"),
    "C12": (lambda: made((0.5, 0.6)), ValueError, "weights must sum to 1"),
    "C13": (lambda: made((1.0,)), ValueError, r"weights must have shape \(2,\), got \(1,\)"),
    "C14": (lambda: made((0.0, 0.0)), ValueError, "weights must not be zero everywhere"),
    "C15": (lambda: made(means=X[:3]), ValueError, r"weights must have shape \(3,\)"),
    "C17": (lambda: made(covariances=SKEW), ValueError, "symmetric, positive definite"),
    "C18": (lambda: made(covariances=-SKEW), ValueError, "symmetric, positive definite"),
    "C19": (lambda: made(family="diag"), ValueError, r"covariances must have shape \(2, 2\)"),
    "C20": (lambda: fit(sample_weight=-np.ones(12)), ValueError, "must not be negative, got -1"),
    "C21": (lambda: fit(sample_weight=NAN[:, 1]), ValueError, "sample_weight must be finite"),
    "C22": (lambda: fit(sample_weight=np.zeros(12)), ValueError, "zero everywhere"),
    "C23": (lambda: fit(sample_weight=np.ones(3)), ValueError, r"must have shape \(12,\)"),
    "C24": (lambda: fit(sample_weight=np.ones((12, 1))), ValueError, r"got \(12, 1\)"),
    "A34 count": (lambda: jax.jit(lambda k: gmm.init(KEY, X, k))(2), TypeError,
                  "n_components must not be traced.*static"),
    "A34 steps": (lambda: jax.jit(lambda s: fit(max_steps=s))(2.0), TypeError,
                  "max_steps must be a whole number, got float"),
    "A34 words": (lambda: jax.jit(lambda x: len(gmm.describe(fit(x))))(X), TypeError,
                  "fit must not be traced.*fit.status"),
    "C25": (lambda: gmm.log_prob(None, X), TypeError, "mixture must be a GMM, got NoneType"),
    "C26": (lambda: gmm.sample(KEY, MIXTURE, 0), ValueError, "n must be at least 1, got 0"),
    "C27": (lambda: gmm.sample(KEY, MIXTURE, -1), ValueError, "n must be at least 1, got -1"),
    "C36 sample": (lambda: gmm.sample(KEY, MIXTURE._replace(log_weights=MIXTURE.means), 3),
                   ValueError, r"mixture.log_weights must have shape \(2,\), got \(2, 2\)"),
    "C36 shape": (lambda: fit(mixture=MIXTURE._replace(cov=gmm.Full(MIXTURE.cov.scale_tril[:1]))),
                  ValueError, "mixture.cov.scale_tril must have shape"),
    "C36 list": (lambda: fit(mixture=MIXTURE._replace(cov=gmm.Full([[1.0]]))),
                 TypeError, "mixture.cov.scale_tril must be an array, got list"),
    "C36 missing": (lambda: fit(mixture=MIXTURE._replace(cov=None)), TypeError, "mixture.cov must"),
    "C36 swapped": (lambda: fit(mixture=gmm.GMM(MIXTURE.means, MIXTURE.log_weights, MIXTURE.cov)),
                    ValueError, "mixture.means must have shape"),
    "K31": (lambda: fit(mixture=MIXTURE._replace(means=NAN[2:4])), ValueError, "mixture must be"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", CALLS)
def test_refused_calls(case):
    refused(*CALLS[case], where="gmm.")


@pytest.mark.usefixtures("unchecked_types")
def test_where_nan_can_be_taken_the_message_says_so():
    """A1: where there is a `missing`; not of an infinity, not where NaN could not be taken."""
    words = ";.* missing=True takes NaN as missing"
    for door in (gmm.fit, gmm.log_prob, gmm.log_joint, gmm.posterior, gmm.predict, gmm.e_step):
        refused(lambda door=door: door(MIXTURE, NAN), ValueError, words, "gmm.")
    refused(lambda: gmm.init(KEY, NAN, 2), ValueError, words, "gmm.init")
    eigen = MIXTURE._replace(cov=gmm.COVARIANCES["VVE"].from_covariances(jnp.asarray(UNITS)))
    others = (
        lambda: gmm.fit(MIXTURE, np.where(np.isnan(NAN), np.inf, X)),
        lambda: gmm.fit_stepwise(KEY, MIXTURE, NAN, batch_size=4, epochs=1),
        lambda: gmm.log_prob(eigen, NAN),
        lambda: gmm.impute(MIXTURE, np.where(np.isnan(NAN), np.inf, X)),
    )
    for call in others:
        refused(call, ValueError, r"float64\)$", "gmm.")


def test_a_nan_in_the_last_tile_stays_in_its_row(monkeypatch):
    """A5: traced rows cannot be refused; the last tile reaches back over rows of another."""
    monkeypatch.setattr("jaxnn.gmm.forms.tile_rows", lambda n, width: 5)
    x = jnp.asarray(X).at[11, 1].set(jnp.nan)
    got = jax.jit(lambda m, x: model._log_prob.__wrapped__(m, x))(MIXTURE, x)
    np.testing.assert_array_equal(np.isnan(got), np.arange(12) == 11)


def test_one_row_is_scored_and_fitted():
    """A20: a fit of one row is legal, its covariance the ridge, and it says so."""
    np.testing.assert_allclose(gmm.log_prob(MIXTURE, X[:1]), gmm.log_prob(MIXTURE, X)[:1])
    start = made((1.0,), X[1:2], np.ones(1), "spherical")
    found = gmm.fit(start, X[:1])
    np.testing.assert_allclose(found.mixture.means, X[:1])
    assert found.status == gmm.Status.DEGENERATE
    assert outcome.sound(found.mixture)


@pytest.mark.usefixtures("unchecked_types")
def test_rows_and_columns_exchanged_are_noticed():
    """A21: by a warning (an error in these tests) where data are first seen.

    Not where more columns than rows are what a family is for, and not of traced rows.
    """
    doors = {
        "init": lambda **given: gmm.init(KEY, X.T, 2, **given),
        "fit_best": lambda **given: gmm.fit_best(KEY, X.T, 2, **given),
        "select": lambda family="full", **given: gmm.select(KEY, X.T, [2], [family], **given),
    }
    for name, door in doors.items():
        words = rf"^gmm.{name}: rows of x are samples, got shape \(2, 12\) .*give x.T$"
        with pytest.raises(UserWarning, match=words):
            door()
        unknown = lambda door=door: door(family=gmm.factors(1), start="none")
        refused(unknown, ValueError, "unknown start", f"gmm.{name}: ")
    jax.eval_shape(lambda x: gmm.init(KEY, x, 2), X.T)


@pytest.mark.usefixtures("unchecked_types")
def test_a_table_is_its_numbers():
    columns_count_by_their_places(lambda x: gmm.log_prob(MIXTURE, x))


def test_weights_that_do_not_sum_to_one_are_drawn_in_proportion():
    """C28, oracle: the same key with weights that do."""
    many = MIXTURE._replace(log_weights=MIXTURE.log_weights + 3)
    np.testing.assert_array_equal(gmm.sample(KEY, many, 50), gmm.sample(KEY, MIXTURE, 50))


@pytest.mark.parametrize(
    ("core", "call"),
    [
        (em.climb, lambda v: gmm.fit(MIXTURE, X, ridge=v, ridge_absolute=v, tol=v, max_steps=3)),
        (em._maximise, lambda v: gmm.m_step(MIXTURE, gmm.e_step(MIXTURE, X), v)),
    ],
)
def test_numbers_of_all_kinds_share_a_program(core, call):
    """B9."""
    assert programs(core, call) == 0


def test_float64_is_never_asked_for_by_name():
    """B17: no public function has a `dtype`; what is made has that of the data."""
    for name in gmm.__all__:
        if inspect.isfunction(getattr(gmm, name)):
            assert "dtype" not in inspect.signature(getattr(gmm, name)).parameters


@pytest.mark.usefixtures("unchecked_types")
def test_x64_may_be_switched_between_calls():
    """B7: to arrays of the precision that is on, and back to the same numbers; nothing is mixed."""
    before = gmm.log_prob(MIXTURE, X)
    with jax.enable_x64(False):
        x = X.astype(np.float32)
        both = lambda: gmm.log_prob(MIXTURE, x)
        refused(both, TypeError, "must be float64 like the mixture, got float32", "gmm.log_prob")
        found = gmm.log_prob(jax.tree.map(np.float32, MIXTURE), x)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, before, rtol=1e-5)
    np.testing.assert_array_equal(gmm.log_prob(MIXTURE, X), before)


def test_rows_whose_squares_overflow_are_flagged():
    """B14: a fit of them says so, and they belong to the components in proportion."""
    found = gmm.fit(MIXTURE, X * 1e200)
    assert found.status == gmm.Status.NOT_FINITE
    jax.tree.map(np.testing.assert_array_equal, found.mixture, MIXTURE)
    np.testing.assert_allclose(gmm.posterior(MIXTURE, X * 1e200), 0.5)


def test_moments_of_many_rows_in_float32():
    """B16, oracle: a million rows of two values in closed form; one by one they are 1 % off."""
    n, values = 2**20, np.array([0.1, 0.3])
    x = np.tile(values, n // 2).astype(np.float32)[:, None]
    cov = gmm.Diag(jnp.ones((2, 1), jnp.float32))
    mixture = gmm.GMM(jnp.log(jnp.full(2, 0.5, jnp.float32)), jnp.float32([[0.0], [1.0]]), cov)
    total = gmm.e_step(mixture, x)
    joint = stats.norm.logpdf(np.float32(values)[:, None], [0.0, 1.0]) - np.log(2)
    evidence = np.logaddexp(*joint.T)
    resp = np.exp(joint - evidence[:, None])
    np.testing.assert_allclose(total.log_lik, n * evidence.mean(), rtol=1e-6)
    np.testing.assert_allclose(total.counts, n * resp.mean(0), rtol=5e-4)
    np.testing.assert_allclose(
        total.first[:, 0], n * (resp * (values[:, None] - [0.0, 1.0])).mean(0), rtol=5e-4
    )
