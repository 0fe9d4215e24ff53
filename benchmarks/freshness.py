"""Events at a steady rate: how long until the list that reflects one is acknowledged, beside two bare hops.

Both clocks start at the record's timestamp, set by the sender's client in whole milliseconds. The worker's stops as
`headrace_freshness_seconds` does. The hops' stops when a reader has the record that a relay, which does nothing else,
has passed on: a topic in, a topic out, as the worker has. The first two seconds, until
everything is connected, are left out on both sides.
"""

import time
from collections.abc import Callable, Mapping
from math import ceil
from typing import Any, Final

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks.phases import Phase, catch_up, run_phase, waits
from benchmarks.processes import Process
from benchmarks.sending import send_steadily
from benchmarks.stream import Stream

SKIPPED_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 15.0
ASKED_AT_ONCE: Final = 1000
LOW_LATENCY: Final[Mapping[str, object]] = {"fetch.wait.max.ms": 1, "fetch.queue.backoff.ms": 1}
"""Of a client of the in-process broker, which answers a fetch only when its time is over."""


def quantiles(seconds: list[float], rate: float, missing: int = 0) -> dict[str, float]:
    """p50, p99, p99.9 in ms, without the first two seconds; `missing` ones have waited longer than all others."""
    steady = sorted(seconds[int(SKIPPED_SECONDS * rate) :] or seconds)
    if not steady:
        raise ValueError("no event was timed at all")
    steady += [steady[-1]] * missing
    last = len(steady) - 1
    return {f"p{percent:g}_ms": round(steady[ceil(percent / 100 * last)] * 1000, 3) for percent in (50, 99, 99.9)}


def measure_service(
    worker: Process, bootstrap_servers: str, stream: Stream, rate: float, drain_seconds: float
) -> dict[str, Any]:
    """Freshness of the worker that is open in this process, at `rate` events a second.

    Events that have no list `drain_seconds` after the last was sent count as if they had waited as long as the
    slowest that has one: p99 is a lower bound then, and `unfinished` says how many they are.
    """
    worker.run(catch_up)  # what a rate before this one left
    seconds = stream.events / rate
    phase = Phase(f"freshness at {rate:g}/s", seconds + drain_seconds, stream.events, lists=True)
    with Process() as sending:
        working = worker.start(run_phase, phase)
        sent = sending.run(send_steadily, bootstrap_servers, stream, rate)
        worked = working.result()
    waited = worker.run(waits)
    unfinished = stream.events - worked["events"]
    return {
        **quantiles(waited, rate, unfinished),
        "sent_per_second": sent["events_per_second"],
        "unfinished": unfinished,
        **{name: worked[name] for name in ("events", "events_per_step", "lists_per_event", "share_of_time")},
    }


def measure_saturation(worker: Process, bootstrap_servers: str, stream: Stream, rate: float) -> dict[str, Any]:
    """What the worker that is open in this process gets done while more is sent than it can do: `rate`.

    It ends when sending does. On the backlog that is left it gets more done: sender and broker have no part in that,
    and here they share the cores.
    """
    worker.run(catch_up)
    phase = Phase(f"offered {rate:g}/s", stream.events / rate, stream.events, lists=True)
    with Process() as sending:
        working = worker.start(run_phase, phase)
        sent = sending.run(send_steadily, bootstrap_servers, stream, rate)
        return {**working.result(), "sent_per_second": sent["events_per_second"]}


def measure_hops(
    bootstrap_servers: str, stream: Stream, rate: float, properties: Mapping[str, object] = LOW_LATENCY
) -> dict[str, Any]:
    """Latency of one bare hop (sender to relay) and of two (sender to reader), at `rate` events a second.

    `properties`: of the two consumers.
    """
    with Process() as sending, Process() as relaying, Process() as reading:
        one = relaying.start(relay, bootstrap_servers, stream, properties)
        two = reading.start(read, bootstrap_servers, stream, properties)
        sent = sending.run(send_steadily, bootstrap_servers, stream, rate)
        return {
            "one_hop": quantiles(one.result(), rate),
            "two_hops": quantiles(two.result(), rate),
            "sent_per_second": sent["events_per_second"],
        }


def relay(bootstrap_servers: str, stream: Stream, properties: Mapping[str, object]) -> list[float]:
    """Pass every event on, with the timestamp it came with; how long each was on its way here."""
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "linger.ms": 1, "acks": "all", "enable.idempotence": True}
    )
    waited: list[float] = []

    def pass_on(message: Message, now_seconds: float) -> None:
        sent_ms = message.timestamp()[1]
        producer.produce(stream.relayed_topic, message.value(), message.key(), timestamp=sent_ms)
        producer.poll(0)
        waited.append(now_seconds - sent_ms / 1000)

    _read(_consumer(bootstrap_servers, stream.topic, stream, properties), stream, pass_on)
    producer.flush(SILENCE_SECONDS)
    return waited


def read(bootstrap_servers: str, stream: Stream, properties: Mapping[str, object]) -> list[float]:
    """How long each relayed event was on its way in all."""
    waited: list[float] = []
    _read(
        _consumer(bootstrap_servers, stream.relayed_topic, stream, properties),
        stream,
        lambda message, now_seconds: waited.append(now_seconds - message.timestamp()[1] / 1000),
    )
    return waited


def _consumer(bootstrap_servers: str, topic: str, stream: Stream, properties: Mapping[str, object]) -> Consumer:
    """Of every partition, from the first record on."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": f"{topic}.hop", **properties})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(stream.partitions)])
    return consumer


def _read(consumer: Consumer, stream: Stream, take: Callable[[Message, float], None]) -> None:
    """Hand out as many messages as the stream has, each with the time at which it was here."""
    done, silent_since = 0, time.monotonic()
    while done < stream.events:
        messages = consumer.consume(1, 0.5)
        messages += consumer.consume(ASKED_AT_ONCE, 0) if messages else []
        now_seconds = time.time()
        for message in messages:
            if (error := message.error()) is not None:
                raise RuntimeError(f"reading {message.topic()}: {error.str()}")
            take(message, now_seconds)
        done += len(messages)
        silent_since = time.monotonic() if messages else silent_since
        if time.monotonic() - silent_since > SILENCE_SECONDS:
            raise RuntimeError(f"{done} of {stream.events} events came, then nothing")
    consumer.close()
