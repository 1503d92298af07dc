"""Jobs of two processes that break: started again as a whole, and ending with the same bits.

Oracle: the bits of a job that nobody disturbed.  What happens is in `team_job.py`.
"""

import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
import team_job
from children import environment

from jaxnn import scale
from jaxnn.scale import supervisor

ROOT = Path(__file__).parent.parent.parent
JOB = str(ROOT / "tests" / "team_job.py")
PATIENCE = 200  # seconds, after which a test has found a hang
# Each job goes through some faults, one in each attempt, and ends undisturbed in the last.
JOBS = ("", "ctrl-c,worker", "preempted,coordinator,hang")
FAULTS = [(job, n, fault) for job in JOBS for n, fault in enumerate(job.split(",")) if fault]


class Job(threading.Thread):
    """A supervised job of two processes in a thread, and all that was said."""

    def __init__(self, folder, faults):
        super().__init__(daemon=True)
        self.folder, self.faults = folder / "run", faults
        self.after_one = folder / "after_one"
        self.lines, self.code = [], None

    def commands(self, attempt):
        if attempt == 1:
            shutil.copytree(self.folder, self.after_one)
        return [[sys.executable, JOB, str(self.folder), self.faults, str(attempt)]] * 2

    def run(self):
        restarts = len(list(filter(None, self.faults.split(","))))
        self.code = scale.supervise(self.commands, restarts=restarts, tell=self.lines.append)

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

    def again(self):
        """Why it was started again, each time."""
        return [line for line in self.lines if line.startswith("the job is started again")]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """All at once: much of their time is waiting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("JAX_PLATFORMS", "cpu")
        patch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        patch.setattr(supervisor, "POLITE", 1.0)
        started = {faults: Job(tmp_path_factory.mktemp("job"), faults) for faults in JOBS}
        for job in started.values():
            job.start()
        for job in started.values():
            job.ended()
        yield started


@pytest.fixture(scope="module")
def result(jobs):
    job = jobs[""]
    assert job.code == 0, job.lines
    assert job.said("step", 0) == [str(step) for step in range(team_job.STEPS + 1)]
    (bits,) = job.said("result", 0)
    return bits


@pytest.mark.parametrize("faults", JOBS[1:])
def test_a_job_that_breaks_again_and_again_ends_with_the_same_bits(jobs, result, faults):
    job = jobs[faults]
    assert job.code == 0, job.lines
    assert job.said("result", 0) == job.said("result", 1) == [result]
    assert job.attempts(0)[-1][-1] == team_job.STEPS
    assert len(job.again()) == len(faults.split(","))


@pytest.mark.parametrize(("faults", "attempt", "fault"), FAULTS)
def test_each_fault_costs_what_it_must(jobs, faults, attempt, fault):
    """J19, J20, J21, J22: a death of either, a hang, a machine that is taken away; and Ctrl-C."""
    job = jobs[faults]
    who, _ = team_job.FAULTS[fault]
    steps, others = job.attempts(who), job.attempts(1 - who)
    before, after = steps[attempt], steps[attempt + 1]
    assert f"{attempt + 1} of {len(faults.split(','))}: process" in job.again()[attempt]
    if fault in team_job.ASKED:  # both at the same step, and nothing is done twice
        assert before == others[attempt]
        assert before[-1] >= team_job.at(attempt)
        assert after[0] == before[-1] + 1
        assert re.search("exit code 75|SIGINT", job.again()[attempt])
    else:  # the checkpoint of the last even piece may have been under way, the one before was whole
        assert before[-1] == team_job.at(attempt)
        assert after[0] in (before[-1] - 2, before[-1])  # piece n ends with step n - 1


def test_ctrl_c_says_how_to_go_on(jobs):
    job = jobs["ctrl-c,worker"]
    last = job.attempts(0)[0][-1]
    told = f"stopped after piece {last + 1}; resume=True goes on from {job.folder}"
    assert [line for line in job.lines if line.startswith("[0] KeyboardInterrupt") and told in line]


def test_j25_one_process_goes_on_with_what_two_have_written(jobs):
    """Other sums, so that the oracle is the fit of all rows in one process, to rounding."""
    x = team_job.rows()
    job = jobs["ctrl-c,worker"]
    seen = []
    saving = scale.Saving(job.after_one, resume=True)
    with jax.enable_x64(False):
        found = team_job.fit(x, slice(None), saving, lambda steps, _: seen.append(steps))
        whole = team_job.fit(x, slice(None), None)
    assert seen[0] == job.attempts(0)[0][-1] + 1
    np.testing.assert_allclose(found.mixture.means, whole.mixture.means, rtol=2e-4)
    assert found.steps == whole.steps == team_job.STEPS


def test_children_die_with_a_supervisor_that_is_killed(tmp_path):
    """One that sleeps and one that is stopped; the end of a pipe that both hold open says so."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    child = (
        "import os, signal, sys, time\n"
        f"pipe = open({str(pipe)!r}, 'w'); pipe.write(f'{{os.getpid()}}\\n'); pipe.flush()\n"
        "os.kill(os.getpid(), signal.SIGSTOP if sys.argv[1] == '1' else 0)\n"
        "time.sleep(PATIENCE)"
    ).replace("PATIENCE", str(PATIENCE))
    watch = (
        "import sys; from jaxnn import scale\n"
        f"scale.supervise(lambda _: [[sys.executable, '-c', {child!r}, str(i)] for i in range(2)])"
    )
    said: queue.Queue = queue.Queue()

    def listen():
        with pipe.open() as held:
            for line in held:
                said.put(int(line))
        said.put("nobody holds it")

    threading.Thread(target=listen, daemon=True).start()
    watcher = subprocess.Popen([sys.executable, "-c", watch], env=environment())
    numbers = [said.get(timeout=PATIENCE) for _ in range(2)]
    watcher.kill()
    watcher.wait()
    try:
        assert said.get(timeout=PATIENCE) == "nobody holds it"
    finally:
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


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
