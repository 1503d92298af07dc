"""Checks that run in processes of their own, where JAX sees other devices or other processes.

A program of checks holds functions `check_*`; `main` runs them in turn and prints what went wrong
with each.  The test that started it asks by name.
"""

import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(**settings: str) -> dict[str, str]:
    """That of this process, with settings; what compiles at the same time has no common cache."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **settings}
    env.pop("JAX_COMPILATION_CACHE_DIR", None)
    return env


def start(program: str, *arguments: str, **settings: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / program), *arguments],
        env=environment(**settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def results(children: Sequence[subprocess.Popen], timeout: float) -> list[dict[str, str]]:
    """What each child found: check -> "" or what went wrong."""
    found = []
    for child in children:
        try:
            out, err = child.communicate(timeout=timeout)
        finally:
            for other in children:
                if sys.exc_info()[0]:
                    other.kill()
        assert child.returncode == 0, err[-3000:]
        found.append(json.loads(out.splitlines()[-1]))
    return found


def refused(call: Callable[[], object], errors: type[Exception], *words: str) -> None:
    """One error of that type, on one line, with all these words."""
    told = None
    try:
        call()
    except errors as error:
        told = str(error)
    assert told is not None, f"not refused: {words}"
    assert all(word in told for word in words) and "\n" not in told, told  # noqa: PT018


def log_density(points: np.ndarray, weight: np.ndarray, h: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Oracle: the sum of Gaussians of widths h, in NumPy."""
    apart = (x[:, None] - points[None]) / h
    kernel = np.exp(-np.square(apart).sum(axis=2) / 2) / np.prod(h * np.sqrt(2 * np.pi))
    return np.log(kernel @ weight / weight.sum())


def main(checks: dict[str, Callable[[], None]]) -> None:
    found = {}
    for name, check in checks.items():
        try:
            check()
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc()[-1500:]
    sys.stdout.write(json.dumps(found) + "\n")


def names(program: str) -> list[str]:
    """The checks of a program, read without importing it."""
    lines = (ROOT / "tests" / program).read_text().splitlines()
    return [line[4:].split("(")[0] for line in lines if line.startswith("def check_")]
