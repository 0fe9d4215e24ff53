"""A topic in memory, and a source that reads it: what `consumer.source.Source` does, without a broker."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from consumer.offsets import Extent, Reset, start_offsets, was_made_anew
from consumer.records import Taken
from producer.events import Click, Event, encode

TIME_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Record:
    """What we use of `confluent_kafka.Message`."""

    number: int
    place: int
    payload: bytes | None = b"{}"
    name: str = "events"
    time_ms: int = TIME_MS

    def topic(self):
        return self.name

    def partition(self):
        return self.number

    def offset(self):
        return self.place

    def timestamp(self):
        return 1, self.time_ms

    def key(self):
        return None

    def value(self):
        return self.payload

    def headers(self):
        return None


def places(records: Iterable[Record] | Taken | None) -> list[tuple[int, int]]:
    """(partition, offset) of each; of none where a take brought nothing."""
    each = records.records if isinstance(records, Taken) else records or []
    return [(record.partition(), record.offset()) for record in each]


def click(user: str, item: str, **fields) -> bytes:
    return encode(Click(user_id=user, item_id=item, timestamp=TIME_MS, **fields))


class Topic:
    """Partitions of records; offsets may have gaps, as transactions leave them."""

    def __init__(self, partitions: int = 1, name: str = "events") -> None:
        self.name = name
        self.topic_id: str | None = None
        self.records: dict[int, list[Record]] = {partition: [] for partition in range(partitions)}
        self.extents = {partition: Extent(0, 0) for partition in range(partitions)}

    def add_partition(self) -> None:
        number = len(self.records)
        self.records[number] = []
        self.extents[number] = Extent(0, 0)

    def append(self, partition: int, *payloads: bytes | Event | Mapping | None, gap: int = 0) -> None:
        """Add records, the first after a gap. Each record's time is a millisecond after the one before."""
        for payload in payloads:
            first, end = self.extents[partition]
            offset = end + gap
            gap = 0
            if isinstance(payload, Mapping):
                payload = json.dumps(payload).encode()
            elif not isinstance(payload, bytes | None):
                payload = encode(payload)
            count = sum(map(len, self.records.values()))
            self.records[partition].append(Record(partition, offset, payload, self.name, TIME_MS + count))
            self.extents[partition] = Extent(first, offset + 1)

    def end_with_a_marker(self, partition: int) -> None:
        """As a transaction does: an offset that is no record's."""
        first, end = self.extents[partition]
        self.extents[partition] = Extent(first, end + 1)

    def drop_before(self, partition: int, offset: int) -> None:
        """As retention would."""
        self.records[partition] = [record for record in self.records[partition] if record.offset() >= offset]
        self.extents[partition] = Extent(offset, max(offset, self.extents[partition].end))


@dataclass
class FakeSource:
    """Reads a topic as `Source` does. What each call of `take` finds can be set beforehand: `arrivals`."""

    topic: Topic
    group: dict[int, int] = field(default_factory=dict)
    """The group's committed offsets."""
    arrivals: list[tuple[int, int]] | None = None
    """(partition, most records): what arrives in the next calls, in this order; None: everything that is there."""

    @property
    def topic_id(self) -> str | None:
        return self.topic.topic_id

    def was_made_anew(self, saved_id: str | None, reset: Reset | None) -> bool:
        self._known_id = self.topic_id or saved_id
        return was_made_anew(self.topic.name, saved_id, self.topic_id, reset)

    def check_topic(self) -> None:
        was_made_anew(self.topic.name, self._known_id, self.topic_id, None)

    def seek(self, offsets: Mapping[int, int] | None, reset: Reset | None = None) -> None:
        self._next = start_offsets(self.topic.name, "group", self.topic.extents, offsets, lambda: self.group, reset)

    def take(self, max_records: int, wait_seconds: float) -> list[Record]:
        del wait_seconds
        records: list[Record] = []
        self._next = {**dict.fromkeys(self.topic.records, 0), **self._next}  # partitions that were added
        for partition, most in self._arriving(max_records):
            here = [record for record in self.topic.records[partition] if record.offset() >= self._next[partition]]
            records += here[: min(most, max_records - len(records))]
            self._next.update({record.partition(): record.offset() + 1 for record in records})
            if len(here) < most and len(records) < max_records:  # read to the end, whatever is there
                self._next[partition] = self.topic.extents[partition].end
        return records

    def _arriving(self, max_records: int) -> list[tuple[int, int]]:
        if self.arrivals is None:
            return [(partition, max_records) for partition in self.topic.records]
        arrivals, self.arrivals = self.arrivals, []
        return arrivals

    def next_offsets(self) -> dict[int, int]:
        return dict(self._next)

    def end_offsets(self) -> dict[int, int]:
        return {partition: extent.end for partition, extent in self.topic.extents.items()}

    def is_behind(self) -> bool:
        return any(self.topic.extents[partition].end > offset for partition, offset in self._next.items())

    def commit_soon(self, offsets: Mapping[int, int]) -> None:
        self.group.update(offsets)
