"""One piece of work in several threads at the same time."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress

from model.kernels.compiled import IS_COMPILED


class SideBySide:
    """Does a piece of work in this thread and, where it is worth while, in others.

    The work shares itself out: whoever comes first takes the next share. So nobody waits for a thread that has no
    processor: what it did not come to take is done by the others.
    """

    def __init__(self, threads: int = 1) -> None:
        """ValueError for less than one thread. Interpreted kernels hold the interpreter, so that there is one."""
        if threads < 1:
            raise ValueError(f"threads: expected at least 1, got {threads}")
        self.threads = threads if IS_COMPILED else 1
        self._others = ThreadPoolExecutor(self.threads - 1, "side by side") if self.threads > 1 else None

    def __call__(self, work: Callable[[int], None], shares: int) -> None:
        """Call `work(0)` here and `work(1)`, ... in other threads, in as many as there are shares at most.

        Comes back when all have ended, and raises what a call raised, this thread's first.
        """
        others = min(self.threads, shares) - 1
        if others < 1 or self._others is None:
            work(0)
            return
        begun: list[Future[None]] = []
        try:
            with suppress(RuntimeError):  # the system has no thread to give: fewer do
                begun.extend(self._others.submit(work, number) for number in range(1, others + 1))
            work(0)
        finally:
            wait(one for one in begun if not one.cancel())
        for one in begun:
            if not one.cancelled():
                one.result()
