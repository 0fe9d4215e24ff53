"""What the Kafka client alone gives, and with decoding: the lines that the worker is measured against.

Each rate is of a process of its own that reads the whole preloaded topic, from its first event to its last; starting,
connecting and the first fetch are left out.
"""

import time
from typing import Any, Final, cast

from confluent_kafka import Consumer, TopicPartition

from benchmarks.stream import Stream
from consumer.decode import Decoder
from consumer.records import Taken
from consumer.source import Record

ASKED_AT_ONCE: Final = 10_000
SILENCE_SECONDS: Final = 30.0
FETCHING: Final = {
    # The same as in the worker: a queue that was full is filled up again at once.
    "fetch.wait.max.ms": 2,
    "fetch.queue.backoff.ms": 1,
}


def consume_bare(bootstrap_servers: str, stream: Stream) -> dict[str, Any]:
    """`consume(10000)` and `value()` of every record."""
    return _consume(bootstrap_servers, stream, decode=False)


def consume_and_decode(bootstrap_servers: str, stream: Stream) -> dict[str, Any]:
    """The same, and each value through the worker's decoder: typed, checked, paired with its record."""
    return _consume(bootstrap_servers, stream, decode=True)


def _consume(bootstrap_servers: str, stream: Stream, *, decode: bool) -> dict[str, Any]:
    decoder = Decoder()
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "bare",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "log_level": 2,
            **FETCHING,
        }
    )
    partitions = [TopicPartition(stream.topic, partition, 0) for partition in range(stream.partitions)]
    consumer.assign(partitions)
    done = first = len(consumer.consume(1, SILENCE_SECONDS))
    rejected = 0
    started = time.perf_counter()
    while done < stream.events:
        # No more than are left: it would wait for the rest.
        messages = consumer.consume(min(ASKED_AT_ONCE, stream.events - done), SILENCE_SECONDS)
        if not messages:
            break
        if decode:
            rejected += len(decoder(Taken(cast(list[Record], messages)))[1])
        else:
            for message in messages:
                message.value()
        done += len(messages)
    seconds = time.perf_counter() - started
    # Told after the clock has stopped: an error in place of a record, or silence, leaves the position behind.
    reached = sum(place.offset for place in consumer.position(partitions))
    consumer.close()
    if reached != stream.events or rejected:
        raise RuntimeError(f"{reached} of {stream.events} events were read, {rejected} of them refused by the decoder")
    return {
        "events": done,
        "seconds": round(seconds, 4),
        "events_per_second": round((done - first) / seconds, 1),
    }
