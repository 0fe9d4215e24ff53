"""Looks out for partitions that are added to a topic while it is read.

An answer may take as long as the broker is away, so it is asked for in a thread of its own, and looked at when it is
there. What a partition is read from is not known here.
"""

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

LOOK_SECONDS: Final = 30.0
"""Between two looks: records may wait so long in a partition that was just added."""


class Lookout:
    """Asks now and then which partitions there are."""

    def __init__(
        self,
        ask: Callable[[], Collection[int]],
        *,
        every_seconds: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ask` answers with all partitions, or with none where nobody knows; it runs in another thread."""
        self.every_seconds = every_seconds
        self._ask = ask
        self._clock = clock
        self._asked_at = clock()
        self._asking: Future[Collection[int]] | None = None
        self._thread = ThreadPoolExecutor(1, "partitions")

    def new_partitions(self, known: Collection[int]) -> list[int]:
        """Those not among the `known`, ascending. Never waits. Each answer comes once, as does what `ask` raised."""
        if self._asking is None:
            if self._clock() - self._asked_at >= self.every_seconds:
                self._asked_at = self._clock()
                self._asking = self._thread.submit(self._ask)
            return []
        if not self._asking.done():
            return []
        answered, self._asking = self._asking, None
        return sorted(set(answered.result()) - set(known))

    def close(self) -> None:
        """Ask no more; back when the question under way is answered. Closing twice does nothing."""
        self._thread.shutdown(cancel_futures=True)
