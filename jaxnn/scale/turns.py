"""The chunks of a source turn after turn, and how a stream that is gone on with is known again."""

import hashlib
from collections.abc import Iterator
from itertools import count
from typing import Any

import jax
import numpy as np

from jaxnn.scale.checkpoints import OtherRun
from jaxnn.scale.chunks import ahead
from jaxnn.scale.leaves import digest
from jaxnn.scale.sources import Source, runs_of
from jaxnn.train.data import Batch


class Turns:
    """Chunks of equal length, at each iteration those of the next turn, read ahead by a thread.

    Of what has been read of a turn a digest is kept, if `digesting`.  After `go_on` the next turn
    is read from its beginning, and raises `OtherRun` unless it begins with what it did before.
    """

    def __init__(self, where: str, origin: Source, take: int, *, digesting: bool = False):
        self._where, self._origin, self._take = where, origin, take
        self._digesting = digesting
        self._numbers = iter(count())
        self._digests: list[str] = []  # after each chunk of this turn
        self._known: tuple[int, str] | None = None

    def _chunks(self, turn: int) -> Iterator[Batch]:
        return runs_of(self._origin.read(self._take, turn), lambda _: self._take)

    def first(self) -> Batch:
        """Returns the first chunk of turn 0."""
        for chunk in self._chunks(0):
            return chunk
        raise ValueError(f"{self._where}: rows must hold at least one, got none")

    def so_far(self, chunks: int) -> str:
        """Returns the digest of the first chunks of this turn; "" of none."""
        return self._digests[chunks - 1] if chunks else ""

    def go_on(self, turn: int, chunks: int, known: str) -> None:
        """Makes the next turn this one, whose first chunks shall have the digest that is known."""
        self._numbers = iter(count(turn))
        self._known = (chunks, known) if chunks else None

    def __iter__(self) -> Iterator[Batch]:
        chunks = self._chunks(next(self._numbers))
        if self._digesting:
            self._digests = []
            chunks = self._watched(chunks, self._digests)
        return ahead(chunks, lambda chunk: chunk)

    def _watched(self, chunks: Iterator[Batch], digests: list[str]) -> Iterator[Batch]:
        (number, known), self._known = self._known or (0, ""), None
        total = hashlib.blake2b(digest_size=8)
        for chunk in chunks:
            for leaf in jax.tree.leaves(chunk):
                total.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
            digests.append(total.hexdigest())
            if len(digests) == number and digests[-1] != known:
                raise OtherRun(f"{self._where}: rows must be those of the run to go on with, but "
                               f"the first {number} chunks of its pass are others")  # fmt: skip
            yield chunk


def told(value: Any) -> Any:
    """Returns what a setting is, as JSON has it: functions by name, arrays by their digest."""
    if isinstance(value, bool | int | float | str | None):
        return value
    parts = [
        getattr(leaf, "__qualname__", type(leaf).__name__) if callable(leaf) else digest(leaf)
        for leaf in jax.tree.leaves(value)
    ]
    return [type(value).__name__, *parts]
