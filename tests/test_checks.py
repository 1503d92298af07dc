"""Messages: one error, naming the place, the argument, what was given and what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn import checks

pytestmark = pytest.mark.usefixtures("unchecked_types")

NAN_ROW = np.array([[0.0, 1.0], [2.0, np.nan]])
# (check, arguments after `where` and `name`, exception, what the message must say); the codes are
# those of the catalogue of bad inputs.
BAD = {
    "A1 NaN cell": (checks.data, (NAN_ROW,), ValueError, r"finite, got nan at row, column 1, 1"),
    "A2 inf cell": (checks.data, (np.array([[np.inf]]),), ValueError, "finite, got inf"),
    "A3 -inf cell": (checks.data, (np.array([[-np.inf]]),), ValueError, "finite, got -inf"),
    "A1 missing": (checks.data, (NAN_ROW, None, False), ValueError,
                   r"float64\); missing=True takes NaN as missing$"),
    "A2 missing": (checks.data, (np.array([[np.inf]]), None, False), ValueError, r"float64\)$"),
    "A2 taken": (checks.data, (np.array([[np.nan, np.inf]]), None, True), ValueError,
                 r"got inf at row, column 0, 1.*float64\)$"),
    "A6 None": (checks.data, (None,), TypeError, "NoneType"),
    "A7 ragged": (checks.data, ([[1.0], [1.0, 2.0]],), TypeError, "floating-point numbers"),
    "A8 strings": (checks.data, (np.array([["a"]]),), TypeError, "floating-point numbers"),
    "A9 objects": (checks.data, (np.array([[1.0]], object),), TypeError, "floating-point"),
    "A11 complex": (checks.data, (np.array([[1j]]),), TypeError, "complex"),
    "A12 booleans": (checks.data, (np.array([[True]]),), TypeError, "as_float"),
    "A13 dates": (checks.data, (np.array([["2020-01-01"]], "datetime64[D]"),), TypeError, "float"),
    "A15 scalar": (checks.data, (1.0,), ValueError, r"shape \(any, any\), got \(\)"),
    "A16 one axis": (checks.data, (np.ones(3),), ValueError, r"reshape\(-1, 1\)"),
    "A17 three axes": (checks.data, (np.ones((2, 2, 2)),), ValueError, r"got \(2, 2, 2\)"),
    "A18 no rows": (checks.data, (np.ones((0, 2)),), ValueError, "empty"),
    "A19 no columns": (checks.data, (np.ones((2, 0)),), ValueError, "empty"),
    "A22 width": (checks.data, (np.ones((4, 1)), 2), ValueError, r"\(any, 2\), got \(4, 1\)"),
    "B2 integers": (checks.data, (np.ones((2, 2), int),), TypeError, "int64.*as_float"),
    "C3 float count": (checks.count, (2.5,), TypeError, "whole number, got 2.5"),
    "C4 bool count": (checks.count, (True,), TypeError, "whole number, got True"),
    "C3 float array": (checks.count, (np.array(2.0),), TypeError, "whole number, got array"),
    "C3 float32": (checks.count, (jnp.float32(2.0),), TypeError, "whole number, got Array"),
    "C4 bool array": (checks.count, (np.array(True),), TypeError, "whole number"),
    "C9 huge": (checks.steps, (2**31,), ValueError, r"must be below 2\*\*31, got 2147483648"),
    "C9 negative": (checks.steps, (-1,), ValueError, "at least 0, got -1"),
    "C1 zero count": (checks.count, (0,), ValueError, "at least 1, got 0"),
    "C5 too many": (checks.count, (5, 1, 4), ValueError, "between 1 and 4, got 5"),
    "C20 negative weight": (checks.weights, (np.array([1.0, -2.0]), 2), ValueError, "-2.0"),
    "C21 NaN weight": (checks.weights, (np.array([1.0, np.nan]), 2), ValueError, "finite"),
    "C22 no weight": (checks.weights, (np.zeros(2), 2), ValueError, "zero everywhere"),
    "C23 weights short": (checks.weights, (np.ones(3), 2), ValueError, r"\(2,\), got \(3,\)"),
    "C24 weights 2-D": (checks.weights, (np.ones((2, 1)), 2), ValueError, r"got \(2, 1\)"),
    "C7 unknown": (checks.in_table, ("ful", ["full", "diag"]), ValueError, "mean 'full'.*diag"),
    "C7 no name": (checks.in_table, (3, ["full"]), ValueError, "unknown name 3"),
    "E1 zero": (checks.positive, (0.0,), ValueError, "positive and finite, got 0.0"),
    "E2 negative": (checks.positive, (-1.0,), ValueError, "got -1.0"),
    "E3 NaN": (checks.positive, (np.nan,), ValueError, "got nan"),
    "E4 inf": (checks.positive, (np.inf,), ValueError, "got inf"),
    "E5 string": (checks.positive, ("scot",), TypeError, "got 'scot'"),
    "one of many": (checks.positive, (np.array([1.0, -1.0]),), ValueError, "-1"),
    "G2 negative": (checks.non_negative, (-1e-3,), ValueError, "non-negative.*-0.001"),
    "H13 zero": (checks.probability, (0.0,), ValueError, r"\(0, 1\], got 0.0"),
    "H14 above 1": (checks.probability, (1.5,), ValueError, "got 1.5"),
    "H15 NaN": (checks.probability, (np.nan,), ValueError, "got nan"),
    "F7 negative label": (checks.labels, (np.array([0, -1]), 2, 3), ValueError, "from -1 to 0"),
    "F8 large label": (checks.labels, (np.array([0, 3]), 2, 3), ValueError, r"\[0, 3\)"),
    "F9 float labels": (checks.labels, (np.array([0.0]), 1, 3), TypeError, "whole numbers"),
    "F13 y length": (checks.labels, (np.array([0]), 2, 3), ValueError, r"\(2,\), got \(1,\)"),
    "B5 half": (checks.precise, (jnp.ones(1, jnp.bfloat16),), TypeError, "got bfloat16"),
    "kind": (checks.instance, (3, dict), TypeError, "must be a dict, got int"),
    "not one number": (checks.scalar, (np.ones(2),), ValueError, r"shape \(\), got \(2,\)"),
    "dtypes": (checks.same_dtype, (jnp.ones(1), "y", jnp.float32), TypeError, "cast one"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    check, args, error, message = BAD[case]
    refused(lambda: check("module.function", "name", *args), error, message, "module.function: ")


@pytest.mark.parametrize(
    "key", [0, None, "key", jnp.zeros(3, jnp.uint32), np.random.default_rng(0)]
)
def test_what_is_no_key_is_refused(key):
    with pytest.raises(TypeError, match=r"jax\.random\.key\(0\)"):
        checks.key("f", key)


def test_many_keys_are_not_one():
    with pytest.raises(TypeError, match=r"single key, got keys of shape \(2,\)"):
        checks.key("f", jax.random.split(jax.random.key(0)))


def test_good_input_passes():
    checks.key("f", jax.random.key(0))
    checks.key("f", jax.random.PRNGKey(0))
    assert checks.count("f", "n", np.int64(3)) == 3
    big_endian = np.ones((4, 2), ">f8")[::-1]
    big_endian.setflags(write=False)
    assert checks.data("f", "x", big_endian, 2).dtype == jnp.float64
    assert checks.data("f", "x", [[1.0, 2.0]]).shape == (1, 2)


def test_one_row_is_no_table_and_a_square_one_is_upright():
    """A21: a warning (an error in these tests) from 2 rows on that are fewer than the columns."""
    for n in (1, 3, 4):
        checks.upright("f", "x", jnp.ones((n, 3)))
    with pytest.raises(UserWarning, match=r"f: rows of x are samples, got shape \(2, 3\)"):
        checks.upright("f", "x", jnp.ones((2, 3)))


def test_steps_are_whole_numbers_of_32_bits_whatever_they_were():
    """B9: so that one program serves them all."""
    for given in (5, np.int64(5), np.int8(5), jnp.asarray(5), np.array(5)):
        found = checks.steps("f", "x", given)
        assert found == 5
        assert (found.dtype, found.weak_type) == (jnp.int32, False)


def test_values_are_checked_on_constants_but_not_on_tracers():
    """Under a trace a constant is still looked at, and a tracer passes."""

    @jax.jit
    def traced(x):
        checks.positive("f", "x", x)
        return x

    assert traced(-1.0) == -1.0

    @jax.jit
    def constant(x):
        checks.positive("f", "rate", -1.0)
        return x

    with pytest.raises(ValueError, match="rate must be positive"):
        constant(1.0)


def test_shapes_are_checked_under_a_trace():
    with pytest.raises(ValueError, match=r"\(any, 2\), got \(3, 1\)"):
        jax.jit(lambda x: checks.data("f", "x", x, 2))(jnp.ones((3, 1)))
