"""Checkpoints: exact bits, whole or passed over, and never of another run."""

import errno
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import every_kind as state

from jaxnn.scale.checkpoints import Checkpoints
from jaxnn.scale.leaves import digest

FACTS = {"hparams": {"rate": 0.1}, "data": "abc"}


def same(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and digest(a) == digest(b)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "new" / "folder"
    with Checkpoints(folder, FACTS, keep=2) as kept:
        for step in (1, 2, 3):
            kept.save(step, state(step))
    return folder


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "run")


def test_the_newest_comes_back_bit_by_bit_and_older_ones_go(folder):
    with Checkpoints(folder, FACTS, resume=True) as kept:
        found = kept.restore(state())
    assert found.step == 3
    assert same(found.state, state(3))
    assert not same(found.state, state(2))
    assert jax.random.key_impl(found.state["other"]) == jax.random.key_impl(state()["other"])  # H19
    assert sorted(p.name for p in folder.iterdir() if p.name.isdigit()) == ["2", "3"]


def test_wide_numpy_arrays_come_back_where_jax_has_none(tmp_path, recwarn):
    """What a sweep keeps on the host is float64 and int64, also without x64."""
    wide = {"score": np.array([2 / 3, np.nan]), "turns": np.array([3, 2**40])}
    with jax.enable_x64(False):
        with Checkpoints(tmp_path, FACTS) as kept:
            kept.save(1, wide)
        with Checkpoints(tmp_path, FACTS, resume=True) as kept:
            for like in (wide, jax.tree.structure(wide)):
                found = kept.restore(like)
                assert found is not None
                assert same(found.state, wide)
    assert not recwarn.list


def test_nothing_there_is_none(tmp_path):
    with Checkpoints(tmp_path, FACTS, resume=True) as kept:
        assert kept.restore(state()) is None


def test_a_folder_of_another_run_is_refused(folder):
    with pytest.raises(ValueError, match=r"no checkpoints of a former run, got those of step 2, 3"):
        Checkpoints(folder, FACTS)
    other = FACTS | {"hparams": {"rate": 0.2}}
    refused = lambda words: pytest.raises(ValueError, match=words)
    words = r"hparams was \{\"rate\": 0.1\} and is .*0.2"
    with Checkpoints(folder, other, resume=True) as kept, refused(words):
        kept.restore(state())
    more = FACTS | {"more": 1}
    with Checkpoints(folder, more, resume=True) as kept, refused("more was null and is 1 now"):
        kept.restore(state())
    with Checkpoints(folder, FACTS, resume=True) as kept:  # K40, K41: orbax would cast
        for wrong in ({"step": jnp.zeros(())}, {"single": jnp.zeros(5, jnp.float32)}):
            with pytest.raises(ValueError, match="other shapes or dtypes"):
                kept.restore(state() | wrong)
        assert kept.restore(state()).step == 3


def test_k38_the_state_of_another_optimizer_is_refused(tmp_path):
    """Momentum and RMSProp keep arrays of the same shapes, under other names."""
    params = {"w": jnp.arange(3.0)}
    ours, theirs = (make.init(params) for make in (optax.sgd(1.0, 0.9), optax.rmsprop(1.0)))
    assert jax.tree.map(jnp.shape, jax.tree.leaves(ours)) == [(3,)] * len(jax.tree.leaves(theirs))
    with Checkpoints(tmp_path, FACTS) as kept:
        kept.save(1, ours)
        kept.wait()
        for like in (theirs, jax.tree.structure(theirs)):
            with pytest.raises(ValueError, match=r"is state\[0\]\.trace.* there and .*nu.* now"):
                kept.restore(like)
        assert same(kept.restore(ours).state, ours)


def test_k39_keys_of_another_kind_are_refused(folder):
    path = folder / "3" / "about" / "metadata"
    whole = path.read_text()
    for name in ("unsafe_rbg", "nonsense"):  # the first has keys of the same shape
        path.write_text(whole.replace('"rbg"', f'"{name}"'))
        refused = pytest.raises(ValueError, match=f"must hold random keys .*rbg.* got .*{name}")
        with Checkpoints(folder, FACTS, resume=True) as kept, refused:
            kept.restore(state())


def test_k44_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for link in (folder / "9", folder / "3" / "state" / "more", folder / ".lock"):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ValueError, match=f"no symbolic link .* got {link} to .*elsewhere"):
            Checkpoints(folder, FACTS, resume=True)
        link.unlink()
    (folder / "note").symlink_to(folder / "3")  # this one stays inside
    (tmp_path / "name").symlink_to(folder)  # and the folder itself may be called otherwise
    with Checkpoints(tmp_path / "name", FACTS, resume=True) as kept:
        assert kept.restore(state()).step == 3


def test_j26_what_was_written_on_another_kind_of_device_comes_back(folder):
    """Planted: the file that says on which device each array was names one that is not here."""
    path = folder / "3" / "state" / "_sharding"
    there = path.read_text()
    assert "cpu:0" in there
    path.write_text(there.replace("cpu:0", "cuda:7"))
    with Checkpoints(folder, FACTS, resume=True) as kept:
        for like in (state(), jax.tree.structure(state())):
            found = kept.restore(like)
            assert found.step == 3
            assert same(found.state, state(3))


def test_j31_two_runs_cannot_share_a_folder(folder):
    refused = pytest.raises(ValueError, match="another process is at work in")
    with Checkpoints(folder, FACTS, resume=True), refused:
        Checkpoints(folder, FACTS, resume=True)
    with Checkpoints(folder, FACTS, resume=True):
        pass


def damage(folder, step, how):
    files = [p for p in (folder / str(step)).rglob("*") if p.is_file() and p.stat().st_size > 50]
    for path in files:
        data = path.read_bytes()
        path.write_bytes(how(data))


HOW = {
    "cut": lambda data: data[: len(data) // 2],
    "flipped": lambda data: bytes([data[0], data[1] ^ 1, *data[2:-9], data[-9] ^ 4, *data[-8:]]),
    "emptied": lambda data: b"",
}


@pytest.mark.parametrize("how", HOW)
def test_what_is_damaged_is_passed_over_for_the_one_before(folder, how):
    damage(folder, 3, HOW[how])
    with Checkpoints(folder, FACTS, resume=True) as kept:
        with pytest.warns(UserWarning, match="step 3 .* is damaged and is passed over"):
            found = kept.restore(state())
        assert found.step == 2
        assert same(found.state, state(2))
        kept.save(3, state(5))
    with Checkpoints(folder, FACTS, resume=True) as kept:
        assert same(kept.restore(state()).state, state(5))


def test_all_damaged_is_none(folder):
    for step in (2, 3):
        damage(folder, step, HOW["cut"])
    with (
        Checkpoints(folder, FACTS, resume=True) as kept,
        pytest.warns(UserWarning, match="damaged"),
    ):
        assert kept.restore(state()) is None


def test_numbers_that_changed_on_the_disk_are_seen(folder):
    """What is whole for orbax and not what was written: the digest says so."""
    path = folder / "3" / "about" / "metadata"
    about = json.loads(path.read_text())
    about["digest"] = "0" * 64
    path.write_text(json.dumps(about))
    seen = pytest.warns(UserWarning, match="its SHA-256 does not fit")
    with Checkpoints(folder, FACTS, resume=True) as kept, seen:
        assert kept.restore(state()).step == 2


def test_k43_what_was_not_finished_is_no_checkpoint(folder):
    shutil.copytree(folder / "3", folder / "4.orbax-checkpoint-tmp")
    with Checkpoints(folder, FACTS, resume=True) as kept:
        assert kept.restore(state()).step == 3


def test_a_full_disk_warns_and_the_next_one_tries_again(tmp_path, monkeypatch):
    with Checkpoints(tmp_path, FACTS) as kept:
        kept.save(1, state(1))
        kept.wait()

        def full(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(kept._manager, "save", full)
        with pytest.warns(UserWarning, match=r"step 2 was not written .*step 1: the disk is full"):
            kept.save(2, state(2))
        kept.save(3, state(3))
    with Checkpoints(tmp_path, FACTS, resume=True) as kept:
        assert kept.restore(state()).step == 3


def test_facts_are_json_and_kept_a_number(tmp_path):
    with pytest.raises(TypeError, match="facts must be a dict that JSON takes"):
        Checkpoints(tmp_path, {"x": jnp.ones(2)})
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        Checkpoints(tmp_path, {}, keep=0)
