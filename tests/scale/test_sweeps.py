"""Sweeps that are broken off and gone on with: the bits of those that were not.

Oracle: `sweep.run` and `sweep.halving` without checkpoints.
"""

import os
import signal
import warnings
from functools import partial

import jax
import numpy as np
import pytest
from toys import TOY, members

from jaxnn import scale, sweep
from jaxnn.scale import Preempted, Saving
from jaxnn.scale.leaves import digest

KEY = jax.random.key(0)
# Member 2 becomes NaN at its third piece, member 0 halts at the second.
HPARAMS = members(6, stop=[2, 7, 7, 7, 7, 7], nan_at=[0, 0, 3, 0, 0, 0])
SCALE = np.float64(0.9)
RUNS = {
    "run": sweep.run,
    "halving": partial(sweep.halving, most=9),
    "chunks": partial(sweep.run, chunk=1),
}
FITS = dict.fromkeys(RUNS, TOY) | {"chunks": lambda hp, key, scale: hp["stop"] * scale}


@pytest.fixture(scope="module")
def whole():
    return {name: run(FITS[name], HPARAMS, KEY, SCALE) for name, run in RUNS.items()}


def go(folder, name, progress=None, hparams=HPARAMS, **options):
    saving = Saving(folder, **options)
    return scale.sweep(
        FITS[name], hparams, KEY, SCALE, saving=saving, run=RUNS[name], progress=progress
    )  # fmt: skip


def at(turn, number):
    """Sends itself a signal at the report after so many rounds."""
    turns = []

    def progress(report):
        turns.append(report)
        if len(turns) == turn:
            os.kill(os.getpid(), number)

    return progress


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, Preempted), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_saves_and_the_same_call_ends_with_the_same_bits(
    tmp_path, whole, name, number, error
):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "sweep.*: interrupted")
        with pytest.raises(error, match="resume=True goes on from"):
            go(tmp_path, name, at(3, number), every=100)
    turns = []
    found = go(tmp_path, name, turns.append, resume=True)
    assert digest(found) == digest(whole[name])
    everything = []
    RUNS[name](FITS[name], HPARAMS, KEY, SCALE, progress=everything.append)
    assert 0 < len(turns) < len(everything)  # it did not begin anew


def test_a_member_that_diverges_is_flagged_and_harms_nobody(tmp_path, whole):
    """Through checkpoints, a break and a resume; the others are as in a sweep without it."""
    with pytest.raises(Preempted):
        go(tmp_path, "run", at(5, signal.SIGTERM))
    found = go(tmp_path, "run", resume=True)
    assert found.failed.tolist() == [i == 2 for i in range(6)]
    assert np.isnan(found.scores[2])
    healthy = members(6, stop=[2, 7, 7, 7, 7, 7])
    others = sweep.run(TOY, healthy, KEY, SCALE)
    keep = np.array([0, 1, 3, 4, 5])
    for name, values in others.results.items():
        np.testing.assert_array_equal(found.results[name][keep], values[keep])


def test_whatever_breaks_it_off_the_last_checkpoint_is_kept(tmp_path, whole):
    def fail(report):
        if len(turns) == 4:
            raise RuntimeError("a fault of the caller's")
        turns.append(report)

    turns = []
    with pytest.raises(RuntimeError, match="a fault"):
        go(tmp_path, "run", fail, every=2)
    assert digest(go(tmp_path, "run", resume=True)) == digest(whole["run"])
    assert digest(go(tmp_path, "run", resume=True)) == digest(whole["run"])  # it is done


def test_l21_another_sweep_is_refused(tmp_path):
    go(tmp_path, "run")
    with pytest.raises(ValueError, match=r"hparams was .* and is .* now"):
        go(tmp_path, "run", resume=True, hparams=HPARAMS | {"stop": HPARAMS["stop"] + 1})
    with pytest.raises(ValueError, match="config was null and is 3 now"):
        go(tmp_path, "run", resume=True, config=3)
    with pytest.raises(ValueError, match="must belong to a sweep of"):
        go(tmp_path, "halving", resume=True)
    with pytest.raises(ValueError, match="must hold no checkpoints of a former run"):
        go(tmp_path, "run")


@pytest.mark.usefixtures("unchecked_types")
def test_bad_arguments(tmp_path):
    with pytest.raises(TypeError, match="fit_one must be a Segments, got int"):
        scale.sweep(3, HPARAMS, KEY, saving=Saving(tmp_path))
    with pytest.raises(TypeError, match="saving must be a Saving, got str"):
        scale.sweep(TOY, HPARAMS, KEY, SCALE, saving="here")
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        go(tmp_path, "run", every=0)
