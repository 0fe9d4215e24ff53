"""EventProducer: what other services send events with, and what they know of items and users.

    with EventProducer("localhost:9092") as producer:
        producer.click("u1", "i9", action="play")
        producer.rate("u1", "i9", 4.5)
        producer.describe_item("i9", title="Nine", categories=["drama"])
        producer.describe_user("u1", categories=["student"], features={"age": 31})

An event is either delivered or reported as failed; nothing is dropped in silence. Sending is idempotent and
waits for all replicas; where the queue is full it waits for room. This file knows nothing of what is done
with the events.
"""

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self, TypedDict, Unpack

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from producer.checking import Message, checked, checked_id, name_of
from producer.events import Click, Forget, Impression, Item, Rating, User

EVENTS_TOPIC: Final = "recs.events.v1"
ITEMS_TOPIC: Final = "recs.items.v1"
USERS_TOPIC: Final = "recs.users.v1"

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

REACH_SECONDS: Final = 20.0
"""How long `reach` tries for; librdkafka itself would try for five minutes."""
STOP_SECONDS: Final = 5.0
"""Longest wait for acknowledgements once `stopping` is true."""
_ASK_SECONDS: Final = 2.0
_SLICE_SECONDS: Final = 0.2
"""The client's calls let no signal through, so they are kept short."""
_NEW_TOPIC_SECONDS: Final = 3.0
"""A broker that makes topics by itself says at first that there is none."""
_NO_TOPIC: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})

MAX_KEPT_FAILURES: Final = 10_000
"""Failed deliveries that are kept until somebody takes them with `flush`; at more, `send` refuses to go on."""

_logger = logging.getLogger(__name__)
_open: "weakref.WeakSet[EventProducer]" = weakref.WeakSet()
os.register_at_fork(after_in_child=_open.clear)  # what is queued is the parent's


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


class ItemFields(TypedDict, total=False):
    """What may be said of an item: see `producer.events.Item`. At most MAX_NUMBERS features and numbers of a vector."""

    timestamp: int
    title: str
    text: str
    categories: list[str]
    features: dict[str, float]
    vector: list[float]
    available: bool


class UserFields(TypedDict, total=False):
    """What may be said of a user: see `producer.events.User`. At most MAX_NUMBERS features."""

    timestamp: int
    categories: list[str]
    features: dict[str, float]


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
        first = ""
        if failed:  # a key may be anything: dead letters are sent again with the key that came
            first = f": {failed[0].error}, first for key {failed[0].key.decode(errors='replace')!r}"
        super().__init__(f"{len(failed)} events were not delivered and {still_queued} are still queued{first}")


class TopicMissing(RuntimeError):
    """The brokers answer, and the events topic is not there."""


class EventProducer:
    """Sends events to the events topic, keyed by user, and rows to the compacted topics of items and users.

    May be shared by threads; close it, or use it in `with`: what is queued when the process ends is lost, and logged.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        topic: str = EVENTS_TOPIC,
        items_topic: str = ITEMS_TOPIC,
        users_topic: str = USERS_TOPIC,
        librdkafka: Mapping[str, str | int | float | bool] | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """`librdkafka`: further properties of the client (security, ...); ValueError for a wrong one.

        `stopping` is asked while it waits: once true, `send` waits for room no longer, and others for STOP_SECONDS.
        """
        self.topic = topic
        self.items_topic = items_topic
        self.users_topic = users_topic
        self._address = bootstrap_servers
        self._stopping = stopping
        self._trouble: str | None = None
        self._is_trouble_said = False
        properties = {**DEFAULTS, **(librdkafka or {}), "bootstrap.servers": bootstrap_servers}
        try:
            self._producer = Producer({**properties, "error_cb": self._on_error}, logger=_logger)
        except KafkaException as error:
            raise ValueError(f"librdkafka refused the settings: {error.args[0].str()}") from error
        self._lock = threading.Lock()
        self._delivered = 0
        self._failed: list[FailedDelivery] = []
        self._closed = False
        _open.add(self)

    def reach(self, timeout_seconds: float = REACH_SECONDS) -> None:
        """Come back once a broker has answered that the events topic is there. Sending needs no such question.

        Raises ConnectionError, with the client's last word, where none answered in time or `stopping` became true,
        and TopicMissing.
        """
        started = time.monotonic()
        while True:
            left = started + timeout_seconds - time.monotonic()
            answer = self._ask_for_topic(max(0.01, min(left, _ASK_SECONDS)))
            if answer == "":
                return
            waited = time.monotonic() - started
            is_over = waited >= timeout_seconds or self._stopping()
            if answer is not None and (is_over or waited >= _NEW_TOPIC_SECONDS):
                raise TopicMissing(answer)
            if is_over:
                trouble = f" ({self._trouble})" if self._trouble else ""
                tried = f"within {timeout_seconds:g} seconds" if waited >= timeout_seconds else "before it was stopped"
                raise ConnectionError(f"no broker at {self._address}{trouble} answered {tried}")
            time.sleep(min(_SLICE_SECONDS, timeout_seconds))

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

    def describe_item(self, item_id: str, **fields: Unpack[ItemFields]) -> None:
        """All that is known of an item from now on; what an earlier call said of it is replaced. Raises as `send`."""
        fields.setdefault("timestamp", _now_ms())
        self.send(Item(item_id=item_id, **fields))

    def describe_user(self, user_id: str, **fields: Unpack[UserFields]) -> None:
        """All that is known of a user besides behaviour; what an earlier call said is replaced. Raises as `send`."""
        fields.setdefault("timestamp", _now_ms())
        self.send(User(user_id=user_id, **fields))

    def remove_item(self, item_id: str) -> None:
        """Take an item out of the catalogue: it is not recommended any more."""
        self._produce("item", self.items_topic, checked_id("item_id", item_id), None)

    def remove_user_features(self, user_id: str) -> None:
        """Nothing is said of the user any more. History and all that was learned stay: for those see `forget`."""
        self._produce("user", self.users_topic, checked_id("user_id", user_id), None)

    def send(self, message: Message) -> None:
        """Queue an event or a row for delivery, and wait for room where the queue is full.

        Raises ValueError, naming the field, for one that the worker would not accept whatever its settings (which
        say the scale of ratings, and how far a time may lie ahead of the record's), DeliveryFailed when too many
        failures wait to be taken with `flush`, BufferError where there is no room and `stopping` is true, and
        KafkaException when Kafka can take nothing more.
        """
        value = checked(message)
        if isinstance(message, Item):
            self._produce(name_of(message), self.items_topic, message.item_id, value)
        else:
            topic = self.users_topic if isinstance(message, User) else self.topic
            self._produce(name_of(message), topic, message.user_id, value)

    def _produce(self, name: str, topic: str, key: str, value: bytes | None) -> None:
        self._refuse_if_stuck()
        while True:
            try:
                self._producer.produce(topic, value=value, key=key.encode(), on_delivery=self._on_delivery)
                break
            except BufferError:
                if self._stopping():
                    raise
                _serve(
                    self._producer.poll, 0.1
                )  # room comes with deliveries, or when old events fail by their time-out
            except KafkaException as error:
                if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    size = len(value or b"")
                    raise ValueError(f"{name}: {size} bytes are more than message.max.bytes") from error
                raise
        _serve(self._producer.poll, 0)

    def flush(self, timeout_seconds: float = 30.0) -> FlushReport:
        """Wait until nothing is queued or the time is over; say what became of the events since the last report."""
        ends_at = time.monotonic() + timeout_seconds
        told_to_stop = False
        while still_queued := _serve(self._producer.flush, min(_SLICE_SECONDS, ends_at - time.monotonic())):
            if self._stopping() and not told_to_stop:
                told_to_stop, ends_at = True, min(ends_at, time.monotonic() + STOP_SECONDS)
            if time.monotonic() >= ends_at:
                break
        with self._lock:
            report = FlushReport(self._delivered, self._failed, still_queued)
            self._delivered, self._failed = 0, []
        return report

    def close(self, timeout_seconds: float = 30.0) -> None:
        """Flush, and raise DeliveryFailed if anything failed since the last report or is still queued."""
        if self._closed:
            return
        self._closed = True
        _open.discard(self)
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

    def _ask_for_topic(self, timeout_seconds: float) -> str | None:
        """What is wrong with the topic, "" where nothing is, None where no broker answered."""
        try:
            topic = self._producer.list_topics(self.topic, timeout=timeout_seconds).topics[self.topic]
        except KafkaException:
            self._producer.poll(0)  # brings the reason
            return None
        if topic.error is None:
            return ""
        if topic.error.code() in _NO_TOPIC:
            return f"topic {self.topic} does not exist on {self._address}"
        return f"topic {self.topic} on {self._address}: {topic.error.str()}"

    def _on_error(self, error: KafkaError) -> None:
        """Called by the client, inside its calls, many times a second while it tries to connect."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._trouble = error.str().partition(" (after ")[0]
        elif not self._is_trouble_said:
            self._is_trouble_said = True
            _logger.warning("no broker at %s answers, still trying: %s", self._address, self._trouble or error.str())

    def _refuse_if_stuck(self) -> None:
        if self._closed:
            raise RuntimeError("this EventProducer is closed")
        if len(self._failed) >= MAX_KEPT_FAILURES:
            raise DeliveryFailed(list(self._failed), len(self._producer))

    def _on_delivery(self, error: KafkaError | None, message: Delivered) -> None:
        with self._lock:
            if error is None:
                self._delivered += 1
                self._trouble, self._is_trouble_said = None, False
            else:
                self._failed.append(FailedDelivery(message.key() or b"", message.value() or b"", str(error)))


def _serve(call: Callable[[float], int], seconds: float) -> int:
    """What a call that may call us back answers.

    What a signal raises inside of such a callback is Ctrl-C's in nearly all cases. With Python 3.11 the client loses
    it, and gives a SystemError.
    """
    try:
        return call(max(0.0, seconds))
    except SystemError as error:
        raise KeyboardInterrupt from error


@atexit.register
def _say_what_was_left() -> None:
    """The process ends, and with it what nobody waited for: the client itself would not say so."""
    for producer in list(_open):
        _serve(producer._producer.poll, 0)
        left = len(producer._producer)
        if left or producer._failed:
            lost = DeliveryFailed(producer._failed, left)
            _logger.warning("the process ends, and an EventProducer was not closed: %s", lost)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
