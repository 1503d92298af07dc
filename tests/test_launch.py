"""Oracle: processes of which every output and exit code is known."""

import signal
import subprocess
import sys
import time

import pytest

from experiments import launch


def script(text):
    return [sys.executable, "-c", text]


def test_lines_carry_the_number_of_their_process_and_its_environment():
    told = []
    text = """import os; print(os.environ['JAX_PROCESS_ID'], os.environ['JAX_NUM_PROCESSES'],
      os.environ['JAX_COORDINATOR_ADDRESS'].split(':')[0])"""
    assert launch.run([script(text)] * 3, told.append) == 0
    assert sorted(told) == [f"[{i}] {i} 3 127.0.0.1" for i in range(3)]


def test_one_failure_ends_all_and_is_the_exit_code():
    slow, fails = script("import time; time.sleep(60)"), script("raise SystemExit(3)")
    launch_polite, launch.POLITE = launch.POLITE, 0.3
    try:
        start = time.monotonic()
        assert launch.run([slow, fails], lambda _: None) == 3
        assert time.monotonic() - start < 30
    finally:
        launch.POLITE = launch_polite


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([0, 0], 0), ([0, 2], 2), ([-9, 1], 1), ([-9, 0], 128 + signal.SIGKILL), ([75, 1], 75)],
)
def test_the_worst_code_is_of_one_that_failed_by_itself(codes, expected):
    assert launch.worst(codes) == expected


def test_an_experiment_runs_in_two_processes(tmp_path):
    """The command line to the end; process 0 alone writes the result."""
    command = [sys.executable, "-m", "experiments", "launch", "--processes", "2", "xor", "--smoke",
               "--out", str(tmp_path)]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert [file.name for file in tmp_path.iterdir()] == ["xor"]
    lines = ended.stdout.splitlines()
    assert any(line.startswith("[0] page: ") for line in lines)
    assert any(line.startswith("[1] page: ") for line in lines)
