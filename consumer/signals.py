"""SIGTERM and Ctrl-C as an event that a command asks about, so that it ends where nothing is half done."""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType
from typing import TypeVar

_Input = TypeVar("_Input")


class Stopped(Exception):
    """What was asked to stop had not begun its work yet, so there is nothing to bring to an end."""


class Stopping(Event):
    """Set by a signal."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks_off = False
        """Whether a signal also raises Stopped: what waits for input would go on waiting after it."""
        self.number = 0
        """Of the signal."""

    @contextmanager
    def nothing_begun(self) -> Iterator[None]:
        """While there is nothing to bring to an end: what fails once a signal has come ends as if nobody had waited for
        the signal, with 128 + its number.
        """
        try:
            yield
        except Exception:
            if self.is_set():
                sys.exit(128 + self.number)
            raise


@contextmanager
def stop_signals() -> Iterator[Stopping]:
    """An event that SIGTERM and Ctrl-C set; a second one leaves at once, with 128 + its number.

    For the main thread. What the signals did before is what they do again afterwards.
    """
    stopping = Stopping()

    def stop(number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.number = number
        stopping.set()
        if stopping.breaks_off:
            raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def until_stopped(inputs: Iterable[_Input], stopping: Stopping) -> Iterator[_Input]:
    """All of them, or those before a signal: that ends the wait for the next one too, of a pipe, say."""
    try:
        stopping.breaks_off = True
        for one in inputs:
            stopping.breaks_off = False
            yield one
            stopping.breaks_off = True
        stopping.breaks_off = False
    except Stopped:
        pass
    finally:
        stopping.breaks_off = False
