"""What process 0 does is told to all; with many processes: `test_supervisor`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.scale import one_writer
from jaxnn.scale.checkpoints import Checkpoints
from jaxnn.scale.leaves import digest
from jaxnn.scale.one_writer import OneWriter, checkpoints, told

STATE = {
    "w": np.array([-0.0, np.nan, 1.5], np.float32), "half": jnp.ones(3, jnp.bfloat16),
    "key": jax.random.key(3), "none": np.zeros((2, 0)), "flag": np.array(True),
}  # fmt: skip


def test_bytes_and_errors_are_those_of_process_0():
    assert told(lambda: b"\x00\xff\x80") == b"\x00\xff\x80"
    assert told(lambda: b"") == b""

    def refuse():
        raise ValueError("other facts")

    with pytest.raises(ValueError, match="other facts"):
        told(refuse)


def test_bits_come_back_the_sign_of_zero_and_keys_included(tmp_path):
    with OneWriter(tmp_path, {"a": 1}, resume=False, keep=2) as kept:
        assert kept.restore(STATE) is None
        kept.save(4, STATE)
        kept.wait()
        found = kept.restore(STATE)
    assert found.step == kept.saved == 4
    assert digest(found.state) == digest(STATE)
    with Checkpoints(tmp_path, {"a": 1}, resume=True) as kept:  # one process can go on with it
        assert digest(kept.restore(STATE).state) == digest(STATE)
    with pytest.raises(ValueError, match="must hold no checkpoints of a former run"):
        OneWriter(tmp_path, {"a": 1}, resume=False, keep=2)


def test_one_process_has_plain_checkpoints(tmp_path, monkeypatch):
    with checkpoints(tmp_path, {}, resume=False, keep=1) as kept:
        assert isinstance(kept, Checkpoints)
    monkeypatch.setattr(one_writer.jax, "process_count", lambda: 2)
    monkeypatch.setattr(one_writer, "OneWriter", lambda *_, **__: "many")
    assert checkpoints(tmp_path, {}, resume=False, keep=1) == "many"
