"""Oracle: the chunks by hand; that a stream is known again is in `test_train`."""

import jax
import numpy as np
import pytest

from jaxnn import scale, train
from jaxnn.scale.turns import Turns, told

ROWS = scale.arrays(np.arange(10.0)[:, None])
SHUFFLED = scale.shuffled(jax.random.key(0), ROWS, buffer=10)


def values(chunks):
    return [chunk.x[:, 0].tolist() for chunk in chunks]


def test_each_iteration_is_the_next_turn():
    turns = Turns("here", SHUFFLED, 4)
    each = [values(turns) for _ in range(3)]
    by_hand = [np.concatenate([b.x for b in SHUFFLED.read(4, turn)])[:, 0] for turn in range(3)]
    for got, want in zip(each, by_hand, strict=True):
        assert got == [want[:4].tolist(), want[4:8].tolist(), want[8:].tolist()]
    assert each[0] != each[1]
    assert values([turns.first()]) == each[0][:1]
    turns.go_on(2, 0, "")
    assert values(turns) == each[2]


def test_what_is_gone_on_with_must_begin_as_it_did():
    turns = Turns("here", ROWS, 4, digesting=True)
    list(turns)
    two = turns.so_far(2)
    assert len({"", turns.so_far(1), two, turns.so_far(3)}) == 4
    assert turns.so_far(0) == ""
    turns.go_on(5, 2, two)
    assert len(list(turns)) == 3
    for position, same in ((9, True), (4, False)):  # what comes later may differ, and is not known
        other = np.arange(10.0)[:, None]
        other[position] = 7
        turns = Turns("here", scale.arrays(other), 4, digesting=True)
        turns.go_on(0, 2, two)
        if same:
            assert len(list(turns)) == 3
            continue
        with pytest.raises(scale.OtherRun, match=r"here: rows must be those .* first 2 chunks"):
            list(turns)


def test_a_source_that_turns_out_empty_is_refused():
    none = ROWS._replace(read=lambda size, turn: iter(()), rows=None)
    with pytest.raises(ValueError, match=r"here: rows must hold at least one"):
        Turns("here", none, 4).first()


def test_settings_are_told_apart():
    """Invariant: what JSON takes; other numbers, other words; the same in another process."""
    rate = train.schedule("cosine", 0.1, steps=3)
    assert told(0.1) == 0.1
    assert told(None) is None
    assert told(values) == ["function", "values"]
    assert told({"metric": values})[1:] == ["values"]
    assert told(rate) == told(train.schedule("cosine", 0.1, steps=3))
    assert told(rate) != told(train.schedule("cosine", 0.2, steps=3))
    assert "0x" not in str([told(rate), told(values), told(jax.tree_util.Partial(values, 3.0))])
