"""Bytes to events: each record becomes an accepted event or a reject, never an exception.

Nearly all events have one plain shape, which a compiled parser reads for a whole batch straight into columns
(`consumer.kernels.parse`). The others take one typed msgspec decode each; what that refuses goes to
`consumer.reasons`, which finds out why.
Knows nothing of offsets, duplicates and the model; the dead-letter topic is `consumer.publish`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from consumer.kernels.parse import (
    ABSENT,
    ACTION,
    CLICK,
    CONTEXT,
    EVENT_ID,
    FORGET,
    IMPRESSION,
    ITEM,
    NOT_READ,
    RATING,
    SPANS,
    TEXT,
    USER,
    parse_events,
)
from consumer.reasons import EVENT_TYPES, UNKNOWN_TYPE, Explanation, Reason, explain, shown
from consumer.records import Taken
from model.ids import Ids
from producer.events import LATEST_TIMESTAMP, MAX_ID_CHARACTERS, Click, Event, Forget, Impression, Rating

if TYPE_CHECKING:
    from consumer.source import Record

_encode: Final = msgspec.json.Encoder().encode

TIMESTAMP_NOT_AVAILABLE: Final = 0
"""The timestamp type of a record that has none; confluent_kafka's constant of the same name."""


TYPE_CODES: Final = {Click: CLICK, Rating: RATING, Impression: IMPRESSION, Forget: FORGET}
"""The number of each type of event in `Events.type_E`."""
TYPE_NAMES: Final = tuple(EVENT_TYPES[kind] for kind in sorted(TYPE_CODES, key=TYPE_CODES.__getitem__))


@dataclass(frozen=True)
class Events:
    """Accepted events as columns, in the order of their records (E,)."""

    taken: Taken
    place_E: NDArray[np.int64]
    """The place of each event's record in `taken`."""
    type_E: NDArray[np.int8]
    """CLICK, RATING, IMPRESSION or FORGET of `consumer.kernels.parse`."""
    users: Ids
    items: Ids
    """Of length ABSENT for impressions and forgets."""
    time_E: NDArray[np.int64]
    rating_E: NDArray[np.float64]
    """NaN where there is none."""
    actions: Ids
    """Of length ABSENT where the event names none."""
    event_ids: Ids
    """Of length ABSENT where the event has none."""
    texts: Ids
    """What the user wrote; of length ABSENT where there is nothing."""
    contexts: Ids
    """A flat JSON object each; of length ABSENT where there is none."""

    def __len__(self) -> int:
        return len(self.place_E)

    def __getitem__(self, which: slice | NDArray[np.generic]) -> Events:
        """The events at these places, or those that a mask of booleans leaves."""
        return Events(
            self.taken,
            self.place_E[which],
            self.type_E[which],
            self.users[which],
            self.items[which],
            self.time_E[which],
            self.rating_E[which],
            self.actions[which],
            self.event_ids[which],
            self.texts[which],
            self.contexts[which],
        )

    def counts(self) -> dict[str, int]:
        """How many there are of each type that there is, by its name on the wire."""
        counts = np.bincount(self.type_E, minlength=len(TYPE_NAMES)).tolist()
        return {name: count for name, count in zip(TYPE_NAMES, counts, strict=True) if count}


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
        self(Taken([]))  # the parser is compiled now, not when the first event is here

    def __call__(self, taken: Taken) -> tuple[Events, list[Reject]]:
        """The accepted events and the rejects, each in the order of the records; both empty for no records."""
        values = [record.value() for record in taken.records]
        lengths_R = np.array([-1 if value is None else len(value) for value in values], dtype=np.int64)
        columns = _Columns(values, lengths_R, np.where(lengths_R <= self._max_event_bytes, lengths_R, 0))
        structs: dict[int, Event] = {}
        rejects: list[tuple[int, Reject]] = []
        for place in np.flatnonzero(columns.type_R == NOT_READ).tolist():
            record, payload = taken.records[place], values[place]
            event = self._read(payload)
            if isinstance(event, Explanation):
                rejects.append((place, Reject(record, *event)))
            else:
                structs[place] = event
        columns.fill_in(structs)
        for place in np.flatnonzero(columns.time_R > self._latest_times(taken)).tolist():
            if columns.type_R[place] != NOT_READ:
                latest = self._latest(*taken.stamps_R2[place].tolist())
                time_ms = structs[place].timestamp if place in structs else int(columns.time_R[place])
                why = self._from_the_future(int(columns.type_R[place]), time_ms, latest)
                rejects.append((place, Reject(taken.records[place], *why)))
                columns.type_R[place] = NOT_READ
        on_the_scale_R = (columns.rating_R >= self._rating_min) & (columns.rating_R <= self._rating_max)
        for place in np.flatnonzero((columns.type_R == RATING) & ~on_the_scale_R).tolist():
            why = self._off_the_scale(float(columns.rating_R[place]))
            rejects.append((place, Reject(taken.records[place], *why)))
            columns.type_R[place] = NOT_READ
        rejects.sort(key=lambda one: one[0])
        return columns.events(taken), [reject for _, reject in rejects]

    def _read(self, payload: bytes | None) -> Event | Explanation:
        if payload is None or len(payload) > self._max_event_bytes:
            return self._unread(payload)
        try:
            if not payload.isascii():
                payload.decode()  # msgspec skips over the fields it ignores without looking at their UTF-8
            event: Event = self._decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return explain(payload, error, self._expected_rating)
        return event

    def _latest_times(self, taken: Taken) -> NDArray[np.int64]:
        """`_latest` of each record (R,)."""
        types_R, time_R = taken.stamps_R2.T
        # Bounded first: a record may carry any number, and a sum beyond 64 bits would be below 0.
        latest_R = np.minimum(np.minimum(time_R, LATEST_TIMESTAMP) + self._max_future_ms, LATEST_TIMESTAMP)
        return np.where((types_R != TIMESTAMP_NOT_AVAILABLE) & (time_R >= 0), latest_R, LATEST_TIMESTAMP)

    def _latest(self, timestamp_type: int, record_ms: int) -> int:
        """The latest acceptable time of an event, by its record's time where it has one."""
        known = timestamp_type != TIMESTAMP_NOT_AVAILABLE and record_ms >= 0
        return min(record_ms + self._max_future_ms, LATEST_TIMESTAMP) if known else LATEST_TIMESTAMP

    def _unread(self, payload: bytes | None) -> Explanation:
        if payload is None:
            return Explanation(Reason.INVALID, "$: expected an event, got no value at all (a tombstone)")
        detail = f"$: expected at most {self._max_event_bytes} bytes, got {len(payload)}"
        return Explanation(Reason.TOO_LARGE, detail)

    def _off_the_scale(self, rating: float) -> Explanation:
        detail = f"$.rating: expected {self._expected_rating}, got {shown(rating)}"
        return Explanation(Reason.OUT_OF_RANGE, detail, EVENT_TYPES[Rating])

    def _from_the_future(self, type_code: int, timestamp: int, latest: int) -> Explanation:
        after = f"{self._max_future_ms / 1000:g} s after the record's own time"
        bound = "the end of the year 9999" if latest == LATEST_TIMESTAMP else after
        detail = f"$.timestamp: expected at most {latest} ({bound}), got {shown(timestamp)}"
        return Explanation(Reason.FROM_THE_FUTURE, detail, TYPE_NAMES[type_code])


class _Columns:
    """The columns of a batch while they are filled, one entry a record (R,)."""

    def __init__(
        self, values: list[bytes | None], lengths_R: NDArray[np.int64], read_lengths_R: NDArray[np.int64]
    ) -> None:
        """`read_lengths_R` is not above 0 where a value must not be read."""
        size = len(values)
        # A bytearray, so that the array may be written to: other types of array are compiled for anew.
        self.buffer = np.frombuffer(bytearray(b"".join(filter(None, values))), dtype=np.uint8)
        lengths_R = np.maximum(lengths_R, 0)
        self.type_R = np.empty(size, dtype=np.int8)
        self.start_SR = np.empty((SPANS, size), dtype=np.int64)
        self.length_SR = np.empty((SPANS, size), dtype=np.int64)
        self.time_R = np.empty(size, dtype=np.int64)
        self.rating_R = np.empty(size, dtype=np.float64)
        parse_events(
            self.buffer,
            np.cumsum(lengths_R) - lengths_R,
            read_lengths_R,
            MAX_ID_CHARACTERS,
            self.type_R,
            self.start_SR,
            self.length_SR,
            self.time_R,
            self.rating_R,
        )

    def fill_in(self, structs: Mapping[int, Event]) -> None:
        """Put events that were read one by one at their places; their strings go behind the payloads."""
        if not structs:
            return
        strings: list[bytes] = []
        used = len(self.buffer)

        def put(column: int, place: int, text: str | None) -> None:
            nonlocal used
            encoded = b"" if text is None else text.encode()
            self.start_SR[column, place] = used
            self.length_SR[column, place] = ABSENT if text is None else len(encoded)
            strings.append(encoded)
            used += len(encoded)

        for place, event in structs.items():
            self.type_R[place] = TYPE_CODES[type(event)]
            self.time_R[place] = min(event.timestamp, LATEST_TIMESTAMP + 1)
            self.rating_R[place] = event.rating if isinstance(event, Rating) else np.nan
            put(USER, place, event.user_id)
            put(ITEM, place, event.item_id if isinstance(event, Click | Rating) else None)
            put(ACTION, place, event.action if isinstance(event, Click) else None)
            put(EVENT_ID, place, event.event_id)
            text, context = (event.text, event.context) if isinstance(event, Click | Rating) else (None, None)
            put(TEXT, place, text)
            put(CONTEXT, place, None if context is None else _encode(context).decode())
        self.buffer = np.concatenate((self.buffer, np.frombuffer(b"".join(strings), dtype=np.uint8)))

    def events(self, taken: Taken) -> Events:
        place_E = np.flatnonzero(self.type_R != NOT_READ)
        which = slice(None) if len(place_E) == len(self.type_R) else place_E  # nearly always all: nothing is copied
        spans = [
            Ids(self.buffer, self.start_SR[column, which], self.length_SR[column, which]) for column in range(SPANS)
        ]
        return Events(
            taken,
            place_E,
            self.type_R[which],
            spans[USER],
            spans[ITEM],
            self.time_R[which],
            self.rating_R[which],
            spans[ACTION],
            spans[EVENT_ID],
            spans[TEXT],
            spans[CONTEXT],
        )
