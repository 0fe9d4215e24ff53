"""Who sends the stream: all of it beforehand, or at a steady rate. Runs in a process of its own."""

import time
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from benchmarks.stream import Stream, encoded

FLUSH_SECONDS: Final = 120.0
BY_KEY: Final = -1
STEADY: Final[dict[str, object]] = {"linger.ms": 1}
"""What a latency is measured with."""
BULK: Final[dict[str, object]] = {"linger.ms": 20, "batch.size": 1_000_000, "queue.buffering.max.messages": 200_000}
"""Full batches: the in-process broker takes half a million events a second in them."""


class NotSent(RuntimeError):
    """The topic does not hold what was sent: nothing measured on it would mean anything."""


def preload(bootstrap_servers: str, stream: Stream) -> dict[str, Any]:
    """Put the whole stream on the topic; NotSent where the broker refused or dropped any of it.

    Records go to the partitions by turn. A backlog is read some thousands from one partition at a time, so by key a
    step would hold the few users of one partition, and few lists: a live step holds users of all of them.
    """
    started = time.perf_counter()
    sender = _Sender(bootstrap_servers, stream.topic, BULK)
    for records in encoded(stream):
        for at, (key, value) in enumerate(records):
            sender.send(key, value, at % stream.partitions)
    sender.finish(stream.events)
    kept = _records_on(bootstrap_servers, stream)
    if kept != stream.events:
        raise NotSent(f"{stream.events} events were sent and the broker kept {kept}: a partition holds 5 MiB")
    return {"events": stream.events, "seconds": round(time.perf_counter() - started, 3)}


def send_steadily(bootstrap_servers: str, stream: Stream, rate: float) -> dict[str, Any]:
    """Send the stream at `rate` events a second, each when it is due; says the rate that came of it."""
    batches = list(encoded(stream))  # encoded beforehand: the clock is for sending
    sender = _Sender(bootstrap_servers, stream.topic, STEADY)
    started = time.perf_counter()
    sent = 0
    for key, value in (record for records in batches for record in records):
        while sent > (time.perf_counter() - started) * rate:
            sender.producer.poll(0)
            time.sleep(0.0005)
        sender.send(key, value)
        sent += 1
    seconds = time.perf_counter() - started
    sender.finish(stream.events)
    return {"events": sent, "seconds": round(seconds, 3), "events_per_second": round(sent / seconds, 1)}


class _Sender:
    def __init__(self, bootstrap_servers: str, topic: str, properties: dict[str, object]) -> None:
        self._topic = topic
        self._failures: list[str] = []
        self._delivered = 0
        common = {"acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random", "log_level": 2}
        self.producer = Producer({"bootstrap.servers": bootstrap_servers, **common, **properties})
        self.producer.list_topics(topic, timeout=30)  # the first event should not wait for the connection

    def send(self, key: bytes, value: bytes, partition: int = BY_KEY) -> None:
        while True:
            try:
                self.producer.produce(self._topic, value, key, partition, on_delivery=self._answered)
                return
            except BufferError:
                self.producer.poll(0.1)

    def finish(self, events: int) -> None:
        self.producer.flush(FLUSH_SECONDS)
        if self._failures or self._delivered != events:
            reason = self._failures[0] if self._failures else f"no answer within {FLUSH_SECONDS:g} s"
            raise NotSent(f"{self._delivered} of {events} events reached the topic: {reason}")

    def _answered(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self._delivered += 1
        else:
            self._failures.append(error.str())


def _records_on(bootstrap_servers: str, stream: Stream) -> int:
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "counting", "log_level": 2})
    try:
        extents = [
            consumer.get_watermark_offsets(TopicPartition(stream.topic, partition), timeout=30)
            for partition in range(stream.partitions)
        ]
        return sum(end - first for first, end in extents)
    finally:
        consumer.close()
