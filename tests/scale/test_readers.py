"""Oracle: what was written; and every way a file can be none."""

import importlib
import sys

import jax
import numpy as np
import pytest
from refusals import refused

from jaxnn import scale, train

X = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
Y = np.arange(11)
W = np.linspace(0.5, 1.5, 11).astype(np.float32)


def whole(found, size=4):
    blocks = list(found.read(size, 0))
    assert all(len(b.x) <= size for b in blocks)
    return jax.tree.map(lambda *a: np.concatenate(a), *blocks)


@pytest.fixture
def saved(tmp_path):
    for name, array in (("x", X), ("y", Y), ("w", W)):
        np.save(tmp_path / f"{name}.npy", array)
    return tmp_path


def test_npy_files_and_memory_maps(saved):
    found = scale.npy(saved / "x.npy", saved / "y.npy", weight=str(saved / "w.npy"))
    assert found.rows == 11
    read = whole(found)
    jax.tree.map(np.testing.assert_array_equal, read, train.Batch(X, Y, W))
    assert (read.x.dtype, found.like.x.shape) == (np.float32, (0, 3))
    mapped = np.load(saved / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(whole(scale.npy(mapped)).x, X)
    np.save(saved / "big.npy", X.astype(">f4"))
    read = whole(scale.npy(saved / "big.npy"))
    np.testing.assert_array_equal(read.x, X)
    assert read.x.dtype.isnative
    np.save(saved / "none.npy", X[:0])
    assert list(scale.npy(saved / "none.npy").read(4, 0)) == []


@pytest.mark.usefixtures("unchecked_types")
def test_files_that_are_none_are_refused(saved):
    where = "scale.npy"
    x, other = saved / "x.npy", saved / "other.npy"
    cases = [
        (lambda: scale.npy(saved / "nothing.npy"), ValueError, "can be read.*No such file"),
        (lambda: scale.npy(X), TypeError, "path of a .npy file, got ndarray; arrays in memory"),
        (lambda: scale.npy(np.load(x, mmap_mode="r")[2:]), TypeError, "a whole memory map"),
    ]
    for call, error, message in cases:
        refused(call, error, message, where)
    other.write_bytes(b"hello")
    refused(lambda: scale.npy(other), ValueError, "must be a .npy file, got", where)
    other.write_bytes(x.read_bytes()[:-5])
    refused(lambda: scale.npy(other), ValueError, "must be complete.*it was cut off", where)
    np.save(other, np.asfortranarray(X))
    refused(lambda: scale.npy(other), ValueError, "column by column", where)
    np.save(other, np.array([None]), allow_pickle=True)
    refused(lambda: scale.npy(other), TypeError, "must hold numbers, got dtype object", where)
    np.save(other, X[:4])
    refused(lambda: scale.npy(x, y=other), ValueError, "y must have the 11 rows of x, got 4", where)


def test_a_file_that_shrinks_meanwhile_is_told(saved):
    found = scale.npy(saved / "x.npy")
    (saved / "x.npy").write_bytes((saved / "x.npy").read_bytes()[:-13])
    refused(lambda: whole(found), ValueError, "end in row 9: it has become shorter", "scale.npy")


@pytest.fixture
def tables(tmp_path):
    pa, pq = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    data = {"a": X[:, 0], "b": X[:, 1], "t": Y, "w": W, "s": list("abcdefghijk"),
            "d": X[:, 2].astype(float)}  # fmt: skip
    for name, part in (("one", slice(0, 7)), ("two", slice(7, 11))):
        table = pa.table({key: value[part] for key, value in data.items()})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=3)
    return [tmp_path / "one.parquet", tmp_path / "two.parquet"]


def test_parquet_files_by_columns(tables):
    found = scale.parquet(tables, x=["b", "a"], y="t", weight="w")
    assert found.rows == 11
    read = whole(found)
    jax.tree.map(np.testing.assert_array_equal, read, train.Batch(X[:, 1::-1], Y, W))
    assert read.x.dtype == found.like.x.dtype == np.float32
    wide = whole(scale.parquet(tables[0], x=["a", "d"], y=["t", "t"], dtype=np.float64))
    np.testing.assert_array_equal(wide.x, X[:7, ::2].astype(float))
    assert (wide.y.shape, wide.y.dtype) == ((7, 2), Y.dtype)


@pytest.mark.usefixtures("unchecked_types")
def test_parquet_that_does_not_fit_is_refused(tables, tmp_path, monkeypatch):
    where = "scale.parquet"
    cases = [
        (lambda: scale.parquet(tables, x=["a", "d"]), TypeError, "double, float; give dtype"),
        (lambda: scale.parquet(tables, x="a"), TypeError, "list of names of columns, got 'a'"),
        (lambda: scale.parquet(tables, x=["q"]), ValueError, "a column 'q', got a, b, t"),
        (lambda: scale.parquet(tables, x=["s"]), TypeError, "must hold numbers, got object"),
        (lambda: scale.parquet([], x=["a"]), ValueError, "at least one file, got none"),
        (lambda: scale.parquet(tmp_path / "no", x=["a"]), ValueError, "can be read, got .*no"),
    ]
    for call, error, message in cases:
        refused(call, error, message, where)
    (tmp_path / "bad").write_bytes(b"PAR1" * 4)
    refused(lambda: scale.parquet(tmp_path / "bad", x=["a"]), ValueError, "can be read", where)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(lambda: scale.parquet(tables, x=["a"]), ImportError, r"functional\[scale\]", where)
    assert importlib.import_module("jaxnn.scale") is scale  # which does not need it
