"""Times rivals in turn, so that a machine whose speed drifts drifts for all of them."""

import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table


def seconds(call: Callable[[], Any]) -> float:
    """Returns how long `call` takes, until its result is there."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def race(title: str, rivals: Mapping[str, Callable[[], Any]], rounds: int = 5) -> dict[str, float]:
    """Prints the first call (with compilation) and the median of `rounds` interleaved calls.

    A call of less than a second is timed right after another of its own: cores that slept, or still
    spin for the rival before, would else be measured.
    The ratio of each is to the first of `rivals`, the peer to beat: above 1 is faster.  Returns the
    medians, seconds.
    """
    first = {name: seconds(call) for name, call in rivals.items()}
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, call in rivals.items():
            if min([first[name], *times[name]]) < 1:
                seconds(call)
            times[name].append(seconds(call))
    medians = {name: statistics.median(runs) for name, runs in times.items()}
    base = next(iter(rivals))
    table = Table(title=title)
    table.add_column("")
    for column in ("first call, s", "median, ms", f"times as fast as {base}"):
        table.add_column(column, justify="right")
    for name, median in medians.items():
        table.add_row(
            name, f"{first[name]:.2f}", f"{median * 1e3:.1f}", f"{medians[base] / median:.1f}"
        )
    console = Console()
    if not console.is_terminal:
        console.width = 100
    console.print(table)
    return medians


def verdict(
    title: str, loops: Mapping[str, Any], medians: Mapping[str, float], goals: Mapping[str, str]
) -> None:
    """Prints how many times as fast as each peer the fastest `jaxnn` of a race was, and the goal.

    `loops` has peers that did not race, with seconds first.
    """
    mine = {name: median for name, median in medians.items() if name.startswith("jaxnn")}
    best = min(mine, key=lambda name: mine[name])
    table = Table(title=f"{title}: {best}, {mine[best]:.2f} s")
    for column in ("", "s", "times as fast", "goal"):
        table.add_column(column, justify="left" if column == "" else "right")
    peers = {name: median for name, (median, _) in loops.items()} | {
        name: median for name, median in medians.items() if name not in mine
    }
    for name, median in peers.items():
        table.add_row(name, f"{median:.2f}", f"{median / mine[best]:.1f}", goals.get(name, ""))
    Console(width=100).print(table)


def _status(field: str) -> float:
    """Returns a field of this process's memory, MB (Linux)."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1e3 if found else float("nan")


def memory_peak() -> float:
    """Returns the largest memory that this process has had so far, MB (Linux)."""
    return _status("VmHWM")


def memory_added(call: Callable[[], Any]) -> float:
    """Returns the peak memory that `call` adds, compilation and result included, MB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = _status("VmRSS")
    jax.block_until_ready(call())
    return _status("VmHWM") - before


def heading() -> str:
    """Returns what the figures were measured on."""
    return (
        f"jax {jax.__version__}, {jax.devices()[0].device_kind} × {jax.device_count()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}"
    )
