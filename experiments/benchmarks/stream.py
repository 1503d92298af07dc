"""What does it cost to read the rows anew in each pass?  EM over a file, beside the same in memory.

A file of float32 rows is made on the spot, in pieces.  Each way runs in a process of its own, so
that its peak of memory is its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from experiments.benchmarks.harness import memory_peak

WAYS = ("stream", "memory")


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


def child(way: str, path: str, components: int, family: str, passes: int) -> None:
    """Runs some passes and prints seconds of each and the peak of memory."""
    import jax

    from jaxnn import gmm, scale

    first = np.load(path, mmap_mode="r")[:10_000]
    start = gmm.init(jax.random.key(0), np.array(first), components, family=family)
    del first
    rows = scale.npy(path) if way == "stream" else np.load(path)
    clock = time.perf_counter()
    climb, state = scale.gmm.begin(start, rows, tol=0.0, max_steps=passes + 1)
    begun = time.perf_counter() - clock
    seconds = []
    for _ in range(passes + 1):
        clock = time.perf_counter()
        state, _ = scale.gmm.advance(climb, state)
        seconds.append(time.perf_counter() - clock)
    fit = scale.gmm.finish(climb, state)
    peak = memory_peak() / 1.048576
    print(json.dumps({"begin": begun, "first": seconds[0], "pass": statistics.median(seconds[1:]),
                      "peak": peak, "log_lik": float(fit.log_lik)}))  # fmt: skip


def main() -> None:
    """Makes the file, runs both ways in turn, prints one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--family", default="full")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--child", nargs=2, metavar=("WAY", "PATH"))
    given = parser.parse_args()
    if given.child:
        way, path = given.child
        child(way, path, given.components, given.family, given.passes)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.npy")
        write(path, given.rows, given.columns)
        print(f"{given.rows:,} rows × {given.columns}, float32, {path.stat().st_size / 2**20:.0f} "
              f"MiB; {given.components} components, {given.family}")  # fmt: skip
        found = {}
        for way in WAYS:
            command = [sys.executable, "-m", "experiments.benchmarks.stream", "--child", way,
                       str(path), "--components", str(given.components), "--family", given.family,
                       "--passes", str(given.passes)]  # fmt: skip
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[way] = json.loads(out.splitlines()[-1])
            print(f"{way:>7}: {found[way]['pass']:.2f} s a pass (first, compiled, "
                  f"{found[way]['first']:.2f} s; checks "
                  f"and variances {found[way]['begin']:.2f} s), "
                  f"peak {found[way]['peak']:.0f} MiB, log-likelihood "
                  f"{found[way]['log_lik']:.6f}")  # fmt: skip
        print(f"a pass over the file takes {found['stream']['pass'] / found['memory']['pass']:.2f} "
              "times as long as one over memory")  # fmt: skip


if __name__ == "__main__":
    main()
