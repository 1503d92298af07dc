"""Sweeps that stop the worst early and give their time to the rest; see `rules`."""

from collections.abc import Callable

from jax.sharding import Mesh
from jaxtyping import PyTree

from jaxnn import checks
from jaxnn.sweep.axes import HParams, numbers
from jaxnn.sweep.options import Paused, Share, checked_options
from jaxnn.sweep.progress import Progress, warn_of_interrupt
from jaxnn.sweep.rules import RULES
from jaxnn.sweep.run import Sweep, in_pieces
from jaxnn.types import Key, Segments


def halving(
    protocol: Segments,
    hparams: HParams,
    key: Key,
    *shared: PyTree,
    most: int,
    first: int = 1,
    eta: int = 3,
    rule: str = "halving",
    chunk: int | None = None,
    layout: str = "auto",
    mesh: Mesh | None = None,
    memory_budget: int | str | None = None,
    progress: Callable[[Progress], None] | None = None,
    save: Callable[[Paused], None] | None = None,
    resume: Paused | None = None,
    share: Share | None = None,
) -> Sweep:
    """Runs all members a little, the best of them longer, and the best of those to the end.

    Members are compared by their scores at the rungs `first`, `first`·`eta`, … below `most`, where
    about one in `eta` goes on. Who is stopped leaves the batch.

    Args:
        protocol: the fit in pieces.
        hparams: as in `run`.
        key: as in `run`.
        *shared: as in `run`.
        most: the most pieces of a member.
        first: pieces before the first comparison.
        eta: of so many one goes on.
        rule: `halving` (all members climb together; Jamieson and Talwalkar, 2016), `hyperband`
            (brackets of halving that begin at each rung, side by side; Li et al., 2018) or `asha`
            (`chunk` members run at any time and nobody waits; Li et al., 2020).
        chunk: as in `run`; under `asha` on each device also how many run at a time.
        layout: as in `run`.
        mesh: as in `run`.
        memory_budget: as in `run`.
        progress: as in `run`.
        save: as in `run`.
        resume: as in `run`.
        share: as in `run`.

    Returns:
        A `Sweep`: `stopped` and `pieces` say who was stopped and when, `scores` with what score.
        Results of members that were stopped are those of their last piece.

    Raises:
        TypeError, ValueError: as in `run`; `first` above `most`, or `eta` below 2.
    """
    where = "sweep.halving"
    checks.instance(where, "protocol", protocol, Segments)
    checks.key(where, key)
    checks.in_table(where, "rule", rule, RULES)
    most = checks.count(where, "most", most)
    first = checks.count(where, "first", first, most=most)
    eta = checks.count(where, "eta", eta, least=2)
    options = checked_options(
        where, chunk=chunk, layout=layout, mesh=mesh, memory_budget=memory_budget,
        progress=progress, save=save, resume=resume, share=share,
    )  # fmt: skip
    hparams = {name: numbers(where, name, values) for name, values in hparams.items()}
    make = lambda n, slots: RULES[rule](n, slots, most, eta, first)
    done = in_pieces(where, protocol, hparams, key, shared, make, options)
    warn_of_interrupt(where, done.done)
    return done
