"""Sources of rows in files: `.npy` and Parquet, read block by block.

Files are read, not mapped: pages of a mapping that were touched count as memory of the process.
Shapes: n rows, d features.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnn.scale.sources import Source, no_rows
from jaxnn.train.data import Batch

Name = str | os.PathLike[str]

ALIGNED = 64  # bytes


class _File(NamedTuple):
    """Where the numbers of a `.npy` file are."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Returns rows [start, stop), read into memory of their own."""
        stop = min(stop, self.shape[0])
        width = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=int))
        # Where JAX's CPU backend takes it without a copy.
        raw = np.empty((stop - start) * width + ALIGNED, np.uint8)
        begin = -raw.ctypes.data % ALIGNED
        raw = raw[begin : begin + (stop - start) * width]
        block = raw.view(self.dtype).reshape(stop - start, *self.shape[1:])
        view = memoryview(raw)  # pyright: ignore[reportArgumentType]
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offset + start * width)
            done = 0
            while done < len(view):
                got = file.readinto(view[done:])
                if not got:
                    raise ValueError(
                        f"scale.npy: {self.path} must hold {self.shape[0]} rows, "
                        f"got its end in row {start + done // width}: it has become shorter"
                    )
                done += got
        return block.astype(self.dtype.newbyteorder("="), copy=False)


def _header(where: str, name: str, given: Any) -> _File:
    """Returns the checked header of a `.npy` file, or of the file that a memory map is of."""
    if isinstance(given, np.memmap):
        if given.filename is None or type(given.base).__name__ != "mmap":
            raise TypeError(
                f"{where}: {name} must be a whole memory map as np.load(path, mmap_mode='r') "
                f"returns, got a part of one; give its path"
            )
        given = given.filename
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"{where}: {name} must be the path of a .npy file, got "
                        f"{type(given).__name__}; arrays in memory need no source")  # fmt: skip
    path = Path(given)
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = {1: np.lib.format.read_array_header_1_0}.get(
                version[0], np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read(file)
            offset = file.tell()
        size = path.stat().st_size
    except OSError as error:
        raise ValueError(
            f"{where}: {name} must be a .npy file that can be read, got {path} ({error.strerror})"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{where}: {name} must be a .npy file, got {path} ({str(error).splitlines()[0]})"
        ) from None
    if dtype.hasobject:
        raise TypeError(f"{where}: {name} must hold numbers, got dtype {dtype} in {path}")
    if len(shape) == 0 or (fortran and len(shape) > 1):
        raise ValueError(
            f"{where}: {name} must hold rows, one after another, got shape {shape}"
            f"{' stored column by column' if fortran else ''} in {path}; "
            "np.save(path, np.ascontiguousarray(x)) stores rows"
        )
    expected = offset + int(np.prod(shape, dtype=int)) * dtype.itemsize
    if size < expected:
        raise ValueError(
            f"{where}: {name} must be complete, got {size} bytes in {path}, whose header tells of "
            f"{expected}; it was cut off"
        )
    return _File(path, offset, shape, dtype)


def npy(x: Name | np.memmap, y: Name | None = None, weight: Name | None = None) -> Source:
    """Returns the rows of a `.npy` file of shape (n, ...), read anew in each pass.

    Args:
        x: path of the rows, or a memory map of them.
        y: path of the targets, shape (n, ...), if there are any.
        weight: path of the weights, shape (n,), if there are any.

    Raises:
        TypeError, ValueError: a file that cannot be read, is none, is cut off, holds no numbers, is
            stored column by column, or has another number of rows than `x`.
    """
    where = "scale.npy"
    given = {"x": x, "y": y, "weight": weight}
    files = {name: _header(where, name, f) for name, f in given.items() if f is not None}
    n = files["x"].shape[0]
    for name, file in files.items():
        if file.shape[0] != n:
            raise ValueError(f"{where}: {name} must have the {n} rows of x, got {file.shape[0]}")

    def read(size: int, _: int) -> Iterator[Batch]:
        for start in range(0, n, size):
            yield _batch({name: f.rows(start, start + size) for name, f in files.items()})

    none = lambda f: np.empty((0, *f.shape[1:]), f.dtype.newbyteorder("="))
    like = _batch({name: none(file) for name, file in files.items()})
    return Source(read=read, like=like, rows=n, name=str(files["x"].path))


def _batch(arrays: dict[str, Any]) -> Batch:
    return Batch(**arrays)


def parquet(
    path: Name | Sequence[Name],
    *,
    x: Sequence[str],
    y: str | Sequence[str] | None = None,
    weight: str | None = None,
    dtype: Any = None,
) -> Source:
    """Returns rows of Parquet files, by columns (needs pyarrow).

    Args:
        path: one file, or several that follow one another.
        x: names of the columns that are the features, in this order.
        y: name of the column of targets (n,), or names of several (n, c).
        weight: name of the column of weights.
        dtype: of features and weights; by default that of the features in the files.

    Raises:
        ImportError: pyarrow is missing.
        TypeError, ValueError: a file that cannot be read; a column that is missing or holds no
            numbers; features of several dtypes, where none is asked for.  What is null becomes
            NaN, which later steps refuse.
    """
    where = "scale.parquet"
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ImportError(
            f"{where}: needs pyarrow; pip install 'jaxnn-functional[scale]'"
        ) from None
    paths = [Path(path)] if isinstance(path, str | os.PathLike) else [Path(p) for p in path]
    if isinstance(x, str) or len(x) == 0:
        raise TypeError(f"{where}: x must be a list of names of columns, got {x!r}")
    if len(paths) == 0:
        raise ValueError(f"{where}: path must name at least one file, got none")
    fields = {"x": list(x), "y": y if isinstance(y, str) or y is None else list(y),
              "weight": weight}  # fmt: skip
    fields = {name: columns for name, columns in fields.items() if columns is not None}
    flat = [
        c
        for columns in fields.values()
        for c in ([columns] if isinstance(columns, str) else columns)
    ]
    rows = 0
    for file in paths:
        try:
            found = pq.ParquetFile(file)
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(
                f"{where}: path must name Parquet files that can be read, got {file} "
                f"({str(error).splitlines()[0]})"
            ) from None
        known = found.schema_arrow.names
        missing = [c for c in flat if c not in known]
        if missing:
            raise ValueError(f"{where}: {file} must have a column {missing[0]!r}, got "
                             f"{', '.join(known)}")  # fmt: skip
        kinds = {str(found.schema_arrow.field(c).type) for c in fields["x"]}
        if len(kinds) > 1 and dtype is None:
            raise TypeError(f"{where}: the columns of x must have one dtype, got "
                            f"{', '.join(sorted(kinds))}; give dtype")  # fmt: skip
        rows += found.metadata.num_rows
        found.close()

    def field(name: str, record: Any) -> np.ndarray:
        columns = fields[name]
        one = isinstance(columns, str)
        parts = [
            record.column(c).to_numpy(zero_copy_only=False) for c in ([columns] if one else columns)
        ]
        array = parts[0] if one else np.stack(parts, axis=1)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{where}: column {columns} must hold numbers, got {array.dtype}")
        return array if dtype is None or name == "y" else array.astype(dtype)

    def blocks(size: int) -> Iterator[Batch]:
        for file in paths:
            with pq.ParquetFile(file) as opened:
                for record in opened.iter_batches(batch_size=size, columns=flat):
                    yield _batch({name: field(name, record) for name in fields})

    with pq.ParquetFile(paths[0]) as opened:
        empty = opened.schema_arrow.empty_table().combine_chunks()
        like = no_rows(_batch({name: field(name, empty) for name in fields}))
    return Source(read=lambda size, _: blocks(size), like=like, rows=rows, name=str(paths[0]))
