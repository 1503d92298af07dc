"""Times rivals in turn, so that a machine whose speed drifts drifts for all of them."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from rich.console import Console
from rich.table import Table


def seconds(call: Callable[[], Any]) -> float:
    """Returns how long `call` takes, until its result is there."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def race(title: str, rivals: Mapping[str, Callable[[], Any]], rounds: int = 5) -> None:
    """Prints the first call (with compilation) and the median of `rounds` interleaved calls.

    The ratio of each is to the first of `rivals`, the peer to beat: above 1 is faster.
    """
    first = {name: seconds(call) for name, call in rivals.items()}
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, call in rivals.items():
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


def heading() -> str:
    """Returns what the figures were measured on."""
    return (
        f"jax {jax.__version__}, {jax.devices()[0].device_kind} × {jax.device_count()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}"
    )
