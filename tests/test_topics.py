"""Making and describing the topics. The in-process broker has no topic calls, so most of this is for a real Kafka."""

import gc
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from broker_clients import SECONDS, numbers, produce, read
from confluent_kafka import Producer
from conftest import Broker, InProcess, Kafka

from consumer.publish import Publisher
from consumer.source import Source
from consumer.topics import TopicPlan, TopicsError, TopicsMissing, create, describe, plan, require, topic_id

Unique = Callable[[str], str]

YEAR_MS = 365 * 24 * 3600 * 1000


def named(unique: Unique, partitions: int = 2) -> list[TopicPlan]:
    return plan(
        events=unique("recs.events.v1"),
        items=unique("recs.items.v1"),
        users=unique("recs.users.v1"),
        recommendations=unique("recs.recommendations.v1"),
        dead_letters=unique("dlq.recs.events.v1"),
        partitions=partitions,
    )


def test_topics_of_state_are_compacted_and_topics_of_events_are_not() -> None:
    plans = plan(events="e", items="i", users="u", recommendations="r", dead_letters="d", partitions=8)

    assert {topic.name: topic.config["cleanup.policy"] for topic in plans} == {
        "e": "delete",
        "i": "compact",
        "u": "compact",
        "r": "compact",
        "d": "delete",
    }
    assert {topic.partitions for topic in plans} == {8}


def test_a_dead_letter_has_64_kib_more_room_than_an_event() -> None:
    plans = {
        p.name: p for p in plan(events="e", items="i", users="u", recommendations="r", dead_letters="d", partitions=1)
    }

    room = {name: int(plans[name].config["max.message.bytes"]) for name in ("e", "d")}

    assert room["d"] - room["e"] == 64 * 1024


def test_created_topics_are_as_planned(kafka: Kafka, unique: Unique) -> None:
    plans = named(unique, partitions=3)

    reports = create(kafka.bootstrap_servers, plans)

    assert [(report.name, report.created, report.partitions) for report in reports] == [
        (wanted.name, True, 3) for wanted in plans
    ]
    for wanted, found in zip(plans, describe(kafka.bootstrap_servers, [p.name for p in plans]), strict=True):
        assert dict(found.partitions) == {0: (0, 0), 1: (0, 0), 2: (0, 0)}
        assert {name: found.config[name] for name in wanted.config} == dict(wanted.config)


def test_clients_see_the_topics_as_soon_as_create_is_back(kafka: Kafka, unique: Unique) -> None:
    plans = named(unique)

    create(kafka.bootstrap_servers, plans)

    source = Source(kafka.bootstrap_servers, plans[0].name, "headrace")
    source.seek(None)
    assert source.next_offsets() == {0: 0, 1: 0}
    source.close()


def test_creating_again_changes_nothing(kafka: Kafka, unique: Unique) -> None:
    plans = named(unique)
    create(kafka.bootstrap_servers, plans)
    produce(kafka.bootstrap_servers, plans[0].name, numbers(0, 5))

    reports = create(kafka.bootstrap_servers, plans)

    assert [(report.created, report.differences) for report in reports] == [(False, ())] * 5
    assert describe(kafka.bootstrap_servers, [plans[0].name])[0].partitions == {0: (0, 5), 1: (0, 0)}


def test_a_topic_that_is_not_as_planned_is_kept_and_reported(kafka: Kafka, unique: Unique) -> None:
    plans = named(unique, partitions=4)
    events, items = plans[0].name, plans[1].name
    kafka.create_topic(events, 1, {"retention.ms": "1000"})
    kafka.create_topic(items, 4, {"cleanup.policy": "delete"})

    reports = {report.name: report for report in create(kafka.bootstrap_servers, plans)}

    assert "has 1 partitions, planned are 4" in reports[events].differences
    assert "retention.ms is 1000, planned is -1" in reports[events].differences
    assert reports[items].differences == ("cleanup.policy is delete, planned is compact",)
    assert describe(kafka.bootstrap_servers, [events])[0].config["retention.ms"] == "1000"


def test_dead_letters_get_their_headroom_above_the_events_topic_that_is_there(kafka: Kafka, unique: Unique) -> None:
    plans = named(unique)
    kafka.create_topic(plans[0].name, 2, {"max.message.bytes": "5000000"})

    create(kafka.bootstrap_servers, plans)

    dead_letters = describe(kafka.bootstrap_servers, [plans[-1].name])[0]
    assert dead_letters.config["max.message.bytes"] == str(5_000_000 + 64 * 1024)


@pytest.mark.parametrize("years", [-29, +10])
def test_records_stamped_with_old_and_future_event_times_are_taken_in(kafka: Kafka, unique: Unique, years: int) -> None:
    plans = named(unique)
    create(kafka.bootstrap_servers, plans)
    stamp = int(time.time() * 1000) + years * YEAR_MS
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})

    producer.produce(plans[0].name, b"then", partition=0, timestamp=stamp)

    assert producer.flush(SECONDS) == 0
    record = read(kafka.bootstrap_servers, plans[0].name, 1)[0]
    assert (record.value(), record.timestamp()[1]) == (b"then", stamp)


def test_the_largest_event_fits_the_dead_letter_topic_also_when_it_came_compressed(
    kafka: Kafka, unique: Unique
) -> None:
    plans = named(unique)
    create(kafka.bootstrap_servers, plans)
    events, dead_letters = plans[0].name, plans[-1].name
    values = [b"x" * (1024 * 1024 - 100), b'{"a":"bcdefgh"}' * 500_000]
    for value, codec in zip(values, ["none", "gzip"], strict=True):
        produce(kafka.bootstrap_servers, events, [value], message_max_bytes=10_000_000, compression_type=codec)
    publisher = Publisher(kafka.bootstrap_servers, topic="unused", dead_letter_topic=dead_letters, epoch=1)

    publisher.dead_letter([_TooLarge(record) for record in read(kafka.bootstrap_servers, events, 2)])
    publisher.flush(SECONDS)

    written = describe(kafka.bootstrap_servers, [dead_letters])[0].partitions
    assert sum(end - first for first, end in written.values()) == 2


class _TooLarge:
    reason, detail = "too-large", "$: expected at most 1048576 bytes"

    def __init__(self, record: object) -> None:
        self.record = record


def test_a_topic_that_does_not_exist_is_described_as_empty(kafka: Kafka, unique: Unique) -> None:
    missing = describe(kafka.bootstrap_servers, [unique("nowhere")])[0]

    assert (missing.partitions, missing.config) == ({}, {})


def test_describe_gives_first_and_next_offsets(kafka: Kafka, unique: Unique) -> None:
    topic = kafka.create_topic(unique("events"), 2)
    produce(kafka.bootstrap_servers, topic, numbers(0, 9), partition=1)
    kafka.delete_records(topic, 1, 4)

    description = describe(kafka.bootstrap_servers, [topic])[0]

    assert description.partitions == {0: (0, 0), 1: (4, 9)}


def test_a_refusal_names_the_topic_and_the_reason(kafka: Kafka, unique: Unique) -> None:
    plans = named(unique)

    with pytest.raises(TopicsError, match=r"topic recs\.events.* on 127.0.0.1:\d+: INVALID_REPLICATION_FACTOR"):
        create(kafka.bootstrap_servers, plans, replication_factor=7)


def test_topics_that_are_there_are_enough(broker: Broker, unique: Unique) -> None:
    topics = [broker.create_topic(unique("one")), broker.create_topic(unique("other"))]

    require(broker.bootstrap_servers, topics)


def test_topics_that_are_missing_are_named_with_the_command_that_makes_them(broker: Broker, unique: Unique) -> None:
    there, one, other = broker.create_topic(unique("there")), unique("one"), unique("other")

    with pytest.raises(TopicsMissing, match=rf"^topic {one} does not exist on 127.*Make .* `headrace topics create`"):
        require(broker.bootstrap_servers, [there, one])
    with pytest.raises(TopicsMissing, match=rf"^topics {one}, {other} do not exist on 127"):
        require(broker.bootstrap_servers, [one, there, other])


def test_looking_for_topics_ends_with_what_a_look_up_raises(closed_port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.topics._LOOK_UP_SECONDS", 0.2)
    looks = iter([None])
    began = time.monotonic()

    with pytest.raises(StopIteration):
        require(closed_port, ["events"], look_up=lambda: next(looks))

    assert time.monotonic() - began < 10


def test_a_broker_that_is_not_there_is_told_with_its_address(closed_port: str, unique: Unique) -> None:
    with pytest.raises(TopicsError, match=rf"no answer from {closed_port} within 0.5 s .*refused"):
        create(closed_port, named(unique), answer_seconds=0.5)


def test_a_wrong_client_property_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"no\.such\.property"):
        describe("127.0.0.1:1", [], librdkafka={"no.such.property": "1"})


def test_nothing_is_left_of_a_question_once_it_is_answered(in_process: InProcess, unique: Unique) -> None:
    topic = in_process.create_topic(unique("events"))
    require(in_process.bootstrap_servers, [topic])
    before = threads()
    gc.disable()  # a worker keeps it from all that its start made
    try:
        for _ in range(5):
            require(in_process.bootstrap_servers, [topic])
    finally:
        gc.enable()

    assert threads() <= before


def threads() -> int:
    """Those of clients too, which Python does not count."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def test_where_nobody_can_tell_a_topics_id_there_is_none_and_that_takes_no_time(in_process: InProcess) -> None:
    topic, began_at = in_process.create_topic("events"), time.monotonic()

    found = topic_id(in_process.bootstrap_servers, topic, answer_seconds=SECONDS)

    assert found is None
    assert time.monotonic() - began_at < SECONDS / 3


def test_waiting_for_an_id_ends_with_what_a_look_up_raises(closed_port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.topics._LOOK_UP_SECONDS", 0.2)
    looks = iter([None, Interrupted()])

    def look_up() -> None:
        if (raised := next(looks)) is not None:
            raise raised

    began_at = time.monotonic()
    with pytest.raises(Interrupted):
        topic_id(closed_port, "events", answer_seconds=60, look_up=look_up)

    assert time.monotonic() - began_at < 10


class Interrupted(Exception):
    """What somebody who looks up may raise."""


def test_neither_a_topic_that_is_not_there_nor_a_broker_that_is_away_has_an_id(kafka: Kafka, unique: Unique) -> None:
    assert topic_id(kafka.bootstrap_servers, unique("nothing")) is None
    assert topic_id("127.0.0.1:1", "events", answer_seconds=0.2) is None
