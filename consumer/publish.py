"""Publish: lists and tombstones to the recommendations topic, keyed by user; rejects to the dead-letter topic.

Sending returns at once; the broker's answers come in while `poll()` or any other call runs. A delivery that
failed raises at the next call and at every one after it: a step whose outputs are not out is never saved.
What a list says and why a record was rejected is not known here.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producer.events import EPOCH_HEADER, Recommendations, encode

MAX_DETAIL_BYTES: Final = 1024
"""`error.detail` is cut to this: it may quote what came, and the dead-letter topic has room for 64 KiB of headers."""

OnDelivery = Callable[[float], None]
"""Called with the time of the broker's acknowledgement, seconds since 1970."""

_QUEUE_FULL_WAIT_SECONDS: Final = 0.1
_TOLD_FAILURES: Final = 3


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
    # Java's default; librdkafka's own would put a user's lists elsewhere than a Java client does.
    "partitioner": "murmur2_random",
    # A record may have come in larger than its topic's limit, which counts compressed bytes. So its dead letter
    # is compressed too, and this client's own limit, on bytes before compression, is out of the way.
    "compression.type": "zstd",
    "message.max.bytes": 1_000_000_000,
    "reconnect.backoff.max.ms": 1000,
    "log_level": 2,
}
# ... and what the order and the wholeness of the outputs hang on.
_FIXED: Final[dict[str, Any]] = {"enable.idempotence": True, "acks": "all"}


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
    ) -> None:
        """`librdkafka`: further properties of the client (security, ...); ValueError for a wrong one."""
        self._address = bootstrap_servers
        self._topic = topic
        self._dead_letter_topic = dead_letter_topic
        self._epoch_header: list[tuple[str, str | bytes | None]] = [(EPOCH_HEADER, str(epoch).encode())]
        self._now_seconds = now_seconds
        self._failures: list[str] = []
        self._failed = 0
        self._trouble = ""
        self._producer = _producer(bootstrap_servers, librdkafka or {}, self._on_error)

    def send(self, recommendations: Recommendations, on_delivery: OnDelivery | None = None) -> None:
        """Send a user's list; `on_delivery` is called, inside a later call, with the time the broker had it."""
        what = f"the list of user {recommendations.user_id!r}"
        self._produce(
            self._topic,
            recommendations.user_id.encode(),
            encode(recommendations),
            self._epoch_header,
            what,
            on_delivery,
        )

    def forget(self, user_id: str) -> None:
        """Send a tombstone: the topic forgets the user's lists, and readers are told."""
        self._produce(self._topic, user_id.encode(), None, self._epoch_header, f"the tombstone of user {user_id!r}")

    def dead_letter(self, rejects: Iterable[Reject]) -> None:
        """Send rejected records on: key, value and headers as they came; why, and whence, in further headers."""
        for reject in rejects:
            record = reject.record
            where = f"{record.topic()}[{record.partition()}]@{record.offset()}"
            headers: list[tuple[str, str | bytes | None]] = [*(record.headers() or ()), *_reasons(reject)]
            self._produce(self._dead_letter_topic, record.key(), record.value(), headers, f"the dead letter of {where}")

    def poll(self) -> None:
        """Take in the broker's answers without waiting; DeliveryFailed if any was a failure."""
        self._producer.poll(0)
        self._raise_failures()

    def flush(self, timeout_seconds: float) -> None:
        """Wait until the broker has everything; DeliveryFailed where it has not, or not within the time."""
        unanswered = self._producer.flush(timeout_seconds)
        self._raise_failures()
        if unanswered:
            raise DeliveryFailed(
                f"{unanswered} records were sent to {self._address} and not acknowledged within {timeout_seconds:g} s"
                f"{self._trouble}. Nothing was saved on the strength of them: start again from the checkpoint."
            )

    def close(self) -> None:
        """Let the client go; what is still queued is dropped. Closing twice does nothing."""
        self._producer.purge()
        self._producer.close()

    def _produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, str | bytes | None]],
        what: str,
        on_delivery: OnDelivery | None = None,
    ) -> None:
        def answered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._fail(what, topic, error)
            elif on_delivery is not None:
                # When the answer came, not when this thread got round to hearing of it.
                on_delivery(sent_at + (message.latency() or 0.0))

        sent_at = self._now_seconds()

        while True:
            self._raise_failures()
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=answered)
                return
            except BufferError:
                # The queue is full: let answers make room. Where none come the records time out, and that raises.
                self._producer.poll(_QUEUE_FULL_WAIT_SECONDS)
            except KafkaException as error:
                self._fail(what, topic, error.args[0])

    def _on_error(self, error: KafkaError) -> None:
        """Called by the client, inside its calls. It goes on trying, save where that is no use."""
        self._trouble = f" ({error.str()})"
        if error.fatal() or error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self._fail("anything", self._topic, error)

    def _fail(self, what: str, topic: str, error: KafkaError) -> None:
        self._failed += 1
        if len(self._failures) < _TOLD_FAILURES:
            self._failures.append(f"{what} to {topic}: {error.name()}: {error.str()}")

    def _raise_failures(self) -> None:
        if self._failed:
            raise DeliveryFailed(
                f"{self._failed} records could not be delivered to {self._address}: {'; '.join(self._failures)}"
                + ("; ..." if self._failed > len(self._failures) else "")
            )


def _reasons(reject: Reject) -> list[tuple[str, bytes | None]]:
    record = reject.record
    # A detail quotes what came, which may hold half a surrogate pair: that is not UTF-8.
    detail = reject.detail.encode(errors="backslashreplace")
    return [
        ("error.reason", reject.reason.encode()),
        ("error.detail", detail[:MAX_DETAIL_BYTES].decode(errors="ignore").encode()),
        ("source.topic", record.topic().encode()),
        ("source.partition", str(record.partition()).encode()),
        ("source.offset", str(record.offset()).encode()),
    ]


def _producer(
    bootstrap_servers: str, librdkafka: Mapping[str, str], on_error: Callable[[KafkaError], None]
) -> Producer:
    ours = {"bootstrap.servers": bootstrap_servers, **_FIXED}
    for name in sorted(set(librdkafka) & set(ours)):
        if librdkafka[name].lower() != str(ours[name]).lower():
            raise ValueError(f"{name}={librdkafka[name]!r}: Headrace sets this property itself, to {ours[name]!r}")
    try:
        return Producer({**_DEFAULTS, **librdkafka, **ours, "error_cb": on_error})
    except KafkaException as error:
        raise ValueError(f"librdkafka refused the settings: {error.args[0].str()}") from error
