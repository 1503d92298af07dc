"""The gallery: runs the experiments that have no result yet, and writes the index of the course.

`results/index.html` is one self-contained page, like those it leads to: small pictures inside,
relative links, nothing fetched.
"""

import ast
import base64
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

import experiments
from experiments import kept, page, runner
from experiments.report_chapters import course

THUMBNAIL = (560, 420)  # pixels at most; shown at half of that, for dense screens
COLORS = 96  # of a thumbnail
FIRST_PICTURE = re.compile(r'<img src="data:image/\w+;base64,([^"]+)"[^>]*? alt="([^"]*)"')


class Entry(NamedTuple):
    """One experiment in the index; `finding` is None as long as there is no result."""

    name: str
    title: str
    chinese: str
    question: str
    command: str
    finding: str | None = None
    seconds: float = 0.0
    smoke: bool = False
    thumbnail: Mapping[str, Any] | None = None
    alt: str = ""


class Failure(NamedTuple):
    """An experiment that could not be run, and why, in one line."""

    name: str
    reason: str


def titles() -> dict[str, tuple[str, str]]:
    """Returns English and Chinese titles, read from the sources without importing them.

    An experiment without a literal pair `TITLE` is called by its question.
    """
    found = {}
    for name, question in experiments.questions().items():
        found[name] = (question, "")
        file = next(
            f for folder in experiments.__path__ if (f := Path(folder, f"{name}.py")).exists()
        )
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TITLE":
                try:
                    english, chinese = ast.literal_eval(node.value)
                except ValueError:  # not a literal, or not a pair
                    continue
                found[name] = (str(english), str(chinese))
    return found


def in_order() -> list[str]:
    """Returns the names of all experiments as the course tells them."""
    return [name for chapter in course(experiments.questions()) for name in chapter.names]


def finished(folder: Path, question: str, smoke: bool) -> bool:
    """Returns whether a result lies there that answers the question; a toy is one for a toy."""
    origin = _read(folder / "provenance.json")
    return origin.get("question") == question and (smoke or origin.get("smoke") is False)


def run_missing(
    names: Sequence[str],
    out: Path,
    progress: runner.Progress,
    *,
    smoke: bool = False,
    again: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Failure]:
    """Runs every experiment without a result in `out`, and returns those that failed.

    Each result is complete or absent, and of one that was broken off the checkpoints are there, so
    that an interrupted report goes on where it stopped.
    """
    questions = experiments.questions()
    for name in names:
        runner.choose("experiment", name, questions)
    todo = [n for n in names if again or not finished(out / n, questions[n], smoke)]
    failures = []
    bars = progress.bars
    bars.live.transient = True  # the bars of one experiment make room for those of the next
    total = bars.add_task("experiments", total=len(names), completed=len(names) - len(todo))
    for name in todo:
        bars.update(total, description=f"experiments: {name}")
        try:
            begun = kept.anything(kept.folder_of(out, name))
            done = runner.execute(name, {}, 0, smoke, out, progress, resume=begun)
            tell(f"{name}: {done.provenance['wall_seconds']:.1f} s. {done.outcome.finding}")
        except Exception as error:  # one that fails must not stop the others
            failures.append(
                Failure(name, f"{type(error).__name__}: {' '.join(str(error).split())}")
            )
        finally:
            _forget(progress, total)
        bars.advance(total)
    return failures


def _forget(progress: runner.Progress, keep: Any) -> None:
    """Removes what one experiment leaves behind: its bars, and its programs in memory."""
    import jax

    for task in progress.bars.task_ids:
        if task != keep:
            progress.bars.remove_task(task)
    jax.clear_caches()


def write_index(out: Path, *, smoke: bool = False) -> Path:
    """Writes `out`/index.html from the results that lie in `out`, and returns its path."""
    questions, called = experiments.questions(), titles()
    chapters = [
        (
            chapter,
            [_entry(out, name, questions[name], called[name], smoke) for name in chapter.names],
        )
        for chapter in course(questions)
    ]
    html = page.environment().get_template("gallery.html").render(
        chapters=chapters,
        done=[entry for _, entries in chapters for entry in entries if entry.finding],
        total=len(questions),
    )  # fmt: skip
    fresh = out / ".index.html"
    try:
        out.mkdir(parents=True, exist_ok=True)
        fresh.write_text(html, "utf-8")
        return fresh.replace(out / "index.html")
    except OSError as error:
        raise runner.Refusal(f"cannot write to {out}: {error.strerror or error}") from None


def _entry(out: Path, name: str, question: str, title: tuple[str, str], smoke: bool) -> Entry:
    command = f"python -m experiments run {name}" + " --smoke" * smoke
    entry = Entry(name, *title, question=question, command=command)
    origin, metrics = (_read(out / name / f"{file}.json") for file in ("provenance", "metrics"))
    file = out / name / "index.html"
    if not (origin and metrics.get("finding") and file.exists()):
        return entry
    found = FIRST_PICTURE.search(file.read_text("utf-8"))
    return entry._replace(
        question=origin.get("question", question),
        command=origin.get("command", command),
        finding=metrics["finding"],
        seconds=float(origin.get("wall_seconds", 0.0)),
        smoke=bool(origin.get("smoke")),
        thumbnail=thumbnail(base64.b64decode(found[1])) if found else None,
        alt=unescape(found[2]) if found else "",
    )


def thumbnail(picture: bytes) -> dict[str, Any]:
    """Returns what an <img> needs to show a picture small; of an animation, its last frame."""
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        image.seek(getattr(image, "n_frames", 1) - 1)
        layer = image.convert("RGBA")
    small = Image.new("RGBA", layer.size, "white")
    small.alpha_composite(layer)
    small = small.convert("RGB")
    small.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.quantize(COLORS).save(file, "PNG", optimize=True)
    return {
        "src": "data:image/png;base64," + base64.b64encode(file.getvalue()).decode(),
        "width": round(small.width / 2),
        "height": round(small.height / 2),
    }


def _read(file: Path) -> dict[str, Any]:
    """Returns a JSON object, empty if the file is missing or broken."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
