"""Oracles: the published algorithms, run by hand in plain loops, and their worked numbers."""

import numpy as np
import pytest

from jaxnn.sweep import rules
from jaxnn.sweep.rules import Records

INF, NAN = np.inf, np.nan


def race(rule, n, score, stop=lambda i: 10**9):
    """Lets n members climb under a rule; returns the records and who ran in each round."""
    off = lambda: np.zeros(n, bool)
    records = Records(np.zeros(n, int), np.full(n, NAN), off(), off(), off(),
                      np.full((n, len(rule.levels)), NAN))  # fmt: skip
    rounds = []
    while True:
        go, out = rule.decide(records)
        assert not (go & out).any()
        assert not (go & ~records.racing).any()
        records.stopped[out] = True
        if not go.any():
            return records, rounds
        rounds.append(set(np.flatnonzero(go).tolist()))
        for i in np.flatnonzero(go):
            records.pieces[i] += 1
            value = score(i, records.pieces[i])
            records.scores[i] = value
            records.failed[i] = np.isnan(value)
            records.halted[i] = records.pieces[i] >= stop(i)
            for j, level in enumerate(rule.levels):
                ended = records.failed[i] or records.halted[i]
                if records.pieces[i] == level or (ended and records.pieces[i] < level):
                    records.rungs[i, j] = INF if records.failed[i] else value


def test_rungs_are_powers_up_to_the_most():
    """Oracle: by hand."""
    assert rules.rungs(27, 3, 1) == (1, 3, 9, 27)
    assert rules.rungs(20, 3, 2) == (2, 6, 18, 20)
    assert rules.rungs(5, 3, 5) == (5,)


def textbook_halving(scores, rungs, eta):
    """Jamieson and Talwalkar (2016): sort, keep the best n // eta^j after rung j."""
    alive, pieces = list(range(len(scores))), np.zeros(len(scores), int)
    for j, rung in enumerate(rungs):
        pieces[alive] = rung
        keep = max(1, len(scores) // eta ** (j + 1))
        alive = sorted(alive, key=lambda i: (scores[i][rung], i))[:keep]
    return pieces


@pytest.mark.parametrize(
    ("n", "most", "eta", "first"), [(27, 9, 3, 1), (20, 20, 2, 3), (2, 9, 3, 1)]
)
def test_halving_is_the_published_algorithm(n, most, eta, first):
    """Oracle: the textbook loop, on scores that change their order as they go."""
    scores = np.random.default_rng(n).normal(size=(n, most + 1))
    rule = rules.halving(n, n, most, eta, first)
    records, rounds = race(rule, n, lambda i, t: scores[i][t])
    want = textbook_halving(scores, rules.rungs(most, eta, first), eta)
    np.testing.assert_array_equal(records.pieces, want)
    np.testing.assert_array_equal(records.stopped, want < most)
    assert sum(map(len, rounds)) == want.sum()


def test_members_that_have_ended_are_judged_but_not_stopped():
    """By hand: member 0 ended at piece 1 with the best score and takes a place; 1 is NaN and
    takes none; of 2 to 5 one place is left, for 5.
    """
    score = lambda i, t: NAN if i == 1 else -float(i) if i else -9.0
    rule = rules.halving(6, 6, 4, 3, 2)
    records, _ = race(rule, 6, score, stop=lambda i: 1 if i == 0 else 99)
    np.testing.assert_array_equal(records.pieces, [1, 1, 2, 2, 2, 4])
    np.testing.assert_array_equal(np.flatnonzero(records.stopped), [2, 3, 4])
    np.testing.assert_array_equal(np.flatnonzero(records.failed), [1])


def test_hyperband_has_the_brackets_of_the_paper():
    """Oracle: table 1 of Li et al. (2018): R = 81, eta = 3: 81, 34, 15, 8 and 5 members begin with
    1, 3, 9, 27 and 81 pieces.  The paper rounds each up: 143 members, of whom ours differ by one.
    """
    n = 81 + 34 + 15 + 8 + 5
    rule = rules.hyperband(n, n, 81, 3, 1)
    scores = np.random.default_rng(0).normal(size=n)
    records, _ = race(rule, n, lambda i, t: scores[i])
    # The scores do not change, so whoever is out of a bracket is out at its first rung.
    least = {}
    for piece in (1, 3, 9, 27):
        least[piece] = int(np.sum(records.pieces >= piece))
    ends = np.cumsum([81, 34, 15, 8, 5])
    starts = np.r_[0, ends[:-1]]
    for start, end, first in zip(starts, ends, (1, 3, 9, 27, 81), strict=True):
        inner = records.pieces[start + 1 : end - 1]
        assert inner.min() == first
        size = end - start
        for j, rung in enumerate(range(round(np.log(81 / first) / np.log(3)))):
            passed = int(np.sum(records.pieces[start:end] > first * 3**rung))
            assert abs(passed - size // 3 ** (j + 1)) <= 1
    assert least[1] == n


def textbook_asha(score, n, slots, levels, eta):
    """Li et al. (2020), algorithm 2, with workers that take one piece a round each."""
    seen = [{} for _ in levels]  # score of each member by rung
    promoted = [set() for _ in levels]
    running, pieces, fresh = {}, np.zeros(n, int), 0  # member -> rung it climbs to
    rounds = []

    def job():
        nonlocal fresh
        for k in range(len(levels) - 2, -1, -1):
            top = sorted(seen[k], key=lambda i: (seen[k][i], i))[: len(seen[k]) // eta]
            for i in sorted(top, key=lambda i: (seen[k][i], i)):
                if i not in promoted[k]:
                    promoted[k].add(i)
                    return i, k + 1
        if fresh < n:
            fresh += 1
            return fresh - 1, 0
        return None

    while True:
        while len(running) < slots and (new := job()) is not None:
            running[new[0]] = new[1]
        if not running:
            return pieces, rounds
        rounds.append(set(running))
        for i in list(running):
            pieces[i] += 1
            if pieces[i] == levels[running[i]]:
                seen[running[i]][i] = score(i, pieces[i])
                del running[i]


@pytest.mark.parametrize(("n", "slots", "eta"), [(30, 4, 3), (30, 30, 3), (17, 5, 2), (9, 1, 2)])
def test_asha_is_the_published_algorithm(n, slots, eta):
    """Oracle: the textbook's workers, asking for one job after another."""
    scores = np.random.default_rng(n + slots).normal(size=(n, 20))
    score = lambda i, t: scores[i][t]
    rule = rules.asha(n, slots, 18, eta, 2)
    records, rounds = race(rule, n, score)
    want, same = textbook_asha(score, n, slots, rules.rungs(18, eta, 2), eta)
    np.testing.assert_array_equal(records.pieces, want)
    np.testing.assert_array_equal(records.stopped, want < 18)
    assert rounds == same


def test_asha_passes_over_members_that_failed_or_ended():
    """By hand, eta 2, one slot, rungs 1, 2, 4. Member 0 fails and 1 ends with the best score: both
    count in their rungs, and neither runs on; 2 is second of three when it comes, so it waits until
    3, which is worse, has come as well, and then is promoted before 4 begins.
    """
    score = lambda i, t: [NAN, -9.0, 1.0, 2.0, 3.0][i]
    order = []

    def follow(i, t):
        order.append(int(i))
        return score(i, t)

    records, _ = race(rules.asha(5, 1, 4, 2, 1), 5, follow, stop=lambda i: 1 if i == 1 else 99)
    assert order[:5] == [0, 1, 2, 3, 2]
    assert int(records.pieces[0]) == int(records.pieces[1]) == 1
    assert bool(records.failed[0])
    assert bool(records.halted[1])
    assert not records.stopped[:2].any()
