"""Sweeps over names and shapes too: members that share a program run together, each under `run`.

Numbers are traced and go under one `vmap`.  For each combination of static values (`Static`
columns) a program is compiled, in the background while another runs.  Sizes may be padded: then
programs are compiled for some of them only, and smaller members are masked inside those.
"""

import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from jaxnn import checks
from jaxnn.signals import Noted
from jaxnn.sweep import pieces, reads
from jaxnn.sweep.axes import HParams, members_of
from jaxnn.sweep.chunks import FitOne, Score, filled
from jaxnn.sweep.grouping import WHERE, Group, agree, groups_of
from jaxnn.sweep.options import Options, Paused, checked_options
from jaxnn.sweep.progress import Progress, together, warn_of_interrupt
from jaxnn.sweep.run import Sweep, fit_all, member_keys, members
from jaxnn.types import Key, Segments

# What JAX is told for one thread only, and must be told the other threads as well.
SETTINGS: dict[str, Callable[[Any], Any]] = {
    "jax_enable_x64": jax.enable_x64,
    "jax_default_device": jax.default_device,
    "jax_default_matmul_precision": jax.default_matmul_precision,
    "jax_numpy_rank_promotion": jax.numpy_rank_promotion,
    "jax_numpy_dtype_promotion": jax.numpy_dtype_promotion,
    "jax_debug_nans": jax.debug_nans,
    "jax_disable_jit": jax.disable_jit,
}


@jax.jit
def _in_order(parts: list[PyTree], order: Array) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[order], *parts)


def _each(jobs: list[Callable[[], Sweep | None]], ahead: int) -> list[Sweep | None]:
    """Returns what the jobs return, `ahead` of them begun besides the first that is not done."""
    if ahead == 0 or len(jobs) == 1:
        return [job() for job in jobs]
    settings = {name: getattr(jax.config, name) for name in SETTINGS}

    def told(job: Callable[[], Sweep | None]) -> Sweep | None:
        with ExitStack() as stack:
            for name, value in settings.items():
                stack.enter_context(SETTINGS[name](value))
            return jax.block_until_ready(job())

    with ThreadPoolExecutor(1 + ahead) as pool:
        waiting: list[Future[Sweep | None]] = [pool.submit(told, job) for job in jobs]
        try:
            return [future.result() for future in waiting]
        except BaseException:  # an interrupt, too: what has not begun never will
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Pauses:
    """Puts together what groups save, from any thread, and takes it apart again."""

    def __init__(
        self, groups: list[Group], save: Callable[[Paused], None] | None, resume: Paused | None
    ):
        self._names = [repr(group.static) for group in groups]
        self._save, self._lock = save, threading.Lock()
        self._last: dict[str, Paused] = {}
        if resume is not None:
            known = resume.facts.get("groups")
            if known != self._names:
                raise ValueError(
                    f"{WHERE}: resume must belong to a sweep of the groups {self._names}, "
                    f"got {known}"
                )
            self._last = {number: Paused(arrays, resume.facts["each"][number])
                          for number, arrays in resume.arrays.items()}  # fmt: skip

    def of(self, options: Options, number: int) -> Options:
        """Returns the options of a group."""
        resume = self._last.get(str(number))
        save = None if self._save is None else lambda paused: self._add(str(number), paused)
        return options._replace(save=save, resume=resume)

    def _add(self, number: str, paused: Paused) -> None:
        with self._lock:
            self._last[number] = paused
            arrays = {number: each.arrays for number, each in self._last.items()}
            each = {number: each.facts for number, each in self._last.items()}
            if self._save is not None:
                self._save(Paused(arrays=arrays, facts={"groups": self._names, "each": each}))


def _whole(parts: list[Sweep | None], groups: list[Group]) -> Sweep:
    """Returns the sweep of all groups, in the order of the members; not begun are those of None."""
    order = jnp.asarray(np.argsort(np.concatenate([group.places for group in groups])))
    begun = [part._replace(hparams={}, results=reads.without_names(part.results))
             for part in parts if part is not None]  # fmt: skip
    none = jax.tree.map(lambda a: a[:0], begun[0])
    rest = iter(begun)
    together = [filled(none, len(group.places)) if part is None else next(rest)
                for part, group in zip(parts, groups, strict=True)]  # fmt: skip
    return _in_order(together, order)


def run_groups(
    fit_one: FitOne | Segments,
    hparams: HParams,
    key: Key,
    *shared: PyTree,
    padded: Sequence[str] = (),
    compile_seconds: float = 3.0,
    ahead: int = 1,
    chunk: int | None = None,
    layout: str = "vmap",
    mesh: Mesh | None = None,
    memory_budget: int | str | None = None,
    score: Score | None = None,
    progress: Callable[[Progress], None] | None = None,
    save: Callable[[Paused], None] | None = None,
    resume: Paused | None = None,
) -> Sweep:
    """Returns the results of `fit_one(hparams_i, key_i, *shared)`, names and shapes among hparams.

    `fit_one` gets Python values of static axes and traced numbers of the others. Members of equal
    static values run under one `sweep.run`; their order and their keys are those of the whole
    sweep, so no result depends on the grouping. An axis of a conditional part is not handed to
    groups that lack it.

    Padding: for an axis `width` in `padded`, `fit_one` gets the number `width`, traced, and the
    size `max_width` of the program, static, at least as large; it makes arrays of the latter and
    masks what lies beyond the former. Which sizes get a program is decided by cost: the least sum
    of `compile_seconds` a program and, for each member, the operations of its program (counted in
    a trace, `cost.operations`) at 2e9 a second. Epochs, say, are a size too:
    `train.fit(..., epochs=hp["max_epochs"], stop_at=hp["epochs"])`; in pieces, members that have
    come to their `stop_at` leave the batch, and there is nothing to pad.

    Args:
        fit_one: any pure function of one member's hyperparameters (a dict), its key and the data;
            or a fit in pieces. It must read every one of them but `seed`. The state of a fit in
            pieces may hold the dict as it was given, names included, but no other names.
        hparams: dict of columns from `sample`, `grid`, `random` and their like.
        key: see `member_keys`.
        *shared: arrays (or pytrees) that all members use.
        padded: names of whole-number axes whose programs may be larger than their members.
        compile_seconds: what a further program costs; 0 gives each size its own.
        ahead: groups that are compiled, and begin to run, while another runs; 0 for none.
        chunk: as in `run`, for each group, as are the next four.
        layout: as in `run`.
        mesh: as in `run`.
        memory_budget: as in `run`.
        score: as in `run`.
        progress: called with a `Progress` of the whole sweep after each chunk, or round of pieces,
            of any group.
        save: as in `run`, with all groups.
        resume: what `save` was given in a run with the same hyperparameters and key.

    Ctrl-C ends the sweep after the running chunks or rounds with a warning: groups that have not
    begun never will, and `Sweep.done` says which members' results are there. Pressed again it
    interrupts.

    Raises:
        TypeError, ValueError: as `sweep.run`; and for a hyperparameter that the fit does not
            read, one that it reads and does not get, results that differ in structure or shape
            between groups, unknown or unfit `padded`.

    >>> from jaxnn.sweep import grid
    >>> space = grid(rule=["double", "square"], x=[1.0, 2.0, 3.0])
    >>> fit_one = lambda hp, key: hp["x"] * 2 if hp["rule"] == "double" else hp["x"] ** 2
    >>> run_groups(fit_one, space, jax.random.key(0)).results.tolist()
    [2.0, 4.0, 6.0, 1.0, 4.0, 9.0]
    """
    if isinstance(fit_one, Segments):
        pieces.check_functions(WHERE, fit_one)
    elif not callable(fit_one):
        raise TypeError(f"{WHERE}: fit_one must be a function, got {type(fit_one).__name__}")
    ahead = checks.count(WHERE, "ahead", ahead, least=0)
    checks.non_negative(WHERE, "compile_seconds", compile_seconds)
    columns = {name: members_of(WHERE, name, values) for name, values in hparams.items()}
    n = members(WHERE, columns)
    options = checked_options(
        WHERE, chunk=chunk, layout=layout, mesh=mesh, memory_budget=memory_budget,
        progress=together(progress, n), save=save, resume=resume,
    )  # fmt: skip
    seeds = {"seed": columns["seed"]} if "seed" in columns else {"seed": jnp.arange(n)}
    keys = member_keys(key, seeds)
    with reads.explained(WHERE, columns):
        groups = groups_of(fit_one, columns, keys, shared, padded, compile_seconds)
        if len(groups) > 1 or isinstance(fit_one, Segments):
            agree(groups, keys, shared)
        pauses = _Pauses(groups, save, resume)
        fit = lambda i, keyboard: fit_all(
            WHERE, groups[i].fit, groups[i].hparams, key, shared, score,
            pauses.of(options, i)._replace(keyboard=keyboard),
        )  # fmt: skip
        plain = all(checks.concrete(leaf) for leaf in jax.tree.leaves((columns, key, shared)))
        parts: list[Sweep | None]
        if not plain or len(groups) == 1:
            parts = [fit(i, None) for i in range(len(groups))]
        else:
            with Noted(signal.SIGINT) as keyboard:
                # The first is begun in any case, so that there is something to return.
                job = lambda i: fit(i, keyboard) if i == 0 or keyboard.first is None else None
                parts = _each([lambda i=i: job(i) for i in range(len(groups))], ahead)
    whole = _whole(parts, groups)._replace(hparams=columns)
    if plain:
        warn_of_interrupt(WHERE, whole.done)
    return whole
