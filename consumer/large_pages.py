"""Large pages under the rows of a large model, put there beside the loop: no step waits for one.

Linux does the same by itself, a few megabytes a second, which takes a worker's first half hour.
"""

from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

PAUSE_SECONDS = 0.02
"""Between two large pages, each of which is two megabytes to copy: a few hundredths of a processor's time at most."""
IDLE_SECONDS = 1.0
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


class LargePages:
    """A thread that has small pages collapsed into large ones as long as there are any."""

    def __init__(self, collapse_next: Callable[[], bool], setting: Path = SETTING) -> None:
        """`collapse_next` puts one there and says whether there was anything to do. Is called on the thread.

        Nothing starts where the system's administrator wants no large pages, or where it has none.
        """
        self._collapse_next = collapse_next
        self._closed = Event()
        self._thread: Thread | None = None
        if wanted(setting):
            self._thread = Thread(target=self._work, name="large pages", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait for the one under way, if there is one. Closing twice does nothing."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._closed.wait(PAUSE_SECONDS if self._collapse_next() else IDLE_SECONDS):
            pass


def wanted(setting: Path) -> bool:
    """Whether this file, in which the chosen word has brackets, lets a program ask for large pages."""
    try:
        return "[never]" not in setting.read_text()
    except OSError:  # another system, or a kernel without them
        return False
