"""What does it cost to read the rows anew in each pass?  A file, beside the same rows in memory.

A file of float32 rows is made on the spot, in pieces.  Each way runs in a process of its own, so
that its peak of memory is its own, and the passes take turns, so that a machine whose speed drifts
drifts for both.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.harness import memory_peak

WAYS = ("stream", "memory")
QUERIES = 64  # of the kernel density
BATCH = 4_096  # rows of a step of training; 16 times as many of one of stepwise EM

Turn = Callable[[], None]


def write(path: Path, rows: int, columns: int, piece: int = 10**6) -> None:
    """Writes rows of 16 clusters, a piece at a time."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(16, columns)).astype(np.float32) * 4
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, columns))
    for start in range(0, rows, piece):
        n = min(piece, rows - start)
        noise = rng.standard_normal((n, columns), dtype=np.float32)
        out[start : start + n] = centres[rng.integers(16, size=n)] + noise
    out.flush()


def em(rows: Any, start: Any, passes: int, turn: Turn) -> Any:
    """Steps of EM; returns the log-likelihood."""
    from jaxnn import scale

    climb, state = scale.gmm.begin(start, rows, tol=0.0, max_steps=passes)
    turn()
    for _ in range(passes):
        state, _ = scale.gmm.advance(climb, state)
        turn()
    return scale.gmm.finish(climb, state).log_lik


def stepwise(rows: Any, start: Any, passes: int, turn: Turn) -> Any:
    """Epochs of stepwise EM; the first turn has the pass of checks in it."""
    from jaxnn import scale

    turn()
    fit = scale.gmm.fit_stepwise(
        start, rows, batch_size=16 * BATCH, epochs=passes, progress=lambda _: turn()
    )
    return fit.log_lik


def kde(rows: Any, start: Any, passes: int, turn: Turn) -> Any:
    """A kernel density of all rows at some queries, again and again."""
    from jaxnn import scale

    points = scale.kde.fit(rows)
    found = np.zeros(0)
    turn()
    for _ in range(passes):
        found = scale.kde.log_prob(points, np.tile(np.asarray(start.means), (QUERIES // 16, 1)))
        turn()
    return found.mean()


def training(rows: Any, start: Any, passes: int, turn: Turn) -> Any:
    """Epochs of an autoencoder, the rows in the order that they have."""
    import jax
    import jax.numpy as jnp

    from jaxnn import mlp, scale, train

    d = start.means.shape[1]

    def value(net: Any, batch: Any, key: Any) -> Any:
        del key
        apart = mlp.apply(net, batch.x, activation="tanh") - batch.x
        return jnp.sum(batch.weight[:, None] * apart**2) / jnp.sum(batch.weight)

    net = mlp.init(jax.random.key(1), (d, 32, 2, 32, d), activation="tanh")
    fit = scale.train.fit if isinstance(rows, scale.Source) else train.fit
    rows = rows if isinstance(rows, scale.Source) else train.Batch(rows)
    turn()
    fitted = fit(
        jax.random.key(0), net, rows, jax.value_and_grad(value), epochs=passes, batch_size=BATCH,
        shuffle=False, callback=lambda _: turn(),
    )  # fmt: skip
    return fitted.value


WORK = {"em": em, "stepwise": stepwise, "kde": kde, "training": training}


def child(what: str, way: str, path: str, passes: int) -> None:
    """Runs passes when told to; prints the seconds of each, at the end the peak of memory."""
    import jax

    from jaxnn import gmm, scale

    first = np.load(path, mmap_mode="r")[:10_000]
    start = gmm.init(jax.random.key(0), np.array(first), 16)
    del first
    rows = scale.npy(path) if way == "stream" else np.load(path)
    clock = time.perf_counter()

    def turn() -> None:
        nonlocal clock
        print(json.dumps({"seconds": time.perf_counter() - clock}), flush=True)
        input()
        clock = time.perf_counter()

    found = float(WORK[what](rows, start, passes, turn))
    print(json.dumps({"peak": memory_peak() / 1.048576, "found": found}), flush=True)


def measure(what: str, path: Path, passes: int) -> dict[str, dict[str, Any]]:
    """Returns what the children printed, which take their passes in turn."""
    jobs = {
        way: subprocess.Popen(
            [sys.executable, "-m", "experiments.benchmarks.stream", "--passes", str(passes),
             "--child", what, way, str(path)],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for way in WAYS
    }  # fmt: skip
    said: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for number in range(passes + 2):  # before the first pass, after each, and at the end
        for way, job in jobs.items():
            assert job.stdin is not None
            assert job.stdout is not None
            if number:
                job.stdin.write("\n")
                job.stdin.flush()
            said[way].append(json.loads(job.stdout.readline()))
    for job in jobs.values():
        job.communicate()
    return {
        way: {"passes": [turn["seconds"] for turn in turns[1:-1]], **turns[-1]}
        for way, turns in said.items()
    }


def main() -> None:
    """Makes the file, runs both ways in turn, prints what each pass took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--passes", type=int, default=7)
    parser.add_argument("--only", choices=WORK, nargs="*", default=list(WORK))
    parser.add_argument("--child", nargs=3, metavar=("WHAT", "WAY", "PATH"))
    given = parser.parse_args()
    if given.child:
        what, way, path = given.child
        child(what, way, path, given.passes)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.npy")
        write(path, given.rows, given.columns)
        print(f"{given.rows:,} rows × {given.columns}, float32, {path.stat().st_size / 2**20:.0f} "
              f"MiB; {given.passes} passes of each in turn, after one that compiles")  # fmt: skip
        for what in given.only:
            found = measure(what, path, given.passes + 1)
            stream, memory = (found[way]["passes"][1:] for way in WAYS)
            ratios = sorted(a / b for a, b in zip(stream, memory, strict=True))
            middle = statistics.median
            print(f"{what}: a pass over the file {middle(stream):.2f} s, over memory "
                  f"{middle(memory):.2f} s; {middle(ratios):.2f} times as long, "
                  f"{ratios[0]:.2f} to {ratios[-1]:.2f}; peak {found['stream']['peak']:.0f} and "
                  f"{found['memory']['peak']:.0f} MiB; {found['stream']['found']:.5f} and "
                  f"{found['memory']['found']:.5f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
