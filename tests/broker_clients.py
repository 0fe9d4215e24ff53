"""Stock clients for the tests: they write and read plain records and know nothing of Headrace."""

import ctypes
from collections.abc import Iterable, Sequence

from confluent_kafka import Consumer, Message, Producer, TopicPartition, cimpl

from consumer.source import Record, Source

SECONDS = 30.0
AT_ONCE = {"enable.idempotence": False, "max.in.flight": 1}
"""Of a producer that keeps the order as an idempotent one does, without waiting half a second for its number."""


def produce(
    bootstrap_servers: str,
    topic: str,
    values: Iterable[bytes | None],
    *,
    partition: int = 0,
    key: bytes | None = None,
    headers: Sequence[tuple[str, bytes | None]] = (),
    one_batch_each: bool = False,
    **properties: object,
) -> None:
    """Write the values and wait for the broker to have them."""
    named = {name.replace("_", "."): value for name, value in properties.items()}
    # A new topic may refuse the first batches: what is sent again must not come behind others.
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 1, **AT_ONCE, **named})
    failed: list[object] = []
    for value in values:
        producer.produce(
            topic,
            value,
            key,
            partition,
            headers=list(headers),
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
        if one_batch_each:
            producer.flush(SECONDS)
    assert producer.flush(SECONDS) == 0
    assert failed == []


class _Argument(ctypes.Structure):
    """One of `rd_kafka_produceva`: what it is, and a union of 64 bytes."""

    _fields_ = (("kind", ctypes.c_int), ("words", ctypes.c_void_p * 8))


def produce_with_header_named(
    bootstrap_servers: str, topic: str, name: bytes, value: bytes, *, key: bytes | None = None
) -> None:
    """Write a record with a header of this name to partition 0: names of other clients need not be UTF-8.

    Python's client takes text only, so this speaks to the library under it.
    """
    library, pointer = ctypes.CDLL(cimpl.__file__), ctypes.c_void_p
    library.rd_kafka_conf_new.restype = library.rd_kafka_new.restype = library.rd_kafka_produceva.restype = pointer
    reason = ctypes.create_string_buffer(512)
    configuration = pointer(library.rd_kafka_conf_new())
    for setting, text in ((b"bootstrap.servers", bootstrap_servers.encode()), (b"log_level", b"0")):
        library.rd_kafka_conf_set(configuration, setting, text, reason, ctypes.c_size_t(512))
    client = pointer(library.rd_kafka_new(0, configuration, reason, ctypes.c_size_t(512)))
    assert client, reason.value
    kept = [ctypes.create_string_buffer(text) for text in (topic.encode(), name, value, key or b"")]
    at = [ctypes.addressof(text) for text in kept]
    copied = 2
    given = {1: (at[0],), 3: (0,), 4: (at[2], len(value)), 7: (copied,), 9: (at[1], at[2], len(value))}
    if key is not None:
        given[5] = (at[3], len(key))
    arguments = (_Argument * len(given))(*((kind, (pointer * 8)(*words)) for kind, words in given.items()))
    assert not library.rd_kafka_produceva(client, arguments, ctypes.c_size_t(len(given)))
    assert library.rd_kafka_flush(client, int(SECONDS * 1000)) == 0
    library.rd_kafka_destroy(client)


def numbers(first: int, end: int) -> list[bytes]:
    """The values b"first" to b"end - 1"."""
    return [b"%d" % number for number in range(first, end)]


def read(bootstrap_servers: str, topic: str, count: int, partition: int = 0) -> list[Message]:
    """The first `count` records of a partition."""
    # The in-process broker lets an empty fetch wait out its time, half a second by default.
    properties = {"group.id": "tests", "enable.auto.commit": False, "fetch.wait.max.ms": 5}
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, **properties})
    consumer.assign([TopicPartition(topic, partition, 0)])
    messages = consumer.consume(count, SECONDS)
    consumer.close()
    assert [message.error() for message in messages] == [None] * count
    return messages


def take_until(source: Source, count: int) -> list[Record]:
    """Take until `count` records are there, in as many calls as that needs."""
    records: list[Record] = []
    while len(records) < count:
        came = source.take(count - len(records), SECONDS)
        assert came, f"{len(records)} of {count} records, then nothing for {SECONDS} s"
        records += came
    return records
