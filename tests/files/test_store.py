"""Saved models: the same bits back, whole files or none, and 20,000 damaged ones refused.

Cases have the names of the catalogue of bad inputs.  Oracle of the format: the safetensors library.
"""

import contextlib
import errno
import json
import os
import random
import re
import stat
import threading
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import jaxnn
from jaxnn import files, gmm, mlp
from jaxnn.files import store

X = np.random.default_rng(0).normal(size=(40, 2))
MIX = gmm.init(jax.random.key(0), jnp.asarray(X), 3)
NET = mlp.init(jax.random.key(1), (2, 3, 1), dtype=jnp.bfloat16)
MODEL = {"mixture": MIX, "net": NET, "count": jnp.arange(3, dtype=jnp.int32)}
ABOUT = {"activation": "tanh", "seed": 3}


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    equal = all(p.dtype == q.dtype and p.tobytes() == q.tobytes() for p, q in pairs)
    return jax.tree.structure(a) == jax.tree.structure(b) and equal


@pytest.fixture
def path(tmp_path):
    target = tmp_path / "model.safetensors"
    jaxnn.save(target, MODEL, ABOUT)
    return target


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    target = tmp_path_factory.mktemp("good") / "model.safetensors"
    jaxnn.save(target, MODEL, ABOUT)
    return target.read_bytes()


def test_the_same_bits_come_back(path):
    assert same(jaxnn.load(path), MODEL)
    saved = files.read(str(path))
    assert saved.about == ABOUT
    assert same(saved.model, MODEL)
    assert gmm.log_prob(saved.model["mixture"], X).shape == (40,)


def test_any_reader_of_safetensors_reads_the_arrays(path):
    found = safetensors.numpy.load(path.read_bytes().replace(b'"BF16"', b'"U16" '))
    np.testing.assert_array_equal(found["['mixture'].means"], MIX.means)
    with safetensors.safe_open(path, "numpy") as opened:
        assert json.loads(opened.metadata()["jaxnn.about"]) == ABOUT


def test_an_older_file_is_replaced_at_once(path):
    path.chmod(0o640)
    jaxnn.save(path, MIX)
    assert same(jaxnn.load(path), MIX)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    fresh = path.with_name("fresh")
    jaxnn.save(fresh, MIX)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o666 & ~mask


# Faults while writing: the older file stays, and nothing else.


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_older_file(path, monkeypatch, step):
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.os, step, full)
    with pytest.raises(OSError, match="No space left"):
        jaxnn.save(path, MIX)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_ctrl_c_leaves_the_older_file(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(store.os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        jaxnn.save(path, MIX)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_model_that_is_none_writes_nothing(path):
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"jaxnn.save: model.means must be finite"):
        jaxnn.save(path, MIX._replace(means=MIX.means * jnp.nan))
    with pytest.raises(TypeError, match=r"jaxnn.save: about must be a dict that JSON takes"):
        jaxnn.save(path, MIX, {"x": jnp.ones(2)})
    with pytest.raises(TypeError, match=r"jaxnn.save: about"):
        jaxnn.save(path, MIX, {"x": float("nan")})
    assert path.read_bytes() == before


def test_k45_two_writers_leave_one_whole_file(path):
    models = [MIX, MODEL]
    threads = [
        threading.Thread(target=lambda m=m: [jaxnn.save(path, m) for _ in range(20)])
        for m in models
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = jaxnn.load(path)
        assert any(same(found, m) for m in models)
    assert len(list(path.parent.iterdir())) == 1


# Files that are not there, or not files.


def test_paths_that_are_no_files(path, tmp_path):
    with pytest.raises(FileNotFoundError):  # K1
        jaxnn.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):  # K2
        jaxnn.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):
        jaxnn.save(tmp_path / "no" / "model", MIX)
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):  # K3
        jaxnn.save(path / "model", MIX)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_k4_no_permission(path):
    path.chmod(0)
    with pytest.raises(PermissionError):
        jaxnn.load(path)
    path.parent.chmod(0o500)
    with pytest.raises(PermissionError):
        jaxnn.save(path, MIX)
    path.parent.chmod(0o700)


# Files that say something else.


def edited(good, change, rehash=False):
    """The bytes of a file with another header, and with a hash that fits it if asked for."""
    length = int.from_bytes(good[:8], "little")
    header, body = json.loads(good[8 : 8 + length]), good[8 + length :]
    body = change(header, body) or body
    if rehash:
        metadata, entries = header["__metadata__"], {}
        for name, entry in header.items():
            if name != "__metadata__":
                a, b = entry["data_offsets"]
                kind = str(np.dtype(store.DTYPES[entry["dtype"]]))
                entries[name] = (kind, tuple(entry["shape"]), [body[a:b]])
        metadata["jaxnn.sha256"] = store._hash(metadata, entries)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def meta(**new):
    words = {f"jaxnn.{key}": value for key, value in new.items()}
    return lambda header, body: header["__metadata__"].update(words)


def without(key):
    return lambda header, body: header["__metadata__"].pop(key) and None


def restructured(change):
    def edit(header, body):
        structure = json.loads(header["__metadata__"]["jaxnn.structure"])
        change(structure["dict"])
        header["__metadata__"]["jaxnn.structure"] = json.dumps(structure)

    return edit


MEANS = "['mixture'].means"


def entry(**new):
    return lambda header, body: header[MEANS].update(new)


def renamed(header, body):
    header["['mixture'].mean"] = header.pop(MEANS)


def numbers(name, value):
    def edit(header, body):
        a, b = header[name]["data_offsets"]
        return body[:a] + np.full((b - a) // 8, value).tobytes() + body[b:]

    return edit


SAYS = {
    "K23 overflow": (entry(shape=[2**40, 2**40]), "does not describe array"),
    "K16 rows": (entry(shape=[10**12, 2]), "does not describe array"),
    "K19 negative": (entry(shape=[-3, -2]), "does not describe array"),
    "K22 dtype": (entry(dtype="F8_E4M3"), "does not describe array"),
    "K25 overlap": (entry(data_offsets=[0, 48]), "overlap, or leave a gap"),
    "K25 negative": (entry(data_offsets=[-48, 0]), "does not describe array"),
    "no offsets": (entry(data_offsets=[0]), "does not describe array"),
    "K26 missing": (restructured(lambda d: d.pop("count")), "not those of the structure"),
    "K27 extra": (restructured(lambda d: d.update(more="array")), "not those of the structure"),
    "K28 renamed": (renamed, "not those of the structure"),
    "K29 shape": (entry(shape=[2, 3]), "must have shape"),
    "K30 dtype": (entry(dtype="I64"), "model['mixture'] must be of one floating-point dtype"),
    "K31 nan": (numbers(MEANS, np.nan), "model['mixture'].means must be finite"),
    "K32 covariance": (numbers("['mixture'].cov.scale_tril", -1.0), "must be lower triangular"),
    "K33 simplex": (numbers("['mixture'].log_weights", 0.0), "must be logs of weights"),
    "K34 newer": (meta(schema="2"), "schema '2' is not the 1 of this version"),
    "K35 no version": (without("jaxnn.schema"), "not a model of jaxnn"),
    "K36 kind": (restructured(lambda d: d["mixture"].update(kind="x")), "unknown kind of model"),
    "K37 no JSON": (meta(structure="{"), "the structure is no JSON"),
    "K37 deep": (meta(structure='{"tuple":[' * 5000), "the structure is no JSON"),
    "K37 nested": (meta(structure='{"tuple":[' * 99 + "]}" * 99), "is not understood"),
    "no hash": (without("jaxnn.sha256"), "the metadata must be"),
    "other metadata": (meta(more="1"), "the metadata must be"),
    "numbers in it": (meta(about=3), "the metadata must be"),
    "about": (meta(about='{"a":1,"a":2}'), "the about is no JSON"),
}


@pytest.mark.parametrize("name", SAYS)
def test_a_header_that_says_something_else(name, good, tmp_path):
    """The hash fits each: what is refused is what the file says."""
    change, message = SAYS[name]
    try:
        data = edited(good, change, rehash=name != "no hash")
    except (KeyError, ValueError, TypeError):  # too broken for a hash
        data = edited(good, change)
    bad = tmp_path / "bad"
    bad.write_bytes(data)
    with pytest.raises(files.FileError, match=re.escape(message)) as caught:
        jaxnn.load(bad)
    assert "\n" not in str(caught.value)
    assert str(bad) in str(caught.value)


def test_edits_without_a_hash_are_damage(good, tmp_path):
    bad = tmp_path / "bad"
    for change in (numbers(MEANS, 1.0), meta(about="{}")):
        bad.write_bytes(edited(good, change))
        with pytest.raises(files.FileError, match="its SHA-256 does not fit"):
            jaxnn.load(bad)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no safetensors file, or cut off"),  # K5
        (b"\x80\x04K\x01.", "no safetensors file, or cut off"),  # K12
        ((2**62).to_bytes(8, "little") + b"{}", "no safetensors file, or cut off"),  # K24
        (b"PK\x03\x04" + bytes(400), "no safetensors file, or cut off"),  # K10
        ((2).to_bytes(8, "little") + b"[]", "the header must be a JSON object"),
        ((2).to_bytes(8, "little") + b"{}", "not a model of jaxnn"),
        ((7).to_bytes(8, "little") + b'{"a":1}', "not a model of jaxnn"),
        ((15).to_bytes(8, "little") + b'{"a":1,"a":[1]}', "the header is no JSON"),
        ((4000).to_bytes(8, "little") + b"[" * 4000, "the header is no JSON"),
    ],
    ids=lambda value: None,
)
def test_other_files(data, message, tmp_path):
    bad = tmp_path / "bad"
    bad.write_bytes(data)
    with pytest.raises(files.FileError, match=message):
        jaxnn.load(bad)


def test_float64_needs_x64(path):
    with jax.enable_x64(False), pytest.raises(files.FileError, match="turn on jax_enable_x64"):
        jaxnn.load(path)


def mutations(good, count):
    """Cut off, a flipped bit (K7), four other bytes (K8), bytes added (K9), moved, header edits."""
    chance = random.Random(0)
    length = int.from_bytes(good[:8], "little")
    for number in range(count):
        data = bytearray(good)
        match number % 6:
            case 0:
                del data[number // 6 % len(good) :]  # K6: in time, at every byte
            case 1:
                data[number // 6 % len(good)] ^= 1 << chance.randrange(8)
            case 2:
                place = chance.randrange(len(good) - 4)
                data[place : place + 4] = chance.randbytes(4)
            case 3:
                data += chance.randbytes(chance.randrange(1, 50))
            case 4:
                a, b = sorted(chance.randrange(8, 8 + length) for _ in range(2))
                data[a:b] = data[a:b][::-1]
            case 5:
                place = chance.randrange(8, 8 + length)
                data[place] = ord(chance.choice('0123456789[]{}",:FUIB'))
        yield bytes(data)


@pytest.mark.usefixtures("unchecked_types")  # users have none, and they take time
def test_twenty_thousand_damaged_files(good, tmp_path):
    """The right model or one typed error: never a wrong model, a crash, or much memory."""
    bad = tmp_path / "bad"
    wrong, right = [], 0
    for data in mutations(good, 20_000):
        bad.write_bytes(data)
        try:
            found = files.read(bad)
        except files.FileError:
            continue
        right += 1
        if not (same(found.model, MODEL) and found.about == ABOUT):
            wrong.append(data)
    assert wrong == []
    assert right < 2_000  # a byte set to what it was, or a space in the header's end


def test_damaged_files_take_little_memory(good, tmp_path):
    """Whatever sizes they claim: at most what Python, JAX and the type checks need."""
    bad = tmp_path / "bad"
    tracemalloc.start()
    for data in mutations(good, 600):
        bad.write_bytes(data)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        with contextlib.suppress(files.FileError):
            files.read(bad)
        assert tracemalloc.get_traced_memory()[1] - before < 1_000_000
    tracemalloc.stop()


def test_loading_takes_at_most_twice_the_size(tmp_path):
    """Peak of what Python and NumPy hold while 20 MB are read; JAX's own copy is the model."""
    target = tmp_path / "large"
    jaxnn.save(target, jnp.zeros((2_500_000,)))
    tracemalloc.start()
    jaxnn.load(target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * Path(target).stat().st_size
