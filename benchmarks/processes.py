"""A process for each thing that is measured, so that nobody shares an interpreter lock with it."""

import pickle
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing import get_context
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
Answer = TypeVar("Answer")


class Process(AbstractContextManager["Process"]):
    """One fresh process that runs one call after another; what a call raises is raised here."""

    def __init__(self) -> None:
        # spawn: a forked child would share librdkafka's and torch's threads, which are not there any more
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def start(self, function: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Future[Answer]:
        """Begin a call and come back at once."""
        return self._pool.submit(_called, function, *args, **kwargs)

    def run(self, function: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
        """The answer of a call, once it is there."""
        return self.start(function, *args, **kwargs).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)


def _called(function: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
    """The answer of a call. What it raises has to be fit to be sent: the pool would break, and say nothing of it."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        raise


def run_alone(function: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
    """The answer of a call that is made in a process of its own, which then ends."""
    with Process() as process:
        return process.run(function, *args, **kwargs)
