"""What only a real Kafka can show: durability, retention, transactions, topics that change while they are read."""

import logging
import re
import threading
from collections.abc import Callable, Iterator

import pytest
from broker_clients import SECONDS, numbers, produce, take_until
from confluent_kafka import Producer
from conftest import Kafka
from kafka_server import KafkaServer

from consumer.lists import messages_of
from consumer.offsets import OffsetsOutOfRetention, Reset, TopicMadeAnew
from consumer.publish import Publisher
from consumer.source import Source, TopicMissing
from producer.events import Recommendations, SourceEvent

Unique = Callable[[str], str]


@pytest.fixture
def open_source() -> Iterator[Callable[..., Source]]:
    """A function that makes a source which is closed with the test."""
    opened: list[Source] = []

    def open_it(kafka: Kafka, topic: str, **properties: str) -> Source:
        named = {name.replace("_", "."): value for name, value in properties.items()}
        opened.append(Source(kafka.bootstrap_servers, topic, "headrace", librdkafka=named))
        return opened[-1]

    yield open_it

    for source in opened:
        source.close()


Open = Callable[..., Source]


def transact(kafka: Kafka, topic: str, name: str, values: list[bytes], *, commit: bool) -> None:
    """Write the values to partition 0 in one transaction, and end it."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": name})
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
    producer.flush(SECONDS)
    (producer.commit_transaction if commit else producer.abort_transaction)(SECONDS)


def test_acknowledged_records_outlive_a_killed_broker(
    mortal_kafka: KafkaServer, unique: Unique, open_source: Open
) -> None:
    kafka = Kafka(mortal_kafka.bootstrap_servers)
    topic = kafka.create_topic(unique("events"), 2)
    for partition in range(2):
        produce(kafka.bootstrap_servers, topic, numbers(0, 5000), partition=partition, acks="all")

    mortal_kafka.kill()
    mortal_kafka.start()

    source = open_source(kafka, topic)
    source.seek(None)
    records = take_until(source, 10_000)
    for partition in range(2):
        assert [r.value() for r in records if r.partition() == partition] == numbers(0, 5000)


def test_a_source_reads_on_by_itself_when_the_broker_is_back(
    mortal_kafka: KafkaServer, unique: Unique, open_source: Open
) -> None:
    kafka = Kafka(mortal_kafka.bootstrap_servers)
    topic = kafka.create_topic(unique("events"))
    produce(kafka.bootstrap_servers, topic, numbers(0, 10))
    source = open_source(kafka, topic)
    source.seek(None)
    taken = take_until(source, 10)

    mortal_kafka.kill()
    meanwhile = source.take(10, 0.5)
    mortal_kafka.start()
    produce(kafka.bootstrap_servers, topic, numbers(10, 20))
    taken += take_until(source, 10)

    assert meanwhile == []
    assert [record.value() for record in taken] == numbers(0, 20)


def test_a_source_that_closes_does_not_wait_for_a_broker_that_keeps_the_connection_and_says_nothing(
    mortal_kafka: KafkaServer, unique: Unique, open_source: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.source._CLOSE_SECONDS", 1.0)
    kafka = Kafka(mortal_kafka.bootstrap_servers)
    topic = kafka.create_topic(unique("events"))
    produce(kafka.bootstrap_servers, topic, numbers(0, 10))
    source = open_source(kafka, topic)
    source.seek(None)
    take_until(source, 10)
    source.commit({0: 5})  # the group's coordinator is known from now on

    mortal_kafka.freeze()
    try:
        source.commit_soon({0: 10})
        closing = threading.Thread(target=source.close, daemon=True)
        closing.start()
        closing.join(SECONDS)
        has_closed = not closing.is_alive()
    finally:
        mortal_kafka.thaw()

    assert has_closed


def test_lists_sent_while_the_broker_is_away_arrive_once_it_is_back(
    mortal_kafka: KafkaServer, unique: Unique, open_source: Open
) -> None:
    kafka = Kafka(mortal_kafka.bootstrap_servers)
    topic = kafka.create_topic(unique("recommendations"))
    publisher = Publisher(kafka.bootstrap_servers, topic=topic, dead_letter_topic="dlq", epoch=1)
    publisher.send(messages_of([_a_list("before")]))
    publisher.flush(SECONDS)
    delivered: list[str] = []

    mortal_kafka.kill()
    for number in range(50):
        sent = messages_of([_a_list(f"u{number}")])
        publisher.send(sent, lambda *_, number=number: delivered.append(f"u{number}"))  # type: ignore[misc]
    while_away = list(delivered)
    mortal_kafka.start()
    publisher.flush(SECONDS)

    assert while_away == []
    assert delivered == [f"u{number}" for number in range(50)]
    source = open_source(kafka, topic)
    source.seek(None)
    assert [r.key() for r in take_until(source, 51)] == [b"before", *(b"u%d" % number for number in range(50))]
    assert source.take(10, 0.3) == []


def test_transactions_are_read_whole_and_their_gaps_are_no_loss(
    kafka: Kafka, unique: Unique, open_source: Open
) -> None:
    topic, name = kafka.create_topic(unique("events")), unique("transaction")
    for first in range(0, 50, 10):
        transact(kafka, topic, name, numbers(first, first + 10), commit=True)
        transact(kafka, topic, name, [b"aborted"] * 3, commit=False)
    kafka.delete_records(topic, 0, 5)
    source = open_source(kafka, topic)
    source.seek(None)

    records = take_until(source, 45)

    assert [record.value() for record in records] == numbers(5, 50)
    assert records[-1].offset() - records[0].offset() > 44


def test_a_topic_that_ends_with_a_transactions_marker_is_read_to_its_end(
    kafka: Kafka, unique: Unique, open_source: Open
) -> None:
    topic, name = kafka.create_topic(unique("events")), unique("transaction")
    transact(kafka, topic, name, numbers(0, 3), commit=True)
    transact(kafka, topic, name, [b"aborted"], commit=False)
    source = open_source(kafka, topic)
    source.seek(None)
    ends = source.end_offsets()

    records = take_until(source, 3)
    source.take(1, 1.0)  # nothing more, only the end

    assert len(records) == 3
    assert source.next_offsets() == ends == {0: 6}
    assert source.lag() == {0: 0}
    source.seek(ends)  # and a checkpoint can go on from there
    produce(kafka.bootstrap_servers, topic, [b"next"])
    assert [record.value() for record in take_until(source, 1)] == [b"next"]


def test_an_open_transaction_is_not_awaited_as_part_of_the_end(kafka: Kafka, unique: Unique, open_source: Open) -> None:
    topic = kafka.create_topic(unique("events"))
    produce(kafka.bootstrap_servers, topic, numbers(0, 4))
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": unique("open")})
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    producer.produce(topic, b"undecided", partition=0)
    producer.flush(SECONDS)
    source = open_source(kafka, topic)
    source.seek(None)

    ends = source.end_offsets()

    assert ends == {0: 4}
    assert [record.value() for record in take_until(source, 4)] == numbers(0, 4)
    producer.abort_transaction(SECONDS)


def test_retention_that_overtook_the_checkpoint_is_refused_with_counts(
    kafka: Kafka, unique: Unique, open_source: Open
) -> None:
    topic = kafka.create_topic(unique("events"), 2)
    for partition in range(2):
        produce(kafka.bootstrap_servers, topic, numbers(0, 100), partition=partition)
    source = open_source(kafka, topic)
    source.seek({0: 30, 1: 30})
    checkpoint = source.next_offsets()
    kafka.delete_records(topic, 0, 75)

    with pytest.raises(OffsetsOutOfRetention, match=r"\[0\]: expected offset 30, but .* begins at 75: 45 events"):
        source.seek(checkpoint)

    source.seek(checkpoint, Reset.EARLIEST)
    assert source.next_offsets() == {0: 75, 1: 30}
    assert len(take_until(source, 25 + 70)) == 95


def test_partitions_added_to_the_topic_are_read_from_the_next_start(
    kafka: Kafka, unique: Unique, open_source: Open
) -> None:
    topic = kafka.create_topic(unique("events"))
    produce(kafka.bootstrap_servers, topic, numbers(0, 5))
    first = open_source(kafka, topic)
    first.seek(None)
    take_until(first, 5)
    checkpoint = first.next_offsets()
    kafka.add_partitions(topic, 3)
    produce(kafka.bootstrap_servers, topic, [b"new"], partition=2)

    second = open_source(kafka, topic)
    second.seek(checkpoint)

    assert second.next_offsets() == {0: 5, 1: 0, 2: 0}
    assert [record.value() for record in take_until(second, 1)] == [b"new"]


def test_partitions_added_while_it_reads_are_read_from_their_first_record(
    kafka: Kafka, unique: Unique, open_source: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    topic = kafka.create_topic(unique("events"))
    produce(kafka.bootstrap_servers, topic, numbers(0, 5))
    source = open_source(kafka, topic)
    source._lookout.every_seconds = 0.05
    source.seek(None)
    taken = take_until(source, 5)

    kafka.add_partitions(topic, 3)
    produce(kafka.bootstrap_servers, topic, numbers(0, 9), partition=2)
    produce(kafka.bootstrap_servers, topic, numbers(5, 7))
    taken += take_until(source, 2 + 4)
    behind = source.lag()
    taken += take_until(source, 5)

    assert [record.value() for record in taken if record.partition() == 2] == numbers(0, 9)
    assert [record.value() for record in taken if record.partition() == 0] == numbers(0, 7)
    assert sum(behind.values()) == 5
    assert source.next_offsets() == source.end_offsets() == {0: 7, 1: 0, 2: 9}
    assert source.lag() == {0: 0, 1: 0, 2: 0}
    assert [record.getMessage() for record in caplog.records] == [f"{topic} has new partitions, read from now on: 1, 2"]


def test_an_added_partition_that_lost_records_before_they_were_read_stops_the_source(
    kafka: Kafka, unique: Unique, open_source: Open
) -> None:
    topic = kafka.create_topic(unique("events"))
    source = open_source(kafka, topic)
    source._lookout.every_seconds = 3600
    source.seek(None)
    kafka.add_partitions(topic, 2)
    produce(kafka.bootstrap_servers, topic, numbers(0, 9), partition=1)
    kafka.delete_records(topic, 1, 4)

    source._lookout.every_seconds = 0

    with pytest.raises(OffsetsOutOfRetention, match=r"\[1\]: expected offset 0, .* 4 events are missing"):
        take_until(source, 1)


def test_a_topic_deleted_while_it_is_read_stops_the_source(kafka: Kafka, unique: Unique, open_source: Open) -> None:
    topic = kafka.create_topic(unique("events"))
    # For half a minute by default the client takes a missing topic for one that is still being made.
    source = open_source(
        kafka, topic, topic_metadata_propagation_max_ms="500", topic_metadata_refresh_interval_ms="500"
    )
    source.seek(None)
    source.take(1, 0.1)

    kafka.admin.delete_topics([topic])[topic].result()

    with pytest.raises(TopicMissing, match="headrace topics create"):
        source.take(1, SECONDS * 2)


def test_a_topic_made_anew_is_not_mistaken_for_the_old_one(kafka: Kafka, unique: Unique, open_source: Open) -> None:
    topic = kafka.create_topic(unique("events"))
    produce(kafka.bootstrap_servers, topic, numbers(0, 10))
    source = open_source(kafka, topic)
    kafka.admin.delete_topics([topic])[topic].result()
    _create_when_gone(kafka, topic)

    with pytest.raises(OffsetsOutOfRetention, match=r"the topic ends at 0, 10 before it \(was it made anew\?\)"):
        source.seek({0: 10})


def test_a_topic_made_anew_has_another_id(kafka: Kafka, unique: Unique, open_source: Open) -> None:
    topic = kafka.create_topic(unique("events"))
    source = open_source(kafka, topic)
    assert not source.was_made_anew(None, None)
    before = source.topic_id
    assert not source.was_made_anew(before, None)
    kafka.admin.delete_topics([topic])[topic].result()
    _create_when_gone(kafka, topic)

    with pytest.raises(TopicMadeAnew, match=re.escape(f"its id was {before} and is ")):
        source.was_made_anew(before, None)

    assert source.was_made_anew(before, Reset.EARLIEST)


def test_a_topic_made_anew_while_it_is_read_stops_the_source(kafka: Kafka, unique: Unique, open_source: Open) -> None:
    topic = kafka.create_topic(unique("events"))
    produce(kafka.bootstrap_servers, topic, numbers(0, 10))
    source = open_source(kafka, topic)
    source.was_made_anew(None, None)
    source.seek(None)
    take_until(source, 10)
    source.check_topic()  # it is the same as yet
    kafka.admin.delete_topics([topic])[topic].result()
    _create_when_gone(kafka, topic)
    produce(kafka.bootstrap_servers, topic, numbers(0, 20))

    source._lookout.every_seconds = 0

    with pytest.raises(TopicMadeAnew, match=re.escape(f"its id was {source.topic_id} and is ")):
        take_until(source, 11)
    for refused in (lambda: source.take(1, 0), source.check_topic):
        with pytest.raises(TopicMadeAnew):
            refused()


def _create_when_gone(kafka: Kafka, topic: str) -> None:
    while topic in kafka.admin.list_topics(timeout=SECONDS).topics:
        pass
    kafka.create_topic(topic)


def _a_list(user_id: str) -> Recommendations:
    source = SourceEvent(topic="events", partition=0, offset=0, timestamp=0)
    return Recommendations(
        user_id=user_id, recommendation_id="r", generated_at=0, model_version=1, source=source, items=[]
    )
