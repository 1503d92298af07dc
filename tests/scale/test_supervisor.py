"""Jobs of two processes that break: started again as a whole, and ending with the same bits.

Oracle: the bits of a job that nobody disturbed.  What happens is in `team_job.py`.
"""

import os
import re
import signal
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
import team_job

from jaxnn import scale
from jaxnn.scale import supervisor

ROOT = Path(__file__).parent.parent.parent
JOB = str(ROOT / "tests" / "team_job.py")
PATIENCE = 200  # seconds, after which a test has found a hang
FAULTS = {"none": 0, "worker": 1, "coordinator": 1, "hang": 1, "preempted": 1, "ctrl-c": 0}


class Job(threading.Thread):
    """A supervised job in a thread, and all that was said."""

    def __init__(self, folder, fault, restarts, processes=2):
        super().__init__(daemon=True)
        self.folder, self.fault, self.restarts, self.processes = folder, fault, restarts, processes
        self.lines, self.code = [], None

    def run(self):
        command = lambda attempt: [sys.executable, JOB, str(self.folder), self.fault, str(attempt)]
        self.code = scale.supervise(
            lambda attempt: [command(attempt)] * self.processes,
            restarts=self.restarts, tell=self.lines.append,
        )  # fmt: skip

    def ended(self):
        self.join(PATIENCE)
        assert not self.is_alive(), self.lines
        return self

    def attempts(self, process):
        """Steps of a process in each attempt."""
        found = [[]]
        for line in self.lines:
            if line.startswith("the job is started again"):
                found.append([])
            elif line.startswith(f"[{process}] step "):
                found[-1].append(int(line.split()[-1]))
        return found

    def said(self, word, process):
        found = [re.fullmatch(rf"\[{process}\] {word} (.*)", line) for line in self.lines]
        return [match[1] for match in found if match]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """All faults at once: most of their time is waiting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("JAX_PLATFORMS", "cpu")
        patch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        started = {
            fault: Job(tmp_path_factory.mktemp(fault), fault, restarts)
            for fault, restarts in FAULTS.items()
        }
        for job in started.values():
            job.start()
        for job in started.values():
            job.ended()
        yield started


@pytest.fixture(scope="module")
def result(jobs):
    job = jobs["none"]
    assert job.code == 0, job.lines
    assert job.said("step", 0) == [str(step) for step in range(team_job.STEPS + 1)]
    (bits,) = job.said("result", 0)
    return bits


@pytest.mark.parametrize("fault", ["worker", "coordinator", "hang", "preempted"])
def test_a_job_that_breaks_is_started_again_and_ends_with_the_same_bits(jobs, result, fault):
    """J19, J20, J21, J22: a death of either, a hang, a machine that is taken away."""
    job = jobs[fault]
    assert job.code == 0, job.lines
    (again,) = [line for line in job.lines if line.startswith("the job is started again, 1 of 1")]
    assert re.search("ended with exit code 75" if fault == "preempted" else "ended with ", again)
    assert job.said("result", 0) == job.said("result", 1) == [result]
    before, after = job.attempts(0)
    others, _ = job.attempts(1)
    assert after[-1] == team_job.STEPS
    if fault == "preempted":  # both at the same step, and nothing is done twice
        assert before == others
        assert after[0] == before[-1] + 1
    else:  # the checkpoint of piece 6 may have been under way, that of piece 4 was whole
        assert before[-1] in (6, 7)
        assert after[0] in (4, 6)  # piece n ends with step n - 1


def test_ctrl_c_in_one_process_stops_all_at_the_same_step(jobs):
    job = jobs["ctrl-c"]
    last, others = job.attempts(0)[0], job.attempts(1)[0]
    assert last == others
    told = f"stopped after piece {last[-1] + 1}; resume=True goes on from {job.folder}"
    assert [line for line in job.lines if line.startswith("[0] KeyboardInterrupt") and told in line]
    assert job.code in (75, 128 + signal.SIGINT, 130)
    assert job.lines[-1].startswith(f"the job ends with exit code {job.code}: process")


def test_j25_one_process_goes_on_with_what_two_have_written(jobs, result):
    """Other sums, so that the oracle is the fit of all rows in one process, to rounding."""
    x = team_job.rows()
    folder = jobs["ctrl-c"].folder
    seen = []
    saving = scale.Saving(folder, resume=True)
    with jax.enable_x64(False):
        found = team_job.fit(x, slice(None), saving, lambda steps, _: seen.append(steps))
        whole = team_job.fit(x, slice(None), None)
    assert seen[0] == int(jobs["ctrl-c"].said("step", 0)[-1]) + 1
    np.testing.assert_allclose(found.mixture.means, whole.mixture.means, rtol=2e-4)
    assert found.steps == whole.steps == team_job.STEPS


def stages(tmp_path, codes):
    """A job of one process that ends with these codes, attempt after attempt."""
    run = lambda attempt: [[sys.executable, "-c", f"import sys; sys.exit({codes[attempt]})"]]
    told = []
    return scale.supervise(run, restarts=len(codes) - 1, tell=told.append), told


@pytest.mark.parametrize(
    ("codes", "code", "starts"), [((3, 0, 9), 0, 1), ((3, 4), 4, 1), ((2, 0), 2, 0), ((0,), 0, 0)]
)
def test_restarts_are_counted_and_mistakes_are_not_repeated(tmp_path, codes, code, starts):
    found, told = stages(tmp_path, codes)
    assert found == code
    assert sum("is started again" in line for line in told) == starts


def test_ctrl_c_is_passed_on_and_waited_for(tmp_path):
    """The child gets SIGTERM, not SIGINT, and has the time to save."""
    child = (
        "import signal, sys, time\n"
        "def end(*_): time.sleep(0.3); print('saved', flush=True); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, end); print('ready', flush=True); time.sleep(60)"
    )
    told = []

    def tell(line):
        told.append(line)
        if line == "[0] ready":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        scale.supervise(lambda _: [[sys.executable, "-c", child]], restarts=3, tell=tell)
    assert told == ["[0] ready", "[0] saved"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_does_not_end_is_killed(monkeypatch):
    """A stopped process answers to nothing but SIGKILL."""
    monkeypatch.setattr(supervisor, "POLITE", 0.3)
    stopped = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    failing = "import time, sys; time.sleep(0.3); sys.exit(4)"
    commands = [[sys.executable, "-c", code] for code in (stopped, failing)]
    assert scale.supervise(lambda _: commands) == 4  # else it would never return


def test_restarts_are_a_count():
    with pytest.raises(ValueError, match="restarts must be at least 0, got -1"):
        scale.supervise(lambda _: [], restarts=-1)
