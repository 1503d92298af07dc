"""Runs that are broken off and gone on with.  Oracle: the bits of a run that nobody disturbs."""

import fcntl
import importlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

import experiments
from experiments import runner
from experiments.__main__ import cli

ROOT = Path(__file__).parent.parent
SQUARES = '''"""Does a sweep of squares run?"""

import os

import jax
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.page import Section, Table
from experiments.runner import STRICT, Outcome


@dataclass(frozen=True, config=STRICT)
class Config:
    rate: float = Field(default=0.5, gt=0)


SMOKE = {}
FITTED = []


def look(report):
    FITTED.append(report.new)
    if os.environ.get("FAULT") == str(report.done):
        raise KeyboardInterrupt
    if os.environ.get("FAULT") == f"-{report.done}":
        raise RuntimeError("a fault")


def square(hp, key, data):
    return hp["x"] * data


def run(config, seed, progress):
    data = np.float32(os.environ.get("DATA", 1))
    space = {"x": np.arange(4.0, dtype=np.float32)}
    for _ in range(2):
        found = progress.sweep(
            square, space, jax.random.key(seed), data, chunk=1, progress=look
        ).results
    table = Table(["x"], [[1]], "A caption.")
    return Outcome("It runs.", {}, {"found": found}, [Section("One", table=table)], table)


def plot(outcome):
    return {}
'''


def call(*args):
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def same(a, b):
    """Whether two results hold the same bits."""
    with np.load(a / "arrays.npz") as mine, np.load(b / "arrays.npz") as theirs:
        assert mine.files == theirs.files
        bits = all(mine[name].tobytes() == theirs[name].tobytes() for name in mine.files)
    return bits and (a / "metrics.json").read_bytes() == (b / "metrics.json").read_bytes()


@pytest.fixture
def squares(tmp_path, monkeypatch):
    """A package folder with one more experiment, and how to call it."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "squares.py").write_text(SQUARES)
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(folder)])
    out = tmp_path / "out"

    def run(*args, fault=None, data=1):
        with monkeypatch.context() as patch:
            patch.setenv("FAULT", str(fault))
            patch.setenv("DATA", str(data))
            return call("run", "squares", "--checkpoint-every", 0, "--out", out, *args)

    yield run
    sys.modules.pop("experiments.squares", None)


def refused(result, *words):
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in words), line


def test_l19_l20_l21_of_a_run_that_is_broken_off(squares, tmp_path):
    """Ctrl-C in the second sweep; then every way of going on that is none, and the one that is."""
    out, kept = tmp_path / "out", tmp_path / "out" / ".squares.checkpoints"
    refused(squares("--resume"), "there is no checkpoint in", "run it without --resume")
    assert not out.exists()
    broken = squares(fault=3)  # three in the first sweep
    assert broken.exit_code == 130
    again = f"python -m experiments run squares --seed 0 --out {out} --resume"
    line = broken.stderr.splitlines()[-1]
    assert line == f"error: interrupted; what is done is kept; to go on: {again}"
    assert list(out.iterdir()) == [kept]  # nothing half done
    assert squares("--resume", fault=-4).exit_code == 1  # a fault of the experiment's own

    refused(squares(), "kept in", "delete it to begin anew, or to go on:", again)
    refused(squares("--resume", "--set", "rate=0.25"), "rate was 0.5 and is 0.25 now")
    refused(squares("--resume", "--seed", 1), "--seed was 0 and is 1 now")
    refused(squares("--resume", data=2), "data was", "begin anew")
    with open(kept / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(squares("--resume"), "another process is at work")

    fitted = sys.modules["experiments.squares"].FITTED
    fitted.clear()
    resumed = call(*shlex.split(again)[3:])
    assert resumed.exit_code == 0, resumed.output
    assert fitted == [4, 1, 1, 1, 1]  # the first sweep was through
    provenance = json.loads((out / "squares" / "provenance.json").read_text())
    assert provenance["resumed"]
    assert "--resume" not in provenance["command"]
    assert list(out.iterdir()) == [out / "squares"]
    shutil.move(out / "squares", tmp_path / "resumed")
    assert squares().exit_code == 0
    assert same(tmp_path / "resumed", out / "squares")


def test_damaged_checkpoints_are_passed_over_and_that_is_said(squares, tmp_path):
    kept = tmp_path / "out" / ".squares.checkpoints"
    squares(fault=3)
    for file in (kept / "001" / "3").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.warns(UserWarning, match=r"checkpoint of step 3 in .* is damaged and is passed"):
        assert squares("--resume", fault=4).exit_code == 130
    assert sys.modules["experiments.squares"].FITTED[-3:] == [2, 1, 1]  # two members were whole
    (kept / "run.json").write_text("{")
    refused(squares("--resume"), "run.json is damaged", "delete")


def test_what_keeps_nothing_says_so(squares, tmp_path):
    refused(call("run", "gates", "--smoke", "--resume", "--out", tmp_path), "gates keeps no check")
    without = SQUARES.replace("progress.sweep(", "sweep.run(")
    without = without.replace("import jax\n", "import jax\nfrom jaxnn import sweep\n")
    assert experiments.resumable("squares")
    (tmp_path / "package" / "squares.py").write_text(without)
    assert not experiments.resumable("squares")
    assert squares(fault=3).stderr.splitlines()[-1].endswith("a former result is as it was")
    assert list((tmp_path / "out").iterdir()) == []


# Trainings and a population: signal, and what makes several chunks of a toy.
RUNS = {
    "overfitting": (signal.SIGINT, ["--set", "noise=[0.1, 0.2, 0.3, 0.4]"]),
    "population": (signal.SIGKILL, ["--set", "members=46", "--set", "seeds=4"]),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """One process that is interrupted in one experiment, and killed in the next."""
    out = tmp_path_factory.mktemp("out")
    end = ["--checkpoint-every", "0", "--out", str(out)]
    runs = [[n, 3, ["run", name, "--smoke", *sets, *end]] for name, (n, sets) in RUNS.items()]
    ended = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "resume_job.py"), json.dumps(runs)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_ENABLE_X64": "1"},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
    ((code, said),) = map(json.loads, ended.stdout.splitlines())
    assert code == 130
    assert said.startswith("error: interrupted; what is done is kept; to go on: python -m exper")
    return out


@pytest.mark.parametrize("name", RUNS)
def test_real_signals_and_real_experiments(broken, name):
    _, sets = RUNS[name]
    with warnings.catch_warnings():  # what was being written when it was killed
        warnings.simplefilter("ignore")
        resumed = call("run", name, "--smoke", *sets, "--out", broken, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert not list(broken.glob(f".{name}.checkpoints"))
    module = importlib.import_module(f"experiments.{name}")
    overrides = {key: json.loads(value) for key, value in (s.split("=") for s in sets[1::2])}
    config = runner.configure(module.Config, module.SMOKE | overrides)
    whole = module.run(config, 0, runner.Progress(Console(stderr=True)))
    with np.load(broken / name / "arrays.npz") as arrays:
        for key in arrays.files:
            assert arrays[key].tobytes() == np.asarray(whole.arrays[key]).tobytes()
    finding = json.loads((broken / name / "metrics.json").read_text())["finding"]
    assert finding == whole.finding
