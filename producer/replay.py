"""Replay: events onto the topic at a rate, and never too far ahead of the worker.

The in-process broker drops the oldest records of a full partition without a word, so a replay onto it must wait
for the worker to take what is there. This file knows nothing of where events come from and of Kafka.
"""

import math
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, NamedTuple, Protocol

from producer.client import FlushReport
from producer.events import Event, encode

MAX_AHEAD: Final = 10_000
"""Most events that are sent but not taken by the worker; the in-process broker holds 100,000 batches a partition."""
MAX_AHEAD_BYTES: Final = 4 * 1024 * 1024
"""Most bytes of the same, even if all lie in one partition; the in-process broker holds 5 MiB a partition."""

_RECORD_OVERHEAD_BYTES = 128
"""More than Kafka adds to a value: the header of a batch of one, and that of its record. The key comes on top."""
_SHORTEST_SECONDS, _IDLE_SECONDS, _LONGEST_SECONDS = 0.001, 0.002, 0.01
"""Of sleeping between two looks at whether the next event may go."""
_MOST_CAUGHT_UP_SECONDS = 0.05
_CATCH_UP_SPEED = 2.0


class EventSink(Protocol):
    """Where events go: `producer.client.EventProducer`."""

    def send(self, event: Event) -> None:
        """BufferError for one that was not taken because the sink was told to stop while it waited for room."""
        ...

    def flush(self, timeout_seconds: float) -> FlushReport: ...


class ReplayReport(NamedTuple):
    sent: int
    """Events that the topic acknowledged."""
    failed: int
    """Events that it did not; not sent again."""
    seconds: float
    reason: str | None = None
    """Why the first of the failed ones did."""


class TokenClock:
    """Says how many events may have been sent by now: `rate` a second, from the first look at it.

    Who falls behind catches up at no more than twice the rate, so a pause is not followed by a flood.
    """

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._start = self._last = clock()
        self._allowed = 1.0

    def allowed(self) -> int:
        now = self._clock()
        passed, self._last = now - self._last, now
        behind = 1.0 + self._rate * (now - self._start) - self._allowed
        self._allowed += min(behind, _CATCH_UP_SPEED * self._rate * min(passed, _MOST_CAUGHT_UP_SECONDS))
        return int(self._allowed + 1e-9)


class HeadStart:
    """Says how many events may have been sent by now, given how many the worker has taken.

    What lies between may be the largest events seen, whatever order the worker takes partitions in. So the
    largest one, times how many there are, stays below `max_bytes`; one event at least may always be sent.
    """

    def __init__(self, position: Callable[[], int], max_ahead: int, max_bytes: int) -> None:
        self._position = position
        self._max_ahead = max_ahead
        self._max_bytes = max_bytes
        self._largest_bytes = 1
        self._taken = 0

    def has_room(self, event: Event, sent: int) -> bool:
        size = len(encode(event)) + len(event.user_id.encode()) + _RECORD_OVERHEAD_BYTES
        self._largest_bytes = max(self._largest_bytes, size)
        most = max(1, min(self._max_ahead, self._max_bytes // self._largest_bytes))
        if sent - self._taken >= most:
            self._taken = self._position()
        return sent - self._taken < most


def replay(
    producer: EventSink,
    events: Iterable[Event],
    *,
    rate: float | None = None,
    limit: int | None = None,
    position: Callable[[], int] | None = None,
    max_ahead: int = MAX_AHEAD,
    max_ahead_bytes: int = MAX_AHEAD_BYTES,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    stopping: Callable[[], bool] = lambda: False,
    flush_timeout_seconds: float = 60.0,
) -> ReplayReport:
    """Send the events in their order, then wait until each was acknowledged or failed.

    rate: events a second, as fast as possible where None. limit: the most events to send.
    position: how many events of this replay the worker has taken from the topic; the replay stays at most
    `max_ahead` events and `max_ahead_bytes` ahead of it. Where None it does not wait for anybody.
    stopping: asked before each event; once true, no more is sent and the report covers what was.

    Raises ValueError for a rate, a limit or a max_ahead that is not positive and finite; what `events` and `producer`
    raise passes through.
    """
    for name, number in (("rate", rate), ("limit", limit), ("max_ahead", max_ahead)):
        if number is not None and not 0 < number < math.inf:
            raise ValueError(f"{name}: expected a number above 0, got {number}")
    start = clock()
    tokens = None if rate is None else TokenClock(rate, clock)
    head_start = None if position is None else HeadStart(position, max_ahead, max_ahead_bytes)
    wait_seconds = _IDLE_SECONDS if rate is None else max(_SHORTEST_SECONDS, min(_LONGEST_SECONDS, 1.0 / rate))
    sent = 0
    for event in islice(events, limit):
        while not stopping() and not (
            (tokens is None or sent < tokens.allowed()) and (head_start is None or head_start.has_room(event, sent))
        ):
            sleep(wait_seconds)
        if stopping():
            break
        try:
            producer.send(event)
        except BufferError:
            break
        sent += 1
    report = producer.flush(flush_timeout_seconds)
    failed = len(report.failed) + report.still_queued
    reason = report.failed[0].error if report.failed else "no acknowledgement in time" if failed else None
    return ReplayReport(sent=sent - failed, failed=failed, seconds=clock() - start, reason=reason)
