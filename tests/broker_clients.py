"""Stock clients for the tests: they write and read plain records and know nothing of Headrace."""

from collections.abc import Iterable, Sequence

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from consumer.source import Record, Source

SECONDS = 30.0


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
    properties = {"bootstrap.servers": bootstrap_servers, "linger.ms": 1, "enable.idempotence": True}
    producer = Producer({**properties, **named})
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
