"""Subscriber: only news, for the users asked for, from every partition, whatever else lies on the topic."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from broker_clients import produce_with_header_named
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import NewPartitions
from conftest import Broker, Kafka

from consumer.broker import FETCH, LIST_OFFSETS, InProcessBroker
from producer.events import EPOCH_HEADER, Recommendations, ScoredItem, SourceEvent, encode
from producer.subscriber import NEW_PARTITIONS_SECONDS, Forgotten, Subscriber

News = Recommendations | Forgotten
TOPIC = "lists"


def recommendations(user_id: str, version: int) -> Recommendations:
    return Recommendations(
        user_id=user_id,
        recommendation_id=f"r-{user_id}-{version}",
        generated_at=version,
        model_version=version,
        source=SourceEvent("events", 0, version, version),
        items=[ScoredItem("i1", 0.9), ScoredItem("i2", 0.8)],
    )


class Writer:
    """Puts records on a topic as the worker, an older worker or anybody else would."""

    def __init__(self, bootstrap_servers: str, topic: str = TOPIC) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 0, "log_level": 0})
        self._topic = topic

    def put(self, key: bytes | None, value: bytes | None, epoch: bytes | None = b"1", partition: int = 0) -> None:
        headers = {} if epoch is None else {EPOCH_HEADER: epoch}
        errors: list[object] = []
        self._producer.produce(
            self._topic, value, key, partition, headers=headers, on_delivery=lambda error, _: errors.append(error)
        )
        self._producer.flush(10)
        assert errors == [None]

    def list_(self, user_id: str, version: int, epoch: int | None = 1, partition: int = 0) -> None:
        header = None if epoch is None else str(epoch).encode()
        self.put(user_id.encode(), encode(recommendations(user_id, version)), header, partition)

    def tombstone(self, user_id: str, epoch: int = 1) -> None:
        self.put(user_id.encode(), None, str(epoch).encode())

    def end(self) -> None:
        """What the tests read up to."""
        self.list_("end", 1)


def short(news: News) -> tuple[str, int | None]:
    """User and version; None for a forgotten user."""
    return (news.user_id, None if isinstance(news, Forgotten) else news.model_version)


def read_to_end(subscriber: Subscriber) -> list[tuple[str, int | None]]:
    found: list[tuple[str, int | None]] = []
    while True:
        news = subscriber.poll(10)
        assert news is not None, f"the end did not come, only {found}"
        if news.user_id == "end":
            return found
        found.append(short(news))


@pytest.fixture
def in_memory(in_process_broker: Callable[..., InProcessBroker]) -> InProcessBroker:
    return in_process_broker({TOPIC: 1})


@pytest.fixture
def writer(in_memory: InProcessBroker) -> Writer:
    return Writer(in_memory.bootstrap_servers)


@pytest.fixture
def from_beginning(in_memory: InProcessBroker, writer: Writer) -> Callable[..., list[tuple[str, int | None]]]:
    """A function that reads the whole topic and says what news it found."""

    def read(**settings: object) -> list[tuple[str, int | None]]:
        writer.end()
        with Subscriber(in_memory.bootstrap_servers, topic=TOPIC, from_beginning=True, **settings) as subscriber:  # type: ignore[arg-type]
            return read_to_end(subscriber)

    return read


Read = Callable[..., list[tuple[str, int | None]]]


# --- what arrives ---


def test_a_list_arrives_as_it_was_sent_from_every_partition(broker: Broker, unique: Callable[[str], str]) -> None:
    topic = broker.create_topic(unique(TOPIC), 3)
    writer = Writer(broker.bootstrap_servers, topic)
    for partition in range(3):
        writer.list_(f"u{partition}", version=5, partition=partition)

    with Subscriber(broker.bootstrap_servers, topic=topic, from_beginning=True) as subscriber:
        found = [subscriber.poll(10) for _ in range(3)]

    assert sorted(found, key=str) == [recommendations(f"u{partition}", 5) for partition in range(3)]


def test_from_now_is_from_the_moment_of_construction(broker: Broker, unique: Callable[[str], str]) -> None:
    topic = broker.create_topic(unique(TOPIC), 2)
    writer = Writer(broker.bootstrap_servers, topic)
    writer.list_("old", 1, partition=0)
    writer.list_("old", 2, partition=1)

    with Subscriber(broker.bootstrap_servers, topic=topic) as subscriber:
        writer.list_("new", 3, partition=1)  # before the first poll
        news = subscriber.poll(10)

    assert news == recommendations("new", 3)


def test_a_tombstone_is_a_forgotten_user(broker: Broker, unique: Callable[[str], str]) -> None:
    topic = broker.create_topic(unique(TOPIC), 1)
    writer = Writer(broker.bootstrap_servers, topic)
    writer.list_("u1", 1)
    writer.tombstone("u1")

    with Subscriber(broker.bootstrap_servers, topic=topic, from_beginning=True) as subscriber:
        found = [subscriber.poll(10), subscriber.poll(10)]

    assert found == [recommendations("u1", 1), Forgotten("u1")]


# --- which news of a user is the newer ---


def test_older_versions_of_a_user_are_dropped(writer: Writer, from_beginning: Read) -> None:
    for version in (5, 3, 5, 6):
        writer.list_("u1", version)
    writer.list_("u2", 4)

    assert from_beginning() == [("u1", 5), ("u1", 6), ("u2", 4)]


def test_a_newer_epoch_wins_over_any_version_and_an_older_one_is_dropped(writer: Writer, from_beginning: Read) -> None:
    writer.list_("u1", 9, epoch=1)
    writer.list_("u1", 7, epoch=2)  # the run after a crash begins at its checkpoint
    writer.list_("u1", 10, epoch=1)  # the old worker still lived
    writer.list_("u1", 8, epoch=2)
    writer.list_("u1", 1, epoch=10)  # numbers, not text

    assert from_beginning() == [("u1", 9), ("u1", 7), ("u1", 8), ("u1", 1)]


def test_without_the_header_a_list_is_older_than_any_epoch(writer: Writer, from_beginning: Read) -> None:
    writer.list_("u1", 5, epoch=None)
    writer.list_("u1", 1, epoch=1)
    writer.list_("u1", 6, epoch=None)

    assert from_beginning() == [("u1", 5), ("u1", 1)]


def test_after_a_tombstone_only_newer_lists_come(writer: Writer, from_beginning: Read) -> None:
    writer.list_("u1", 5)
    writer.tombstone("u1")
    writer.list_("u1", 4)
    writer.list_("u1", 6)

    assert from_beginning() == [("u1", 5), ("u1", None), ("u1", 6)]


def test_a_tombstone_of_an_older_epoch_is_dropped(writer: Writer, from_beginning: Read) -> None:
    writer.list_("u1", 5, epoch=2)
    writer.tombstone("u1", epoch=1)

    assert from_beginning() == [("u1", 5)]


def test_a_tombstone_of_a_newer_epoch_outdates_the_older_ones(writer: Writer, from_beginning: Read) -> None:
    writer.list_("u1", 5, epoch=1)
    writer.tombstone("u1", epoch=2)
    writer.list_("u1", 6, epoch=1)
    writer.list_("u1", 2, epoch=2)

    assert from_beginning() == [("u1", 5), ("u1", None), ("u1", 2)]


def test_only_the_users_that_were_asked_for_come(writer: Writer, from_beginning: Read) -> None:
    for user_id in ("u1", "ü2", "u3"):
        writer.list_(user_id, 1)
    writer.tombstone("u1")
    writer.tombstone("u3")

    assert from_beginning(users=["ü2", "u3", "end"]) == [("ü2", 1), ("u3", 1), ("u3", None)]


# --- what is no list ---


VALID = encode(recommendations("u1", 1))


@pytest.mark.parametrize(
    ("key", "value", "epoch", "reason"),
    [
        (b"u1", b"not json", b"1", "malformed"),
        (b"u1", b'{"user_id":"u1"}', b"1", "recommendation_id"),
        (b"u1", VALID.replace(b"0.9", b'"good"'), b"1", r"\$\.items\[0\]\.score"),
        (b"u1", b"", b"1", "truncated"),
        (b"u1", b"\xff", b"1", "malformed"),
        (b"u1", VALID[:-1] + b',"x":' + b"[" * 100_000, b"1", "recursion"),
        (None, VALID, b"1", "no key"),
        (None, None, b"1", "no key"),
        (b"\xff", VALID, b"1", "key is not UTF-8"),
        (b"u2", VALID, b"1", "key is 'u2' but its list is for 'u1'"),
        (b"u1", VALID, b"one", "not a number"),
        (b"u1", VALID, b"", "not a number"),
        (b"u1", VALID, b"9" * 5_000, "not a number"),
    ],
)
def test_what_is_no_list_is_skipped_counted_and_said(
    in_memory: InProcessBroker,
    writer: Writer,
    caplog: pytest.LogCaptureFixture,
    key: bytes | None,
    value: bytes | None,
    epoch: bytes,
    reason: str,
) -> None:
    writer.put(key, value, epoch)
    writer.list_("u1", 2)
    writer.end()

    with Subscriber(in_memory.bootstrap_servers, topic=TOPIC, from_beginning=True) as subscriber:
        found = read_to_end(subscriber)

    assert found == [("u1", 2)]
    assert subscriber.malformed == 1
    (record,) = [record for record in caplog.records if record.name == "producer.subscriber"]
    assert record.getMessage().startswith("lists[0]@0: skipped")
    assert record.getMessage().endswith("1 records skipped so far")
    assert re.search(reason, record.getMessage())


@pytest.mark.parametrize("value", [VALID, b"{}"])
def test_a_record_with_a_header_whose_name_is_not_utf_8_is_skipped_like_any_other_that_is_no_list(
    in_memory: InProcessBroker, writer: Writer, caplog: pytest.LogCaptureFixture, value: bytes
) -> None:
    for _ in range(50):  # Python calls otherwise what it called often
        writer.list_("u1", 1)
    produce_with_header_named(in_memory.bootstrap_servers, TOPIC, b"\xff\xfe", value, key=b"u1")
    writer.list_("u1", 2)
    writer.end()

    with Subscriber(in_memory.bootstrap_servers, topic=TOPIC, from_beginning=True) as subscriber:
        found = read_to_end(subscriber)

    assert (found, subscriber.malformed) == ([("u1", 1), ("u1", 2)], 1)
    assert "the name of one of its headers is not UTF-8" in caplog.text


def test_a_flood_of_malformed_records_is_counted_but_does_not_flood_the_log(
    in_memory: InProcessBroker, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        writer.put(b"u1", b"junk")
    writer.end()

    with Subscriber(in_memory.bootstrap_servers, topic=TOPIC, from_beginning=True) as subscriber:
        read_to_end(subscriber)

    assert subscriber.malformed == 100
    assert [record.args[-1] for record in caplog.records if isinstance(record.args, tuple)] == [1, 2, 4, 8, 16, 32, 64]


# --- waiting ---


def test_poll_gives_none_when_nothing_came_in_time(in_memory: InProcessBroker) -> None:
    with Subscriber(in_memory.bootstrap_servers, topic=TOPIC) as subscriber:
        assert subscriber.poll(0) is None
        assert subscriber.poll(0.05) is None


def test_a_stream_of_old_lists_does_not_make_poll_wait_longer(in_memory: InProcessBroker, writer: Writer) -> None:
    writer.list_("u1", 9)
    for _ in range(20):
        writer.list_("u1", 1)
    seconds = iter(range(1_000))  # each look at the clock takes a second

    with Subscriber(
        in_memory.bootstrap_servers, topic=TOPIC, from_beginning=True, clock=lambda: float(next(seconds))
    ) as subscriber:
        news = subscriber.poll(60)
        before = next(seconds)
        nothing = subscriber.poll(10)
        after = next(seconds)

    assert news == recommendations("u1", 9)
    assert nothing is None
    assert after - before < 20


def test_a_new_list_comes_within_milliseconds_on_an_idle_topic(broker: Broker, unique: Callable[[str], str]) -> None:
    topic = broker.create_topic(unique(TOPIC), 2)
    writer = Writer(broker.bootstrap_servers, topic)
    delays = []
    with Subscriber(broker.bootstrap_servers, topic=topic, librdkafka=broker.librdkafka) as subscriber:
        for version in range(1, 30):
            writer.list_("u1", version)  # returns when it was acknowledged
            written = time.monotonic()
            assert subscriber.poll(10) == recommendations("u1", version)
            delays.append(time.monotonic() - written)

    assert sorted(delays)[len(delays) // 2] < 0.05  # where a fetch waits out its time: 0.1


def test_an_idle_subscriber_asks_its_broker_ten_times_a_second(broker: Broker, unique: Callable[[str], str]) -> None:
    topic = broker.create_topic(unique(TOPIC), 8)
    told: list[dict[str, Any]] = []
    statistics: dict[str, Any] = {"statistics.interval.ms": 500, "stats_cb": lambda text: told.append(json.loads(text))}

    with Subscriber(broker.bootstrap_servers, topic=topic, librdkafka=statistics) as subscriber:
        while len(told) < 4:
            assert subscriber.poll(0.1) is None

    fetches = [sum(one["req"].get("Fetch", 0) for one in each["brokers"].values()) for each in told]
    seconds = (told[-1]["ts"] - told[0]["ts"]) / 1e6
    assert 0 < fetches[-1] - fetches[0] <= 10 * seconds + 2


def test_iterating_ends_when_it_is_closed(in_memory: InProcessBroker, writer: Writer) -> None:
    writer.list_("u1", 1)
    writer.list_("u1", 2)
    found = []

    with Subscriber(in_memory.bootstrap_servers, topic=TOPIC, from_beginning=True) as subscriber:
        for news in subscriber:
            found.append(short(news))
            if len(found) == 2:
                subscriber.close()

    assert found == [("u1", 1), ("u1", 2)]


def test_what_is_kept_of_a_user_is_the_version_and_not_the_list(in_memory: InProcessBroker, writer: Writer) -> None:
    for version in range(1, 50):
        writer.list_("u1", version)
    writer.end()

    with Subscriber(in_memory.bootstrap_servers, topic=TOPIC, from_beginning=True) as subscriber:
        read_to_end(subscriber)

    assert {user_id: tuple(version) for user_id, version in subscriber._newest.items()} == {
        "u1": (1, 49),
        "end": (1, 1),
    }


# --- a broker or a topic in trouble ---


def test_no_broker_is_a_connection_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.subscriber.BROKER_TIMEOUT_SECONDS", 0.3)

    with pytest.raises(ConnectionError, match=r"no answer about lists from 127\.0\.0\.1:1"):
        Subscriber("127.0.0.1:1", topic=TOPIC, librdkafka={"log_level": 0})


def test_told_to_stop_while_no_broker_answers_it_asks_no_second_time(
    closed_port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = noted_questions(monkeypatch)

    with pytest.raises(ConnectionError, match=f"no answer about lists from {closed_port}: .*Connection refused"):
        Subscriber(closed_port, topic=TOPIC, stopping=lambda: len(asked) == 1)

    assert asked == [1.0]  # a signal waits for no more than this


def test_a_broker_that_is_away_is_asked_for_a_second_at_a_time_and_that_is_said_once(
    in_memory: InProcessBroker, writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = noted_questions(monkeypatch)
    now = 0.0
    with Subscriber(in_memory.bootstrap_servers, topic=TOPIC, clock=lambda: now) as subscriber:
        in_memory.disconnect()
        for _ in range(2):
            now += NEW_PARTITIONS_SECONDS + 1
            assert subscriber.poll(0) is None  # asks for new partitions
        said = [record.getMessage() for record in caplog.records]
        in_memory.reconnect()
        writer.list_("u1", 1)

        assert subscriber.poll(20) == recommendations("u1", 1)

    assert asked[1:] == [pytest.approx(1.0, abs=0.1)] * 2
    assert len(said) == 1
    assert said[0].startswith(f"no broker at {in_memory.bootstrap_servers} answers, still trying: ")


def test_that_the_broker_is_away_is_said_again_when_lists_came_meanwhile(
    in_memory: InProcessBroker, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    often = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50}
    with Subscriber(in_memory.bootstrap_servers, topic=TOPIC, librdkafka=often) as subscriber:
        for times in (1, 2):
            in_memory.disconnect()
            deadline = time.monotonic() + 10
            while len(caplog.records) < times and time.monotonic() < deadline:
                assert subscriber.poll(0.1) is None
            assert subscriber.poll(0.5) is None  # it is heard of many times more
            in_memory.reconnect()
            writer.list_("u1", times)
            assert subscriber.poll(20) == recommendations("u1", times)

    said = [record.getMessage().partition(",")[0] for record in caplog.records]
    assert said == [f"no broker at {in_memory.bootstrap_servers} answers"] * 2


def test_a_partition_that_has_no_leader_yet_is_asked_about_again(in_memory: InProcessBroker, writer: Writer) -> None:
    writer.list_("u1", 1)
    not_leader_for_partition = 6
    in_memory.fail_next_requests(LIST_OFFSETS, [not_leader_for_partition] * 3)

    with Subscriber(in_memory.bootstrap_servers, topic=TOPIC) as subscriber:
        writer.list_("u1", 2)

        assert subscriber.poll(10) == recommendations("u1", 2)


def noted_questions(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds for which each question after the topic is to wait, from now on."""
    asked: list[float] = []

    class Noting(Consumer):
        def list_topics(self, topic: str, timeout: float) -> Any:
            asked.append(timeout)
            return super().list_topics(topic, timeout=timeout)

    monkeypatch.setattr("producer.subscriber.Consumer", Noting)
    return asked


def test_a_passing_error_is_survived(in_memory: InProcessBroker, writer: Writer) -> None:
    not_leader_for_partition = 6
    with Subscriber(in_memory.bootstrap_servers, topic=TOPIC) as subscriber:
        in_memory.fail_next_requests(FETCH, [not_leader_for_partition] * 3)
        writer.list_("u1", 1)

        assert subscriber.poll(10) == recommendations("u1", 1)


def test_an_error_that_stays_is_raised(in_memory: InProcessBroker) -> None:
    topic_authorization_failed = 29
    with Subscriber(in_memory.bootstrap_servers, topic=TOPIC, from_beginning=True) as subscriber:
        in_memory.fail_next_requests(FETCH, [topic_authorization_failed] * 100)

        with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
            subscriber.poll(10)


def test_partitions_that_are_added_are_followed_from_their_beginning(
    kafka: Kafka, unique: Callable[[str], str]
) -> None:
    topic = kafka.create_topic(unique(TOPIC), 1)
    writer = Writer(kafka.bootstrap_servers, topic)
    now = 0.0

    def clock() -> float:
        return now + time.monotonic() - started

    started = time.monotonic()
    with Subscriber(kafka.bootstrap_servers, topic=topic, clock=clock) as subscriber:
        kafka.admin.create_partitions([NewPartitions(topic, 2)])[topic].result()
        while len(kafka.admin.list_topics(topic, timeout=10).topics[topic].partitions) < 2:
            assert clock() < 20  # made, but the broker does not show it yet
        Writer(kafka.bootstrap_servers, topic).list_("u1", 1, partition=1)
        now = NEW_PARTITIONS_SECONDS + 1

        assert subscriber.poll(20) == recommendations("u1", 1)
        writer.list_("u2", 2, partition=0)
        assert subscriber.poll(20) == recommendations("u2", 2)


def test_one_user_in_the_place_of_several_is_refused() -> None:
    with pytest.raises(TypeError, match=r"users: expected several user ids, such as \['ada'\], got the text 'ada'"):
        Subscriber("127.0.0.1:1", users="ada")


def test_a_wrong_property_is_named() -> None:
    with pytest.raises(ValueError, match=r"librdkafka refused the settings: .*no\.such"):
        Subscriber("127.0.0.1:1", librdkafka={"no.such": 1})


def test_a_topic_that_does_not_exist_is_said_once_and_when_it_is_there(
    kafka: Kafka, unique: Callable[[str], str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.subscriber.NO_PARTITIONS_SECONDS", 0.1)
    caplog.set_level("INFO", "producer.subscriber")
    topic = unique("lists")
    with Subscriber(kafka.bootstrap_servers, topic=topic) as subscriber:
        subscriber.poll(0.5)  # asks for it several times
        kafka.create_topic(topic)
        deadline = time.monotonic() + 20
        while len(caplog.records) < 2 and time.monotonic() < deadline:
            subscriber.poll(0.1)
        subscriber.poll(0.3)

    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for topic {topic} on {kafka.bootstrap_servers}: it does not exist",
        f"topic {topic} is there now",
    ]


def test_a_topic_that_does_not_exist_yet_is_waited_for(kafka: Kafka, unique: Callable[[str], str]) -> None:
    topic = unique(TOPIC)
    with Subscriber(kafka.bootstrap_servers, topic=topic, librdkafka={"allow.auto.create.topics": False}) as subscriber:
        assert subscriber.poll(0) is None
        kafka.create_topic(topic, 2)
        Writer(kafka.bootstrap_servers, topic).list_("u1", 1, partition=1)

        assert subscriber.poll(20) == recommendations("u1", 1)
