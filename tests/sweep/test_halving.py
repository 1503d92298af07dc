"""Oracles: closed forms of a toy whose best members are known; `test_rules` has the rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from refusals import refused

from jaxnn import sweep

KEY = jax.random.key(4)
N, SCALE = 18, 0.9
HP = toys.members(N)  # the last is the best at any time


def halve(**options):
    return sweep.halving(toys.TOY, HP, KEY, SCALE, **{"most": 9, **options})


@pytest.mark.parametrize("layout", sweep.LAYOUTS)
def test_who_is_stopped_when(layout):
    """Oracle: by hand: of 18 the 6 best pass one piece, 2 pass three; results are the closed form
    after as many pieces as each ran.
    """
    got = halve(layout=layout, chunk=5)
    np.testing.assert_array_equal(got.pieces, [1] * 12 + [3] * 4 + [9] * 2)
    np.testing.assert_array_equal(got.stopped, [True] * 16 + [False] * 2)
    assert bool(got.done.all())
    assert not bool(got.failed.any())
    want = toys.alone(HP, sweep.member_keys(KEY, HP), SCALE, got.pieces)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), got.results, want)
    assert int(sweep.best(got, lambda r: r["w"]).member) == N - 1


@pytest.mark.parametrize("rule", sweep.RULES)
def test_every_rule_finds_the_best_and_saves_most_of_the_work(rule):
    """Oracle: the member with the largest rate, somewhere among the others; pieces are counted."""
    order = np.random.default_rng(1).permutation(N)
    hp = HP | {"rate": HP["rate"][order]}
    got = sweep.halving(toys.TOY, hp, KEY, SCALE, most=9, rule=rule, chunk=4)
    best = int(np.argmax(order))
    assert int(jnp.argmin(got.scores)) == best
    assert int(got.pieces[best]) == 9
    assert not bool(got.stopped[best])
    assert int(got.pieces.sum()) < 0.6 * 9 * N


def test_asha_runs_as_many_at_a_time_as_a_chunk_holds():
    """Oracle: counting: with one place members come one by one, so a report a piece."""
    seen = []
    got = halve(rule="asha", chunk=1, most=3, progress=seen.append)
    assert len(seen) == int(got.pieces.sum()) + 1
    assert seen[-1].done == N


def test_the_last_of_a_field_runs_to_the_end():
    """By hand: fewer members than eta leave one; a NaN is no rival."""
    hp = toys.members(2, nan_at=[0, 1])
    got = sweep.halving(toys.TOY, hp, KEY, SCALE, most=3)
    np.testing.assert_array_equal(got.pieces, [3, 1])
    np.testing.assert_array_equal(got.failed, [False, True])
    assert not bool(got.stopped.any())


BAD = {
    "function": ({"protocol": toys.init}, TypeError, "protocol must be a Segments, got function"),
    "rule": ({"rule": "halvin"}, ValueError, r"unknown rule 'halvin' \(did you mean 'halving'"),
    "eta 1": ({"eta": 1}, ValueError, "eta must be at least 2, got 1"),
    "most 0": ({"most": 0}, ValueError, "most must be at least 1, got 0"),
    "first > most": ({"first": 10}, ValueError, "first must be between 1 and 9, got 10"),
    "H1": ({"key": 0}, TypeError, "key must be a PRNG key"),
    "I1": ({"hparams": {}}, ValueError, "hparams must have at least one axis"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the argument and what is expected."""
    options, error, message = BAD[case]
    given = {"protocol": toys.TOY, "hparams": HP, "key": KEY} | options
    call = lambda: sweep.halving(
        given.pop("protocol"), given.pop("hparams"), given.pop("key"), SCALE, **{"most": 9, **given}
    )
    refused(call, error, message, "sweep.halving: ")
