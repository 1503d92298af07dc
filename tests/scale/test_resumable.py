"""Fits that are broken off and gone on with: the same bits as those that were not."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.scale import Preempted, Saving, resumable
from jaxnn.types import Segments

X = jnp.arange(4.0)
KEY = jax.random.key(0)
LAST = 9


def _advance(state, x):
    noise = jax.random.normal(jax.random.fold_in(state["key"], state["n"]), (3,))
    return {**state, "n": state["n"] + 1, "w": 0.9 * state["w"] + noise * jnp.mean(x)}


WALK = Segments(
    init=lambda hp, key, x: {"key": key, "n": jnp.zeros((), jnp.int32), "w": jnp.full(3, hp["a"])},
    advance=_advance,
    score=lambda state: jnp.sum(state["w"]),
    halted=lambda state: state["n"] >= LAST,
    result=lambda state: state["w"],
)


def run(folder, **options):
    given = {"hparams": {"a": 1.0}, "key": KEY, "x": X} | options
    hparams, key, x = (given.pop(name) for name in ("hparams", "key", "x"))
    progress = given.pop("progress", None)
    saving = Saving(folder, **given)
    return resumable.run(WALK, hparams, key, x, saving=saving, progress=progress)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Oracle: the same pieces in a loop of their own, without any of this."""
    state = WALK.init({"a": 1.0}, KEY, X)
    step = jax.jit(_advance)
    for _ in range(LAST):
        state = step(state, X)
    return np.asarray(state["w"]).tobytes()


def at(step, act):
    return lambda now, state: act() if now == step else None


def interrupt(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("every", [1, 4, 100])
@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, Preempted), (signal.SIGINT, KeyboardInterrupt)]
)
def test_signals_are_answered_between_two_pieces(tmp_path, whole, every, number, error):
    with pytest.raises(error, match=r"stopped after piece 4; resume=True goes on from") as caught:
        run(tmp_path, every=every, progress=at(3, interrupt(number)))
    assert error is KeyboardInterrupt or caught.value.code == 75
    seen = []
    result = run(tmp_path, every=every, resume=True, progress=lambda step, _: seen.append(step))
    assert seen == list(range(5, LAST + 1))
    assert np.asarray(result).tobytes() == whole
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_whatever_breaks_it_off_nothing_is_lost_beyond_the_last_checkpoint(tmp_path, whole):
    def fail():
        raise RuntimeError("a fault of the caller's")

    with pytest.raises(RuntimeError, match="a fault"):
        run(tmp_path, every=2, progress=at(5, fail))
    seen = []
    result = run(tmp_path, every=2, resume=True, progress=lambda step, _: seen.append(step))
    assert seen[0] == 5
    assert np.asarray(result).tobytes() == whole


def test_a_second_ctrl_c_breaks_off_at_once(tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=at(3, twice))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_resume_begins_where_there_is_nothing_and_returns_at_once_what_is_done(tmp_path, whole):
    assert np.asarray(run(tmp_path, resume=True)).tobytes() == whole  # J24
    seen = []
    again = run(tmp_path, resume=True, progress=lambda step, _: seen.append(step))
    assert np.asarray(again).tobytes() == whole
    assert seen == []


OTHER = {
    "hparams": {"hparams": {"a": 2.0}},
    "key": {"key": jax.random.key(1)},
    "key impl": {"key": jax.random.key(0, impl="rbg")},
    "data": {"x": X + 1},
    "config": {"config": {"width": 3}},
}


@pytest.mark.parametrize("name", OTHER)
def test_l21_a_resume_with_something_else_is_refused(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp() / "done"
    if not folder.exists():
        run(folder)
    with pytest.raises(ValueError, match=rf"{name.split()[0]} was .* and is .* now"):
        run(folder, resume=True, **OTHER[name])


def test_other_random_numbers_are_another_run(tmp_path):
    run(tmp_path)
    words = "jax_threefry_partitionable was true and is false"
    with jax.threefry_partitionable(False), pytest.raises(ValueError, match=words):
        run(tmp_path, resume=True)


@pytest.mark.usefixtures("unchecked_types")
def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        run(tmp_path, every=0)
    with pytest.raises(TypeError, match="key must be a PRNG key"):
        run(tmp_path, key=3)
    with pytest.raises(TypeError, match="saving must be a Saving, got str"):
        resumable.run(WALK, {}, KEY, saving="here")
    with pytest.raises(TypeError, match="protocol must be a Segments, got function"):
        resumable.run(lambda: 0, {}, KEY, saving=Saving(tmp_path))
