"""Bytes to events: each record becomes an accepted event or a reject, never an exception.

The happy path is one typed msgspec decode and two comparisons. What that refuses goes to `consumer.reasons`, which
finds out why.
Knows nothing of offsets, duplicates and the model; the dead-letter topic is `consumer.publish`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from consumer.reasons import EVENT_TYPES, UNKNOWN_TYPE, Explanation, Reason, explain, shown
from producer.events import Event, Rating

if TYPE_CHECKING:
    from consumer.source import Record

LATEST_TIMESTAMP: Final = 253_402_300_799_999
"""The end of the year 9999: the bound where a record has no timestamp of its own. Far inside int64 and float64."""


TIMESTAMP_NOT_AVAILABLE: Final = 0
"""The timestamp type of a record that has none; confluent_kafka's constant of the same name."""


class Accepted(NamedTuple):
    """An event and the record that brought it."""

    event: Event
    record: Record


class Reject(NamedTuple):
    """A record that is not an event we can learn: a value, to be dead-lettered, not an error."""

    record: Record
    reason: Reason
    detail: str
    """JSON path, what was expected, what came; short, one line, ASCII."""
    event_type: str = UNKNOWN_TYPE
    """The `type` the payload names; "unknown" where it names none that exists."""


class Decoder:
    """Sorts records into events and rejects.

    A rating outside `rating_min..rating_max`, a timestamp more than `max_future_seconds` after the record's own,
    and a value of more than `max_event_bytes` bytes are rejects; exactly at each bound is accepted.
    """

    def __init__(
        self,
        rating_min: float = 0.5,
        rating_max: float = 5.0,
        max_future_seconds: float = 600.0,
        max_event_bytes: int = 1_000_000,
    ) -> None:
        self._rating_min = rating_min
        self._rating_max = rating_max
        self._expected_rating = f"a number from {rating_min:g} to {rating_max:g}"
        self._max_future_ms = int(max_future_seconds * 1000)
        self._max_event_bytes = max_event_bytes
        self._decode: Final = msgspec.json.Decoder(Event).decode

    def __call__(self, records: Sequence[Record]) -> tuple[list[Accepted], list[Reject]]:
        """The accepted events and the rejects, each in the order of the records; both empty for no records."""
        events: list[Event] = []
        kept: list[Record] = []
        rejects: list[Reject] = []
        decode, max_event_bytes = self._decode, self._max_event_bytes
        rating_min, rating_max, max_future_ms = self._rating_min, self._rating_max, self._max_future_ms
        last_ms = LATEST_TIMESTAMP
        for record in records:
            payload = record.value()
            if payload is None or len(payload) > max_event_bytes:
                rejects.append(Reject(record, *self._unread(payload)))
                continue
            try:
                if not payload.isascii():
                    payload.decode()  # msgspec skips over the fields it ignores without looking at their UTF-8
                event: Event = decode(payload)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                rejects.append(Reject(record, *explain(payload, error, self._expected_rating)))
                continue
            timestamp_type, record_ms = record.timestamp()
            if not event.timestamp <= record_ms + max_future_ms <= last_ms:
                latest = self._latest(timestamp_type, record_ms)
                if event.timestamp > latest:
                    rejects.append(Reject(record, *self._from_the_future(event, latest)))
                    continue
            if type(event) is Rating and not rating_min <= event.rating <= rating_max:
                rejects.append(Reject(record, *self._off_the_scale(event)))
                continue
            events.append(event)
            kept.append(record)
        # Accepted(event, record) for each pair, without a call into Python for each.
        return list(map(tuple.__new__, repeat(Accepted), zip(events, kept, strict=True))), rejects

    def _latest(self, timestamp_type: int, record_ms: int) -> int:
        """The latest acceptable time of an event, by its record's time where it has one."""
        known = timestamp_type != TIMESTAMP_NOT_AVAILABLE and record_ms >= 0
        return min(record_ms + self._max_future_ms, LATEST_TIMESTAMP) if known else LATEST_TIMESTAMP

    def _unread(self, payload: bytes | None) -> Explanation:
        if payload is None:
            return Explanation(Reason.INVALID, "$: expected an event, got no value at all (a tombstone)")
        detail = f"$: expected at most {self._max_event_bytes} bytes, got {len(payload)}"
        return Explanation(Reason.TOO_LARGE, detail)

    def _off_the_scale(self, event: Rating) -> Explanation:
        detail = f"$.rating: expected {self._expected_rating}, got {shown(event.rating)}"
        return Explanation(Reason.OUT_OF_RANGE, detail, EVENT_TYPES[Rating])

    def _from_the_future(self, event: Event, latest: int) -> Explanation:
        allowed = f"at most {latest} ({self._max_future_ms / 1000:g} s after the record's own time)"
        detail = f"$.timestamp: expected {allowed}, got {shown(event.timestamp)}"
        return Explanation(Reason.FROM_THE_FUTURE, detail, EVENT_TYPES[type(event)])
