"""Publish: lists and tombstones to the recommendations topic, keyed by user; rejects to the dead-letter topic.

Sending returns at once; the broker's answers come in while `poll()` or any other call runs. A delivery that
failed raises at the next call and at every one after it: a step whose outputs are not out is never saved.
What a list says and why a record was rejected is not known here.

Lists go out by the hundred, so what is done for each is a call into the client when it goes and another one when its
answer comes; all else is done once for all answers that came since the last look.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import methodcaller
from typing import Any, Final, NoReturn, Protocol

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from numpy.typing import NDArray

from consumer.topics import MAKE_TOPICS, TOPIC_GONE
from producer.events import EPOCH_HEADER

MAX_DETAIL_BYTES: Final = 1024
"""`error.detail` is cut to this: it may quote what came, and the dead-letter topic has room for 64 KiB of headers."""

LETTER_HEADERS: Final = ("error.reason", "error.detail", "source.topic", "source.partition", "source.offset")
"""What stands behind the record's own headers in a dead letter, in this order."""

UNREADABLE_HEADERS: Final = "the record's own headers cannot be read: a name among them is not UTF-8"
"""What is said of a record that `headers_of` has no answer for."""

OnDelivery = Callable[[NDArray[np.int64], NDArray[np.float64]], None]
"""Called with numbers of messages, and the times at which the broker acknowledged them, seconds since 1970."""

# The client answers and leaves an error behind. Called like this Python looks for one, and raises a SystemError; in a
# call that is written out it does not once that has run a few times, and the error is raised by what comes next.
_ask_for_headers: Final = methodcaller("headers")

_log = logging.getLogger(__name__)
_QUEUE_FULL_WAIT_SECONDS: Final = 0.1
_LATE_SECONDS: Final = 60.0
"""Lists that were not acknowledged for so long are worth a line in the log."""
_TOLD_FAILURES: Final = 3
_TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
_MAKE_ROOM: Final = (
    "Raise the topic's max.message.bytes (and KAFKA_MESSAGE_MAX_BYTES, where it is set) and start again: no event is "
    "lost. A lower HEADRACE_K makes lists shorter"
)


class Messages(Protocol):
    """Keys and values end to end: those of message n begin at `bounds[2 * n]` and `bounds[2 * n + 1]`."""

    @property
    def data(self) -> bytes: ...
    @property
    def bounds(self) -> Sequence[int]: ...


class RejectedRecord(Protocol):
    """What is needed of a record to write its dead letter: a `confluent_kafka.Message`, or the like."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...


class Reject(Protocol):
    """A record that is not an event, why (`error.reason`), and in detail."""

    @property
    def record(self) -> RejectedRecord: ...
    @property
    def reason(self) -> str: ...
    @property
    def detail(self) -> str: ...


class DeliveryFailed(RuntimeError):
    """Records are not, or not surely, on the broker. Stop, and start again from the checkpoint."""


# What a person may override with KAFKA_* ...
_DEFAULTS: Final[dict[str, Any]] = {
    "client.id": "headrace",
    "linger.ms": 1,
    # As long as it takes. The journal has what is waiting: ending after minutes would only have a worker that is
    # started again, over and over, until the broker is back, make the same lists again.
    "message.timeout.ms": 0,
    # Java's default; librdkafka's own would put a user's lists elsewhere than a Java client does.
    "partitioner": "murmur2_random",
    # A third of the bytes for 1 us a list of the client's thread; zstd takes a sixth, for 3 to 4 us.
    "compression.type": "lz4",
    "message.max.bytes": 1_000_000_000,
    "reconnect.backoff.max.ms": 1000,
    "log_level": 2,
}
# A record may have come in larger than its topic's limit, which counts compressed bytes. So its dead letter is
# compressed as well as can be, and the client's own limit, on bytes before compression, is out of the way.
_DEAD_LETTER_DEFAULTS: Final = {**_DEFAULTS, "compression.type": "zstd"}
# ... and what the order and the wholeness of the outputs hang on.
_FIXED: Final[dict[str, Any]] = {"enable.idempotence": True, "acks": "all"}
_SAME: Final = {"acks=-1": "all"}
"""What says the same as one of them in other words."""


class Mark:
    """All that was sent up to a moment."""

    def __init__(self, before: "Mark | None" = None) -> None:
        self.unanswered = 0
        """Records sent since the mark before."""
        self._before = before

    @property
    def is_acknowledged(self) -> bool:
        """Whether the broker has answered for all of it, as far as `Publisher` has heard. A failure raises there."""
        if self._before is not None and self._before.is_acknowledged:
            self._before = None
        return self.unanswered == 0 and self._before is None


class _Batch:
    """Messages that were sent together, and the answers to them that were not told on yet."""

    def __init__(self, on_delivery: OnDelivery | None, mark: Mark, messages: int) -> None:
        self.on_delivery = on_delivery
        self.mark = mark
        self.mark.unanswered += messages
        self.left = messages
        """Messages that were not answered, or not told on."""
        self.sent_at: list[float] = []
        self.numbers: list[int] = []
        self.seconds: list[float] = []
        """From sending to the answer: when it came, not when this thread got round to hearing of it."""

    def on_answer(
        self, fail: Callable[[KafkaError, Message], None]
    ) -> Callable[[int, KafkaError | None, Message], None]:
        """What the client calls, with the number of a message first."""
        note, took = self.numbers.append, self.seconds.append

        def answered(number: int, error: KafkaError | None, message: Message) -> None:
            if error is None:
                note(number)
                took(message.latency() or 0.0)
            else:
                self._settle(1)
                fail(error, message)

        return answered

    def tell(self) -> None:
        """Say what was acknowledged since the last time."""
        if not self.numbers:
            return
        numbers, seconds = np.array(self.numbers, dtype=np.int64), np.array(self.seconds)
        self.numbers.clear()
        self.seconds.clear()
        self._settle(len(numbers))
        if self.on_delivery is not None:
            self.on_delivery(numbers, np.array(self.sent_at)[numbers] + seconds)

    def _settle(self, messages: int) -> None:
        self.left -= messages
        self.mark.unanswered -= messages


class Publisher:
    """Writes the outputs of one run, whose `epoch` travels in a header of every list and tombstone."""

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        topic: str,
        dead_letter_topic: str,
        epoch: int,
        librdkafka: Mapping[str, str] | None = None,
        now_seconds: Callable[[], float] = time.time,
        while_full: Callable[[], None] = lambda: None,
    ) -> None:
        """`librdkafka`: further properties of the client (security, ...); ValueError for a wrong one.

        `while_full` is called ten times a second while the client's queue has no room for a record, which may be as
        long as the broker is away: what it raises ends the wait.
        """
        self._address = bootstrap_servers
        self._librdkafka = librdkafka or {}
        self._topic = topic
        self._dead_letter_topic = dead_letter_topic
        self._epoch_header: list[tuple[str, str | bytes | None]] = [(EPOCH_HEADER, str(epoch).encode())]
        self._now_seconds = now_seconds
        self._while_full = while_full
        self._failures: list[str] = []
        self._failed = 0
        self._is_topic_gone = self._is_too_large = False
        self._trouble = ""
        self.is_late = False
        """Whether lists have waited for their acknowledgement for long, so that no hurry is needed to hear of it."""
        self._mark = Mark()
        self._batches: list[_Batch] = []
        """Those with messages that were not answered."""
        self._producer = _producer(bootstrap_servers, _DEFAULTS, self._librdkafka, self._on_error)
        self._letter_producer: Producer | None = None
        """A client of its own, since it compresses otherwise; made for the first dead letter."""

    def send(self, messages: Messages, on_delivery: OnDelivery | None = None) -> None:
        """Send lists, keyed by user; `on_delivery` is called, inside later calls, with those that the broker has."""
        self._raise_failures()
        data, bounds = messages.data, messages.bounds
        batch = _Batch(on_delivery, self._mark, len(bounds) // 2)
        self._batches.append(batch)
        topic, headers, now_seconds = self._topic, self._epoch_header, self._now_seconds
        produce, answered, sent_at = self._producer.produce, batch.on_answer(self._fail_list), batch.sent_at
        for number, (key, value, end) in enumerate(zip(bounds[0::2], bounds[1::2], bounds[2::2], strict=False)):
            sent_at.append(now_seconds())
            told = partial(answered, number)
            try:
                # By position, which costs a third less: topic, value, key, partition, callback, (its other name),
                # timestamp, headers.
                produce(topic, data[value:end], data[key:value], -1, told, None, 0, headers)
            except (BufferError, KafkaException) as error:
                what = f"the list of user {data[key:value].decode()!r}"
                self._try(self._producer, topic, data[key:value], data[value:end], headers, what, told, error)

    def forget(self, user_id: str) -> None:
        """Send a tombstone: the topic forgets the user's lists, and readers are told."""
        what = f"the tombstone of user {user_id!r}"
        self._produce(self._producer, self._topic, user_id.encode(), None, self._epoch_header, what)

    def dead_letter(self, rejects: Iterable[Reject]) -> None:
        """Send rejected records on: key, value and headers as they came; why, and whence, in further headers.

        Headers that cannot be read are left out, and the detail says so.
        """
        for reject in rejects:
            if self._letter_producer is None:
                defaults = _DEAD_LETTER_DEFAULTS
                self._letter_producer = _producer(self._address, defaults, self._librdkafka, self._on_error)
            record = reject.record
            what = f"the dead letter of {record.topic()}[{record.partition()}]@{record.offset()}"
            own = headers_of(record)
            headers: list[tuple[str, str | bytes | None]] = [*(own or ()), *_reasons(reject, are_lost=own is None)]
            self._produce(self._letter_producer, self._dead_letter_topic, record.key(), record.value(), headers, what)

    @property
    def is_settled(self) -> bool:
        """Whether the broker has answered for all that was sent, as far as we have heard."""
        return self._mark.is_acknowledged

    def mark(self) -> Mark:
        """All that was sent up to now; its acknowledgement is heard of inside later calls."""
        mark, self._mark = self._mark, Mark(self._mark)
        return mark

    def poll(self) -> None:
        """Take in the broker's answers without waiting; DeliveryFailed if any was a failure."""
        for producer in self._producers():
            producer.poll(0)
        self._tell()
        self._raise_failures()
        self._say_if_late()

    @property
    def unanswered(self) -> int:
        """How many records the broker has not answered for."""
        return sum(map(len, self._producers()))

    def flush(self, timeout_seconds: float) -> None:
        """Wait until the broker has everything; DeliveryFailed where it has not, or not within the time."""
        ends_at = time.monotonic() + timeout_seconds
        unanswered = sum(producer.flush(max(ends_at - time.monotonic(), 0)) for producer in self._producers())
        self._tell()
        self._raise_failures()
        if unanswered:
            self.give_up(unanswered, timeout_seconds)

    def give_up(self, unanswered: int, waited_seconds: float) -> NoReturn:
        """Raise DeliveryFailed for so many records that nobody answered for."""
        raise DeliveryFailed(
            f"{unanswered} records were sent to {self._address} and not acknowledged within {waited_seconds:g} s"
            f"{self._trouble}. Nothing was saved on the strength of them: start again from the checkpoint."
        )

    def close(self) -> None:
        """Let the clients go; what is still queued is dropped. Closing twice does nothing."""
        for producer in self._producers():
            producer.purge()
            producer.close()

    def _producers(self) -> Iterable[Producer]:
        return [self._producer] if self._letter_producer is None else [self._producer, self._letter_producer]

    def _tell(self) -> None:
        """Tell on what was acknowledged, once for each batch."""
        for batch in self._batches:
            batch.tell()
        self._batches = [batch for batch in self._batches if batch.left]

    def _say_if_late(self) -> None:
        """Once, and once more when it is over: the client itself waits in silence."""
        oldest = self._batches[0].sent_at[:1] if self._batches else ()
        waited = max((self._now_seconds() - at for at in oldest), default=0.0)
        if waited > _LATE_SECONDS and not self.is_late:
            _log.warning(
                "lists sent to %s are not acknowledged for %d s%s: waiting on", self._address, waited, self._trouble
            )
        elif self.is_late and waited <= _LATE_SECONDS:
            _log.info("%s acknowledges lists again", self._address)
        self.is_late = waited > _LATE_SECONDS

    def _produce(
        self,
        producer: Producer,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, str | bytes | None]],
        what: str,
    ) -> None:
        mark = self._mark

        def answered(error: KafkaError | None, _message: Message) -> None:
            mark.unanswered -= 1
            if error is not None:
                self._fail(what, topic, error)

        mark.unanswered += 1
        self._raise_failures()
        self._try(producer, topic, key, value, headers, what, answered)

    def _try(
        self,
        producer: Producer,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, str | bytes | None]],
        what: str,
        answered: Callable[[KafkaError | None, Message], None],
        refused: BufferError | KafkaException | None = None,
    ) -> None:
        """Try until the client takes the record; `refused`: what it said the first time."""
        while True:
            if isinstance(refused, KafkaException):
                self._fail(what, topic, refused.args[0])
            elif refused is not None:
                producer.poll(_QUEUE_FULL_WAIT_SECONDS)  # the queue is full: let answers make room
                self._say_if_late()
                self._while_full()
            self._raise_failures()
            try:
                producer.produce(topic, value, key, on_delivery=answered, headers=headers)
                return
            except (BufferError, KafkaException) as error:
                refused = error

    def _fail_list(self, error: KafkaError, message: Message) -> None:
        self._fail(f"the list of user {(message.key() or b'').decode()!r}", self._topic, error)

    def _on_error(self, error: KafkaError) -> None:
        """Called by the client, inside its calls. It goes on trying, save where that is no use."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # it only counts them, at times as "0/2 brokers are down"
            self._trouble = f" ({error.str()})"
        if error.fatal() or error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self._fail("anything", self._topic, error)

    def _fail(self, what: str, topic: str, error: KafkaError) -> None:
        self._failed += 1
        self._is_topic_gone = self._is_topic_gone or error.code() in TOPIC_GONE
        self._is_too_large = self._is_too_large or error.code() in _TOO_LARGE
        if len(self._failures) < _TOLD_FAILURES:
            self._failures.append(f"{what} to {topic}: {error.name()}: {error.str()}")

    def _raise_failures(self) -> None:
        if self._failed:
            raise DeliveryFailed(
                f"{self._failed} records could not be delivered to {self._address}: {'; '.join(self._failures)}"
                + ("; ..." if self._failed > len(self._failures) else "")
                + (f". {MAKE_TOPICS}" if self._is_topic_gone else "")
                + (f". {_MAKE_ROOM}" if self._is_too_large else "")
            )


def check_properties(bootstrap_servers: str, librdkafka: Mapping[str, str]) -> None:
    """ValueError for a property that a Publisher would refuse. Waits for no broker."""
    _producer(bootstrap_servers, _DEFAULTS, librdkafka, lambda _: None).close()


def headers_of(record: RejectedRecord) -> Sequence[tuple[str, bytes | None]] | None:
    """The record's own headers; None where they cannot be read, as the name of one is not UTF-8.

    Ask once for each record: the second time the client hands out what it made of them, and to touch that is a crash.
    """
    try:
        return _ask_for_headers(record) or ()
    except (SystemError, UnicodeDecodeError):
        return None


def _reasons(reject: Reject, *, are_lost: bool) -> list[tuple[str, bytes | None]]:
    """`are_lost`: the headers that stood before these could not be read."""
    record = reject.record
    lost = f"; {UNREADABLE_HEADERS}, so they are left out" if are_lost else ""
    # A detail quotes what came, which may hold half a surrogate pair: that is not UTF-8.
    detail = reject.detail.encode(errors="backslashreplace")
    values = (
        reject.reason,
        detail[: MAX_DETAIL_BYTES - len(lost)].decode(errors="ignore") + lost,
        record.topic(),
        str(record.partition()),
        str(record.offset()),
    )
    return [(name, value.encode()) for name, value in zip(LETTER_HEADERS, values, strict=True)]


def _producer(
    bootstrap_servers: str,
    defaults: Mapping[str, Any],
    librdkafka: Mapping[str, str],
    on_error: Callable[[KafkaError], None],
) -> Producer:
    ours = {"bootstrap.servers": bootstrap_servers, **_FIXED}
    for name in sorted(set(librdkafka) & set(ours)):
        value = _SAME.get(f"{name}={librdkafka[name]}", librdkafka[name])
        if value.lower() != str(ours[name]).lower():
            raise ValueError(f"{name}={librdkafka[name]!r}: Headrace sets this property itself, to {ours[name]!r}")
    try:
        return Producer({**defaults, **librdkafka, **ours, "error_cb": on_error})
    except KafkaException as error:
        raise ValueError(f"librdkafka refused the settings: {error.args[0].str()}") from error
    except TypeError as error:  # a property of Python's client that is a function: no text can set it
        raise ValueError(f"the Kafka client refused the settings: {error}") from error
