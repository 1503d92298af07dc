"""How long would a billion rows or a million networks take on 1, 8, 64 and 512 accelerators?

A calculation, not a measurement: numbers of operations and bytes, divided by speeds that are
stated.  Only the share of a machine's peak that the two programs reach is measured, on this one.
"""

import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.page import Section, Table
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import gmm, mlp, train
from jaxnn.plot import style

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("A billion rows, a million networks", "十亿样本与百万网络：规模推算")
PARTS = {"compute": style.BLUE, "memory": style.GREEN, "add up": style.VERMILION}
JOBS = ("mixture", "networks")


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set: the assumptions."""

    rows: int = Field(default=10**9, ge=1)
    """Rows of the mixture, float32."""
    columns: int = Field(default=64, ge=1)
    """Columns of the mixture."""
    components: int = Field(default=256, ge=1)
    """Components of the mixture, with full covariance matrices."""
    steps: int = Field(default=50, ge=1)
    """Steps of EM."""
    networks: int = Field(default=10**6, ge=1)
    """Networks to train."""
    sizes: tuple[int, ...] = Field(default=(64, 64, 32, 10), min_length=2)
    """Widths of each network."""
    examples: int = Field(default=1437, ge=1)
    """Rows that each network learns from."""
    batch: int = Field(default=64, ge=1)
    """Rows in a step."""
    epochs: int = Field(default=50, ge=1)
    """Passes over the rows."""
    devices: tuple[int, ...] = Field(default=(1, 8, 64, 512), min_length=1)
    """Accelerators."""
    peak: float = Field(default=67.0, gt=0)
    """Peak of one accelerator in float32, TFLOP/s."""
    bandwidth: float = Field(default=3.35, gt=0)
    """Of its memory, TB/s."""
    memory: float = Field(default=80.0, gt=0)
    """Its memory, GB; nine tenths may hold rows."""
    loading: float = Field(default=5.0, gt=0)
    """Rows that do not fit are read anew in each step, GB/s an accelerator."""
    link: float = Field(default=50.0, gt=0)
    """Interconnect, GB/s an accelerator in each direction."""
    latency: float = Field(default=20.0, ge=0)
    """Of one message, microseconds."""
    price: float = Field(default=2.5, ge=0)
    """Of one accelerator, for an hour."""
    share_mixture: float = Field(default=0.0, ge=0, le=1)
    """Share of the peak that EM reaches; 0 takes the share measured here."""
    share_networks: float = Field(default=0.0, ge=0, le=1)
    """Share of the peak that training many networks reaches; 0 takes the share measured here."""
    trial_product: int = Field(default=2048, ge=2)
    """Side of the matrices whose product is this machine's peak."""
    trial_rows: int = Field(default=40_000, ge=1000)
    """Rows of the mixture, of 16 components, that is timed here."""
    trial_networks: int = Field(default=64, ge=1)
    """Networks that are timed here, for five epochs."""


SMOKE = {"trial_product": 64, "trial_rows": 1000, "trial_networks": 2, "columns": 8}


class Work(NamedTuple):
    """What a job needs, whoever does it."""

    operations: float  # floating-point, in all
    moved: float  # bytes between memory and arithmetic, each step
    rows: float  # bytes of rows, which may not fit
    steps: int
    all_reduce: float  # bytes, each step


def mixture_work(rows: int, columns: int, components: int, steps: int) -> Work:
    """EM with full covariances: both steps are one product of (k, f) with (f, rows).

    f counts the numbers of a row that matter: its products, itself, and one.
    """
    f = columns * (columns + 1) // 2 + columns + 1
    return Work(
        operations=4.0 * rows * components * f * steps,
        moved=4.0 * rows * columns,
        rows=4.0 * rows * columns,
        steps=steps,
        all_reduce=4.0 * components * f,
    )


def network_work(
    networks: int, sizes: tuple[int, ...], examples: int, batch: int, epochs: int
) -> Work:
    """Training by Adam: two operations a weight and row forward, four backward; nothing is shared.

    Each step reads and writes every weight and its two moments, and writes and reads its gradient.
    """
    weights = sum(a * b for a, b in itertools.pairwise(sizes))
    return Work(
        operations=6.0 * networks * weights * examples * epochs,
        moved=8 * 4.0 * networks * weights,
        rows=0.0,
        steps=epochs * -(-examples // batch),
        all_reduce=0.0,
    )


def seconds(work: Work, config: Config, devices: int, share: float) -> dict[str, float]:
    """The parts of the time of a job; moving and computing go on at the same time."""
    compute = work.operations / (config.peak * 1e12 * share * devices)
    fits = work.rows / devices < 0.9 * config.memory * 1e9
    speed = config.bandwidth * 1e12 if fits else config.loading * 1e9
    memory = work.steps * work.moved / (speed * devices)
    # A ring: every byte passes each link twice, in 2 (devices - 1) messages.
    ring = 2 * (devices - 1) * (work.all_reduce / devices / (config.link * 1e9)
                                + config.latency * 1e-6)  # fmt: skip
    return {
        "compute": compute,
        "memory": max(memory - compute, 0.0),
        "add up": work.steps * ring if work.all_reduce else 0.0,
    }


def best_of(call: Callable[[], Any], runs: int = 5) -> float:
    """Seconds of the fastest of some calls, after one that compiles."""
    jax.block_until_ready(call())
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return min(times)


def measure(config: Config, key: Any) -> dict[str, float]:
    """The speeds of this machine, FLOP/s: a matrix product, EM, and networks side by side."""
    n = config.trial_product
    a = jax.random.normal(key, (n, n), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    peak = 2 * n**3 / best_of(lambda: product(a))

    rows, d, k = config.trial_rows, config.columns, min(config.components, 16)
    x = jax.random.normal(key, (rows, d), jnp.float32)
    start = gmm.init(key, x[:1000], k, family="full", start="random points")
    steps = 2
    em = best_of(lambda: gmm.fit(start, x, tol=0.0, max_steps=steps), 3)
    # The log-likelihood of the start is half a step.
    done = mixture_work(rows, d, k, steps).operations * (1 + 0.5 / steps)

    members, epochs = config.trial_networks, 5
    y = jnp.arange(config.examples) % config.sizes[-1]
    ink = jax.random.uniform(key, (config.examples, config.sizes[0]), jnp.float32)
    batch = train.Batch(ink, y)
    descend = mlp.value_and_grad()

    @jax.jit
    @jax.vmap
    def fit(key: Any) -> Any:
        params = mlp.init(key, config.sizes)
        return train.fit(key, params, batch, descend, epochs=epochs, batch_size=config.batch).value

    keys = jax.random.split(key, members)
    nets = best_of(lambda: fit(keys), 3)
    trained = network_work(members, config.sizes, config.examples, config.batch, epochs).operations
    return {"product": peak, "mixture": done / em, "networks": trained / nets}


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Measures the shares, and does the sums."""
    with progress.task("shares of the peak on this machine", 1) as advance:
        speeds = measure(config, jax.random.key(seed))
        advance()
    given = {"mixture": config.share_mixture, "networks": config.share_networks}
    shares = {job: given[job] or min(speeds[job] / speeds["product"], 1.0) for job in JOBS}
    works = {
        "mixture": mixture_work(config.rows, config.columns, config.components, config.steps),
        "networks": network_work(
            config.networks, config.sizes, config.examples, config.batch, config.epochs
        ),
    }
    parts = {
        job: [seconds(works[job], config, n, shares[job]) for n in config.devices] for job in JOBS
    }
    totals = {job: [sum(part.values()) for part in parts[job]] for job in JOBS}
    table = Table(
        ["job", "accelerators", "time", "compute", "memory", "add up", "efficiency", "cost"],
        [
            [
                job, n, _time(total), *(_time(part[name]) for name in PARTS),
                f"{100 * totals[job][0] * config.devices[0] / (total * n):.0f} %",
                f"{config.price * n * total / 3600:.2f}",
            ]
            for job in JOBS
            for n, total, part in zip(config.devices, totals[job], parts[job], strict=True)
        ],
        f"At {config.peak:g} TFLOP/s, {config.bandwidth:g} TB/s and {config.link:g} GB/s between "
        f"accelerators, {100 * shares['mixture']:.0f} % and {100 * shares['networks']:.0f} % of "
        f"the peak, and {config.price:g} an hour; efficiency is that beside the first line.",
    )  # fmt: skip
    last = config.devices[-1]
    finding = (
        f"If {last} accelerators reach the shares of their peak that this machine does, EM on "
        f"{config.rows:.0e} rows of {config.columns} columns with {config.components} components "
        f"takes {_time(totals['mixture'][-1])} for {config.steps} steps, and {config.networks:.0e} "
        f"networks {_time(totals['networks'][-1])}."
    )
    return Outcome(
        finding=finding,
        metrics={
            "measured_gflops": {name: speed / 1e9 for name, speed in speeds.items()},
            "share_of_peak": shares,
            "seconds": {job: dict(zip(map(str, config.devices), totals[job], strict=True))
                        for job in JOBS},
            "all_reduce_bytes": works["mixture"].all_reduce,
        },
        arrays={
            "devices": np.array(config.devices),
            **{f"{job}_{name}": np.array([part[name] for part in parts[job]])
               for job in JOBS for name in PARTS},
        },
        sections=[
            Section(
                "The sums",
                "A step of EM with full covariances multiplies, for every row, the "
                f"{works['mixture'].all_reduce / 4 / config.components:.0f} products of its "
                "columns with every component, once to weigh it and once to add it up: "
                f"{works['mixture'].operations / config.steps:.1e} operations. The rows are "
                f"{works['mixture'].rows / 1e9:.0f} GB; where they do not fit into the "
                "memories of the accelerators they are read anew in each step, while the ones "
                "before are computed with. After a step the accelerators add up their moments, "
                f"{works['mixture'].all_reduce / 1e6:.1f} MB, whatever the number of rows.\n\n"
                "Networks share nothing: each accelerator trains its own, and nothing is added up. "
                "But they are small: their weights, gradients and moments pass through memory in "
                f"each of {works['networks'].steps} steps. Where that takes longer than the "
                "arithmetic, the rest of it is the part called memory.\n\n"
                f"On this machine a large matrix product runs at {speeds['product'] / 1e9:.0f} "
                f"GFLOP/s, EM at {speeds['mixture'] / 1e9:.0f}, {config.batch} rows at a time "
                f"through many small networks at {speeds['networks'] / 1e9:.1f}. Whether an "
                "accelerator reaches the same shares of its peak is an assumption, and the weakest "
                "of all: --set share_networks=0.02 tries another.",
                {"parts": "Time by number of accelerators, on logarithmic axes, and where it goes. "
                          "The dotted line is what perfect scaling would give."},
                table,
            ),
        ],
        table=table,
    )  # fmt: skip


def _time(value: float) -> str:
    """Seconds in the unit that suits them."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{1e3 * value:.2g} ms" if value else "0"


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws the time of both jobs, and what it is made of."""
    found = outcome.arrays
    devices = found["devices"]
    figure = Figure(figsize=(10, 4.4))
    panels = figure.subplots(1, 2)
    titles = {"mixture": "EM, a mixture of Gaussians", "networks": "many small networks"}
    for ax, job in zip(panels, JOBS, strict=True):
        times = {name: found[f"{job}_{name}"] for name in PARTS}
        total = np.sum(list(times.values()), axis=0)
        ax.plot(devices, total[0] * devices[0] / devices, ":", color=style.INK)
        ax.plot(devices, total, "o-", color=style.INK, label="all", markersize=8)
        for (name, color), mark in zip(PARTS.items(), "s^D", strict=True):
            if (times[name] > 0).any():
                shown = np.where(times[name] > 0, times[name], np.nan)
                ax.plot(devices, shown, f"{mark}--", color=color, label=name)
        ax.set(xscale="log", yscale="log", xlabel="accelerators", title=titles[job])
        ax.set_xticks(devices, [str(n) for n in devices], minor=False)
        ax.minorticks_off()
        ax.legend(loc="lower left")
    panels[0].set_ylabel("time (s)")
    return {"parts": figure}
