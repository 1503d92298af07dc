"""Long fits that can be killed: a fit in pieces with checkpoints between them, and how it stops.

Killed at any moment, the same call with `resume=True` goes on from the last checkpoint and ends
with the same bits.  SIGTERM (a machine that is taken away) and Ctrl-C are answered between two
pieces: the state is saved first.
"""

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxnn import checks
from jaxnn.scale.checkpoints import Checkpoints, digest
from jaxnn.types import Key, Segments

WHERE = "scale.resumable"
FLAGS = ("jax_enable_x64", "jax_threefry_partitionable")  # other bits where they differ
AGAIN = 75  # EX_TEMPFAIL: what a supervisor takes for "start me again"


class Preempted(SystemExit):
    """The machine is wanted for something else; all is saved.  Uncaught, it exits with code 75."""

    def __init__(self, told: str):
        super().__init__(AGAIN)
        self.told = told

    def __str__(self) -> str:
        return self.told


class Stops:
    """Notes SIGTERM and the first Ctrl-C, instead of breaking off; a second one breaks off."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stops":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.signal is not None:
            self.__exit__()
            raise KeyboardInterrupt
        self.signal = number

    def now(self, step: int) -> int | None:
        """Returns the signal that ends the run after this step, in all processes the same."""
        if jax.process_count() == 1:
            return self.signal
        from jax.experimental import multihost_utils

        # JAX's own runtime takes SIGTERM, and tells all processes at which step to stop.
        return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else None


def stop(checkpoints: Checkpoints, number: int, step: int) -> None:
    """Ends the run, saved up to `step`, by the exception that belongs to a signal."""
    checkpoints.wait()
    told = f"stopped after piece {step}; resume=True goes on from {checkpoints.folder}"
    if checkpoints.saved != step:
        told = f"stopped after piece {step}, which could not be saved"
    if number == signal.SIGINT:
        raise KeyboardInterrupt(told)
    raise Preempted(told)


@partial(jax.jit, static_argnames="init")
def _begin(init: Callable[..., PyTree], hparams: Any, key: Any, shared: Any) -> PyTree:
    return init(hparams, key, *shared)


@partial(jax.jit, static_argnames="protocol")
def _advance(protocol: Segments, state: PyTree, shared: Any) -> PyTree:
    state = protocol.advance(state, *shared)
    return state, protocol.halted(state)


def facts_of(hparams: dict[str, Any], key: Key, shared: Any, config: Any) -> dict[str, Any]:
    """Returns what a run is, as JSON has it: numbers, key, a digest of the data, and `config`."""
    return {
        "hparams": {name: np.asarray(value).tolist() for name, value in hparams.items()},
        "key": digest(key),
        "data": digest(shared),
        "config": config,
        **{name: getattr(jax.config, name) for name in FLAGS},
    }


def run(
    protocol: Segments,
    hparams: dict[str, Any],
    key: Key,
    *shared: PyTree,
    folder: str | os.PathLike[str],
    every: int = 1,
    keep: int = 2,
    resume: bool = False,
    config: Any = None,
    progress: Callable[[int, PyTree], None] | None = None,
) -> PyTree:
    """Returns the result of a fit in pieces, which may be broken off and gone on with.

    Args:
        protocol: the fit, such as `train.segments(...)` or `gmm.segments(...)`.
        hparams: its numbers.
        key: its randomness.
        *shared: its data.
        folder: of the checkpoints; one run, one folder.
        every: pieces between two checkpoints, written in the background.
        keep: how many checkpoints to keep.
        resume: whether to go on with what is in the folder; if there is nothing yet, to begin.
        config: what else makes the run what it is (the sizes of the network, the name of the
            experiment): JSON.  A resume with another is refused.
        progress: called after each piece, with the number of pieces and the state.

    Raises:
        ValueError: the folder is of another run, or in use, or `resume` is off and it is not empty.
        OSError: it cannot be written.
        KeyboardInterrupt: Ctrl-C, after the running piece, with all saved; the message says how
            to go on.  A second Ctrl-C breaks off at once.
        Preempted: SIGTERM, the same; a SystemExit with code 75.
    """
    every = checks.count(WHERE, "every", every)
    checks.key(WHERE, key)
    checks.instance(WHERE, "protocol", protocol, Segments)
    facts = facts_of(hparams, key, shared, config)
    with Checkpoints(folder, facts, resume=resume, keep=keep) as checkpoints, Stops() as stops:
        state = _begin(protocol.init, hparams, key, shared)
        found = checkpoints.restore(state) if resume else None
        step = 0
        if found is not None:
            step, state = found
        halted = bool(jax.jit(protocol.halted)(state))
        while not halted:
            state, flag = _advance(protocol, state, shared)
            step += 1
            halted = bool(flag)
            number = stops.now(step)
            if halted or number is not None or step % every == 0:
                checkpoints.save(step, state)
            if progress is not None:
                progress(step, state)
            if number is not None and not halted:
                stop(checkpoints, number, step)
        return jax.jit(protocol.result)(state)
