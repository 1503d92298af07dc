"""Long fits that can be killed: a fit in pieces with checkpoints between them, and how it stops.

Killed at any moment, the same call with `resume=True` goes on from the last checkpoint and ends
with the same bits.  SIGTERM (a machine that is taken away) and Ctrl-C are answered between two
pieces: the state is saved first, in all processes of a job after the same piece.
"""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PyTree

from jaxnn import checks
from jaxnn.scale import processes
from jaxnn.scale.checkpoints import Checkpoints
from jaxnn.scale.leaves import digest
from jaxnn.scale.one_writer import OneWriter, checkpoints
from jaxnn.signals import Noted
from jaxnn.types import Key, Segments

WHERE = "scale.run"
FLAGS = ("jax_enable_x64", "jax_threefry_partitionable")  # other bits where they differ
AGAIN = 75  # EX_TEMPFAIL: what a supervisor takes for "start me again"


class Saving(NamedTuple):
    """Where the checkpoints of a fit are, and how often one is written.

    Attributes:
        folder: one run, one folder; of process 0 in a job of many.
        every: pieces between two checkpoints, written in the background.
        keep: how many checkpoints to keep, the newest.
        resume: whether to go on with what is in the folder; if there is nothing yet, to begin.
        config: what else makes the run what it is (the sizes of the network, the name of the
            experiment): JSON.  A resume with another is refused.
        seconds: the least time between two checkpoints, however many pieces it has; the first is
            written no sooner.  A signal is answered with a checkpoint whatever the time.
    """

    folder: str | os.PathLike[str]
    every: int = 1
    keep: int = 2
    resume: bool = False
    config: Any = None
    seconds: float = 0.0


class Preempted(SystemExit):
    """The machine is wanted for something else; all is saved.  Uncaught, it exits with code 75."""

    def __init__(self, told: str):
        super().__init__(AGAIN)
        self.told = told

    def __str__(self) -> str:
        return self.told


class Due:
    """Says after which pieces a checkpoint is to be written; see `Saving`."""

    def __init__(self, where: str, saving: Saving):
        self._every = checks.count(where, "every", saving.every)
        checks.non_negative(where, "seconds", saving.seconds)
        self._seconds, self._last = float(saving.seconds), time.monotonic()

    @property
    def late(self) -> bool:
        """Whether so much time has gone by that one is worth while."""
        return time.monotonic() - self._last >= self._seconds

    def __call__(self, step: int) -> bool:
        """Returns whether it is time after this piece, and if so takes it as written."""
        if step % self._every or not self.late:
            return False
        self._last = time.monotonic()
        return True


def signals_noted() -> Noted:
    """Returns what notes SIGTERM and Ctrl-C, for `asked` to ask.

    In a job of many processes JAX's own runtime takes SIGTERM and tells all at which step to stop;
    Ctrl-C in one of them is passed on to it.
    """
    if jax.process_count() == 1:
        return Noted(signal.SIGTERM, signal.SIGINT)
    return Noted(signal.SIGINT, then=lambda _: os.kill(os.getpid(), signal.SIGTERM))


def asked(noted: Noted, step: int) -> int | None:
    """Returns the signal that ends the run after this step, in all processes at once."""
    if jax.process_count() == 1:
        return noted.first
    from jax.experimental import multihost_utils

    if multihost_utils.reached_preemption_sync_point(step):
        return noted.first or signal.SIGTERM
    return None


def stop(checkpoints: Checkpoints | OneWriter, number: int, step: int) -> BaseException:
    """Returns the exception that belongs to a signal, once all processes have taken their leave."""
    told = f"stopped after piece {step}; resume=True goes on from {checkpoints.folder}"
    if checkpoints.saved != step:
        told = f"stopped after piece {step}, which could not be saved"
    processes.leave()
    return KeyboardInterrupt(told) if number == signal.SIGINT else Preempted(told)


def all_facts(saving: Saving, facts: dict[str, Any]) -> dict[str, Any]:
    """Returns what a run is, with what the caller says of it and what JAX is set to."""
    flags = {name: getattr(jax.config, name) for name in FLAGS}
    return facts | {"config": saving.config} | flags


def loop(
    where: str,
    saving: Saving | None,
    facts: dict[str, Any],
    state: PyTree,
    more: bool,
    advance: Callable[[PyTree], tuple[PyTree, bool]],
    *,
    place: Callable[[PyTree], PyTree] = lambda state: state,
    look: Callable[[int, PyTree], None] | None = None,
) -> PyTree:
    """Returns the last state of `state, more = advance(state)`, kept as `saving` says.

    Args:
        where: whose loop this is.
        saving: None keeps nothing and answers no signals.
        facts: what the run is, besides `saving.config`.
        state: to begin with.
        more: whether there is anything to do.
        advance: one piece.
        place: puts a restored state where `advance` wants it.
        look: called after each piece, with the number of pieces and the state.
    """
    step = 0
    if saving is None:
        while more:
            state, more = advance(state)
            step += 1
            if look is not None:
                look(step, state)
        return state
    checks.instance(where, "saving", saving, Saving)
    due = Due(where, saving)
    facts = all_facts(saving, facts)
    number = None
    with (
        checkpoints(saving.folder, facts, resume=saving.resume, keep=saving.keep) as kept,
        signals_noted() as noted,
    ):
        if saving.resume:
            found = kept.restore((state, np.asarray(more)))
            if found is not None:
                step, (state, flag) = found.step, found.state
                state, more = place(state), bool(flag)
        while more and number is None:
            state, more = advance(state)
            step += 1
            number = asked(noted, step)
            if due(step) or number is not None or (not more and due.late):
                kept.save(step, (state, np.asarray(more)))
            if look is not None:
                look(step, state)
        kept.wait()
    if more and number is not None:
        raise stop(kept, number, step)
    return state


@partial(jax.jit, static_argnames="init")
def _begin(init: Callable[..., PyTree], hparams: Any, key: Any, shared: Any) -> PyTree:
    return init(hparams, key, *shared)


@partial(jax.jit, static_argnames="protocol")
def _advance(protocol: Segments, state: PyTree, shared: Any) -> tuple[PyTree, Array]:
    state = protocol.advance(state, *shared)
    return state, protocol.halted(state)


def facts_of(hparams: dict[str, Any], key: Key, shared: Any) -> dict[str, Any]:
    """Returns what a run is, as JSON has it: numbers, key, and a digest of the data."""
    told = lambda a: a.tolist() if np.all(np.isfinite(a)) else digest(a)  # JSON has no NaN
    return {
        "hparams": {name: told(np.asarray(value)) for name, value in hparams.items()},
        "key": digest(key),
        "data": digest(shared),
    }


def run(
    protocol: Segments,
    hparams: dict[str, Any],
    key: Key,
    *shared: PyTree,
    saving: Saving,
    progress: Callable[[int, PyTree], None] | None = None,
) -> PyTree:
    """Returns the result of a fit in pieces, which may be broken off and gone on with.

    Args:
        protocol: the fit, such as `train.segments(...)` or `gmm.segments(...)`.
        hparams: its numbers.
        key: its randomness.
        *shared: its data.
        saving: the folder of the checkpoints, and how often one is written.
        progress: called after each piece, with the number of pieces and the state.

    Raises:
        ValueError: the folder is of another run, or in use, or `resume` is off and it is not empty.
        OSError: it cannot be written.
        KeyboardInterrupt: Ctrl-C, after the running piece, with all saved; the message says how
            to go on.  A second Ctrl-C breaks off at once.
        Preempted: SIGTERM, the same; a SystemExit with code 75.
    """
    checks.key(WHERE, key)
    checks.instance(WHERE, "protocol", protocol, Segments)
    checks.instance(WHERE, "saving", saving, Saving)

    def advance(state: PyTree) -> tuple[PyTree, bool]:
        state, halted = _advance(protocol, state, shared)
        return state, not bool(halted)

    state = _begin(protocol.init, hparams, key, shared)
    more = not bool(jax.jit(protocol.halted)(state))
    facts = facts_of(hparams, key, shared)
    last = loop(WHERE, saving, facts, state, more, advance, look=progress)
    return jax.jit(protocol.result)(last)
