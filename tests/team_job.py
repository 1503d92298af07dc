"""A job of processes for the tests of faults: EM over rows of each, with a checkpoint each 2 steps.

    python tests/team_job.py FOLDER FAULT ATTEMPT

At the sixth step of the first attempt process WHO does to itself what the fault says.  Prints
`step N` after each step and the bits of the result at the end.
"""

import hashlib
import os
import signal
import sys
import time

import jax
import numpy as np

from jaxnn import gmm, scale

STEPS, AT = 12, 6
FAULTS = {  # which process, which signal
    "none": (None, 0),
    "worker": (1, signal.SIGKILL),
    "coordinator": (0, signal.SIGKILL),
    "hang": (1, signal.SIGSTOP),
    "preempted": (1, signal.SIGTERM),
    "ctrl-c": (0, signal.SIGINT),
    "refused": (None, 0),
}


def rows() -> np.ndarray:
    """Returns all rows: two clusters that overlap, so that EM takes its time."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(96, 2)) + rng.integers(2, size=(96, 1))).astype(np.float32)


def fit(x: np.ndarray, mine: slice, saving: scale.Saving | None, progress=None):
    """Returns the fit from these rows of x, and those that other processes have."""
    start = gmm.init(jax.random.key(0), x, 3)
    start = jax.tree.map(np.asarray, start)
    return scale.gmm.fit(start, x[mine], tol=0.0, max_steps=STEPS, saving=saving, progress=progress)


def bits(found) -> str:
    """Returns a digest of a mixture."""
    return hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in found.mixture[:2])).hexdigest()


def main(folder: str, fault: str, attempt: str) -> None:
    """Joins the job, and goes on with what is in the folder."""
    me = scale.join(timeout=100, heartbeat=6)
    count = jax.process_count()
    who, number = FAULTS[fault]

    def progress(steps: int, _: float) -> None:
        sys.stdout.write(f"step {steps}\n")
        sys.stdout.flush()
        if steps == AT and attempt == "0" and me == who:
            os.kill(os.getpid(), number)
        # The wish to stop reaches the others by itself, on a busy machine after a second or more.
        told = steps >= AT and attempt == "0" and fault in ("preempted", "ctrl-c")
        time.sleep(3 if told else 0.15)

    x = rows()
    if fault == "refused":
        x = x + 1
    mine = slice(me * 96 // count, (me + 1) * 96 // count)
    try:
        found = fit(x, mine, scale.Saving(folder, every=2, resume=True), progress)
    except ValueError as error:
        sys.stdout.write(f"refused {error}\n")
        sys.exit(2)
    sys.stdout.write(f"result {bits(found)}\n")
    scale.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
