"""A job for the tests of faults: a walk in pieces, with checkpoints, in a process of its own.

    python tests/scale/job.py FOLDER PIECES [FAULT]

Prints `piece N` after each piece and the bits of the result at the end.  At the fifth piece it does
what the fault says: sends itself a signal, sends itself SIGKILL as soon as a checkpoint is half
written, or lets no file grow, as on a full disk.
"""

import hashlib
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.scale import resumable
from jaxnn.types import Segments

SIZE = 50_000  # a checkpoint takes long enough to be broken off


def walk(pieces: int) -> Segments:
    """Returns a random walk of so many pieces."""

    def advance(state, x):
        noise = jax.random.normal(jax.random.fold_in(state["key"], state["n"]), (SIZE,))
        return {**state, "n": state["n"] + 1, "w": 0.9 * state["w"] + noise * jnp.mean(x)}

    return Segments(
        init=lambda hp, key, x: {
            "key": key, "n": jnp.zeros((), jnp.int32), "w": jnp.full(SIZE, hp["a"])},
        advance=advance,
        score=lambda state: jnp.sum(state["w"]),
        halted=lambda state: state["n"] >= pieces,
        result=lambda state: state["w"],
    )  # fmt: skip


def kill_while_writing(folder: str) -> None:
    """Waits for a checkpoint that is not finished, and kills this process."""
    while True:
        if any("tmp" in path.name for path in Path(folder).iterdir()):
            os.kill(os.getpid(), signal.SIGKILL)


FAULTS = {
    "": lambda folder: None,
    "SIGKILL": lambda folder: os.kill(os.getpid(), signal.SIGKILL),
    "SIGTERM": lambda folder: os.kill(os.getpid(), signal.SIGTERM),
    "SIGINT": lambda folder: os.kill(os.getpid(), signal.SIGINT),
    "writing": lambda folder: threading.Thread(
        target=kill_while_writing, args=(folder,), daemon=True
    ).start(),
    "full": lambda folder: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
}


def main(folder: str, pieces: str, fault: str = "") -> None:
    """Runs the walk, going on with what is in the folder."""

    def progress(step, state):
        sys.stdout.write(f"piece {step}\n")
        sys.stdout.flush()
        if step == 5:
            FAULTS[fault](folder)
        time.sleep(0.05)

    result = resumable.run(
        walk(int(pieces)), {"a": 1.0}, jax.random.key(0), jnp.arange(4.0),
        saving=resumable.Saving(folder, every=2, resume=True), progress=progress,
    )  # fmt: skip
    sys.stdout.write(f"result {hashlib.sha256(np.asarray(result)).hexdigest()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
