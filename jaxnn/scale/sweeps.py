"""Sweeps that can be killed: a checkpoint holds all members between two rounds, or those done."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxnn import checks
from jaxnn import sweep as sweeps
from jaxnn.scale.keeper import Keeper
from jaxnn.scale.resumable import Saving, facts_of
from jaxnn.sweep.chunks import Chunk, FitOne, Score
from jaxnn.sweep.options import Paused
from jaxnn.sweep.rules import Records
from jaxnn.types import Key, Segments

WHERE = "scale.sweep"


def _structure(
    fit: FitOne | Segments, hparams: dict[str, Any], key: Key, shared: tuple, score: Score | None
) -> Any:
    """Returns the structure of what a pause of this sweep holds."""
    one = jax.tree.map(lambda a: a[0], hparams)
    if isinstance(fit, Segments):
        state = jax.eval_shape(fit.init, one, key, *shared)
        records = dict.fromkeys(Records._fields, 0)
        return jax.tree.structure({"hparams": one, "keys": 0, "states": state, "records": records})
    result = jax.eval_shape(fit, one, key, *shared)
    chunk = Chunk(results=result, failed=0, scores=None if score is None else 0)  # pyright: ignore
    return jax.tree.structure({"hparams": one, "keys": 0, "results": chunk})


def sweep(
    fit_one: FitOne | Segments,
    hparams: dict[str, Any],
    key: Key,
    *shared: PyTree,
    saving: Saving,
    run: Callable[..., sweeps.Sweep] = sweeps.run,
    **options: Any,
) -> sweeps.Sweep:
    """Returns `run(fit_one, hparams, key, *shared, **options)`, which may be broken off.

    With `saving.resume` the same call goes on from the last checkpoint and ends with the same bits,
    on whatever devices there are.  Members that are done, had failed or halted stay as they were.

    Args:
        fit_one: as in `sweep.run`: a fit in pieces, or a function, of which whole chunks are kept.
        hparams: as in `sweep.run`.
        key: as in `sweep.run`.
        *shared: as in `sweep.run`.
        saving: the folder, and after how many rounds of pieces, or chunks, a checkpoint is written.
        run: `sweep.run` or `sweep.halving`.
        **options: of that.

    Raises:
        ValueError, OSError: as in `scale.run`.
        TypeError: what `run` raises; a function whose results hold keys.
        KeyboardInterrupt: Ctrl-C, after the running round, with all saved.
        Preempted: SIGTERM, the same.
        NotImplementedError: in a job of many processes.  Give each its own members and folder.
    """
    if not callable(fit_one):
        checks.instance(WHERE, "fit_one", fit_one, Segments)
    checks.instance(WHERE, "saving", saving, Saving)
    checks.key(WHERE, key)
    if jax.process_count() > 1:
        raise NotImplementedError(f"{WHERE}: a sweep with checkpoints is of one process; give each "
                                  "its own members and folder")  # fmt: skip
    hparams = {name: np.asarray(values) for name, values in hparams.items()}
    facts = facts_of(hparams, key, shared)
    with Keeper(WHERE, saving, facts) as keeper:
        resume = None
        if saving.resume:
            like = _structure(fit_one, hparams, key, shared, options.get("score"))
            found = keeper.restore(like)
            resume = None if found is None else Paused(arrays=found.state, facts=found.note)
        save = lambda paused: keeper.piece(paused.arrays, paused.facts)
        done = run(fit_one, hparams, key, *shared, save=save, resume=resume, **options)
        keeper.end()
    return done
