"""The gallery, tried on small experiments of its own: what runs, what is kept, what the index says.

Oracles: what the experiments themselves write (a counter of their runs), files before and after,
and pictures whose colours are known.
"""

import base64
import io
import json
import re
import sys
from html import unescape
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import experiments
from experiments import report
from experiments.__main__ import cli
from experiments.report_chapters import CHAPTERS, course

ALL = list(experiments.questions())
TINY = '''"""Is {name} < 3?"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.page import Section, Table
from experiments.runner import STRICT, Outcome

{title}


@dataclass(frozen=True, config=STRICT)
class Config:
    steps: int = Field(default=50, ge=1)
    """Steps."""


SMOKE = {{"steps": 3}}


def run(config, seed, progress):
    with open(Path(__file__).with_suffix(".runs"), "a") as file:
        file.write("x")
    {fault}
    with progress.task("count", total=1) as advance:
        advance()
    return Outcome(
        finding=f"{name} & takes {{config.steps}} steps.",
        metrics={{}},
        arrays={{"x": np.zeros(1)}},
        sections=[Section("One", pictures={{"line": "A \\"line\\"."}})],
        table=Table(["a"], [[1]]),
    )


def plot(outcome):
    return {{"line": Figure(figsize=(8, 2))}}
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with two experiments that run and, between them, `middle`, which a test writes."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(experiments, "__path__", [str(folder)])

    def write(name, fault="pass", title=""):
        (folder / f"{name}.py").write_text(TINY.format(name=name, fault=fault, title=title))
        sys.modules.pop(f"experiments.{name}", None)

    write("first", title='TITLE = ("The first <one>", "第一个实验")')
    write("xor")
    yield write
    for name in ("first", "middle", "xor"):
        sys.modules.pop(f"experiments.{name}", None)


def call(*args):
    return CliRunner().invoke(cli, ["report", *map(str, args)])


def runs(tmp_path, name):
    """How often an experiment has been run."""
    file = tmp_path / "package" / f"{name}.runs"
    return len(file.read_text()) if file.exists() else 0


def entry(out, name):
    """The part of the index that is about one experiment."""
    html = (out / "index.html").read_text("utf-8")
    return re.search(rf'<article [^>]*id="{name}">.*?</article>', html, re.DOTALL)[0]


def test_what_is_done_is_not_run_again(package, tmp_path):
    out = tmp_path / "out"
    result = call("--smoke", "--out", out)
    assert result.exit_code == 0, result.output
    assert "first & takes 3 steps." in result.stdout
    assert str(out / "index.html") in result.stdout
    assert {path.name for path in out.iterdir()} == {"first", "xor", "index.html"}
    assert call("--smoke", "--out", out).exit_code == 0
    assert (runs(tmp_path, "first"), runs(tmp_path, "xor")) == (1, 1)
    assert call("--smoke", "--again", "--out", out).exit_code == 0
    assert (runs(tmp_path, "first"), runs(tmp_path, "xor")) == (2, 2)


def test_a_result_counts_if_it_is_real_or_a_toy_is_asked_for(package, tmp_path):
    out = tmp_path / "out"
    steps = lambda: json.loads((out / "xor" / "config.json").read_text())["steps"]
    call("--smoke", "--only", "xor", "--out", out)
    assert steps() == 3
    call("--only", "xor", "--out", out)  # a toy is no result
    assert steps() == 50
    call("--smoke", "--only", "xor", "--out", out)  # and takes the place of none
    assert steps() == 50
    assert runs(tmp_path, "xor") == 2


@pytest.mark.parametrize("spoil", ["question", "broken"])
def test_an_outdated_result_is_run_again(package, tmp_path, spoil):
    out = tmp_path / "out"
    call("--smoke", "--only", "xor", "--out", out)
    file = out / "xor" / "provenance.json"
    text = file.read_text()
    file.write_text(text.replace("Is xor", "Was xor") if spoil == "question" else text[:-9])
    call("--smoke", "--only", "xor", "--out", out)
    assert runs(tmp_path, "xor") == 2


def test_one_that_fails_stops_no_other(package, tmp_path):
    package("middle", fault='raise ValueError("too\\nlate")')
    out = tmp_path / "out"
    result = call("--smoke", "--out", out)
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: middle failed: ValueError: too late; ")
    assert (runs(tmp_path, "first"), runs(tmp_path, "xor")) == (1, 1)
    assert "waiting" in entry(out, "middle")
    assert "python -m experiments run middle --smoke" in entry(out, "middle")
    package("middle")  # mended: only it is run
    assert call("--smoke", "--out", out).exit_code == 0
    assert [runs(tmp_path, name) for name in ("first", "middle", "xor")] == [1, 2, 1]
    assert "waiting" not in entry(out, "middle")


def test_experiments_run_in_the_order_of_the_course(package, tmp_path):
    result = call("--smoke", "--out", tmp_path / "out")
    assert re.findall(r"^(\w+): \d", result.stdout, re.MULTILINE) == ["xor", "first"]


def test_an_interrupted_report_keeps_what_is_done_and_goes_on(package, tmp_path):
    package("middle", fault="raise KeyboardInterrupt")
    out = tmp_path / "out"
    result = call("--smoke", "--out", out)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith("error: interrupted")
    assert {path.name for path in out.iterdir()} == {"first", "xor", "index.html"}
    assert "xor &amp; takes" in entry(out, "xor")
    package("middle")
    assert call("--smoke", "--out", out).exit_code == 0
    assert [runs(tmp_path, name) for name in ("first", "middle", "xor")] == [1, 2, 1]


def test_only_some(package, tmp_path):
    package("middle")
    out = tmp_path / "out"
    assert call("--smoke", "--out", out, "--only", "first", "middle").exit_code == 0
    assert [runs(tmp_path, name) for name in ("first", "middle", "xor")] == [1, 1, 0]
    assert "not yet run" in entry(out, "xor")


@pytest.mark.parametrize(
    ("args", "answer"),
    [
        (["--only", "xorr"], r"unknown experiment 'xorr' \(did you mean 'xor'\?\)"),
        (["xor"], "unexpected extra argument 'xor'; write --only xor"),
        (["--onli", "xor"], "No such option"),
    ],
)
def test_a_mistake_gets_one_line(package, tmp_path, args, answer):
    result = call(*args, "--out", tmp_path / "out")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert re.search(answer, line)
    assert not (tmp_path / "out").exists()


def test_unwritable_output_gets_one_line(package, tmp_path):
    (tmp_path / "file").write_text("")
    result = call("--smoke", "--only", "xor", "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "cannot write to" in result.stderr.splitlines()[-1]


def test_a_folder_that_is_no_result_is_left_alone(package, tmp_path):
    photos = tmp_path / "out" / "xor"
    photos.mkdir(parents=True)
    (photos / "photo.jpg").write_text("dear")
    result = call("--smoke", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "xor failed: Refusal: " in result.stderr
    assert (photos / "photo.jpg").read_text() == "dear"
    assert runs(tmp_path, "first") == 1


def test_toys_go_elsewhere_by_default(package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("--smoke", "--only", "xor").exit_code == 0
    assert Path("results/smoke/xor/index.html").exists()
    assert Path("results/smoke/index.html").exists()


def test_the_index_is_one_page_and_its_links_lead_somewhere(package, tmp_path):
    out = tmp_path / "out"
    package("middle")
    call("--smoke", "--out", out, "--only", "first", "xor")
    html = (out / "index.html").read_text("utf-8")
    assert not re.search(
        r"<script|@import|url\(|https?://|<link (?!rel=\"icon\" href=\"data:)", html
    )
    assert str(tmp_path) not in html
    pictures = re.findall(r'<img src="([^"]*)" width="(\d+)" height="(\d+)" alt="([^"]*)"', html)
    assert len(pictures) == html.count("<img") == 2
    for source, width, height, alt in pictures:
        assert source.startswith("data:image/png;base64,")
        assert unescape(alt) == 'A "line".'
        assert int(width) / int(height) == pytest.approx(4, rel=0.02)  # the figure is 8 x 2
    for address in re.findall(r'href="([^"]*)"', html):
        if address.startswith("#"):
            assert f'id="{address[1:]}"' in html
        elif not address.startswith("data:"):
            assert (out / address).exists()
    first = entry(out, "first")
    for words in (
        "The first &lt;one&gt;", "第一个实验", "Is first &lt; 3?", "first &amp; takes 3 steps.",
        "python -m experiments run first --seed 0 --smoke", 'href="first/index.html"',
    ):  # fmt: skip
        assert words in first
    assert re.search(r"\d\.\d s, a toy", first)
    assert "href" not in entry(out, "middle")  # nothing to lead to
    assert html.index("Neurons") < html.index('id="xor"') < html.index('id="first"')
    assert "2 of 3" in html


def test_titles_come_from_the_source_and_else_from_the_question(package):
    package("middle", title="TITLE = made_up()")
    assert report.titles() == {
        "first": ("The first <one>", "第一个实验"),
        "middle": ("Is middle < 3?", ""),
        "xor": ("Is xor < 3?", ""),
    }
    assert "experiments.first" not in sys.modules


def test_every_experiment_has_one_place_in_the_course():
    chapters = course([*ALL, "unheard_of"])
    placed = [name for chapter in chapters for name in chapter.names]
    assert sorted(placed) == sorted({*ALL, "unheard_of"})
    assert chapters[-1].title == "More"
    assert "unheard_of" in chapters[-1].names
    order = [name for chapter in CHAPTERS for name in chapter.names]
    assert len(order) == len(set(order))
    known = [name for name in placed if name in order]
    assert known == sorted(known, key=order.index)
    assert course([]) == []


def picture(frames, kind):
    file = io.BytesIO()
    first, *rest = (Image.new("RGBA", (1200, 600), color) for color in frames)
    first.save(file, kind, **({"save_all": True, "append_images": rest} if rest else {}))
    return file.getvalue()


@pytest.mark.parametrize(
    ("frames", "kind", "seen"),
    [
        (["red", "lime", "blue"], "GIF", (0, 0, 255)),  # the last frame
        (["#008000"], "PNG", (0, 128, 0)),
        (["#00000000"], "PNG", (255, 255, 255)),  # nothing is paper
    ],
)
def test_thumbnails(frames, kind, seen):
    shown = report.thumbnail(picture(frames, kind))
    kind, data = shown["src"].split(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.convert("RGB").getpixel((3, 3)) == seen
        assert image.size == (560, 280)
    assert (shown["width"], shown["height"]) == (280, 140)
