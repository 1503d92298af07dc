"""What is done of a run that is broken off: kept beside its result until the run is through.

`OUT/.NAME.checkpoints` belongs to one run: `run.json` says which, and each sweep of it has a folder
of its own, numbered in the order in which they come.  Of short sweeps nothing is kept.
"""

import contextlib
import importlib.util
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

WHICH = "run.json"
EVERY = 30.0  # seconds between two checkpoints


class Refusal(Exception):
    """Something the person at the terminal can mend; the message is one line."""


class Kept:
    """The checkpoints of one run, sweep by sweep."""

    def __init__(self, folder: Path, which: Mapping[str, Any], *, resume: bool, seconds: float):
        self._folder, self._which = folder, which
        self._resume, self._seconds = resume, seconds
        self._sweeps = 0

    def sweep(self, fit_one: Any, hparams: Any, key: Any, *shared: Any, **options: Any) -> Any:
        """Returns what `sweep.run` does, from what is kept of the same sweep of this run."""
        from jaxnn import scale

        self._sweeps += 1
        saving = scale.Saving(
            self._folder / f"{self._sweeps:03d}", resume=self._resume, config=self._which,
            seconds=self._seconds,
        )  # fmt: skip
        return scale.sweep(fit_one, hparams, key, *shared, saving=saving, **options)


def folder_of(out: Path, name: str) -> Path:
    """Returns where the checkpoints of an experiment are."""
    return out / f".{name}.checkpoints"


def anything(folder: Path) -> bool:
    """Returns whether there is a checkpoint to go on from."""
    return any(path.name.isdigit() for path in folder.glob("*/*"))


@contextlib.contextmanager
def keeping(
    folder: Path, which: Mapping[str, Any], again: str, *, resume: bool, seconds: float
) -> Iterator[Kept | None]:
    """Yields what keeps the sweeps of a run; all of it is thrown away once the run is through.

    Args:
        folder: of this run.
        which: what makes the run what it is, name by name, as JSON has it.
        again: the command that goes on.
        resume: whether to go on with what is there, which must be of the same run.
        seconds: the least time between two checkpoints.

    Yields None where nothing can be kept: in a job of many processes, and without orbax.
    """
    with contextlib.ExitStack() as stack:
        kept = _open(stack, folder, which, again, resume, seconds)
        try:
            yield kept
        except BaseException as error:
            if kept is None or not anything(folder):
                if kept is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                raise
            _tell(error, folder, f"what is done is kept; to go on: {again}")
            raise
        if kept is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _tell(error: BaseException, folder: Path, kept: str) -> None:
    """Says of whatever broke the run off how it goes on; raises what the terminal shows."""
    from jaxnn import scale

    if isinstance(error, KeyboardInterrupt):
        raise KeyboardInterrupt(f"interrupted; {kept}") from None
    if isinstance(error, scale.Preempted):
        raise scale.Preempted(f"told to stop; {kept}") from None
    if isinstance(error, scale.OtherRun):
        raise Refusal(f"{error}; delete {folder} to begin anew") from None
    if isinstance(error, Refusal):
        raise Refusal(f"{error}; {kept}") from None
    error.add_note(kept)


def _open(
    stack: contextlib.ExitStack, folder: Path, which: Mapping[str, Any], again: str, resume: bool,
    seconds: float,
) -> Kept | None:  # fmt: skip
    import jax

    why = None
    if jax.process_count() > 1:
        why = "a job of many processes keeps no checkpoints of its own; run it without --resume"
    elif importlib.util.find_spec("orbax.checkpoint") is None:
        why = "checkpoints need orbax; pip install 'jaxnn-functional[scale]'"
    if why is not None:
        if resume:
            raise Refusal(why)
        return None
    if resume and not anything(folder):
        raise Refusal(f"there is no checkpoint in {folder} to go on from; run it without --resume")
    from jaxnn.scale import folders

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = folders.locked("--resume", folder)
    except OSError as error:
        raise Refusal(f"cannot write to {folder}: {error.strerror or error}") from None
    except ValueError:
        raise Refusal(f"another process is at work on this experiment, in {folder}") from None
    stack.callback(os.close, lock)
    if resume:
        _compare(folder, which)
    elif anything(folder):
        raise Refusal(
            f"a run that was broken off is kept in {folder}; delete it to begin anew, or to go on: "
            f"{again}"
        )
    else:
        for old in folder.glob("[0-9]*"):  # a sweep that had not come to its first checkpoint
            shutil.rmtree(old, ignore_errors=True)
        fresh = folder / f".{WHICH}"
        fresh.write_text(json.dumps(which, indent=2), "utf-8")
        fresh.replace(folder / WHICH)
    return Kept(folder, which, resume=resume, seconds=seconds)


def _compare(folder: Path, which: Mapping[str, Any]) -> None:
    """Raises Refusal unless what is kept is of this run, naming what differs."""
    file = folder / WHICH
    try:
        before = dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        raise Refusal(
            f"{file} is damaged, so that nobody knows of which run the checkpoints are; delete "
            f"{folder} to begin anew"
        ) from None
    now = json.loads(json.dumps(which))
    short = lambda entry: json.dumps(entry, ensure_ascii=False)[:60]
    others = [
        f"{name} was {short(before.get(name))} and is {short(now.get(name))} now"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if others:
        raise Refusal(
            f"--resume goes on with the same run only, but {'; '.join(others)}; delete {folder} "
            "to begin anew"
        )
