"""Models in files: safetensors, written whole or not at all, and believed only after checking.

No pickle and no code: a file holds arrays and, in the header's metadata, a schema version, the
structure of the model as JSON, what the user says about it, and the SHA-256 of all that.  Loading
looks at the header first: names, shapes and dtypes must fit the structure and the size of the file
before anything is allocated; then the hash must fit; then the numbers must be a model's.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.files.structure import check, names, put_together, take_apart

SCHEMA = 1
LONGEST_HEADER = 10_000_000  # bytes; one of a thousand layers takes 300,000
BLOCK = 1 << 20
DTYPES = {
    "BOOL": jnp.bool_, "U8": jnp.uint8, "I32": jnp.int32, "U32": jnp.uint32, "I64": jnp.int64,
    "F16": jnp.float16, "BF16": jnp.bfloat16, "F32": jnp.float32, "F64": jnp.float64,
}  # fmt: skip


class FileError(ValueError):
    """What a file holds is not a model that this version can believe."""


class Saved(NamedTuple):
    """A model out of a file, and what was said about it when it was saved."""

    model: Any
    about: dict[str, Any]


class _Entry(NamedTuple):
    dtype: Any
    shape: tuple[int, ...]
    start: int  # in the file
    size: int


def save(path: str | os.PathLike[str], model: Any, about: Mapping[str, Any] | None = None) -> None:
    """Writes a model to a file, which is there whole or not at all.

    Args:
        path: The file; by custom it ends in `.safetensors`.  An older file is replaced at once.
        model: A fitted model (mixture, kernel density, layers, machine, ...) or a batch of them,
            a tuple or dict of models, or arrays.
        about: What else belongs to it, as JSON takes it, such as the activation of a network.

    Raises:
        TypeError: If `model` holds what is no model and no array, or is traced, or `about` is no
            JSON.
        ValueError: If the numbers are no model's: not finite, weights that do not sum to one, ...
        OSError: If the file cannot be written; an older one is then as it was.
    """
    where = "jaxnn.save"
    structure, arrays = take_apart(where, "model", model)
    check(where, "model", model)
    try:
        facts = json.dumps(dict(about or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{where}: about must be a dict that JSON takes ({error})") from None
    metadata = {
        "jaxnn.schema": str(SCHEMA),
        "jaxnn.structure": json.dumps(structure),
        "jaxnn.about": facts,
    }
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata["jaxnn.sha256"] = _hash(
        metadata, {n: (str(a.dtype), a.shape, [a.tobytes()]) for n, a in tensors.items()}
    )
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{where}: the folder {str(target.parent)!r} does not exist")
    _write(target, tensors, metadata)


def _write(target: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    from safetensors.numpy import save as to_bytes  # light, but not needed to import jaxnn

    scratch = target.with_name(f".{target.name}.{os.urandom(6).hex()}")
    try:
        with scratch.open("xb") as file:
            file.write(to_bytes(tensors, metadata))
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name, too, must survive a power cut
    finally:
        os.close(folder)


def _hash(metadata: Mapping[str, str], tensors: Mapping[str, tuple[str, tuple, Any]]) -> str:
    """Returns the SHA-256 of the words and of every array, in the order of their names."""
    total = hashlib.sha256()
    for key in ("jaxnn.schema", "jaxnn.structure", "jaxnn.about"):
        total.update(json.dumps([key, metadata[key]]).encode())
    for name in sorted(tensors):
        dtype, shape, blocks = tensors[name]
        total.update(json.dumps([name, dtype, list(shape)]).encode())
        for block in blocks:
            total.update(block)
    return total.hexdigest()


def load(path: str | os.PathLike[str]) -> Any:
    """Returns the model in a file; see `read`, which also returns what was said about it."""
    return read(path).model


def read(path: str | os.PathLike[str]) -> Saved:
    """Returns a model out of a file, with the very bits that were saved, and what was said of it.

    Raises:
        FileError: If the file is damaged, is no model of jaxnn, is newer than this version, or
            holds numbers that are no model's; or if it holds float64 and x64 is off.
        OSError: If there is no such file, or it cannot be read.
    """
    where = f"jaxnn.load: {os.fspath(path)}"
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header, start = _header(where, file, size)
        metadata = _metadata(where, header.pop("__metadata__", None))
        entries = _entries(where, header, start, size)
        structure = _json(where, "structure", metadata["jaxnn.structure"])
        wanted = _believed(names, where, structure)
        if set(wanted) != set(entries) or len(wanted) != len(entries):
            raise FileError(f"{where}: the arrays are not those of the structure")
        found = {n: (str(np.dtype(e.dtype)), e.shape, _blocks(file, e)) for n, e in entries.items()}
        if _hash(metadata, found) != metadata["jaxnn.sha256"]:
            raise FileError(f"{where}: the file is damaged: its SHA-256 does not fit")
        arrays = {name: _array(where, file, name, entry) for name, entry in entries.items()}
    model = _believed(put_together, where, structure, arrays)
    _believed(check, where, "model", model)
    return Saved(model, _json(where, "about", metadata["jaxnn.about"]))


def _believed(step: Any, *arguments: Any) -> Any:
    try:
        return step(*arguments)
    except (TypeError, ValueError) as error:
        raise FileError(str(error)) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _json(where: str, what: str, text: str | bytes) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{where}: the {what} is no JSON: {str(error)[:80]}") from None


def _header(where: str, file: Any, size: int) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(file.read(8), "little") if size >= 8 else size
    if length > min(size - 8, LONGEST_HEADER):
        raise FileError(f"{where}: no safetensors file, or cut off: its header does not fit in it")
    header = _json(where, "header", file.read(length))
    if not isinstance(header, dict):
        raise FileError(f"{where}: the header must be a JSON object")
    return header, 8 + length


def _metadata(where: str, metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or "jaxnn.schema" not in metadata:
        raise FileError(f"{where}: not a model of jaxnn: the header has no jaxnn.schema")
    schema = metadata["jaxnn.schema"]
    if schema != str(SCHEMA):
        raise FileError(
            f"{where}: schema {schema!r} is not the {SCHEMA} of this version of jaxnn; "
            "a newer version may read it"
        )
    keys = {"jaxnn.schema", "jaxnn.structure", "jaxnn.about", "jaxnn.sha256"}
    if set(metadata) != keys or not all(isinstance(text, str) for text in metadata.values()):
        raise FileError(f"{where}: the metadata must be {', '.join(sorted(keys))}")
    return metadata


def _entries(where: str, header: dict[str, Any], start: int, size: int) -> dict[str, _Entry]:
    """Returns where each array lies; they must fill the file from the header to its end."""
    entries = {}
    for name, entry in header.items():
        match entry:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(a), int(b)]}:
                whole = all(type(n) is int and n >= 0 for n in (*shape, a, b))
                if dtype in DTYPES and whole and len(entry) == 3:
                    kind = DTYPES[dtype]
                    if math.prod(shape) * np.dtype(kind).itemsize == b - a:
                        entries[name] = _Entry(kind, tuple(shape), start + a, b - a)
                        continue
        raise FileError(f"{where}: the header does not describe array {name[:80]!r}")
    end = start
    for entry in sorted(entries.values(), key=lambda e: (e.start, e.size)):
        if entry.start != end:
            raise FileError(f"{where}: arrays overlap, or leave a gap")
        end += entry.size
    if end != size:
        raise FileError(f"{where}: arrays of {end} bytes in a file of {size}: cut off, or added to")
    return entries


def _blocks(file: Any, entry: _Entry) -> Any:
    file.seek(entry.start)
    left = entry.size
    while left:
        block = file.read(min(left, BLOCK))
        if not block:
            return
        left -= len(block)
        yield block


def _array(where: str, file: Any, name: str, entry: _Entry) -> jax.Array:
    if jax.dtypes.canonicalize_dtype(entry.dtype) != entry.dtype:
        raise FileError(f"{where}: {name} is {np.dtype(entry.dtype)}; turn on jax_enable_x64")
    file.seek(entry.start)
    flat = np.frombuffer(file.read(entry.size), dtype=entry.dtype)
    return jnp.asarray(flat.reshape(entry.shape))
