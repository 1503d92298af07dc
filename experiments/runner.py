"""Runs one experiment: config in; metrics, arrays, pictures, provenance and a page out.

JAX is imported only by the experiment itself, so that a mistyped name is answered at once.
"""

import contextlib
import difflib
import importlib
import json
import math
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pydantic
from rich import progress as bars
from rich.console import Console

import experiments
from experiments import page, provenance
from experiments.kept import EVERY, Kept, Refusal, folder_of, keeping
from experiments.page import Section, Table

STRICT = pydantic.ConfigDict(
    extra="forbid", allow_inf_nan=False, strict=True, use_attribute_docstrings=True
)
FRAMES_PER_SECOND = 10


class Outcome(NamedTuple):
    """What an experiment found: numbers, arrays, and the page in words."""

    finding: str  # the answer: one sentence with numbers
    metrics: Mapping[str, Any]  # goes to JSON; NumPy and JAX scalars are fine
    arrays: Mapping[str, Any]
    sections: Sequence[Section]
    table: Table  # for the terminal


class Finished(NamedTuple):
    """A result on disk."""

    folder: Path
    outcome: Outcome
    provenance: Mapping[str, Any]


class Progress:
    """Progress bars on a terminal, elsewhere one line for each finished task; and checkpoints."""

    def __init__(self, console: Console):
        self._console = console
        self.kept: Kept | None = None
        self.bars = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=24),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
            console=console,
            disable=not console.is_interactive,
        )

    @contextlib.contextmanager
    def task(self, title: str, total: float) -> Iterator[Callable[..., None]]:
        """Yields `advance(steps=1)`, to be called as parts of `total` get done.

        What a sweep reports does for steps.
        """
        start = time.perf_counter()
        task = self.bars.add_task(title, total=total)

        def advance(steps: Any = 1) -> None:
            self.bars.advance(task, getattr(steps, "new", steps))

        yield advance
        self.bars.update(task, completed=total)
        if self.bars.disable:
            line = f"{title}: {time.perf_counter() - start:.1f} s"
            self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    def sweep(self, fit_one: Any, hparams: Any, key: Any, *shared: Any, **options: Any) -> Any:
        """Returns what `sweep.run` does, and keeps what is done, so that the run can be resumed."""
        from jaxnn import sweep

        run = sweep.run if self.kept is None else self.kept.sweep
        return run(fit_one, hparams, key, *shared, **options)


def results(smoke: bool) -> Path:
    """Returns where results go: a toy must not take the place of a real one."""
    return Path("results", "smoke") if smoke else Path("results")


def choose(what: str, choice: str, choices: Iterable[str]) -> None:
    """Raises Refusal, listing the choices and the nearest one, unless `choice` is known."""
    names = list(choices)
    if choice not in names:
        near = difflib.get_close_matches(choice, names, n=1, cutoff=0.5)
        guess = f" (did you mean {near[0]!r}?)" if near else ""
        raise Refusal(f"unknown {what} {choice!r}{guess}; choose from {', '.join(names)}")


def configure(config_type: Any, overrides: Mapping[str, Any]) -> Any:
    """Returns the config with `overrides`; raises Refusal for an unknown key or a bad value."""
    for key in overrides:
        choose("key", key, config_type.__pydantic_fields__)
    try:
        # As JSON, in which a list may become a tuple, but "3" is no number and true is no 1.
        return pydantic.TypeAdapter(config_type).validate_json(json.dumps(overrides))
    except pydantic.ValidationError as error:
        faults = []
        for fault in error.errors():
            place = ".".join(map(str, fault["loc"]))
            given = f", got {json.dumps(fault['input'])}" if place else ""  # one field's value
            faults.append(f"{place}: {fault['msg']}{given}".removeprefix(": "))
        raise Refusal("; ".join(faults)) from None


def execute(
    name: str,
    overrides: Mapping[str, Any],
    seed: int,
    smoke: bool,
    out: Path,
    progress: Progress,
    *,
    resume: bool = False,
    every: float = EVERY,
) -> Finished:
    """Runs experiment `name` and writes `out`/`name`; a former result stays until then.

    With `resume` it goes on from the last checkpoint of the same run; `every` so many seconds one
    is written.
    """
    questions = experiments.questions()
    choose("experiment", name, questions)
    if resume and not experiments.resumable(name):
        raise Refusal(f"{name} keeps no checkpoints and cannot be resumed; leave --resume out")
    module = importlib.import_module(f"experiments.{name}")  # imports JAX
    config = configure(module.Config, {**(module.SMOKE if smoke else {}), **overrides})
    command = f"python -m experiments run {name} --seed {seed}" + " --smoke" * smoke
    for key, value in overrides.items():
        command += " --set " + shlex.quote(f"{key}={json.dumps(value)}")
    elsewhere = "" if out == results(smoke) else f" --out {shlex.quote(str(out))}"

    with (
        keeping(
            folder_of(out, name), _which(config, seed), f"{command}{elsewhere} --resume",
            resume=resume, seconds=every,
        ) as progress.kept,
        _replacing(out, name) as folder,
    ):  # fmt: skip
        start = time.perf_counter()
        with provenance.compile_clock() as compiling, progress.bars:
            outcome = _on_host(module.run(config, seed, progress))
            wall = time.perf_counter() - start
        origin = {
            "experiment": name,
            "question": questions[name],
            "title": list(getattr(module, "TITLE", ())),
            "command": command,
            "smoke": smoke,
            "seed": seed,
            "resumed": resume,
            "wall_seconds": round(wall, 3),
            "compile_seconds": round(
                sum(compiling[stage] for stage in provenance.STAGES.values()), 3
            ),
            "compile": {key: round(value, 3) for key, value in compiling.items()},
            **provenance.machine(),
        }
        pictures = _draw(module, outcome)
        with _writing(out):
            _write(folder, config, outcome, pictures, origin)
    return Finished(out / name, outcome, origin)


def _which(config: Any, seed: int) -> dict[str, Any]:
    """Returns what makes a run what it is; with another of these its bits would be others."""
    entries = pydantic.TypeAdapter(type(config)).dump_python(config, mode="json")
    return {**entries, "--seed": seed, **provenance.code()}


def _draw(module: Any, outcome: Outcome) -> dict[str, bytes]:
    """Returns PNG files of figures and GIF files of animations; each has its place in a section."""
    from matplotlib.animation import Animation, PillowWriter

    from jaxnn.plot import style

    pictures = {}
    with style.context(), tempfile.TemporaryDirectory() as folder:
        for name, drawn in module.plot(outcome).items():
            file = Path(folder, "picture.gif" if isinstance(drawn, Animation) else "picture.png")
            if isinstance(drawn, Animation):
                drawn.save(file, writer=PillowWriter(fps=FRAMES_PER_SECOND), dpi=page.GIF_DPI)
            else:
                drawn.savefig(file, dpi=page.DPI)
            pictures[name] = file.read_bytes()
    shown = {name for section in outcome.sections for name in section.pictures}
    if shown != set(pictures):
        raise ValueError(f"sections show the pictures {shown}, but plot drew {set(pictures)}")
    return pictures


def _write(
    folder: Path, config: Any, outcome: Outcome, pictures: Mapping[str, bytes], origin: Any
) -> None:
    import numpy as np

    entries = pydantic.TypeAdapter(type(config)).dump_python(config, mode="json")
    described = type(config).__pydantic_fields__
    html = page.render(
        question=origin["question"],
        finding=outcome.finding,
        sections=outcome.sections,
        pictures=pictures,
        config=[(key, value, described[key].description or "") for key, value in entries.items()],
        provenance=origin,
    )
    metrics = {"finding": outcome.finding, **outcome.metrics}
    texts = {"config": entries, "metrics": metrics, "provenance": origin}
    for name, content in texts.items():
        text = json.dumps(_plain(content), indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", "utf-8")
    (folder / "index.html").write_text(html, "utf-8")
    for name, picture in pictures.items():
        (folder / f"{name}.{page.kind(picture)}").write_bytes(picture)
    np.savez_compressed(folder / "arrays.npz", **outcome.arrays)


def _plain(value: Any) -> Any:
    """Returns `value` as JSON knows it: arrays as lists, and NaN and infinities as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _on_host(outcome: Outcome) -> Outcome:
    """Waits for the device: the clock must not stop before the numbers are there."""
    import jax

    jax.block_until_ready(outcome)
    return outcome._replace(arrays=jax.device_get(dict(outcome.arrays)))


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refusal(f"cannot write to {folder}: {error.strerror or error}") from None


@contextlib.contextmanager
def _replacing(out: Path, name: str) -> Iterator[Path]:
    """Yields an empty folder that takes the place of `out`/`name` if all goes well."""
    final = out / name
    if final.exists() and not (final / "provenance.json").exists():
        raise Refusal(f"{final} exists and holds no result of an experiment; choose another --out")
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=out))
    fresh, former = staging / "fresh", staging / "former"
    try:
        fresh.mkdir()
        yield fresh
        with _writing(out):
            if final.exists():
                final.rename(former)
            fresh.rename(final)
    finally:
        if former.exists() and not final.exists():  # stopped between the two renames
            former.rename(final)
        shutil.rmtree(staging, ignore_errors=True)
