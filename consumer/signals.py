"""SIGTERM and Ctrl-C as an event that a command asks about, so that it ends where nothing is half done."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType


class Stopped(Exception):
    """What was asked to stop had not begun its work yet, so there is nothing to bring to an end."""


@contextmanager
def stop_signals() -> Iterator[Event]:
    """An event that SIGTERM and Ctrl-C set; a second one leaves at once, with 128 + its number.

    For the main thread. What the signals did before is what they do again afterwards.
    """
    stopping = Event()

    def stop(number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
