"""Oracle: the result of an experiment in one process; who watches is in `scale/test_supervisor`."""

import subprocess
import sys


def test_an_experiment_runs_in_two_processes(tmp_path):
    """The command line to the end; process 0 alone writes the result."""
    command = [sys.executable, "-m", "experiments", "launch", "--processes", "2", "gates",
               "--smoke", "--out", str(tmp_path)]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert [file.name for file in tmp_path.iterdir()] == ["gates"]
    lines = ended.stdout.splitlines()
    assert any(line.startswith("[0] page: ") for line in lines)
    assert any(line.startswith("[1] page: ") for line in lines)
