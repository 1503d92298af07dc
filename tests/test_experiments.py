"""The harness, tried on a small experiment of its own, and every real experiment as a smoke run."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

import experiments
from experiments import page, runner
from experiments.__main__ import cli

ROOT = Path(__file__).parent.parent
NAMES = list(experiments.questions())
FILES = {"config.json", "metrics.json", "provenance.json", "arrays.npz", "index.html"}
TINY = '''"""Does a tiny experiment run?

Not part of the question.
"""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.page import Section, Table
from experiments.runner import STRICT, Outcome


@dataclass(frozen=True, config=STRICT)
class Config:
    steps: int = Field(default=50, ge=1, le=100)
    """How many <steps> it goes."""
    widths: tuple[int, ...] = (1, 2)
    rate: float = Field(default=0.5, gt=0)
    name: str = "relu"

    def __post_init__(self):
        if self.rate > self.steps:
            raise ValueError("rate must not be above steps")


SMOKE = {"steps": 3, "widths": (1,)}


def run(config, seed, progress):
    with progress.task("count", total=config.steps) as advance:
        for _ in range(config.steps):
            advance()
    total = jax.jit(lambda x: jnp.sum(x) * 3)(jnp.ones(config.steps))
    table = Table(["width", "value"], [[w, w / 3] for w in config.widths], "A caption.", best=[0])
    return Outcome(
        finding="It runs & takes 3 ± 1 steps.",
        metrics={"total": total, "np": np.float32(0.5), "nan": float("nan"), "deep": {"a": [1]}},
        arrays={"total": total, "seeds": np.array([seed])},
        sections=[
            Section("First", "One paragraph <b>.\\n\\nAnother.", {"line": "A line that rises."}),
            Section("Second", table=table),
        ],
        table=table,
    )


def plot(outcome):
    figure = Figure()
    figure.subplots().plot([0.0, float(outcome.arrays["total"])])
    return {"line": figure}
'''


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A package folder with one more experiment, `tiny`."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "tiny.py").write_text(TINY)
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(folder)])
    yield folder
    sys.modules.pop("experiments.tiny", None)


def call(*args):
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def refused(*args):
    """Returns the one line which answers a mistake."""
    result = call(*args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def listing(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_result(folder):
    """Checks what every result promises; returns config, metrics, provenance and the page."""
    config, metrics, provenance = (
        json.loads((folder / f"{name}.json").read_text("utf-8"))
        for name in ("config", "metrics", "provenance")
    )
    with np.load(folder / "arrays.npz") as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)
    pictures = [path for path in folder.iterdir() if path.suffix in (".png", ".gif")]
    assert {path.name for path in folder.iterdir()} - {path.name for path in pictures} == FILES
    html = (folder / "index.html").read_text("utf-8")
    addresses = re.findall(r"(?:src|href)\s*=\s*\"([^\"]*)", html)
    assert sum(
        address.startswith(("data:image/png;base64,", "data:image/gif;base64,"))
        for address in addresses
    ) == len(pictures)
    assert all(address.startswith("data:") for address in addresses)
    assert not re.search(r"<script|@import|url\(|https?://", html)
    texts = html + json.dumps([config, metrics, provenance])
    for secret in (str(ROOT), str(folder.parent), str(Path.home()), os.uname().nodename):
        assert len(secret) < 6 or secret not in texts
    return config, metrics, provenance, html


def test_tour_is_found_once_it_exists():
    assert ("tour" in NAMES) == (ROOT / "experiments" / "tour.py").exists()
    assert not {"runner", "page", "datasets", "__main__"} & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_smoke(name, tmp_path):
    result = call("run", name, "--smoke", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    _, metrics, provenance, _ = check_result(tmp_path / name)
    assert provenance["smoke"]
    assert metrics["finding"] in result.stdout


def test_list_names_each_experiment_and_its_question(tiny):
    result = call("list")
    assert result.exit_code == 0
    assert re.search(r"^tiny +Does a tiny experiment run\?$", result.stdout, re.MULTILINE)
    assert len(result.stdout.splitlines()) == len(NAMES) + 1


def test_list_and_mistakes_do_not_wait_for_jax():
    code = (
        "import sys; from experiments.__main__ import cli\n"
        "try: cli(sys.argv[1:])\n"
        "except SystemExit as stop: print(stop.code, 'jax' in sys.modules)"
    )
    for args, answer in ((["list"], "0 False"), (["run", "nonsense"], "2 False")):
        done = subprocess.run(
            [sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True, text=True
        )
        assert done.stdout.splitlines()[-1].replace("None", "0") == answer, done.stderr


def test_run_writes_everything_and_says_where(tiny, tmp_path):
    out = tmp_path / "out"
    result = call("run", "tiny", "--smoke", "--seed", 7, "--set", "widths=[3, 6]", "--out", out)
    assert result.exit_code == 0, result.output
    assert str(out / "tiny" / "index.html") in result.stdout
    assert "A caption." in result.stdout
    assert re.search(r"3 .* 1\b", result.stdout)  # the row of the table: 3 and 3 / 3
    assert re.fullmatch(r"count: \d+\.\d s\n", result.stderr)
    config, metrics, provenance, html = check_result(out / "tiny")
    assert config == {"steps": 3, "widths": [3, 6], "rate": 0.5, "name": "relu"}
    assert metrics == {
        "finding": "It runs & takes 3 ± 1 steps.",
        "total": 9.0,
        "np": 0.5,
        "nan": None,
        "deep": {"a": [1]},
    }
    with np.load(out / "tiny" / "arrays.npz") as arrays:
        assert arrays["total"] == 9.0
        assert arrays["seeds"] == [7]
    again = "python -m experiments run tiny --seed 7 --smoke --set 'widths=[3, 6]'"
    assert provenance["command"] == again
    assert provenance["seed"] == 7
    assert provenance["versions"]["jax"] == jax.__version__
    assert provenance["devices"] == jax.device_count()
    assert "It runs &amp; takes 3 ± 1 steps." in html
    assert "One paragraph &lt;b&gt;." in html
    assert 'alt="A line that rises."' in html
    assert "How many &lt;steps&gt; it goes." in html
    assert list(out.iterdir()) == [out / "tiny"]  # nothing temporary is left


def test_compile_time_is_part_of_wall_time(tiny, tmp_path):
    for i in (1, 2):
        assert call("run", "tiny", "--set", f"steps={90 + i}", "--out", tmp_path).exit_code == 0
        provenance = json.loads((tmp_path / "tiny" / "provenance.json").read_text())
        stages = provenance["compile"]
        assert stages["programs"] >= 1
        assert 0 <= stages["from_cache"] <= stages["programs"]
        parts = stages["tracing"] + stages["lowering"] + stages["backend"]
        assert provenance["compile_seconds"] == pytest.approx(parts, abs=0.002)
        assert 0 < provenance["compile_seconds"] <= provenance["wall_seconds"]


def test_listener_does_not_outlive_the_run(tiny, tmp_path, monkeypatch):
    listening = []
    monitoring = jax.monitoring
    monkeypatch.setattr(monitoring, "register_event_duration_secs_listener", listening.append)
    monkeypatch.setattr(monitoring, "unregister_event_duration_listener", listening.remove)
    (tiny / "tiny.py").write_text(TINY.replace("total = jax", "assert steps_exist; total = jax"))
    assert isinstance(call("run", "tiny", "--out", tmp_path / "out").exception, NameError)
    assert listening == []


def test_without_out_a_toy_never_takes_the_place_of_a_result(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("run", "tiny", "--smoke").exit_code == 0
    assert call("run", "tiny").exit_code == 0
    assert json.loads(Path("results/tiny/config.json").read_text())["steps"] == 50
    assert json.loads(Path("results/smoke/tiny/config.json").read_text())["steps"] == 3


@pytest.mark.parametrize(
    ("args", "answer"),
    [
        (["tinny"], r"unknown experiment 'tinny' \(did you mean 'tiny'\?\); choose from .*tiny"),
        (["tiny", "--set", "step=2"], r"unknown key 'step' \(did you mean 'steps'\?\).*widths"),
        (["tiny", "--set", "steps=0"], "steps: .*greater than or equal to 1, got 0"),
        (["tiny", "--set", "steps=101"], "steps: .*less than or equal to 100, got 101"),
        (["tiny", "--set", "steps=many"], 'steps: .*integer, got "many"'),
        (["tiny", "--set", "steps=true"], "steps: .*integer, got true"),
        (["tiny", "--set", "steps=2.5"], "steps: .*got 2.5"),
        (["tiny", "--set", "steps=null"], "steps: .*integer, got null"),
        (["tiny", "--set", "rate=NaN"], "rate: .*finite number, got NaN"),
        (["tiny", "--set", "rate=1e999"], "rate: .*finite number, got Infinity"),
        (["tiny", "--set", "rate=99"], "rate must not be above steps"),
        (["tiny", "--set", "widths=3"], "widths: .*got 3"),
        (["tiny", "--set", 'widths=[1, "a"]'], r'widths\.1: .*integer, got "a"'),
        (["tiny", "--set", "steps"], "expected key=value, got 'steps'"),
        (["tiny", "--set", "=3"], "expected key=value, got '=3'"),
        (["tiny", "--set", "steps=2", "--set", "steps=3"], "key 'steps' is set twice"),
        (["tiny", "--seed", "-1"], "'--seed': -1 is not in the range"),
        (["tiny", "--seed", str(2**32)], "'--seed': 4294967296 is not in the range"),
        (["tiny", "--seed", "x"], "'--seed': 'x' is not a valid integer"),
        (["tiny", "--sed", "1"], "No such option.*--seed"),
        ([], "Missing argument 'NAME'"),
        (["tiny", "more"], "unexpected extra argument"),
    ],
)
def test_a_mistake_gets_one_line(tiny, tmp_path, args, answer):
    assert re.search(answer, refused("run", *args, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_unknown_command_gets_one_line():
    assert "No such command 'rum'" in refused("rum")


def test_unwritable_output_gets_one_line(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write to" in refused("run", "tiny", "--smoke", "--out", tmp_path / "file")


def test_full_disk_gets_one_line_and_leaves_the_former_result(tiny, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert call("run", "tiny", "--smoke", "--out", out).exit_code == 0
    before = listing(out / "tiny")

    def full(*_args, **_arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    result = call("run", "tiny", "--out", out)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith("No space left on device")
    assert listing(out / "tiny") == before
    assert list(out.iterdir()) == [out / "tiny"]


def test_a_folder_that_is_no_result_is_not_replaced(tiny, tmp_path):
    photos = tmp_path / "tiny"
    photos.mkdir()
    (photos / "photo.jpg").write_text("dear")
    assert "holds no result" in refused("run", "tiny", "--smoke", "--out", tmp_path)
    assert (photos / "photo.jpg").read_text() == "dear"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_run_leaves_the_former_result(tiny, tmp_path, monkeypatch, error):
    out = tmp_path / "out"
    assert call("run", "tiny", "--smoke", "--out", out).exit_code == 0
    before = listing(out / "tiny")

    def stop(config, seed, progress):
        raise error

    monkeypatch.setattr(sys.modules["experiments.tiny"], "run", stop)
    result = call("run", "tiny", "--smoke", "--out", out)
    if error is KeyboardInterrupt:
        assert result.exit_code == 130
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: interrupted")
    else:  # a fault of the experiment, not of the person: keep its traceback
        assert isinstance(result.exception, RuntimeError)
    assert listing(out / "tiny") == before
    assert list(out.iterdir()) == [out / "tiny"]


def test_result_replaced_as_a_whole(tiny, tmp_path):
    assert call("run", "tiny", "--out", tmp_path / "out").exit_code == 0
    (tmp_path / "out" / "tiny" / "old.png").write_text("from an older version")
    assert call("run", "tiny", "--smoke", "--out", tmp_path / "out").exit_code == 0
    assert not (tmp_path / "out" / "tiny" / "old.png").exists()


def test_picture_without_a_place_is_an_error(tiny, tmp_path):
    (tiny / "tiny.py").write_text(TINY.replace('return {"line"', 'return {"lime"'))
    result = call("run", "tiny", "--smoke", "--out", tmp_path / "out")
    assert isinstance(result.exception, ValueError)
    assert "lime" in str(result.exception)


@pytest.mark.parametrize("closing", ["| head -c 1", ">&-"])
def test_closed_stdout_needs_no_traceback(closing):
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m experiments list {closing}",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


def test_progress_draws_bars_on_a_terminal_and_one_line_elsewhere(tmp_path):
    for terminal in (True, False):
        with open(tmp_path / "log", "w+", encoding="utf-8") as file:
            progress = runner.Progress(Console(file=file, force_terminal=terminal, width=100))
            with progress.bars, progress.task("fit mixtures", total=4) as advance:
                advance(3)
                advance()
            file.seek(0)
            text = file.read()
        if terminal:
            assert "4/4" in text
        else:
            assert text == "fit mixtures: 0.0 s\n"


def test_cells():
    cells = [page.cell(x) for x in (None, 3, np.int64(12345), 0.123456, np.float32(2), "a", True)]
    assert cells == ["–", "3", "12345", "0.1235", "2", "a", "True"]
    assert [page.is_number(x) for x in (1.0, np.float32(1), None, "1", True)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert page.span(np.array([0.5, -0.25, 1.0]), "+.2f") == "+0.50 [-0.25, +1.00]"


def test_digits_are_split_in_proportion_and_by_the_seed():
    from experiments import datasets

    split = datasets.digits(3)
    parts = split.train, split.validation, split.test
    assert [len(part.x) for part in parts] == [1077, 360, 360]
    rows = np.concatenate([part.x for part in parts])
    assert len(np.unique(rows, axis=0)) == len(rows)  # nothing leaks from one part to another
    for part in parts:
        assert part.x.dtype == np.float32
        assert part.x.min() == 0.0
        assert part.x.max() == 1.0
        share = np.bincount(part.y, minlength=split.n_classes) / len(part.y)
        np.testing.assert_allclose(share, 0.1, atol=0.01)
    same, other = datasets.digits(3), datasets.digits(4)
    assert np.array_equal(same.test.x, split.test.x)
    assert not np.array_equal(other.test.x, split.test.x)
