"""Who runs on and who is stopped: successive halving, Hyperband and ASHA, on the host.

A rule reads what is known of every member after a round and names those that run another piece
and those that are stopped.  Rungs are numbers of pieces at which members are compared: `first`,
times `eta` and again, up to `most`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Mask = np.ndarray


class Records(NamedTuple):
    """What is known of every member, arrays of n.

    `rungs` (n, r) holds the score that a member had at each rung of the rule: NaN where it has not
    come so far, infinite where it had failed; one that has halted before counts with its last.
    """

    pieces: np.ndarray
    scores: np.ndarray
    halted: Mask
    failed: Mask
    stopped: Mask
    rungs: np.ndarray

    @property
    def racing(self) -> Mask:
        """Members that could go on."""
        return ~(self.halted | self.failed | self.stopped)


class Rule(NamedTuple):
    """Decides from the records who advances and who is stopped.

    `name` and `numbers` say what it is, so that a saved sweep is resumed under the same.
    """

    name: str
    numbers: tuple[int, ...]
    levels: tuple[int, ...]  # whose scores it wants in `Records.rungs`
    decide: Callable[[Records], tuple[Mask, Mask]]


def rungs(most: int, eta: int, first: int) -> tuple[int, ...]:
    """Returns first, first·eta, … below `most`, and `most`."""
    levels = []
    while first < most:
        levels.append(first)
        first *= eta
    return (*levels, most)


def _best(among: Mask, scores: np.ndarray, k: int) -> Mask:
    """Returns the `k` least scores among some members; of equals the first."""
    who = np.flatnonzero(among)
    chosen = np.zeros_like(among)
    chosen[who[np.argsort(scores[who], kind="stable")[:k]]] = True
    return chosen


def _race(records: Records, mine: Mask, levels: tuple[int, ...], eta: int) -> tuple[Mask, Mask]:
    """Decides one bracket, whose members climb together."""
    racing = records.racing & mine
    nobody = np.zeros_like(racing)
    if not racing.any():
        return nobody, nobody
    height = int(records.pieces[racing].max())  # all have the same
    if height >= levels[-1]:
        return nobody, nobody
    if height not in levels:
        return racing, nobody
    keep = max(1, int(mine.sum()) // eta ** (levels.index(height) + 1))
    field = mine & ~records.failed & ~records.stopped
    ahead = _best(field, records.scores, keep)
    return racing & ahead, racing & ~ahead


def every_piece() -> Rule:
    """Everybody runs to its own end."""
    return Rule("all", (), (), lambda records: (records.racing, np.zeros_like(records.racing)))


def halving(n: int, slots: int, most: int, eta: int, first: int) -> Rule:
    """Of n members the best n // eta^j pass rung j (Jamieson and Talwalkar, 2016, section 3)."""
    del slots  # all members run at once
    levels, everyone = rungs(most, eta, first), np.ones(n, bool)
    return Rule(
        "halving", (most, eta, first), (), lambda records: _race(records, everyone, levels, eta)
    )


def hyperband(n: int, slots: int, most: int, eta: int, first: int) -> Rule:
    """Brackets of halving that begin at each rung (Li et al., 2018, algorithm 1), side by side.

    The paper's bracket s, which begins with most / eta^s pieces, has eta^s / (s + 1) members in
    some unit; here the n members are shared out in that proportion, the most hasty bracket first.
    """
    del slots
    levels = rungs(most, eta, first)
    hastiest = len(levels) - 1
    share = np.array([eta**s / (s + 1) for s in range(hastiest, -1, -1)])
    ends = np.round(np.cumsum(share) / share.sum() * n).astype(int)
    bracket = np.searchsorted(ends, np.arange(n), side="right")

    def decide(records: Records) -> tuple[Mask, Mask]:
        races = [_race(records, bracket == b, levels[b:], eta) for b in range(len(levels))]
        go, stop = (np.any(masks, axis=0) for masks in zip(*races, strict=True))
        return go, stop

    return Rule("hyperband", (most, eta, first), (), decide)


def asha(n: int, slots: int, most: int, eta: int, first: int) -> Rule:
    """Whoever is among the best 1 / eta of a rung so far goes on (Li et al., 2020, algorithm 2).

    Nobody waits: as many members as there are slots run at any time, promoted ones before new
    ones, those of high rungs before those of low ones.
    """
    levels = rungs(most, eta, first)

    def decide(records: Records) -> tuple[Mask, Mask]:
        racing, pieces = records.racing, records.pieces
        go = racing & (pieces > 0) & ~np.isin(pieces, levels)
        for j in range(len(levels) - 2, -1, -1):
            arrived = ~np.isnan(records.rungs[:, j])
            ahead = _best(arrived, records.rungs[:, j], int(arrived.sum()) // eta)
            waiting = racing & ahead & (pieces == levels[j])
            go |= _best(waiting, records.rungs[:, j], max(0, slots - int(go.sum())))
        fresh = racing & (pieces == 0)
        go |= _best(fresh, np.arange(n), max(0, slots - int(go.sum())))
        over = not go.any()
        return go, racing & (pieces < levels[-1]) if over else np.zeros_like(racing)

    return Rule("asha", (most, eta, first, slots), levels, decide)


RULES = {"halving": halving, "hyperband": hyperband, "asha": asha}
