"""Bad input, shared by the tests of all doors; cases have the names of the catalogue.

Nothing is computed on import: `jaxnn` must come first (see `jaxnn.backend`).
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

X = np.random.default_rng(0).normal(size=(12, 2))
NAN = np.where(np.arange(24).reshape(12, 2) == 5, np.nan, X)
OBJECT = X.astype(object)
MIXED = OBJECT.copy()
MIXED[2, 1] = "?"


def refused(
    call: Callable[[], Any], error: type[Exception], message: str, where: str | tuple[str, ...]
) -> None:
    """One error of that type and in those words, on one line that begins with the place."""
    with pytest.raises(error, match=message) as caught:
        call()
    assert str(caught.value).startswith(where)
    assert "\n" not in str(caught.value)


class Frame:
    """A table with named columns, as pandas and polars have."""

    def __init__(self, values, dtypes=(float, float), columns=("a", "b")):
        self.values, self.columns = values, list(columns)
        self.dtypes = [np.dtype(t) for t in dtypes]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


def columns_count_by_their_places(f: Callable[[Any], Any]) -> None:
    """A25: a table is its numbers: reordered they are other columns, renamed the same ones.

    Oracle: the plain arrays.
    """
    renamed, reordered = Frame(X, columns="cd"), Frame(X[:, ::-1], columns="ba")
    np.testing.assert_array_equal(f(renamed), f(X))
    expected = f(X[:, ::-1])
    np.testing.assert_array_equal(f(reordered), expected)
    assert not np.allclose(expected, f(X))


class Broken:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("nothing here")


def tensor(**options):
    torch = pytest.importorskip("torch")
    if "device" in options:
        return torch.empty(12, 2, **options)
    return torch.tensor(X, **options)


def programs(core: Any, call: Callable[[Any], Any]) -> int:
    """How many programs of a compiled function other kinds of a number add to Python's.

    Python's numbers are weakly typed, and JAX compiles for each type.
    """
    call(0.5)
    before = core._cache_size()
    for kind in (np.float32, np.float64, np.array, jnp.asarray, jnp.float32):
        call(kind(0.5))
    return core._cache_size() - before


# What stands for the rows X, and is taken for them.
ACCEPTED = {
    "A7 list": lambda: X.tolist(),
    "A23 frame": lambda: Frame(X),
    "A28 read-only": lambda: np.frombuffer(X.tobytes()).reshape(12, 2),
    "A29 view": lambda: X[::-1][::-1],
    "A30 big-endian": lambda: X.astype(">f8"),
    "A31 torch": tensor,
}

# What no door takes for rows of two columns: argument, exception, words of the message.
ROWS = {
    "A1": (lambda: NAN, ValueError, "x must be finite, got nan at row, column 2, 1"),
    "A2": (lambda: np.where(np.isnan(NAN), np.inf, X), ValueError, "got inf at row, column 2, 1"),
    "A3": (lambda: np.where(np.isnan(NAN), -np.inf, X), ValueError, "got -inf at row, column 2, 1"),
    "A4": (lambda: X * [1, np.nan], ValueError, "row, column 0, 1"),
    "A5": (lambda: np.r_[np.repeat(X, 10_000, axis=0), NAN[2:3]], ValueError,
           "got nan at row, column 120000, 1"),
    "A6": (lambda: None, TypeError, "x must be an array .* got NoneType"),
    "A7": (lambda: [[1.0, 2.0], [3.0]], TypeError, "got list .*inhomogeneous"),
    "A8": (lambda: X.astype(str), TypeError, "dtype <U"),
    "A9": (lambda: OBJECT, TypeError, r"dtype object; x.astype\(float\)"),
    "A10": (lambda: MIXED, TypeError, r"dtype object; x.astype\(float\) converts what can be"),
    "A11": (lambda: X + 1j, TypeError, "complex128"),
    "A12": (lambda: X > 0, TypeError, "got bool; convert it with jaxnn.train.as_float"),
    "A13": (lambda: np.zeros((12, 2), "datetime64[s]"), TypeError, "dtype datetime64"),
    "A14": (lambda: np.zeros(12, [("a", float), ("b", float)]), TypeError, "dtype .*'a', '<f8'"),
    "A15": (lambda: np.float64(3), ValueError, r"must have shape \(any, \w+\), got \(\)"),
    "A16": (lambda: X[:, 0], ValueError, r"got \(12,\); x.reshape"),
    "A17": (lambda: X[None], ValueError, r"got \(1, 12, 2\)"),
    "A18": (lambda: X[:0], ValueError, r"x must not be empty, got shape \(0, 2\)"),
    "A19": (lambda: X[:, :0], ValueError, r"got .*\(12, 0\)"),
    "A23": (lambda: Frame(OBJECT, (float, object)), TypeError, "no numbers in column b"),
    "A24": (lambda: Frame(OBJECT), TypeError, "fill its missing values"),
    "A26": (lambda: sparse.csr_matrix(X), TypeError, r"sparse; x.toarray\(\)"),
    "A27": (lambda: np.ma.masked_array(X, X > 1), TypeError, "masked; drop or impute"),
    "A31": (lambda: tensor(requires_grad=True), TypeError, "detach"),
    "A32": (lambda: tensor(device="meta"), TypeError, "cpu"),
    "A33": (Broken, TypeError, "got Broken .nothing here"),
    "B2": (lambda: np.full((12, 2), 2**40), TypeError, "got int64; convert it"),
    "B3": (lambda: np.zeros((12, 2), np.uint8), TypeError, "got uint8; convert it"),
}  # fmt: skip
