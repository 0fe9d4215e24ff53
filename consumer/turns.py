"""One process at a time fills a folder that several share, and the next finds what is in it."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

WAIT_SECONDS: Final = 0.1


@contextmanager
def in_turn(folder: Path, look_up: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Go on when no other process is in its turn; one that is killed has had it.

    `look_up` is called every now and then meanwhile: what it raises ends the wait. Where the folder cannot be locked
    nobody waits.
    """
    lock = _opened(folder)
    try:
        while lock is not None and not _is_ours(lock):
            look_up()
            time.sleep(WAIT_SECONDS)
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _opened(folder: Path) -> int | None:
    try:
        return os.open(folder, os.O_RDONLY)
    except OSError:
        return None


def _is_ours(lock: int) -> bool:
    """False while somebody else has it; True also where the file system knows no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
