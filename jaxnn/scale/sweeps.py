"""Sweeps that can be killed: a checkpoint holds all members between two rounds, or those done.

In a job of many processes each runs its members on its own devices, and no compiled program of
theirs talks; between two rounds the processes tell one another how far everybody has come.  What is
kept is the same for any number of processes.
"""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxnn import checks
from jaxnn import sweep as sweeps
from jaxnn.scale import meshes, processes
from jaxnn.scale.keeper import Keeper
from jaxnn.scale.leaves import original, plain
from jaxnn.scale.resumable import Saving, facts_of
from jaxnn.sweep.chunks import Chunk, FitOne, Score
from jaxnn.sweep.options import Paused, Share
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


def whole(members: int, tree: PyTree) -> PyTree:
    """Returns arrays of so many members, from those that each process has: every so-manyth."""
    arrays, impls = plain(tree)
    own = {name: np.asarray(array) for name, array in sorted(arrays.items())}
    width = {name: int(np.prod(a.shape[1:])) * a.dtype.itemsize for name, a in own.items()}
    rows = [np.frombuffer(a.tobytes(), np.uint8).reshape(len(a), width[n]) for n, a in own.items()]
    count = jax.process_count()
    table = np.zeros((-(-members // count), sum(width.values())), np.uint8)
    table[: len(rows[0])] = np.concatenate(rows, axis=1)
    # Member i is in row i // count of process i % count.
    everyone = processes.gathered(table).swapaxes(0, 1).reshape(-1, table.shape[1])[:members]
    found, at = {}, 0
    for name, array in own.items():
        bits = everyone[:, at : at + width[name]].tobytes()
        found[name] = np.frombuffer(bits, array.dtype).reshape(members, *array.shape[1:])
        at += width[name]
    return original(found, impls, tree)


def _share(members: int) -> Share:
    """Returns what this process runs of a sweep of its job."""
    count = jax.process_count()
    if members < count:
        raise ValueError(f"{WHERE}: there must be a member for each of {count} processes, "
                         f"got {members}")  # fmt: skip
    least = lambda number: int(processes.gathered(np.array(number)).min())
    return Share(process=jax.process_index(), processes=count, gather=whole, least=least)


def _shared_out(hparams: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options that make a run the part of it that this process has."""
    said = {k: v for k, v in options.items() if isinstance(v, bool | int | float | str)}
    processes.agree(WHERE, {"options": json.dumps(said, sort_keys=True)})
    members = max((len(v) for v in hparams.values() if v.ndim), default=0)
    mesh = options.get("mesh")
    own = {} if mesh is None else {"mesh": meshes.team(WHERE, mesh).here}
    return options | own | {"share": _share(members)}


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

    In a job of many processes all make the same call with all members, of which each runs its
    share; every process returns the whole sweep.  A resume may have other processes (but for the
    rule `asha`, which depends on how many members run at a time).  Under the layout `map` numbers
    are the same bits for any number of them, under `vmap` the same but for the rounding of programs
    of other sizes.

    Args:
        fit_one: as in `sweep.run`: a fit in pieces, or a function, of which whole chunks are kept.
        hparams: as in `sweep.run`.
        key: as in `sweep.run`.
        *shared: as in `sweep.run`; the same in every process.
        saving: the folder, of process 0, and after how many rounds of pieces, or chunks, a
            checkpoint is written.
        run: `sweep.run` or `sweep.halving`.
        **options: of that; of a mesh each process takes its own devices.

    Raises:
        ValueError, OSError: as in `scale.run`; processes that do not agree, or more of them than
            members.
        TypeError: what `run` raises; a function whose results hold keys.
        KeyboardInterrupt: Ctrl-C, after the running round, with all saved.
        Preempted: SIGTERM, the same.
    """
    if not callable(fit_one):
        checks.instance(WHERE, "fit_one", fit_one, Segments)
    checks.instance(WHERE, "saving", saving, Saving)
    checks.key(WHERE, key)
    hparams = {name: np.asarray(values) for name, values in hparams.items()}
    if jax.process_count() > 1:
        options = _shared_out(hparams, options)
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
