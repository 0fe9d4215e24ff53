"""What of a stream the worker would learn: its own decoding and its own window of event ids, without Kafka.

A line that is no event at all is an error, which names it. An event that the worker would not learn is left out and
counted: as a duplicate, or by the reason of the dead letter that it would be.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from consumer.config import Settings
from consumer.decode import TIMESTAMP_NOT_AVAILABLE, Decoder, Reject
from consumer.duplicates import RecentEventIds
from consumer.reasons import Reason
from consumer.records import Taken
from producer.datasets import Dataset, EventsFileError, numbered_lines
from producer.events import Event, encode

DUPLICATE: Final = "duplicate"
LEFT_OUT: Final = frozenset({Reason.OUT_OF_RANGE, Reason.FROM_THE_FUTURE, Reason.TOO_LARGE})
"""Reasons that speak of events; the others say that a line is none."""

_LINES_AT_ONCE: Final = 4096

log = structlog.get_logger()


class Line(NamedTuple):
    """A line of a stream in the place of a `consumer.source.Record`, without a time of its own."""

    where: str
    payload: bytes

    def topic(self) -> str:
        return self.where

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 0

    def timestamp(self) -> tuple[int, int]:
        return TIMESTAMP_NOT_AVAILABLE, -1

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return self.payload

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return None


class Stream(NamedTuple):
    """Events in order."""

    events: list[Event | None]
    """None in the place of each that was left out."""
    left_out: Counter[str]


def lines_of_file(path: Path) -> Iterator[Line]:
    """The lines of a file that are not empty."""
    for number, line in numbered_lines(path):
        yield Line(f"{path}, line {number}", line.rstrip(b"\r\n"))


def lines_of_dataset(dataset: Dataset) -> Iterator[Line]:
    """The events of a data set as a file would hold them."""
    for number, event in enumerate(dataset.events, start=1):
        yield Line(f"{dataset.name}, event {number}", encode(event))


def learnable(lines: Iterable[Line], settings: Settings, limit: int | None = None) -> Stream:
    """The stream's first `limit` lines; EventsFileError, with place and JSON path, for one that is no event.

    The first of each reason to leave an event out is logged, with its place.
    """
    decode = Decoder(settings.rating_min, settings.rating_max, settings.max_future_seconds, settings.max_event_bytes)
    read = msgspec.json.Decoder(Event).decode
    seen_ids = RecentEventIds()
    stream = Stream([], Counter())
    rest = islice(lines, limit)
    while batch := list(islice(rest, _LINES_AT_ONCE)):
        accepted, rejects = decode(Taken(batch))
        for reject in rejects:
            _leave_out(reject, stream.left_out)
        fresh, duplicates = seen_ids.split(accepted)
        if len(duplicates):
            if not stream.left_out[DUPLICATE]:
                _say(batch[duplicates.place_E[0]].where, DUPLICATE, "$.event_id: came before")
            stream.left_out[DUPLICATE] += len(duplicates)
        events: list[Event | None] = [None] * len(batch)
        for place in fresh.place_E.tolist():
            events[place] = read(batch[place].payload)
        stream.events.extend(events)
    return stream


def _leave_out(reject: Reject, left_out: Counter[str]) -> None:
    where = reject.record.topic()
    if reject.reason not in LEFT_OUT:
        raise EventsFileError(f"{where}: {reject.detail}")
    if not left_out[reject.reason]:
        _say(where, reject.reason, reject.detail)
    left_out[str(reject.reason)] += 1


def _say(where: str, reason: str, why: str) -> None:
    log.warning("left out, as the worker would; others of this reason are only counted", at=where, of=reason, why=why)
