"""Real processes and real signals: nothing is lost beyond the last checkpoint, and nothing hangs.

Oracle: the bits of a run that nobody disturbed.  What happens to a job is in `job.py`.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
JOB = Path(__file__).parent / "job.py"
PIECES = 14
PATIENCE = 120  # seconds, after which a test has found a hang


class Job:
    """One process, and what it said."""

    def __init__(self, folder, fault=""):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, JOB, folder, str(PIECES), fault],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        )  # fmt: skip

    def end(self):
        """Waits for the end, and returns the exit code."""
        out, self.complained = self.process.communicate(timeout=PATIENCE)
        words = [line.split() for line in out.splitlines()]
        self.pieces = [int(number) for kind, number in words if kind == "piece"]
        self.result = next((bits for kind, bits in words if kind == "result"), None)
        return self.process.returncode


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """One job for each fault, all at once."""
    faults = ("undisturbed", "SIGKILL", "SIGTERM", "SIGINT", "writing", "full")
    started = {
        fault: Job(tmp_path_factory.mktemp(fault), "" if fault == "undisturbed" else fault)
        for fault in faults
    }
    yield started
    for job in started.values():
        job.process.kill()


@pytest.fixture(scope="module")
def bits(jobs):
    job = jobs["undisturbed"]
    assert job.end() == 0, job.complained
    assert job.pieces == list(range(1, PIECES + 1))
    return job.result


def goes_on(folder, bits, first):
    """The same command again: begins with that piece, and ends with the same bits."""
    again = Job(folder)
    assert again.end() == 0, again.complained
    assert again.pieces[0] in first
    assert again.pieces[-1] == PIECES
    assert again.result == bits


def test_sigkill_loses_no_more_than_the_last_checkpoint(jobs, bits):
    job = jobs["SIGKILL"]
    assert job.end() == -signal.SIGKILL
    assert job.pieces[-1] == 5
    goes_on(job.folder, bits, (3, 5))  # 2 is whole for sure; 4 may have been under way


def test_j23_sigkill_while_a_checkpoint_is_written(jobs, bits):
    job = jobs["writing"]
    assert job.end() == -signal.SIGKILL
    half = [path.name for path in job.folder.iterdir() if "tmp" in path.name]
    goes_on(job.folder, bits, range(3, PIECES))
    assert half
    assert not [path for path in job.folder.iterdir() if "tmp" in path.name]


def test_sigterm_saves_and_exits_with_75(jobs, bits):
    job = jobs["SIGTERM"]
    assert job.end() == 75
    assert job.pieces[-1] in (5, 6)
    goes_on(job.folder, bits, (job.pieces[-1] + 1,))


def test_ctrl_c_saves_and_says_how_to_go_on(jobs, bits):
    job = jobs["SIGINT"]
    assert job.end() in (130, -signal.SIGINT)
    last = job.pieces[-1]
    assert f"stopped after piece {last}; resume=True goes on from {job.folder}" in job.complained
    goes_on(job.folder, bits, (last + 1,))


def test_a_full_disk_costs_checkpoints_and_not_the_run(jobs, bits):
    job = jobs["full"]
    assert job.end() == 0, job.complained
    assert job.result == bits
    assert "was not written to" in job.complained
    goes_on(job.folder, bits, (3, 5))  # with room again, from the last one that was whole
