"""Oracles: nested loops in Python over the rows of small tables."""

import itertools

import numpy as np
import pytest

from jaxnn.sweep import tables
from jaxnn.sweep.axes import column


def table(**columns):
    filled = {name: column("here", name, values) for name, values in columns.items()}
    return tables.whole(len(next(iter(columns.values()))), filled)


def rows(got):
    return list(zip(*(np.asarray(v).tolist() if not hasattr(v, "codes") else v.tolist()
                      for v in got.columns.values()), strict=True))  # fmt: skip


def test_a_join_is_the_product_of_rows():
    """Oracle: itertools.product."""
    got = tables.join(table(a=[1, 2], b=["x", "y"]), table(c=[0.5, 0.25, 0.125]))
    pairs = itertools.product([(1, "x"), (2, "y")], [0.5, 0.25, 0.125])
    assert rows(got) == [(*left, right) for left, right in pairs]
    assert got.n == 6


@pytest.mark.parametrize(("values", "counts"), [("y", [1, 3]), (("x", "y"), [3, 3]), ("x", [3, 1])])
def test_a_conditional_join_multiplies_the_rows_it_holds_for(values, counts):
    """Oracle: counting."""
    when = tables.When("b", values, None)
    got = tables.join(table(b=["x", "y"]), table(c=[1.0, 2.0, 3.0]), when)
    names = got.columns["b"].tolist()
    assert [names.count(name) for name in "xy"] == counts
    assert got.active["c"].tolist() == [name in values for name in names]


def test_what_is_not_active_is_filled():
    """Closed form: NaN, none, or what stands otherwise, with the dtype of the column."""
    some = np.array([True, False])
    half = tables.finished("x", np.float32([1, 2]), some, None)
    assert half.dtype == np.float32
    np.testing.assert_array_equal(half, [1, np.nan])
    assert tables.finished("x", np.array([1, 2]), some, -3).tolist() == [1, -3]
    names = column("here", "x", ["a", "b"])
    assert tables.finished("x", names, some, None).tolist() == ["a", None]
    assert tables.finished("x", names, some, "c").tolist() == ["a", "c"]
