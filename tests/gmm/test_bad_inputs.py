"""Bad input to mixtures, by the numbers of its catalogue: groups A (arrays), B (precision), C."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from jaxnn import gmm

X = np.random.default_rng(0).normal(size=(12, 2))
MIXTURE = jax.tree.map(
    jnp.asarray, gmm.GMM(np.log([0.5, 0.5]), X[:2], gmm.Full(np.stack([np.eye(2)] * 2)))
)
OBJECT = X.astype(object)
NAN = np.where(np.arange(24).reshape(12, 2) == 5, np.nan, X)
KEY = jax.random.key(0)


class Frame:
    """A table with named columns, as pandas and polars have."""

    def __init__(self, values, dtypes=(float, float)):
        self.values, self.columns, self.dtypes = values, ["a", "b"], [np.dtype(t) for t in dtypes]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


class Broken:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("nothing here")


def tensor(**options):
    torch = pytest.importorskip("torch")
    if "device" in options:
        return torch.empty(12, 2, **options)
    return torch.tensor(X, **options)


ACCEPTED = {
    "A7 list": lambda: X.tolist(),
    "A23 frame": lambda: Frame(X),
    "A28 read-only": lambda: np.frombuffer(X.tobytes()).reshape(12, 2),
    "A29 view": lambda: X[::-1][::-1],
    "A30 big-endian": lambda: X.astype(">f8"),
    "A31 torch": tensor,
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted_rows(case):
    """Oracle: the same rows as a plain array; nobody's array is written to."""
    x = ACCEPTED[case]()
    np.testing.assert_array_equal(gmm.log_prob(MIXTURE, x), gmm.log_prob(MIXTURE, X))
    np.testing.assert_array_equal(np.asarray(x), X)


ROWS = {
    "A1": (lambda: NAN, ValueError, "x must be finite, got nan at row, column 2, 1"),
    "A2": (lambda: np.where(np.isnan(NAN), np.inf, X), ValueError, "got inf at row, column 2, 1"),
    "A3": (lambda: np.where(np.isnan(NAN), -np.inf, X), ValueError, "got -inf at row, column 2, 1"),
    "A4": (lambda: X * [1, np.nan], ValueError, "row, column 0, 1"),
    "A6": (lambda: None, TypeError, "x must be an array .* got NoneType"),
    "A7": (lambda: [[1.0, 2.0], [3.0]], TypeError, "got list .*inhomogeneous"),
    "A8": (lambda: X.astype(str), TypeError, "dtype <U"),
    "A9": (lambda: OBJECT, TypeError, r"dtype object; x.astype\(float\)"),
    "A11": (lambda: X + 1j, TypeError, "complex128"),
    "A12": (lambda: X > 0, TypeError, "got bool; convert it with jaxnn.train.as_float"),
    "A13": (lambda: np.zeros((12, 2), "datetime64[s]"), TypeError, "dtype datetime64"),
    "A14": (lambda: np.zeros(12, [("a", float), ("b", float)]), TypeError, "dtype .*'a', '<f8'"),
    "A15": (lambda: np.float64(3), ValueError, r"must have shape \(any, 2\), got \(\)"),
    "A16": (lambda: X[:, 0], ValueError, "reshape"),
    "A17": (lambda: X[None], ValueError, r"got \(1, 12, 2\)"),
    "A18": (lambda: X[:0], ValueError, "x must not be empty"),
    "A19": (lambda: X[:, :0], ValueError, r"got \(12, 0\)"),
    "A21": (lambda: X.T, ValueError, r"must have shape \(any, 2\), got \(2, 12\)"),
    "A22": (lambda: X[:, :1], ValueError, r"got \(12, 1\)"),
    "A23": (lambda: Frame(OBJECT, (float, object)), TypeError, "no numbers in column b"),
    "A24": (lambda: Frame(OBJECT), TypeError, "fill its missing values"),
    "A26": (lambda: sparse.csr_matrix(X), TypeError, r"sparse; x.toarray\(\)"),
    "A27": (lambda: np.ma.masked_array(X, X > 1), TypeError, "masked; drop or impute"),
    "A31": (lambda: tensor(requires_grad=True), TypeError, "detach"),
    "A32": (lambda: tensor(device="meta"), TypeError, "cpu"),
    "A33": (Broken, TypeError, "got Broken .nothing here"),
    "B2": (lambda: np.full((12, 2), 2**40), TypeError, "got int64; convert it"),
    "B3": (lambda: np.zeros((12, 2), np.uint8), TypeError, "got uint8; convert it"),
    "B4": (lambda: X.astype(np.float16), TypeError, "like the mixture, got float16"),
    "B5": (lambda: jnp.asarray(X, jnp.bfloat16), TypeError, "got bfloat16"),
    "B6": (lambda: jnp.asarray(X, jnp.float8_e4m3fn), TypeError, "got float8_e4m3fn"),
    "B8": (lambda: X.astype(np.float32), TypeError, "must be float64 like the mixture"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", ROWS)
def test_refused_rows(case):
    """Every function with rows says the same, in its own name."""
    rows, error, message = ROWS[case]
    for name, call in {
        "fit": gmm.fit, "log_prob": gmm.log_prob, "predict": gmm.predict, "e_step": gmm.e_step
    }.items():  # fmt: skip
        with pytest.raises(error, match=message) as caught:
            call(MIXTURE, rows())
        assert str(caught.value).startswith(f"gmm.{name}: x must ")


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
    "C1": (lambda: gmm.init(KEY, X, 0), ValueError, "n_components must be between 1 and 12, got 0"),
    "C2": (lambda: gmm.init(KEY, X, -1), ValueError, "n_components must be"),
    "C3": (lambda: gmm.init(KEY, X, 2.5), TypeError, "n_components must be a whole number"),
    "C4": (lambda: gmm.init(KEY, X, True), TypeError, "n_components must be a whole number"),
    "C5": (lambda: fit(X[:1]), ValueError, "at least 2 rows for 2 components, got 1"),
    "C5 weights": (lambda: fit(sample_weight=np.eye(12)[0]), ValueError, "at least 2 rows"),
    "C7": (lambda: made(family="Full"), ValueError, "unknown family 'Full' .did you mean 'full'"),
    "C8": (lambda: fit(tol=-1e-3), ValueError, "tol must be non-negative"),
    "C8 NaN": (lambda: fit(tol=np.nan), ValueError, "tol must be non-negative"),
    "C9": (lambda: fit(max_steps=-1), ValueError, "max_steps must be at least 0"),
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
    "C25": (lambda: gmm.log_prob(None, X), TypeError, "mixture must be a GMM, got NoneType"),
    "C26": (lambda: gmm.sample(KEY, MIXTURE, 0), ValueError, "n must be at least 1, got 0"),
    "C27": (lambda: gmm.sample(KEY, MIXTURE, -1), ValueError, "n must be at least 1, got -1"),
    "C36 missing": (lambda: fit(mixture=MIXTURE._replace(cov=None)), TypeError, "mixture.cov must"),
    "C36 swapped": (lambda: fit(mixture=gmm.GMM(MIXTURE.means, MIXTURE.log_weights, MIXTURE.cov)),
                    ValueError, "mixture.means must have shape"),
    "K31": (lambda: fit(mixture=MIXTURE._replace(means=NAN[2:4])), ValueError, "mixture must be"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", CALLS)
def test_refused_calls(case):
    call, error, message = CALLS[case]
    with pytest.raises(error, match=message) as caught:
        call()
    assert str(caught.value).startswith("gmm.")
