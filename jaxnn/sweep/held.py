"""A fit that trains on some rows and is judged on others, whole or in pieces: rows have weights.

A row of folds says for each row of the data in which fold it is held out; -1 uses it in none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Int, PyTree

from jaxnn.sweep import reads
from jaxnn.sweep.axes import HParams
from jaxnn.sweep.chunks import FitOne
from jaxnn.types import Key, Segments

Folds = Int[Array, "r n"]


class InFold(NamedTuple):
    """The state of a fit in pieces, and which rows are held out from it."""

    repeat: Int[Array, ""]
    fold: Int[Array, ""]
    state: PyTree


def _weights(repeat: Array, fold: Array, folds: Folds, dtype: Any) -> tuple[Array, Array]:
    """Returns the weights of the rows, for training and held out."""
    held = folds[repeat] == fold
    train = ~held & (folds[repeat] >= 0)
    return train.astype(dtype), held.astype(dtype)


@dataclass(frozen=True)
class Held:
    """A fit, or the beginning of one, with the rows of its fold held out.

    Equal ones share their compiled programs, as do those of the other classes here.
    """

    where: str
    fit_one: FitOne
    seeded: bool
    dtype: Any
    pieces: bool = False

    def __call__(self, hparams: HParams, key: Key, folds: Folds, *shared: PyTree) -> PyTree:
        """Returns the result of one member, or its first state."""
        repeat, fold = hparams["repeat"], hparams["fold"]
        static = getattr(hparams, "static", ())
        own = dict(hparams)
        for name in ("repeat", "fold") if self.seeded else ("repeat", "fold", "seed"):
            own.pop(name)
        key = jax.random.fold_in(jax.random.fold_in(key, repeat), fold)
        given = (key, *_weights(repeat, fold, folds, self.dtype), *shared)
        if not self.pieces:
            return reads.call(self.where, self.fit_one, own, *given, static=static)
        return InFold(repeat, fold, self.fit_one(reads.Reads(own, static), *given))


@dataclass(frozen=True)
class Advance:
    """A piece of a fit with the rows of its fold held out."""

    advance: Callable[..., PyTree]
    dtype: Any

    def __call__(self, member: InFold, folds: Folds, *shared: PyTree) -> InFold:
        """Returns the state one piece further."""
        weights = _weights(member.repeat, member.fold, folds, self.dtype)
        return member._replace(state=self.advance(member.state, *weights, *shared))


@dataclass(frozen=True)
class Inside:
    """What looks at the state of a fit alone."""

    look: Callable[[PyTree], PyTree]

    def __call__(self, member: InFold) -> PyTree:
        """Returns what it says of the state."""
        return self.look(member.state)


def held_out(
    where: str, fit_one: FitOne | Segments, seeded: bool, dtype: Any
) -> Held | Segments:  # fmt: skip
    """Returns a fit of a member with axes `repeat` and `fold`, and folds before the shared data.

    `seeded` says whether `seed` is an axis that the fit itself sees, `dtype` is that of weights.
    """
    if not isinstance(fit_one, Segments):
        return Held(where, fit_one, seeded, dtype)
    return Segments(
        init=Held(where, fit_one.init, seeded, dtype, pieces=True),
        advance=Advance(fit_one.advance, dtype),
        score=Inside(fit_one.score),
        halted=Inside(fit_one.halted),
        result=Inside(fit_one.result),
    )
