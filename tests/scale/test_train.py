"""Oracles: `train.fit` and `train.fit_stream` on the same rows in memory.

That devices and processes change nothing is in `test_meshes`.
"""

import os
import signal

import jax
import numpy as np
import pytest
from refusals import refused
from training import CLASSES, DESCEND, KEY, NET, compiled, equal

from jaxnn import scale, train
from jaxnn.scale import chunks

BATCH = train.Batch(np.ones((5, 2), np.float32), np.arange(5))
HOST = jax.tree.map(np.asarray, CLASSES._replace(weight=np.linspace(0.5, 1.5, 10)))
SETTINGS = {"epochs": 2, "batch_size": 4, "learning_rate": 0.05}


def in_npy(folder):
    """The same rows, in `.npy` files."""
    paths = [folder / f"{name}.npy" for name in HOST._fields]
    for path, array in zip(paths, HOST, strict=True):
        np.save(path, array)
    return scale.npy(*paths)


def in_parquet(folder):
    """The same rows, in a table whose targets are a column of it."""
    pa, pq = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    columns = {f"x{j}": HOST.x[:, j] for j in range(3)}
    pq.write_table(pa.table(columns | {"y": HOST.y, "w": HOST.weight}), folder / "rows.parquet")
    return scale.parquet(folder / "rows.parquet", x=list(columns), y="y", weight="w")


@pytest.mark.parametrize("made", [in_npy, in_parquet])
def test_training_from_files_is_training_in_memory(made, tmp_path):
    """Bit for bit, with dropout: one chunk is `fit`, several are the same chunks in memory."""
    rows = made(tmp_path)
    equal(
        scale.train.fit(KEY, NET, rows, DESCEND, **SETTINGS),
        train.fit(KEY, NET, HOST, DESCEND, **SETTINGS),
    )
    parts = [jax.tree.map(lambda a, i=i: a[i : i + 4], HOST) for i in range(0, 10, 4)]
    equal(
        scale.train.fit(KEY, NET, rows, DESCEND, chunk=4, **SETTINGS),
        train.fit_stream(KEY, NET, Again(parts), DESCEND, **SETTINGS),
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_that_is_broken_off_ends_with_the_same_bits(tmp_path, number):
    """Oracle: the run that is not; shuffled rows, broken off in the middle of the second epoch."""
    origin = scale.shuffled(KEY, scale.arrays(HOST), buffer=10)
    read = []

    def watched(turn, size, until=None):
        for block in origin.read(size, turn):
            read.append(turn)
            if until is not None and read == [*until]:
                os.kill(os.getpid(), number)
            yield block

    fit = lambda rows, key=KEY, **more: scale.train.fit(
        key, NET, rows, DESCEND, chunk=4, **SETTINGS | more
    )
    whole = fit(origin)
    saving = scale.Saving(tmp_path, every=100)
    broken = origin._replace(read=lambda size, turn: watched(turn, size, (0, 0, 0, 1)))
    with pytest.raises((scale.Preempted, KeyboardInterrupt), match="resume=True goes on from"):
        fit(broken, saving=saving)
    read.clear()
    saving = saving._replace(resume=True)
    others = {
        "key was": {"key": jax.random.key(1)},
        "batch_size was 4 and is 5 now": {"batch_size": 5},
        "rows was 10 and is null now": {"rows": origin._replace(rows=None)},
        "data was": {"rows": scale.arrays(HOST._replace(y=1 - HOST.y))},
        "first . chunks of its pass are others": {
            "rows": origin._replace(read=lambda size, turn: origin.read(size, turn and turn + 1))
        },
    }
    for words, other in others.items():
        with pytest.raises(scale.OtherRun, match=words):
            fit(**{"rows": origin} | other, saving=saving)
    equal(fit(origin._replace(read=lambda size, turn: watched(turn, size)), saving=saving), whole)
    assert set(read[2:]) == {1}  # turn 0 is only looked at
    equal(fit(origin, saving=saving), whole)  # it is done


class Again:
    """Parts in their order, each epoch."""

    def __init__(self, parts):
        self.parts = parts

    def __iter__(self):
        return iter(self.parts)


def test_one_program_serves_all_chunks(caplog):
    fit = lambda: scale.train.fit(KEY, NET, scale.arrays(HOST), DESCEND, chunk=3, **SETTINGS)
    assert compiled(caplog, fit, "_pass") == 1


def test_epochs_are_turns_of_the_source_in_chunks_of_whole_batches(monkeypatch):
    """Oracle: what the source is asked for; 8 rows of 3 float64, a target and a weight."""
    asked = []
    origin = scale.arrays(HOST)
    watched = origin._replace(
        read=lambda size, turn: asked.append((size, turn)) or origin.read(size, turn)
    )
    monkeypatch.setattr(chunks, "CHUNK", 3 * 40)
    scale.train.fit(KEY, NET, watched, DESCEND, **SETTINGS)
    assert asked == [(4, 0), (4, 0), (4, 1)]
    fits = scale.train.fit(KEY, NET, watched, DESCEND, **SETTINGS | {"accumulate": 2})
    assert asked[-1] == (8, 1)
    assert int(fits.epochs) == 2


def test_one_device_is_fed_all_rows_in_their_order():
    turn = scale.feed(scale.arrays(BATCH), batch_size=2)
    for _ in range(2):
        batches = list(turn(0))
        assert [b.weight.tolist() for b in batches] == [[1, 1], [1, 1], [1, 0]]
        assert np.concatenate([b.y for b in batches]).tolist() == [0, 1, 2, 3, 4, 4]
        assert batches[0].weight.dtype == np.float32


@pytest.mark.usefixtures("unchecked_types")
def test_what_does_not_fit_is_refused():
    where = "scale.data_parallel"
    refused(lambda: scale.data_parallel(3, scale.mesh()), TypeError, "a function, got int", where)
    refused(lambda: scale.data_parallel(len, 8), TypeError, "mesh must be a Mesh", where)
    refused(lambda: scale.feed(BATCH, batch_size=0), ValueError, "at least 1, got 0", "scale.feed")
    none = train.Batch(BATCH.x[:0])
    refused(lambda: scale.feed(none, batch_size=2), ValueError, "at least one", "scale.feed")
    where = "scale.train.fit"
    fit = lambda rows, **more: scale.train.fit(KEY, NET, rows, DESCEND, epochs=1, **more)
    refused(lambda: fit(none), ValueError, "at least one, got none", where)
    refused(lambda: fit(BATCH, chunk=0), ValueError, "chunk must be at least 1, got 0", where)
    refused(lambda: fit([BATCH]), TypeError, "or a Source .*got list", where)
    refused(lambda: fit(BATCH, batch_size=0), ValueError, "batch_size", "train.fit_stream")


def test_several_processes_are_sent_to_feed(monkeypatch):
    """Planted: what JAX says of them."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    fit = lambda: scale.train.fit(KEY, NET, HOST, DESCEND, epochs=1)
    refused(fit, ValueError, "in one process, got 2; scale.feed", "scale.train.fit")
