"""Oracle: signals sent to this process, and the handlers that it had before."""

import signal
import threading

import pytest

from jaxnn.signals import Noted

BOTH = (signal.SIGTERM, signal.SIGINT)


@pytest.mark.parametrize("second", BOTH)
def test_the_first_is_noted_and_the_second_interrupts(second):
    before = [signal.getsignal(number) for number in BOTH]
    passed_on, seen = [], []

    def twice():
        with Noted(*BOTH, then=passed_on.append) as noted:
            seen.append(noted.first)
            signal.raise_signal(signal.SIGTERM)
            seen.append(noted.first)
            try:
                signal.raise_signal(second)
            finally:  # the third does what it always did
                seen.append(noted.first)
                assert [signal.getsignal(number) for number in BOTH] == before

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert seen == [None, signal.SIGTERM, signal.SIGTERM]
    assert passed_on == [signal.SIGTERM]
    assert [signal.getsignal(number) for number in BOTH] == before


def test_others_are_left_alone_and_who_asked_before_is_told_as_well():
    """Python's own handler, which would interrupt, is not asked."""
    before = [signal.getsignal(number) for number in BOTH]
    with Noted(signal.SIGINT) as outer:
        with Noted(signal.SIGINT) as inner:
            assert signal.getsignal(signal.SIGTERM) is before[0]
            assert (outer.first, inner.first) == (None, None)
            signal.raise_signal(signal.SIGINT)
        assert (outer.first, inner.first) == (signal.SIGINT, signal.SIGINT)
    assert [signal.getsignal(number) for number in BOTH] == before


def test_other_threads_have_no_signals():
    found = []

    def enter():
        with Noted(*BOTH) as noted:
            found.append((noted.first, *map(signal.getsignal, BOTH)))

    before = [signal.getsignal(number) for number in BOTH]
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(None, *before)]
