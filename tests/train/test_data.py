"""Oracles: NumPy, closed forms, and counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn.train import Batch, Standardiser, as_float, epoch_batches, split

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (20, 3)) * jnp.array([[1.0, 100.0, 1e-3]]) + 5


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        ([1, 2, 3], jnp.float64),
        ([True, False], jnp.float64),
        (np.array([0, 255], np.uint8), jnp.float64),
        (np.array([[1, -2]], np.int64), jnp.float64),
        (np.array([1.5, 2.5], np.float32), jnp.float32),
        (np.array([1.5, 2.5], np.float16), jnp.float16),
        (np.array([1.5, 2.5]), jnp.float64),
        (np.array([1.5, 2.5], ">f8"), jnp.float64),
        (np.array([1, 2], ">i4"), jnp.float64),
        (jnp.array([1, 2]), jnp.float64),
        (3, jnp.float64),
        (2**70, jnp.float64),
    ],
)
def test_as_float_keeps_the_numbers(x, dtype):
    """Oracle: NumPy's conversion."""
    got = as_float(x)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, np.asarray(x, float))
    assert as_float(x, jnp.float32).dtype == jnp.float32


def test_as_float_without_x64():
    """B2: whole numbers beyond 32 bits are rounded, never wrapped (oracle: NumPy).

    B17: float64 asked for by name, where it is off, is an error and no silent float32.
    """
    with jax.enable_x64(False):
        assert as_float(np.ones(2)).dtype == jnp.float32
        for large in (np.array([10**10]), [10**10]):
            np.testing.assert_array_equal(as_float(large), np.array([10**10], np.float32))
        with pytest.raises(TypeError, match=r"float64 needs .*'jax_enable_x64', True"):
            as_float([1, 2], jnp.float64)


def test_as_float_can_be_traced():
    """Invariant: jit = eager."""
    whole = jnp.array([1, 2])
    np.testing.assert_array_equal(jax.jit(as_float)(whole), as_float(whole))


def test_standard_units_have_mean_zero_and_deviation_one():
    """Oracle: NumPy's mean and std; the way back returns the rows."""
    scaler = Standardiser.of(X)
    z = scaler.apply(X)
    x = np.asarray(X)
    np.testing.assert_allclose(z, (x - x.mean(0)) / x.std(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.mean(z, 0), 0, atol=1e-10)
    np.testing.assert_allclose(np.std(z, 0), 1, atol=1e-12)
    np.testing.assert_allclose(scaler.invert(z), X, rtol=1e-12)


@pytest.mark.parametrize("n", [2, 7, 10, 100])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e9])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_constant_column_is_only_centred(n, value, dtype):
    """Closed form: scale 1; the rounding of its mean must not be blown up to a unit."""
    x = jnp.full((n, 1), value, dtype)
    scaler = Standardiser.of(x)
    assert float(scaler.scale[0]) == 1
    assert float(jnp.max(jnp.abs(scaler.apply(x)))) <= 1e-6 * value
    np.testing.assert_allclose(scaler.invert(scaler.apply(x)), x, rtol=1e-6)


def test_columns_of_any_scale_survive():
    """Invariant: nothing is infinite, also where the variance underflows."""
    x = jnp.array([[1e-200, 1e150], [2e-200, -1e150]])
    assert bool(jnp.all(jnp.isfinite(Standardiser.of(x).apply(x))))


def test_standardiser_follows_the_dtype_of_the_data_and_maps_over_sets():
    """Invariant: float32 rows stay float32; vmap = loop."""
    scaler = Standardiser.of(X)
    assert scaler.apply(X.astype(jnp.float32)).dtype == jnp.float32
    assert scaler.invert(X.astype(jnp.float32)).dtype == jnp.float32
    many = jax.vmap(Standardiser.of)(jnp.stack([X, 2 * X]))
    np.testing.assert_allclose(many.mean[1], Standardiser.of(2 * X).mean, rtol=1e-14)


@pytest.mark.parametrize("key", [KEY, jax.random.PRNGKey(0)], ids=["typed", "old"])
def test_a_split_is_disjoint_and_complete_and_keeps_rows_together(key):
    """Oracle: counting; x and y of a row carry the same number."""
    number = jnp.arange(10)
    rows = Batch(x=jnp.stack([number, number], axis=1), y=number)
    parts = split(key, rows, (5, 3, 2))
    assert [len(part.y) for part in parts] == [5, 3, 2]
    assert sorted(np.concatenate([part.y for part in parts])) == list(range(10))
    for part in parts:
        np.testing.assert_array_equal(part.x, np.stack([part.y, part.y], axis=1))
    together = np.concatenate([part.y for part in parts])
    assert not np.array_equal(together, np.arange(10)), "shuffled"


def test_a_split_need_not_take_every_row():
    """Oracle: counting."""
    parts = split(KEY, jnp.arange(10), (2, 3))
    assert len(set(np.concatenate(parts).tolist())) == 5


@pytest.mark.parametrize(("n", "size"), [(10, 4), (10, 5), (10, 10), (10, 99), (7, 1), (1, 1)])
def test_an_epoch_has_every_row_once(n, size):
    """Oracle: counting; a ragged last batch is filled with weight zero; F20: 99 rows of 10."""
    rows, weight = epoch_batches(KEY, n, size)
    assert rows.shape == weight.shape == (-(-n // min(size, n)), min(size, n))
    assert sorted(np.asarray(rows)[np.asarray(weight) == 1].tolist()) == list(range(n))
    assert float(jnp.sum(weight)) == n
    assert set(np.unique(weight)) <= {0.0, 1.0}
    assert bool(jnp.all(weight[:, 0] == 1)), "no batch is empty"


def test_epochs_have_different_orders():
    """Invariant: another key, another order (the same one has probability 1/20!)."""
    orders = [epoch_batches(jax.random.fold_in(KEY, i), 20, 6)[0] for i in range(2)]
    assert not bool(jnp.all(orders[0] == orders[1]))


def test_the_first_place_is_uniform():
    """Statistics: the share of each row in first place is within 5 standard errors of 1/4."""
    keys = jax.random.split(KEY, 2000)
    first = jax.vmap(lambda key: epoch_batches(key, 4, 3)[0][0, 0])(keys)
    share = np.bincount(first, minlength=4) / 2000
    assert np.all(np.abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000))


SCALER = Standardiser(mean=jnp.zeros(2), scale=jnp.ones(2))
BAD = {
    "A6 None": (as_float, (None,), TypeError, "real numbers, got NoneType"),
    "A7 ragged": (as_float, ([[1.0], [1.0, 2.0]],), TypeError, "real numbers, got list"),
    "A8 strings": (as_float, (np.array(["1.5"]),), TypeError, "real numbers, got <U3"),
    "A8 string": (as_float, ("1.5",), TypeError, "real numbers, got str"),
    "A9 objects": (as_float, (np.array([1.0], object),), TypeError, "real numbers, got object"),
    "A11 complex": (as_float, (np.array([1j]),), TypeError, "real numbers, got complex128"),
    "A11 number": (as_float, (1j,), TypeError, "real numbers, got complex128"),
    "A13 dates": (as_float, (np.array(["2020-01-01"], "datetime64[D]"),), TypeError, "datetime"),
    "key": (as_float, (KEY,), TypeError, "real numbers, got"),
    "dtype int": (as_float, ([1], jnp.int32), TypeError, "dtype must be a floating.*got int32"),
    "dtype name": (as_float, ([1], "abc"), TypeError, "dtype must be a floating.*got 'abc'"),
    "A1 NaN": (Standardiser.of, (np.array([[np.nan]]),), ValueError, "x must be finite, got nan"),
    "A16 vector": (Standardiser.of, (np.ones(3),), ValueError, r"shape \(any, any\), got \(3,\)"),
    "B2 integers": (Standardiser.of, (np.ones((2, 2), int),), TypeError, "as_float"),
    "A22 width": (SCALER.apply, (np.ones((2, 3)),), ValueError, r"\(any, 2\), got \(2, 3\)"),
    "A22 back": (SCALER.invert, (np.ones((2, 1)),), ValueError, r"\(any, 2\), got \(2, 1\)"),
    "H1 int key": (split, (0, jnp.arange(3), (1,)), TypeError, r"key must be .*got int"),
    "too many": (split, (KEY, jnp.arange(3), (2, 2)), ValueError, "at most 3 rows, got 4"),
    "size 0": (split, (KEY, jnp.arange(3), (0, 3)), ValueError, "sizes must be at least 1, got 0"),
    "size 1.5": (split, (KEY, jnp.arange(3), (1.5,)), TypeError, "whole number, got 1.5"),
    "F13 lengths": (
        split,
        (KEY, Batch(x=jnp.ones((4, 2)), y=jnp.ones(3)), (1,)),
        ValueError,
        r"same number of rows.*rows\.x \(4, 2\), rows\.y \(3,\)",
    ),
    "A18 no rows": (split, (KEY, jnp.ones((0, 2)), (1,)), ValueError, r"rows \(0, 2\)"),
    "no arrays": (split, (KEY, (), (1,)), ValueError, "got no arrays"),
    "H5 generator": (epoch_batches, (np.random.default_rng(0), 3, 1), TypeError, "got Generator"),
    "n 0": (epoch_batches, (KEY, 0, 1), ValueError, "n must be at least 1, got 0"),
    "G25 size 0": (epoch_batches, (KEY, 3, 0), ValueError, "batch_size must be at least 1, got 0"),
    "G25 size < 0": (epoch_batches, (KEY, 3, -1), ValueError, "batch_size.*got -1"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the argument, what was given, and what to do."""
    function, args, error, message = BAD[case]
    refused(lambda: function(*args), error, message, "train.")
