"""`headrace dead-letters list|replay`: look at what could not be learned, and send it again once the cause is mended.

What was replayed is remembered as the committed offsets of the group `<group>.dead-letters`, so that a second replay
sends only what came since. Letters stay on their topic either way.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from typing import Any, Final

from confluent_kafka import KafkaError, Message, Producer

from consumer.config import Settings
from consumer.offsets import OffsetsOutOfRetention, Reset
from consumer.source import Record, Source
from producer.client import DEFAULTS, DeliveryFailed, FailedDelivery

ADDED_HEADERS: Final = ("error.reason", "error.detail", "source.topic", "source.partition", "source.offset")
"""What the worker put behind the record's own headers."""

_BATCH: Final = 1000
_WAIT_SECONDS: Final = 1.0
_FLUSH_SECONDS: Final = 60.0
_SHOWN_CHARACTERS: Final = 100


def list_letters(settings: Settings, *, limit: int = 20, reason: str | None = None) -> dict[str, Any]:
    """The newest `limit` letters, oldest first within a partition; how many there are of each reason."""
    newest: dict[int, deque[dict[str, Any]]] = {}
    reasons: Counter[str] = Counter()
    with closing(_source(settings)) as source:
        source.seek(None, Reset.EARLIEST)
        for record in _records(source):
            added = _added(record)
            reasons[added.get("error.reason", "-")] += 1
            if reason in (None, added.get("error.reason")):
                kept = newest.setdefault(record.partition(), deque(maxlen=limit))
                kept.append(_described(record, added))
    letters = sorted((one for kept in newest.values() for one in kept), key=lambda one: one["timestamp"])
    return {"topic": settings.dead_letter_topic, "reasons": dict(reasons.most_common()), "letters": letters[-limit:]}


def replay(settings: Settings, *, reason: str | None = None, again: bool = False) -> dict[str, Any]:
    """Send the letters since the last replay, or all with `again`, to the events topic: key, value, own headers.

    With `reason` others are passed over, and count as replayed. DeliveryFailed where the broker refused one; the
    next replay begins with the same letters then.
    """
    failures: list[FailedDelivery] = []
    counts: Counter[str] = Counter()

    def answered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failures.append(FailedDelivery(message.key() or b"", message.value() or b"", error.str()))

    with closing(_source(settings)) as source:
        _seek_to_mark(source, again)
        producer = _producer(settings)
        for record in _records(source):
            if reason not in (None, _added(record).get("error.reason")):
                counts["passed_over"] += 1
                continue
            _send(producer, settings.events_topic, record, answered)
            counts["replayed"] += 1
        unanswered = producer.flush(_FLUSH_SECONDS)
        if failures or unanswered:
            raise DeliveryFailed(failures, unanswered)
        source.commit(source.next_offsets())
    return {"replayed": counts["replayed"], "passed_over": counts["passed_over"], "topic": settings.events_topic}


def as_text(result: Mapping[str, Any]) -> str:
    """For people: a letter in three lines."""
    if "letters" not in result:
        passed = f", {result['passed_over']} passed over" if result["passed_over"] else ""
        return f"{result['replayed']} dead letters sent to {result['topic']} again{passed}"
    lines = [
        f"{result['topic']}[{letter['partition']}]@{letter['offset']}  {letter['reason']}  from {letter['source']}\n"
        f"    {letter['detail']}\n    {letter['value']}"
        for letter in result["letters"]
    ]
    counted = ", ".join(f"{count} {reason}" for reason, count in result["reasons"].items())
    return "\n".join([*lines, f"{sum(result['reasons'].values())} dead letters{f': {counted}' if counted else ''}"])


def _source(settings: Settings) -> Source:
    group = f"{settings.group_id}.dead-letters"
    return Source(settings.bootstrap_servers, settings.dead_letter_topic, group, librdkafka=settings.librdkafka)


def _seek_to_mark(source: Source, again: bool) -> None:
    try:
        source.seek(None, Reset.EARLIEST if again else Reset.COMMITTED)
    except OffsetsOutOfRetention as error:
        raise RuntimeError(
            f"{error.missing} dead letters have left the topic before they were replayed; --again begins with the "
            "first one there is, and sends those again that were replayed before"
        ) from error


def _records(source: Source) -> Iterator[Record]:
    """Every record from where the source stands to the end of the topic as it is now."""
    ends = source.end_offsets()
    while any(source.next_offsets()[partition] < end for partition, end in ends.items()):
        yield from source.take(_BATCH, _WAIT_SECONDS)


def _send(producer: Producer, topic: str, record: Record, answered: Any) -> None:
    headers: list[tuple[str, str | bytes | None]] = [*(record.headers() or ())]
    while headers and headers[-1][0] in ADDED_HEADERS:
        headers.pop()
    while True:
        try:
            producer.produce(topic, record.value(), record.key(), headers=headers, on_delivery=answered)
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.1)  # the queue is full: wait for room instead of losing one


def _producer(settings: Settings) -> Producer:
    # The client's limit counts bytes before compression: what came in once must go in again. What goes wrong comes
    # back with each record; on standard error the client would repeat it at every attempt.
    ours = {"message.max.bytes": 1_000_000_000, "log_level": 2}
    return Producer({**DEFAULTS, **ours, **settings.librdkafka, "bootstrap.servers": settings.bootstrap_servers})


def _added(record: Record) -> dict[str, str]:
    """The worker's headers; the last of a name counts."""
    return {name: (value or b"").decode(errors="replace") for name, value in record.headers() or ()}


def _described(record: Record, added: Mapping[str, str]) -> dict[str, Any]:
    source = "{source.topic}[{source.partition}]@{source.offset}"
    for name in ADDED_HEADERS:
        source = source.replace(f"{{{name}}}", added.get(name, "?"))
    return {
        "partition": record.partition(),
        "offset": record.offset(),
        "timestamp": record.timestamp()[1],
        "source": source,
        "reason": added.get("error.reason", "-"),
        "detail": added.get("error.detail", "-"),
        "key": _text(record.key()),
        "value": _text(record.value()),
    }


def _text(content: bytes | None) -> str | None:
    """The beginning, fit for a terminal: nothing in it can move the cursor."""
    if content is None:
        return None
    text = content[: 4 * _SHOWN_CHARACTERS].decode(errors="replace")
    shown = "".join(
        one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in islice(text, _SHOWN_CHARACTERS)
    )
    return shown if len(shown) == len(text) and len(content) <= 4 * _SHOWN_CHARACTERS else f"{shown}..."
