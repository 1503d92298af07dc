"""A job of processes for the tests of faults: EM over rows of each, with a checkpoint each 2 steps.

    python tests/team_job.py FOLDER FAULTS ATTEMPT

FAULTS are words with commas between them: in attempt n the process that the nth fault is about does
it to itself after six steps more than in the one before.  Prints `step N` after each step and the
bits of the result at the end.
"""

import hashlib
import os
import signal
import sys
import time

import jax
import numpy as np

from jaxnn import gmm, scale

STEPS, AT = 22, 6
FAULTS = {  # which process, which signal
    "": (None, 0),
    "worker": (1, signal.SIGKILL),
    "coordinator": (0, signal.SIGKILL),
    "hang": (1, signal.SIGSTOP),
    "preempted": (1, signal.SIGTERM),
    "ctrl-c": (0, signal.SIGINT),
}
ASKED = ("preempted", "ctrl-c")


def at(attempt: int) -> int:
    """Returns after which step the fault of an attempt comes."""
    return AT * (1 + attempt)


def rows() -> np.ndarray:
    """Returns all rows: two clusters that overlap, so that EM takes its time."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(96, 2)) + rng.integers(2, size=(96, 1))).astype(np.float32)


def fit(x: np.ndarray, mine: slice, saving: scale.Saving | None, progress=None):
    """Returns the fit from these rows of x, and those that other processes have."""
    start = gmm.GMM(
        log_weights=np.log(np.full(3, 1 / 3, np.float32)),
        means=x[[0, 1, 2]],
        cov=gmm.Full(np.broadcast_to(np.eye(2, dtype=np.float32), (3, 2, 2)).copy()),
    )
    return scale.gmm.fit(start, x[mine], tol=0.0, max_steps=STEPS, saving=saving, progress=progress)


def bits(found) -> str:
    """Returns a digest of a mixture."""
    return hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in found.mixture[:2])).hexdigest()


def main(folder: str, faults: str, attempt: str) -> None:
    """Joins the job, and goes on with what is in the folder."""
    number = int(attempt)
    fault = [*faults.split(","), ""][number]
    # Only who hangs must be missed soon: a busy machine is silent for seconds, too.
    me = scale.join(timeout=100, heartbeat=6 if fault == "hang" else 100)
    count = jax.process_count()
    who, sent = FAULTS[fault]

    def progress(steps: int, _: float) -> None:
        sys.stdout.write(f"step {steps}\n")
        sys.stdout.flush()
        if steps == at(number) and me == who:
            os.kill(os.getpid(), sent)
        if fault in ASKED and steps >= at(number):
            # The wish to stop reaches the others by itself, on a busy machine after seconds: ever
            # longer steps give it minutes, of which it takes what it needs.
            time.sleep(0.2 * 2 ** (steps - at(number)))

    x = rows()
    mine = slice(me * 96 // count, (me + 1) * 96 // count)
    found = fit(x, mine, scale.Saving(folder, every=2, resume=True), progress)
    sys.stdout.write(f"result {bits(found)}\n")
    scale.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
