"""Signals that are noted instead of obeyed, so that a loop can end between two of its steps."""

import signal
import threading
from collections.abc import Callable
from typing import Any


class Noted:
    """While entered, the first of some signals is noted in `first`.

    Who had asked for it before, other than Python itself, is told as well.  A second one raises
    KeyboardInterrupt at once, and from then on signals do what they did before.  Threads other than
    the main one get no signals: there it does nothing.

    Args:
        *numbers: such as `signal.SIGINT`, which is Ctrl-C.
        then: called with the number of the first.
    """

    def __init__(self, *numbers: int, then: Callable[[int], None] = lambda number: None) -> None:
        self.first: int | None = None
        self._numbers, self._then = numbers, then
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Noted":
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None stands for a handler that was not set from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _note(self, number: int, frame: Any) -> None:
        if self.first is not None:
            self.__exit__()
            raise KeyboardInterrupt
        self.first = number
        self._then(number)
        before = self._before.get(number)
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)
