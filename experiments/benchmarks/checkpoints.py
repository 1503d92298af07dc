"""What does a checkpoint cost: the loop held up, the bytes on disk, the time to go on from it?

One fit whose state is 10 MB and one sweep of 1,024 small networks, through `scale.run` and
`scale.sweep`, a checkpoint after every piece.  A checkpoint is written in the background: the loop
waits for the copy, and for the one before if that is still being written.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from experiments.benchmarks.harness import heading
from jaxnn import mlp, scale, train
from jaxnn.scale import Saving
from jaxnn.types import Segments

LAYERS = (64, 16, 10)
DESCEND = mlp.value_and_grad()


def one_state(megabytes: float, pieces: int) -> Segments:
    """Returns a fit that does next to nothing to a float32 state of so many megabytes."""
    floats = int(megabytes * 1e6 / 4)
    return Segments(
        init=lambda hparams, key: (jnp.int32(0), jax.random.normal(key, (floats,), jnp.float32)),
        advance=lambda state: (state[0] + 1, state[1] * jnp.float32(0.999)),
        score=lambda state: state[1][0],
        halted=lambda state: state[0] >= pieces,
        result=lambda state: state[1][0],
    )


def network(hparams: Any, key: Any) -> Any:
    """Returns a member: where it starts, how it descends, and its step length."""
    return mlp.init(key, LAYERS), DESCEND, {"learning_rate": hparams["rate"]}


def measure(title: str, job: Callable[..., Any], pause: float) -> None:
    """Prints what the checkpoints of a job cost.

    Args:
        title: of the line.
        job: called with `saving` and `progress`.
        pause: seconds after each piece, which stand for a longer piece.
    """
    held, read = [], []

    def timed(method: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            start = time.perf_counter()
            found = method(*args)
            seconds.append(time.perf_counter() - start)
            return found

        return call

    rest = lambda *_: time.sleep(pause)
    save, restore = scale.Checkpoints.save, scale.Checkpoints.restore
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(scale.Checkpoints, "save", timed(save, held)),
        mock.patch.object(scale.Checkpoints, "restore", timed(restore, read)),
    ):
        jax.block_until_ready(job(saving=Saving(folder, keep=1), progress=rest))
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        for _ in range(5):  # nothing is left to do: the whole call is what a resume costs
            start = time.perf_counter()
            jax.block_until_ready(job(saving=Saving(folder, keep=1, resume=True), progress=rest))
            read[-1:] = [(read[-1], time.perf_counter() - start)]
    first, *others = held
    one, whole = (statistics.median(times) for times in zip(*read, strict=True))
    print(
        f"{title}: {len(held)} checkpoints, the loop held up by "
        f"{statistics.median(others) * 1e3:.0f} ms (median; "
        f"most {max(others) * 1e3:.0f} ms, the first {first * 1e3:.0f} ms), "
        f"{size / 1e6:.1f} MB on disk; a resume reads in {one * 1e3:.0f} ms, the whole call "
        f"{whole * 1e3:.0f} ms"
    )


def main() -> None:
    """Prints one line for the state and one for the sweep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--members", type=int, default=1_024)
    parser.add_argument("--pieces", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between two pieces")
    given = parser.parse_args()
    print(heading())
    key = jax.random.key(0)
    alone = one_state(given.megabytes, given.pieces)
    for pause in (given.pause, 0.0):
        measure(
            f"a state of {given.megabytes:g} MB, pieces {pause:g} s apart",
            partial(scale.run, alone, {}, key),
            pause,
        )
    x = jax.random.normal(key, (256, LAYERS[0]), jnp.float32)
    rows = train.Batch(x=x, y=jnp.argmax(x[:, : LAYERS[-1]], axis=1))
    many = train.segments(network, epochs=given.pieces, batch_size=32)
    rates = {"rate": jnp.linspace(1e-3, 1e-1, given.members)}
    name = "-".join(map(str, LAYERS))
    measure(
        f"a sweep of {given.members:,} networks {name}, pieces {given.pause:g} s and longer apart",
        partial(scale.sweep, many, rates, key, rows),
        given.pause,
    )


if __name__ == "__main__":
    main()
