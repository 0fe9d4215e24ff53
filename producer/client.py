"""EventProducer: what other services send events with.

    with EventProducer("localhost:9092") as producer:
        producer.click("u1", "i9", action="play")
        producer.rate("u1", "i9", 4.5)

An event is either delivered or reported as failed; nothing is dropped in silence. Sending is idempotent and
waits for all replicas; where the queue is full it waits for room. This file knows nothing of what is done
with the events.
"""

import logging
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self, TypedDict, Unpack

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producer.events import Click, Event, Forget, Impression, Rating, encode

EVENTS_TOPIC: Final = "recs.events.v1"

DEFAULTS: Final[Mapping[str, str | int | bool]] = {
    "client.id": "headrace-producer",
    # Connection trouble ends as an error of send or flush; on standard error it would flood
    "log_level": 2,
    "enable.idempotence": True,
    "acks": "all",
    # Java's default; librdkafka's own differs, and one user's events must meet in one partition whoever sends them
    "partitioner": "murmur2_random",
    "linger.ms": 5,
    "compression.type": "lz4",
    "queue.buffering.max.kbytes": 64 * 1024,
}
"""librdkafka properties of every EventProducer; the ones passed to it come on top."""

MAX_KEPT_FAILURES: Final = 10_000
"""Failed deliveries that are kept until somebody takes them with `flush`; at more, `send` refuses to go on."""

_logger = logging.getLogger(__name__)


class ActionFields(TypedDict, total=False):
    """What may be said of a click or a rating besides who, what and how much."""

    timestamp: int
    event_id: str
    value: float
    text: str
    context: dict[str, str | float]
    recommendation_id: str
    position: int


class ClickFields(ActionFields, total=False):
    action: str


class FailedDelivery(NamedTuple):
    """An event that did not reach the topic: its bytes, so that it can be sent again, and the reason."""

    key: bytes
    value: bytes
    error: str


class FlushReport(NamedTuple):
    """What became of the events since the last report. Each event is in exactly one report as delivered or failed."""

    delivered: int
    failed: list[FailedDelivery]
    still_queued: int
    """Neither delivered nor failed when the time was over; they stay queued and are in a later report."""


class DeliveryFailed(RuntimeError):
    """Events did not reach the topic. The message says how many, and why the first one did not."""

    def __init__(self, failed: list[FailedDelivery], still_queued: int) -> None:
        self.failed = failed
        self.still_queued = still_queued
        first = f": {failed[0].error}, first for key {failed[0].key.decode()!r}" if failed else ""
        super().__init__(f"{len(failed)} events were not delivered and {still_queued} are still queued{first}")


class EventProducer:
    """Sends events to the events topic, keyed by user. May be shared by threads; close it, or use it in `with`."""

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        topic: str = EVENTS_TOPIC,
        librdkafka: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        self.topic = topic
        properties = {**DEFAULTS, **(librdkafka or {}), "bootstrap.servers": bootstrap_servers}
        self._producer = Producer(properties, logger=_logger)
        # decoding what was encoded is the check: nothing is sent that the worker would not accept
        self._decoder = msgspec.json.Decoder(Event)
        self._lock = threading.Lock()
        self._delivered = 0
        self._failed: list[FailedDelivery] = []
        self._closed = False

    def click(self, user_id: str, item_id: str, **fields: Unpack[ClickFields]) -> None:
        """The user acted on the item, now unless a timestamp is given; `action` says how, "click" if left out."""
        fields.setdefault("timestamp", _now_ms())
        self.send(Click(user_id=user_id, item_id=item_id, **fields))

    def rate(self, user_id: str, item_id: str, rating: float, **fields: Unpack[ActionFields]) -> None:
        """The user gave the item a rating, now unless a timestamp is given."""
        fields.setdefault("timestamp", _now_ms())
        self.send(Rating(user_id=user_id, item_id=item_id, rating=rating, **fields))

    def impression(
        self,
        user_id: str,
        recommendation_id: str,
        items: list[str],
        *,
        timestamp: int | None = None,
        event_id: str | None = None,
    ) -> None:
        """These items of a list were shown to the user, in this order."""
        when = _now_ms() if timestamp is None else timestamp
        self.send(
            Impression(
                user_id=user_id, recommendation_id=recommendation_id, items=items, timestamp=when, event_id=event_id
            )
        )

    def forget(self, user_id: str, *, timestamp: int | None = None) -> None:
        """Have everything erased that is held of the user."""
        self.send(Forget(user_id=user_id, timestamp=_now_ms() if timestamp is None else timestamp))

    def send(self, event: Event) -> None:
        """Queue the event for delivery, and wait for room where the queue is full.

        Raises ValueError, naming the field, for an event that the worker would not accept, DeliveryFailed when
        too many failures wait to be taken with `flush`, and KafkaException when Kafka can take nothing more.
        """
        value = self._checked(event)
        self._refuse_if_stuck()
        key = event.user_id.encode()
        while True:
            try:
                self._producer.produce(self.topic, value=value, key=key, on_delivery=self._on_delivery)
                break
            except BufferError:
                self._producer.poll(0.1)  # room comes with deliveries, or when old events fail by their time-out
            except KafkaException as error:
                if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise ValueError(f"{_name(event)}: {len(value)} bytes are more than message.max.bytes") from error
                raise
        self._producer.poll(0)

    def flush(self, timeout_seconds: float = 30.0) -> FlushReport:
        """Wait until nothing is queued or the time is over; say what became of the events since the last report."""
        still_queued = self._producer.flush(timeout_seconds)
        with self._lock:
            report = FlushReport(self._delivered, self._failed, still_queued)
            self._delivered, self._failed = 0, []
        return report

    def close(self, timeout_seconds: float = 30.0) -> None:
        """Flush, and raise DeliveryFailed if anything failed since the last report or is still queued."""
        if self._closed:
            return
        self._closed = True
        report = self.flush(timeout_seconds)
        if report.failed or report.still_queued:
            raise DeliveryFailed(report.failed, report.still_queued)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except DeliveryFailed as failed:
            if error is None:
                raise
            _logger.warning("%s", failed)  # the error that ended the block matters more

    def _checked(self, event: Event) -> bytes:
        try:
            value = encode(event)
            received = self._decoder.decode(value)
        except msgspec.ValidationError as error:  # its text ends with "at `$.user_id`"
            raise ValueError(f"{_name(event)}: {error}; it was not sent") from error
        except (TypeError, ValueError) as error:  # no JSON at all: a lone surrogate, a foreign object
            raise ValueError(f"{_name(event)}: {_unsayable_field(event)}: {error}; it was not sent") from error
        if received != event:
            raise ValueError(f"{_name(event)}: {_altered_field(event, received)}; it was not sent")
        return value

    def _refuse_if_stuck(self) -> None:
        if self._closed:
            raise RuntimeError("this EventProducer is closed")
        if len(self._failed) >= MAX_KEPT_FAILURES:
            raise DeliveryFailed(list(self._failed), len(self._producer))

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        with self._lock:
            if error is None:
                self._delivered += 1
            else:
                self._failed.append(FailedDelivery(message.key() or b"", message.value() or b"", str(error)))


def _name(event: Event) -> str:
    return type(event).__name__.lower()


def _unsayable_field(event: Event) -> str:
    for field in event.__struct_fields__:
        try:
            msgspec.json.encode(getattr(event, field))
        except (TypeError, ValueError):
            return f"$.{field}"
    return "$"


def _altered_field(event: Event, received: Event) -> str:
    """NaN and infinity would arrive as null, a tuple as a list."""
    if not isinstance(event, Event):
        raise TypeError(f"expected one of the events of producer.events, got {type(event).__name__}")
    for field in event.__struct_fields__:
        given, arrived = getattr(event, field), getattr(received, field)
        if given != arrived:
            return f"$.{field}: {given!r} would arrive as {arrived!r}"
    return "$"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
