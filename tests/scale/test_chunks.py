"""Oracle: the items in their order; threads are counted before and after."""

import threading
import time

import numpy as np
import pytest

from jaxnn import train
from jaxnn.scale import chunks


def test_chunks_have_one_size_and_weigh_what_their_rows_do():
    like = train.Batch(np.zeros((0, 8), np.float32), np.zeros((0,), np.int32))
    assert chunks.chunk_rows(like, None, 1) == chunks.CHUNK // 36
    assert chunks.chunk_rows(like, 10, 4) == 12  # up to a multiple of the devices
    rows = 10**6 + 1
    size = chunks.chunk_rows(like, rows, 1)
    count = -(-rows // size)
    assert count * size - rows < count  # hardly any row is filled in
    x = np.arange(6.0).reshape(3, 2)
    full = chunks.filled(train.Batch(x, weight=np.array([1.0, 2.0, 3.0])), 5, np.float64)
    np.testing.assert_array_equal(full.x, [*x, x[0], x[0]])
    np.testing.assert_array_equal(full.weight, [1, 2, 3, 0, 0])
    plain = chunks.filled(train.Batch(x), 3, np.float32)
    assert plain.x is x
    np.testing.assert_array_equal(plain.weight, np.ones(3, np.float32))


def test_items_come_in_order_made_by_another_thread():
    me = threading.get_ident()
    made = []

    def place(item):
        made.append(threading.get_ident() != me)
        return item * 10

    assert list(chunks.ahead(iter(range(7)), place)) == list(range(0, 70, 10))
    assert all(made)


def test_reading_overlaps_with_computing_and_does_not_run_away():
    started = []

    def items():
        for i in range(9):
            started.append(i)
            yield i

    stream = chunks.ahead(items(), lambda item: item, depth=2)
    assert next(stream) == 0
    end = time.monotonic() + 5
    while len(started) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    assert started == [0, 1, 2, 3]  # one taken, two wait, one is held
    before = threading.active_count()
    stream.close()  # type: ignore
    assert threading.active_count() == before - 1


def test_an_error_of_the_thread_is_raised_here_after_what_came_before():
    def items():
        yield 1
        raise OSError("the disk is gone")

    stream = chunks.ahead(items(), lambda item: item)
    assert next(stream) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)
