"""Oracles: text laid out by hand; what JSON cannot say."""

import json
import sys

import pytest

from jaxnn.sweep import tabular

COLUMNS = {"x": [1, 22], "loss": [0.123456, float("nan")]}


def test_text():
    """Oracle: by hand."""
    assert tabular.text(COLUMNS, [0, 1], "loss") == (
        "member   x    loss\n     0   1  0.1235  *\n     1  22     nan"
    )
    assert "*" not in tabular.text(COLUMNS, [1, 0], "loss")


def test_json_of_what_it_cannot_say():
    """Oracle: by hand: null for NaN, words for infinities and for values of the caller's own."""
    columns = {"a": [float("nan"), float("inf"), (1, 2.0), len, None, True]}
    rows = json.loads(tabular.as_json(columns), parse_constant=pytest.fail)
    assert [row["a"] for row in rows] == [None, "inf", [1, 2.0], repr(len), None, True]


def test_without_pandas_the_extra_is_named(monkeypatch):
    """L12."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"jaxnn-functional\[tables\]"):
        tabular.frame(COLUMNS)
