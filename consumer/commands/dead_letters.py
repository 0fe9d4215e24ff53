"""`headrace dead-letters list|replay`: look at what could not be learned, and send it again once the cause is mended.

What was replayed is remembered as the committed offsets of the group `<group>.dead-letters`, so that a second replay
sends only what came since. The broker forgets that place some time after the last replay (`offsets.retention.minutes`,
a week by default), and letters stay much longer: so where it has none and letters are old, a person has to say whether
there was a replay. Letters stay on their topic either way. A crash of the worker may write a letter twice: the
place of the record that it holds tells, and only the first of them counts.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, Message, Producer

from consumer.config import Settings
from consumer.offsets import OffsetsOutOfRetention, Reset
from consumer.publish import LETTER_HEADERS, UNREADABLE_HEADERS, headers_of
from consumer.reasons import Reason
from consumer.source import Record, Source
from producer.client import DEFAULTS, DeliveryFailed, FailedDelivery

_BATCH: Final = 1000
_WAIT_SECONDS: Final = 1.0
_FLUSH_SECONDS: Final = 60.0
_SHOWN_CHARACTERS: Final = 100
_MARK_SECONDS: Final = 86_400.0
"""No broker forgets earlier where a replay ended, unless somebody wanted it so."""

Headers = Sequence[tuple[str, bytes | None]]


class Letter(NamedTuple):
    """A dead letter, its headers parted into those of the record that it holds and those of the worker."""

    record: Record
    own_headers: Headers
    added: dict[str, str]

    @property
    def reason(self) -> str | None:
        return self.added.get("error.reason")


class ReplayUnknown(RuntimeError):
    """It cannot be told whether old letters were replayed before."""


def list_letters(settings: Settings, *, limit: int = 20, reason: str | None = None) -> dict[str, Any]:
    """The newest `limit` letters, oldest first within a partition; how many there are of each reason, and repeats.

    ValueError for a `reason` that is none.
    """
    _check_reason(reason)
    newest: dict[int, deque[dict[str, Any]]] = {}
    reasons: Counter[str] = Counter()
    told, repeats = _Told(), 0
    with closing(_source(settings)) as source:
        source.seek(None, Reset.EARLIEST)
        for record in _records(source, source.end_offsets()):
            letter = _letter(record)
            if told.is_repeat(letter):
                repeats += 1
                continue
            reasons[letter.reason or "-"] += 1
            if reason in (None, letter.reason):
                kept = newest.setdefault(record.partition(), deque(maxlen=limit))
                kept.append(_described(letter))
    letters = sorted((one for kept in newest.values() for one in kept), key=lambda one: one["timestamp"])
    counted = dict(reasons.most_common())
    return {"topic": settings.dead_letter_topic, "reasons": counted, "repeats": repeats, "letters": letters[-limit:]}


def replay(
    settings: Settings,
    *,
    reason: str | None = None,
    again: bool = False,
    since: datetime | None = None,
    now_seconds: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """Send the letters since the last replay, or all with `again`, to the events topic: key, value, own headers.

    With `reason` others are passed over, and count as replayed; so are, with `since` (UTC), those that are older.
    `repeats` of a letter are left out, whichever replay had it. ReplayUnknown where there may have been a replay that
    the broker has forgotten and neither `again` nor `since` is given. DeliveryFailed where the broker refused a
    letter; the next replay begins with the same letters then. ValueError for a `reason` that is none: all would be
    passed over. `began` is what `since` may be told one day.
    """
    _check_reason(reason)
    began = _utc(now_seconds())
    since_ms = -math.inf if since is None else since.replace(tzinfo=UTC).timestamp() * 1000
    failures: list[FailedDelivery] = []
    counts: Counter[str] = Counter()

    def answered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failures.append(FailedDelivery(message.key() or b"", message.value() or b"", error.str()))

    with closing(_source(settings)) as source:
        if not again and since is None:
            _check_mark(source, settings, now_seconds())
        told = _seek_to_mark(source, again)
        producer = _producer(settings)
        for record in _records(source, source.end_offsets()):
            letter = _letter(record)
            if told.is_repeat(letter):
                counts["repeats"] += 1
            elif reason in (None, letter.reason) and record.timestamp()[1] >= since_ms:
                _send(producer, settings.events_topic, letter, answered)
                counts["replayed"] += 1
            else:
                counts["passed_over"] += 1
        unanswered = producer.flush(_FLUSH_SECONDS)
        if failures or unanswered:
            raise DeliveryFailed(failures, unanswered)
        source.commit(source.next_offsets())
    counted = {name: counts[name] for name in ("replayed", "passed_over", "repeats")}
    return {**counted, "topic": settings.events_topic, "began": began}


def as_text(result: Mapping[str, Any]) -> str:
    """For people: a letter in three lines."""
    if "letters" not in result:
        passed = f", {result['passed_over']} passed over" if result["passed_over"] else ""
        sent = f"{result['replayed']} dead letters sent to {result['topic']} again{passed}{_left_out(result)}"
        return f"{sent}; begun at {result['began']} (UTC)"
    lines = [
        f"{result['topic']}[{letter['partition']}]@{letter['offset']}  {letter['reason']}  from {letter['source']}\n"
        f"    {letter['detail']}\n    {letter['value']}"
        for letter in result["letters"]
    ]
    counted = ", ".join(f"{count} {reason}" for reason, count in result["reasons"].items())
    total = f"{sum(result['reasons'].values())} dead letters{f': {counted}' if counted else ''}"
    return "\n".join([*lines, total + _left_out(result)])


def _left_out(result: Mapping[str, Any]) -> str:
    count = result["repeats"]
    return f", {count} repeat{'' if count == 1 else 's'} left out" if count else ""


def _check_reason(reason: str | None) -> None:
    if reason is not None and reason not in list(Reason):
        raise ValueError(f"--reason: expected one of {', '.join(Reason)}, got {reason!r}")


def _source(settings: Settings) -> Source:
    group = f"{settings.group_id}.dead-letters"
    return Source(settings.bootstrap_servers, settings.dead_letter_topic, group, librdkafka=settings.librdkafka)


def _check_mark(source: Source, settings: Settings, now_seconds: float) -> None:
    """Raise ReplayUnknown where nothing says up to where letters were replayed, and they are old enough for that to
    have been forgotten.
    """
    source.seek(None, Reset.EARLIEST)
    if source.committed():
        return
    times = [record.timestamp()[1] for record in _records(source, source.end_offsets())]
    oldest = min(times, default=math.inf) / 1000
    if now_seconds - oldest < _MARK_SECONDS:
        return
    raise ReplayUnknown(
        f"{settings.dead_letter_topic} has {len(times)} dead letters, the oldest of {_utc(oldest)}, and group "
        f"{settings.group_id}.dead-letters has no offsets there: either none was replayed yet, or the broker has "
        "forgotten which were (offsets.retention.minutes after the last replay). If none was, --again sends all of "
        "them. If some were, --since YYYY-MM-DDTHH:MM:SS with the time (UTC) at which the last replay began, as it "
        "said, sends those written since then, each once"
    )


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _seek_to_mark(source: Source, again: bool) -> "_Told":
    """Go to where the last replay ended; the letters before that place, which it had."""
    told = _Told()
    if again:
        source.seek(None, Reset.EARLIEST)
        return told
    try:
        source.seek(None, Reset.COMMITTED)
    except OffsetsOutOfRetention as error:
        raise RuntimeError(
            f"{error.missing} dead letters have left the topic before they were replayed; --again begins with the "
            "first one there is, and sends those again that were replayed before"
        ) from error
    mark = source.next_offsets()
    source.seek(None, Reset.EARLIEST)
    for record in _records(source, mark):
        if record.offset() < mark[record.partition()]:
            told.is_repeat(_letter(record))
    source.seek(mark)
    return told


class _Told:
    """The letters that there were, each by the place of the record that it holds."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str, str, int]] = set()

    def is_repeat(self, letter: Letter) -> bool:
        """Whether there was a letter of the same record before; there was one afterwards."""
        if not {"source.topic", "source.partition", "source.offset"} <= letter.added.keys():
            return False
        # The content is part of it since a topic that is made anew counts its offsets from 0 again.
        content = hash((letter.record.key(), letter.record.value()))
        topic, partition, offset = (letter.added[f"source.{name}"] for name in ("topic", "partition", "offset"))
        place = (topic, partition, offset, content)
        is_known = place in self._known
        self._known.add(place)
        return is_known


def _records(source: Source, ends: Mapping[int, int]) -> Iterator[Record]:
    """Every record from where the source stands to these offsets, and perhaps some behind them."""
    while any(source.next_offsets()[partition] < end for partition, end in ends.items()):
        yield from source.take(_BATCH, _WAIT_SECONDS)


def _letter(record: Record) -> Letter:
    """Part the headers: the worker's are the last ones, each once at most, in the order in which it writes them.

    A letter whose headers cannot be read is none of the worker's: it has none here, and its detail says why.
    """
    headers = headers_of(record)
    if headers is None:
        return Letter(record, (), {"error.detail": UNREADABLE_HEADERS})
    own = [*headers]
    added: dict[str, str] = {}
    for name in reversed(LETTER_HEADERS):
        if own and own[-1][0] == name:
            added[name] = _printable((own.pop()[1] or b"").decode(errors="replace"))  # others may write letters too
    return Letter(record, own, added)


def _send(producer: Producer, topic: str, letter: Letter, answered: Any) -> None:
    headers: list[tuple[str, str | bytes | None]] = [*letter.own_headers]
    key, value = letter.record.key(), letter.record.value()
    while True:
        try:
            producer.produce(topic, value, key, headers=headers, on_delivery=answered)
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.1)  # the queue is full: wait for room instead of losing one


def _producer(settings: Settings) -> Producer:
    # The client's limit counts bytes before compression: what came in once must go in again. What goes wrong comes
    # back with each record; on standard error the client would repeat it at every attempt.
    ours = {"message.max.bytes": 1_000_000_000, "log_level": 2}
    return Producer({**DEFAULTS, **ours, **settings.librdkafka, "bootstrap.servers": settings.bootstrap_servers})


def _described(letter: Letter) -> dict[str, Any]:
    record, added = letter.record, letter.added
    topic, partition, offset = (added.get(f"source.{name}", "?") for name in ("topic", "partition", "offset"))
    return {
        "partition": record.partition(),
        "offset": record.offset(),
        "timestamp": record.timestamp()[1],
        "source": f"{topic}[{partition}]@{offset}",
        "reason": letter.reason or "-",
        "detail": added.get("error.detail", "-"),
        "key": _text(record.key()),
        "value": _text(record.value()),
    }


def _text(content: bytes | None) -> str | None:
    """The beginning, fit for a terminal."""
    if content is None:
        return None
    text = content[: 4 * _SHOWN_CHARACTERS].decode(errors="replace")
    shown = _printable(text[:_SHOWN_CHARACTERS])
    return shown if len(shown) == len(text) and len(content) <= 4 * _SHOWN_CHARACTERS else f"{shown}..."


def _printable(text: str) -> str:
    """Nothing in it can move the cursor, or look like a line of ours."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
