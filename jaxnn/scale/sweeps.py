"""Sweeps that can be killed: all members between two rounds are what a checkpoint holds."""

import signal
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxnn import checks
from jaxnn import sweep as sweeps
from jaxnn.scale.checkpoints import Checkpoints
from jaxnn.scale.resumable import FLAGS, Saving, Stops, facts_of, stop
from jaxnn.sweep.options import Paused
from jaxnn.sweep.rules import Records
from jaxnn.types import Key, Segments

WHERE = "scale.sweep"


def _structure(protocol: Segments, hparams: dict[str, Any], key: Key, shared: tuple) -> Any:
    """Returns the structure of what a pause of this sweep holds."""
    one = jax.tree.map(lambda a: a[0], hparams)
    state = jax.eval_shape(protocol.init, one, key, *shared)
    records = dict.fromkeys(Records._fields, 0)
    return jax.tree.structure({"hparams": one, "keys": 0, "states": state, "records": records})


def sweep(
    protocol: Segments,
    hparams: dict[str, Any],
    key: Key,
    *shared: PyTree,
    saving: Saving,
    run: Callable[..., sweeps.Sweep] = sweeps.run,
    **options: Any,
) -> sweeps.Sweep:
    """Returns `run(protocol, hparams, key, *shared, **options)`, which may be broken off.

    With `saving.resume` the same call goes on from the last checkpoint and ends with the same bits,
    on whatever devices there are.  Members that had failed or halted stay as they were.

    Args:
        protocol: as in `sweep.run`, a fit in pieces.
        hparams: as in `sweep.run`.
        key: as in `sweep.run`.
        *shared: as in `sweep.run`.
        saving: the folder, and after how many rounds of pieces a checkpoint is written.
        run: `sweep.run` or `sweep.halving`.
        **options: of that.

    Raises:
        ValueError, OSError: as in `scale.run`.
        KeyboardInterrupt: Ctrl-C, after the running round, with all saved.
        Preempted: SIGTERM, the same.
        NotImplementedError: in a job of many processes.  Give each its own members and folder.
    """
    checks.instance(WHERE, "protocol", protocol, Segments)
    checks.instance(WHERE, "saving", saving, Saving)
    checks.key(WHERE, key)
    every = checks.count(WHERE, "every", saving.every)
    if jax.process_count() > 1:
        raise NotImplementedError(f"{WHERE}: a sweep with checkpoints is of one process; give each "
                                  "its own members and folder")  # fmt: skip
    hparams = {name: np.asarray(values) for name, values in hparams.items()}
    facts = facts_of(hparams, key, shared)
    facts |= {"config": saving.config, **{name: getattr(jax.config, name) for name in FLAGS}}
    step, number, last = 0, None, None

    with (
        Checkpoints(saving.folder, facts, resume=saving.resume, keep=saving.keep) as checkpoints,
        Stops() as stops,
    ):
        resume, found = None, None
        if saving.resume:
            found = checkpoints.restore(_structure(protocol, hparams, key, shared))
        if found is not None:
            step, arrays, note = found
            resume = Paused(arrays=arrays, facts=note)

        def save(paused: Paused) -> None:
            nonlocal step, number, last
            step, last = step + 1, paused
            number = stops.now(step)
            if step % every == 0 or number is not None:
                checkpoints.save(step, paused.arrays, paused.facts)
            if number is not None:
                raise _Stopped

        try:
            done = run(protocol, hparams, key, *shared, save=save, resume=resume, **options)
            if done.done is not None and not bool(np.all(done.done)):
                number = signal.SIGINT
            if last is not None and checkpoints.saved != step:
                checkpoints.save(step, last.arrays, last.facts)
            if number is None:
                return done
        except _Stopped:
            pass
        checkpoints.wait()
    raise stop(checkpoints, int(number or signal.SIGTERM), step)


class _Stopped(Exception):
    """A signal came between two rounds, and all is saved."""
