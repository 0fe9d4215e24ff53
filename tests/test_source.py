"""Taking records: one contract on the in-process broker and on a real Kafka, then what only faults can show."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping

import pytest
from broker_clients import SECONDS, numbers, produce, take_until
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from conftest import Broker, InProcess

from consumer.broker import FETCH, FIND_COORDINATOR, OFFSET_COMMIT
from consumer.offsets import ACCEPT_LOSS, READ_ANEW, CheckpointLost, OffsetsOutOfRetention, Reset
from consumer.source import BrokerUnreachable, CommitFailed, ReadFailed, Source, TopicMissing

Open = Callable[..., Source]


@pytest.fixture
def open_source() -> Iterator[Open]:
    """A function that makes a source which is closed with the test."""
    opened: list[Source] = []

    def open_it(
        broker: Broker,
        topic: str,
        group: str = "headrace",
        librdkafka: Mapping[str, str] | None = None,
        after_loss: str = ACCEPT_LOSS,
    ) -> Source:
        properties = {**broker.librdkafka, **(librdkafka or {})}
        opened.append(Source(broker.bootstrap_servers, topic, group, librdkafka=properties, after_loss=after_loss))
        return opened[-1]

    yield open_it

    for source in opened:
        source.close()


# --- taking ---


def test_every_record_is_taken_once_and_in_order(
    broker: Broker, unique: Callable[[str], str], open_source: Open
) -> None:
    topic = broker.create_topic(unique("events"), 3)
    for partition in range(3):
        produce(broker.bootstrap_servers, topic, numbers(0, 500), partition=partition)
    source = open_source(broker, topic)
    source.seek(None)

    records = take_until(source, 1500)

    for partition in range(3):
        mine = [record for record in records if record.partition() == partition]
        assert [record.offset() for record in mine] == list(range(500))
        assert [record.value() for record in mine] == numbers(0, 500)
    assert source.next_offsets() == {0: 500, 1: 500, 2: 500}
    assert source.take(10, 0.2) == []


def test_a_record_comes_with_all_that_was_sent(broker: Broker, unique: Callable[[str], str], open_source: Open) -> None:
    topic = broker.create_topic(unique("events"))
    before = int(time.time() * 1000)
    produce(broker.bootstrap_servers, topic, [b"\xff{", None], key=b"u1", headers=[("trace", b"\x00"), ("none", None)])
    source = open_source(broker, topic)
    source.seek(None)

    record, tombstone = take_until(source, 2)

    assert (record.topic(), record.partition(), record.offset()) == (topic, 0, 0)
    assert (record.key(), record.value()) == (b"u1", b"\xff{")
    assert record.headers() == [("trace", b"\x00"), ("none", None)]
    assert before <= record.timestamp()[1] <= before + 60_000
    assert (tombstone.key(), tombstone.value()) == (b"u1", None)


def test_take_returns_as_soon_as_something_is_there(
    broker: Broker, unique: Callable[[str], str], open_source: Open
) -> None:
    topic = broker.create_topic(unique("events"), 8)
    source = open_source(broker, topic)
    source.seek(None)
    source.take(1, 0.1)
    produce(broker.bootstrap_servers, topic, [b"one"])

    began = time.monotonic()
    records = source.take(512, SECONDS)

    assert [record.value() for record in records] == [b"one"]
    assert time.monotonic() - began < SECONDS / 3


def test_take_gives_nothing_after_the_wait(broker: Broker, unique: Callable[[str], str], open_source: Open) -> None:
    topic = broker.create_topic(unique("events"), 2)
    source = open_source(broker, topic)
    source.seek(None)

    began = time.monotonic()
    records = source.take(512, 0.3)

    assert records == []
    assert 0.25 <= time.monotonic() - began < 5
    assert source.next_offsets() == {0: 0, 1: 0}


def test_take_never_gives_more_than_asked_and_keeps_the_rest(
    broker: Broker, unique: Callable[[str], str], open_source: Open
) -> None:
    topic = broker.create_topic(unique("events"))
    produce(broker.bootstrap_servers, topic, numbers(0, 100))
    source = open_source(broker, topic)
    source.seek(None)

    sizes, values = [], []
    while len(values) < 100:
        records = source.take(7, SECONDS)
        sizes.append(len(records))
        values += [record.value() for record in records]

    assert max(sizes) == 7
    assert values == numbers(0, 100)


def test_a_second_run_goes_on_where_the_checkpoint_stood(
    broker: Broker, unique: Callable[[str], str], open_source: Open
) -> None:
    topic = broker.create_topic(unique("events"), 2)
    for partition in range(2):
        produce(broker.bootstrap_servers, topic, numbers(0, 100), partition=partition)
    first = open_source(broker, topic)
    first.seek(None)
    before = [(record.partition(), record.offset()) for record in take_until(first, 130)]
    checkpoint = first.next_offsets()
    take_until(first, 20)  # taken after the checkpoint, so not done
    first.close()

    second = open_source(broker, topic)
    second.seek(checkpoint)
    after = [(record.partition(), record.offset()) for record in take_until(second, 70)]

    assert sorted(before + after) == [(partition, offset) for partition in range(2) for offset in range(100)]


def test_seeking_again_goes_back_exactly(broker: Broker, unique: Callable[[str], str], open_source: Open) -> None:
    topic = broker.create_topic(unique("events"))
    produce(broker.bootstrap_servers, topic, numbers(0, 50))
    source = open_source(broker, topic)
    source.seek(None)
    take_until(source, 20)  # thirty more are waiting in the client

    source.seek({0: 10})

    assert [record.value() for record in take_until(source, 40)] == numbers(10, 50)


# --- committing ---


def committed(broker: Broker, group: str, topic: str, partitions: int) -> list[int]:
    """What a stock client reads as the group's offsets."""
    stock = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": group})
    found = stock.committed([TopicPartition(topic, number) for number in range(partitions)], timeout=SECONDS)
    stock.close()
    return [partition.offset for partition in found]


def test_commits_are_the_groups_to_read(broker: Broker, unique: Callable[[str], str], open_source: Open) -> None:
    topic, group = broker.create_topic(unique("events"), 2), unique("group")
    produce(broker.bootstrap_servers, topic, numbers(0, 10))
    source = open_source(broker, topic, group)
    source.seek(None)
    take_until(source, 10)

    source.commit({0: 4, 1: 0})

    assert committed(broker, group, topic, 2) == [4, 0]


def test_a_commit_that_nobody_waits_for_is_written_by_the_time_that_the_source_is_closed(
    broker: Broker, unique: Callable[[str], str], open_source: Open
) -> None:
    topic, group = broker.create_topic(unique("events"), 2), unique("group")
    produce(broker.bootstrap_servers, topic, numbers(0, 10))
    source = open_source(broker, topic, group)
    source.seek(None)
    take_until(source, 10)

    for offset in (3, 4):
        source.commit_soon({0: offset, 1: 0})
    source.close()

    assert committed(broker, group, topic, 2) == [4, 0]


def test_nothing_is_committed_by_itself(broker: Broker, unique: Callable[[str], str], open_source: Open) -> None:
    topic, group = broker.create_topic(unique("events")), unique("group")
    produce(broker.bootstrap_servers, topic, numbers(0, 10))
    first = open_source(broker, topic, group)
    first.seek(None)
    take_until(first, 10)
    first.close()

    second = open_source(broker, topic, group)
    second.seek(None)

    assert second.next_offsets() == {0: 0}


# --- where to begin, and what is lost ---


def test_without_its_checkpoint_a_group_is_asked_what_to_do(
    broker: Broker, unique: Callable[[str], str], open_source: Open
) -> None:
    topic, group = broker.create_topic(unique("events")), unique("group")
    produce(broker.bootstrap_servers, topic, numbers(0, 10))
    source = open_source(broker, topic, group)
    source.seek(None)
    source.commit({0: 4})

    with pytest.raises(CheckpointLost, match=r"group .* has committed offsets .*\[0\] at 4"):
        source.seek(None)

    starts = {}
    for reset in Reset:
        source.seek(None, reset)
        starts[reset] = source.next_offsets()
    assert starts == {Reset.EARLIEST: {0: 0}, Reset.LATEST: {0: 10}, Reset.COMMITTED: {0: 4}}


def test_a_checkpoint_below_retention_is_refused_until_the_loss_is_accepted(
    broker: Broker, unique: Callable[[str], str], open_source: Open
) -> None:
    topic = broker.create_topic(unique("events"))
    produce(broker.bootstrap_servers, topic, numbers(0, 10))
    broker.delete_records(topic, 0, 6)
    source = open_source(broker, topic)

    with pytest.raises(OffsetsOutOfRetention, match=r"4 events are missing.*--reset earliest"):
        source.seek({0: 2})

    source.seek({0: 2}, Reset.EARLIEST)
    assert [record.offset() for record in take_until(source, 4)] == [6, 7, 8, 9]


def test_a_checkpoint_beyond_the_end_is_refused(
    broker: Broker, unique: Callable[[str], str], open_source: Open
) -> None:
    topic = broker.create_topic(unique("events"))
    produce(broker.bootstrap_servers, topic, numbers(0, 10))
    source = open_source(broker, topic)

    with pytest.raises(OffsetsOutOfRetention, match="expected offset 11, but the topic ends at 10"):
        source.seek({0: 11})


@pytest.mark.parametrize("after_loss", [ACCEPT_LOSS, READ_ANEW])
def test_records_dropped_while_reading_stop_it_with_their_number_and_what_to_do(
    broker: Broker, unique: Callable[[str], str], open_source: Open, after_loss: str
) -> None:
    topic = broker.create_topic(unique("events"))
    produce(broker.bootstrap_servers, topic, [bytes(20_000)] * 300, one_batch_each=True)
    reads_little_ahead = {"queued.max.messages.kbytes": "1", "queued.min.messages": "1", "fetch.max.bytes": "20000"}
    source = open_source(
        broker, topic, librdkafka={**reads_little_ahead, "message.max.bytes": "20000"}, after_loss=after_loss
    )
    source.seek(None)
    take_until(source, 1)

    broker.delete_records(topic, 0, 299)

    with pytest.raises(OffsetsOutOfRetention) as caught:
        take_until(source, 300)
    reached = source.next_offsets()[0]
    assert caught.value.missing == 299 - reached
    assert f"expected offset {reached}, but the topic now begins at 299" in str(caught.value)
    assert str(caught.value).endswith(f". {after_loss}")
    with pytest.raises(OffsetsOutOfRetention):  # and it stays so
        source.take(1, 0)


def test_lag_counts_what_was_not_taken_yet(broker: Broker, unique: Callable[[str], str], open_source: Open) -> None:
    topic = broker.create_topic(unique("events"), 2)
    produce(broker.bootstrap_servers, topic, numbers(0, 30))
    source = open_source(broker, topic)
    source.seek(None)

    before = source.lag()
    take_until(source, 12)

    assert before == {0: 30, 1: 0}
    assert source.lag() == {0: 18, 1: 0}
    assert source.is_behind()
    take_until(source, 18)
    assert not source.is_behind()
    assert source.end_offsets() == {0: 30, 1: 0}


# --- a broker that is away or in trouble ---


def test_a_missing_topic_is_told_with_the_command_that_makes_it(
    broker: Broker, unique: Callable[[str], str], open_source: Open
) -> None:
    source = open_source(broker, unique("nowhere"))

    with pytest.raises(TopicMissing, match=r"nowhere.* does not exist on 127.0.0.1:.*headrace topics create"):
        source.seek(None)


def test_a_broker_that_is_not_there_is_told_with_its_address(closed_port: str) -> None:
    source = Source(closed_port, "events", "headrace", answer_seconds=0.5)

    with pytest.raises(BrokerUnreachable, match=rf"no answer from {closed_port} within 0.5 s .*refused"):
        source.seek(None)

    source.close()


def test_waiting_for_an_answer_ends_with_what_a_look_up_raises(
    closed_port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.source._LOOK_UP_SECONDS", 0.2)
    looks = iter([None, None, Interrupted()])

    def look_up() -> None:
        if (raised := next(looks)) is not None:
            raise raised

    source = Source(closed_port, "events", "headrace", look_up=look_up)
    began = time.monotonic()
    with pytest.raises(Interrupted):
        source.seek(None)

    assert time.monotonic() - began < 10
    source.close()


class Interrupted(Exception):
    """What somebody who looks up may raise."""


def test_a_broker_that_goes_away_is_waited_for(
    in_process: InProcess, open_source: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    topic = in_process.create_topic("events")
    produce(in_process.bootstrap_servers, topic, numbers(0, 5))
    source = open_source(in_process, topic)
    source.seek(None)
    taken = take_until(source, 5)

    in_process.faults.disconnect()
    meanwhile = source.take(10, 0.5)
    in_process.faults.reconnect()
    produce(in_process.bootstrap_servers, topic, numbers(5, 9))
    taken += take_until(source, 4)

    assert meanwhile == []
    assert [record.value() for record in taken] == numbers(0, 9)
    said = [record.getMessage().split(":")[0] for record in caplog.records]
    assert said == ["waiting for the broker", f"reading {topic} again"]


def take_while(source: Source, unchanged: Callable[[], bool]) -> None:
    """Come round as the worker's loop does, until something has changed."""
    deadline = time.monotonic() + SECONDS
    while unchanged():
        assert time.monotonic() < deadline
        assert source.take(10, 0.05) == []


def test_a_broker_is_away_until_it_answers_again_also_where_no_record_comes(
    in_process: InProcess, open_source: Open
) -> None:
    topic = in_process.create_topic("events")
    produce(in_process.bootstrap_servers, topic, numbers(0, 5))
    source = open_source(in_process, topic)
    source.seek(None)
    take_until(source, 5)
    there = source.away_seconds()

    in_process.faults.disconnect()
    take_while(source, lambda: source.away_seconds() < 0.2)
    in_process.faults.reconnect()
    source._lookout.every_seconds = 0.05
    take_while(source, lambda: source.away_seconds() > 0)

    assert there == 0


def test_a_broker_that_was_away_is_there_as_soon_as_a_record_comes(in_process: InProcess, open_source: Open) -> None:
    topic = in_process.create_topic("events")
    source = open_source(in_process, topic)
    source.seek(None)

    in_process.faults.disconnect()
    take_while(source, lambda: source.away_seconds() == 0)
    in_process.faults.reconnect()
    produce(in_process.bootstrap_servers, topic, [b"one"])
    take_until(source, 1)

    assert source.away_seconds() == 0


def test_a_broker_that_says_nothing_at_all_is_found_to_be_away(in_process: InProcess, open_source: Open) -> None:
    topic = in_process.create_topic("events")
    source = open_source(in_process, topic)
    source.seek(None)
    source._lookout.every_seconds = 0.05

    in_process.faults.delay_answers(20_000)  # connections stand, so the client has no error to tell
    take_while(source, lambda: source.away_seconds() == 0)
    in_process.faults.delay_answers(0)

    assert source._last_trouble is None


@pytest.mark.parametrize(
    ("first", "said"), [([], "no broker at {} answers"), ([KafkaError(KafkaError._TRANSPORT, "refused")], "refused")]
)
def test_no_broker_is_not_told_as_a_count_of_them(
    in_process: InProcess, open_source: Open, caplog: pytest.LogCaptureFixture, first: list[KafkaError], said: str
) -> None:
    source = open_source(in_process, in_process.create_topic("events"))

    for error in (*first, KafkaError(KafkaError._ALL_BROKERS_DOWN, "0/2 brokers are down")):
        source._on_error(error)

    said = said.format(in_process.bootstrap_servers)
    assert [record.getMessage() for record in caplog.records] == [f"waiting for the broker: {said}"]
    assert source._last_trouble == said


def test_a_passing_error_of_the_broker_loses_and_repeats_nothing(in_process: InProcess, open_source: Open) -> None:
    topic = in_process.create_topic("events")
    produce(in_process.bootstrap_servers, topic, numbers(0, 50))
    passing = [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._TRANSPORT, KafkaError.KAFKA_STORAGE_ERROR]
    in_process.faults.fail_next_requests(FETCH, passing)
    source = open_source(in_process, topic, librdkafka={"fetch.error.backoff.ms": "10"})

    source.seek(None)

    assert [record.value() for record in take_until(source, 50)] == numbers(0, 50)


def test_a_broker_that_left_the_cluster_with_a_question_is_asked_again(
    in_process: InProcess, open_source: Open
) -> None:
    source = open_source(in_process, in_process.create_topic("events"))
    left = iter([KafkaException(KafkaError(KafkaError._DESTROY_BROKER))])

    def question(_seconds: float) -> str:
        for error in left:
            raise error
        return "the answer"

    assert source._ask(question) == "the answer"


def test_a_position_that_the_broker_wrongly_denies_is_read_from_again(in_process: InProcess, open_source: Open) -> None:
    topic = in_process.create_topic("events")
    produce(in_process.bootstrap_servers, topic, numbers(0, 50))
    source = open_source(in_process, topic)
    in_process.faults.fail_next_requests(FETCH, [KafkaError.OFFSET_OUT_OF_RANGE])

    source.seek({0: 20})

    assert [record.value() for record in take_until(source, 30)] == numbers(20, 50)


def test_an_error_that_stays_is_raised_after_the_records_before_it(in_process: InProcess, open_source: Open) -> None:
    topic = in_process.create_topic("events")
    produce(in_process.bootstrap_servers, topic, numbers(0, 5))
    source = open_source(in_process, topic)
    source.seek(None)
    taken = take_until(source, 5)
    # The client takes one error for the end of the partition where it comes there for the first time.
    in_process.faults.fail_next_requests(FETCH, [KafkaError.TOPIC_AUTHORIZATION_FAILED] * 3)

    with pytest.raises(ReadFailed, match=r"reading events\[0\] from 127.0.0.1:\d+ failed: TOPIC_AUTHORIZATION_FAILED"):
        source.take(10, SECONDS)

    assert len(taken) == 5
    with pytest.raises(ReadFailed):  # and it stays so
        source.take(10, 0)


def test_a_refused_commit_is_told_and_reading_goes_on(in_process: InProcess, open_source: Open) -> None:
    topic = in_process.create_topic("events")
    produce(in_process.bootstrap_servers, topic, numbers(0, 5))
    source = open_source(in_process, topic)
    source.seek(None)
    in_process.faults.fail_next_requests(OFFSET_COMMIT, [KafkaError.GROUP_AUTHORIZATION_FAILED])

    with pytest.raises(CommitFailed, match=r"group headrace on events .*GROUP_AUTHORIZATION_FAILED"):
        source.commit({0: 3})

    assert len(take_until(source, 5)) == 5


def test_commits_that_fail_are_told_once_until_one_is_written_again(
    in_process: InProcess, open_source: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    topic = in_process.create_topic("events")
    produce(in_process.bootstrap_servers, topic, numbers(0, 5))
    source = open_source(in_process, topic)
    source.seek(None)
    take_until(source, 5)
    in_process.faults.fail_next_requests(OFFSET_COMMIT, [KafkaError.GROUP_AUTHORIZATION_FAILED] * 2)

    for offset in range(1, 5):
        source.commit_soon({0: offset})
        source.take(1, 0.2)  # the answer comes in here
    source.close()

    said = [record.getMessage().split(";")[0] for record in caplog.records]
    assert len(said) == 2
    assert "offsets of group headrace on events were not written: GROUP_AUTHORIZATION_FAILED" in said[0]
    assert said[1] == "offsets of group headrace on events are written again"
    assert committed(in_process, "headrace", topic, 1) == [4]


def test_a_group_without_a_coordinator_keeps_nobody_waiting(
    in_process: InProcess, open_source: Open, caplog: pytest.LogCaptureFixture
) -> None:
    topic = in_process.create_topic("events")
    produce(in_process.bootstrap_servers, topic, numbers(0, 5))
    in_process.faults.fail_next_requests(FIND_COORDINATOR, [KafkaError.COORDINATOR_NOT_AVAILABLE] * 1000)
    source = open_source(in_process, topic, librdkafka={"session.timeout.ms": "100"})
    source.seek({0: 0})

    source.commit_soon({0: 3})
    taken = take_until(source, 5)
    source.close()

    assert [record.value() for record in taken] == numbers(0, 5)
    assert "were not written: _WAIT_COORD" in caplog.text


def test_take_before_seek_is_a_mistake_of_the_caller(in_process: InProcess, open_source: Open) -> None:
    source = open_source(in_process, "events")

    with pytest.raises(RuntimeError, match="seek"):
        source.take(1, 0)


def test_closing_twice_does_nothing(in_process: InProcess, open_source: Open) -> None:
    source = open_source(in_process, in_process.create_topic("events"))
    source.seek(None)

    source.close()
    source.close()
