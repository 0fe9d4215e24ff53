"""Publishing: one contract on the in-process broker and on a real Kafka, then what only faults can show."""

import json
import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest
from broker_clients import SECONDS, produce, produce_with_header_named, read, take_until
from confluent_kafka import KafkaError
from conftest import Broker, InProcess, Kafka

from consumer.broker import PRODUCE
from consumer.lists import Messages, messages_of
from consumer.publish import MAX_DETAIL_BYTES, UNREADABLE_HEADERS, DeliveryFailed, Publisher, check_properties
from consumer.source import Record, Source
from producer.events import EPOCH_HEADER, Recommendations, ScoredItem, SourceEvent

Unique = Callable[[str], str]


class Rejected(NamedTuple):
    record: Record
    reason: str
    detail: str


def a_list(user_id: str, version: int = 7) -> Recommendations:
    return Recommendations(
        user_id=user_id,
        recommendation_id="r1",
        generated_at=1000,
        model_version=version,
        source=SourceEvent(topic="events", partition=0, offset=99, timestamp=1000),
        items=[ScoredItem("i9", 0.5), ScoredItem("i3", 0.25)],
    )


def lists_of(*user_ids: str, version: int = 7) -> Messages:
    return messages_of(a_list(user_id, version) for user_id in user_ids)


def a_publisher(broker: Broker, topic: str, dead_letters: str = "dlq", **arguments: object) -> Publisher:
    return Publisher(broker.bootstrap_servers, topic=topic, dead_letter_topic=dead_letters, epoch=3, **arguments)  # type: ignore[arg-type]


def records_of(broker: Broker, topic: str, count: int) -> list[Record]:
    source = Source(broker.bootstrap_servers, topic, "tests")
    source.seek(None)
    records = take_until(source, count)
    source.close()
    return records


def dead_letters_of(
    broker: Broker, unique: Unique, records: Iterable[Record], reason: str = "not-json", detail: str = "$: no"
) -> list[Record]:
    """What stands on a dead-letter topic after these records were rejected."""
    letters = broker.create_topic(unique("dlq"))
    rejects = [Rejected(record, reason, detail) for record in records]
    publisher = a_publisher(broker, "unused", letters)
    publisher.dead_letter(rejects)
    publisher.flush(SECONDS)
    return records_of(broker, letters, len(rejects))


def test_a_list_is_keyed_by_its_user_and_carries_the_epoch(broker: Broker, unique: Unique) -> None:
    topic = broker.create_topic(unique("recommendations"))
    publisher = a_publisher(broker, topic)

    publisher.send(lists_of("ü1"))
    publisher.flush(SECONDS)

    message = read(broker.bootstrap_servers, topic, 1)[0]
    assert message.key() == "ü1".encode()
    assert message.headers() == [(EPOCH_HEADER, b"3")]
    assert json.loads(message.value() or b"") == {
        "user_id": "ü1",
        "recommendation_id": "r1",
        "generated_at": 1000,
        "model_version": 7,
        "source": {"topic": "events", "partition": 0, "offset": 99, "timestamp": 1000},
        "items": [{"item_id": "i9", "score": 0.5}, {"item_id": "i3", "score": 0.25}],
    }


def test_lists_of_a_user_stay_in_order_in_the_partition_a_java_client_would_choose(
    broker: Broker, unique: Unique
) -> None:
    topic = broker.create_topic(unique("recommendations"), 8)
    publisher = a_publisher(broker, topic)
    # murmur2 of these keys, from the tests of Kafka's Java client
    java = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "abc": 479470107}

    for version in range(5):
        publisher.send(lists_of(*java, version=version))
    publisher.flush(SECONDS)

    records = records_of(broker, topic, 20)
    for user_id, murmur2 in java.items():
        mine = [record for record in records if record.key() == user_id.encode()]
        assert {record.partition() for record in mine} == {(murmur2 & 0x7FFFFFFF) % 8}
        assert [json.loads(record.value() or b"")["model_version"] for record in mine] == [0, 1, 2, 3, 4]


def test_a_callback_tells_which_lists_the_broker_had_and_when(broker: Broker, unique: Unique) -> None:
    topic = broker.create_topic(unique("recommendations"))
    told: list[tuple[list[int], list[float]]] = []
    publisher = a_publisher(broker, topic)

    started = time.time()
    publisher.send(lists_of("u1", "u2", "u3"), lambda numbers, times: told.append((numbers.tolist(), times.tolist())))
    publisher.send(lists_of("u2"))
    before = list(told)
    publisher.flush(SECONDS)
    ended = time.time()

    assert before == []
    assert [sorted(numbers) for numbers, _ in told] == [[0, 1, 2]], "all that came together is told together"
    assert all(started <= at <= ended for at in told[0][1])


def test_poll_takes_in_what_was_acknowledged(broker: Broker, unique: Unique) -> None:
    topic = broker.create_topic(unique("recommendations"))
    called: list[str] = []
    publisher = a_publisher(broker, topic)
    publisher.send(lists_of("u1"), lambda *_: called.append("delivered"))
    read(broker.bootstrap_servers, topic, 1)  # so the broker has it
    settled_before = publisher.is_settled

    for _ in range(1_000_000):
        publisher.poll()
        if called:
            break

    assert called == ["delivered"]
    assert (settled_before, publisher.is_settled) == (False, True)


def test_a_tombstone_that_is_not_answered_is_not_settled(in_process: InProcess) -> None:
    publisher = a_publisher(in_process, in_process.create_topic("recommendations"))
    untouched = publisher.is_settled
    publisher.forget("u1")
    marked = publisher.mark()

    assert (untouched, publisher.is_settled, marked.is_acknowledged) == (True, False, False)
    publisher.flush(SECONDS)
    assert publisher.is_settled


def test_a_forgotten_user_leaves_a_tombstone(broker: Broker, unique: Unique) -> None:
    topic = broker.create_topic(unique("recommendations"))
    publisher = a_publisher(broker, topic)

    publisher.send(lists_of("u1"))
    publisher.forget("u1")
    publisher.flush(SECONDS)

    tombstone = read(broker.bootstrap_servers, topic, 2)[1]
    assert (tombstone.key(), tombstone.value()) == (b"u1", None)
    assert tombstone.headers() == [(EPOCH_HEADER, b"3")]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"u1", b'{"type":"click"'),
        (None, b"no key"),
        (b"", b""),
        (b"\xff\xfe", b"\x00\xff\xfe not UTF-8"),
        (b"u1", None),
    ],
)
def test_a_dead_letter_is_the_original_to_the_byte(
    broker: Broker, unique: Unique, key: bytes | None, value: bytes | None
) -> None:
    topic = broker.create_topic(unique("events"))
    headers = [("trace", b"\x00\xff"), ("trace", b"again"), ("empty", b""), ("none", None)]
    produce(broker.bootstrap_servers, topic, [b"before", value], key=key, headers=headers)
    record = records_of(broker, topic, 2)[1]

    letter = dead_letters_of(broker, unique, [record], "invalid", "$.rating: expected a number")[0]

    assert (letter.key(), letter.value()) == (key, value)
    assert letter.headers() == [
        *headers,
        ("error.reason", b"invalid"),
        ("error.detail", b"$.rating: expected a number"),
        ("source.topic", topic.encode()),
        ("source.partition", b"0"),
        ("source.offset", b"1"),
    ]


@pytest.mark.parametrize("detail", ["$: no", "x" * 5000])
def test_headers_whose_names_are_not_utf_8_are_left_out_of_the_dead_letter_and_that_is_said(
    broker: Broker, unique: Unique, detail: str
) -> None:
    topic = broker.create_topic(unique("events"))
    produce(broker.bootstrap_servers, topic, [b"ordinary"] * 50)  # Python calls otherwise what it called often
    produce_with_header_named(broker.bootstrap_servers, topic, b"\xff\xfe", b"not an event", key=b"u1")

    letter = dead_letters_of(broker, unique, records_of(broker, topic, 51), "not-json", detail)[50]

    headers = dict(letter.headers() or [])
    said = (headers.pop("error.detail") or b"").decode()
    assert (letter.key(), letter.value()) == (b"u1", b"not an event")
    assert headers == {
        "error.reason": b"not-json",
        "source.topic": topic.encode(),
        "source.partition": b"0",
        "source.offset": b"50",
    }
    assert said.startswith(detail[:100])
    assert said.endswith(f"; {UNREADABLE_HEADERS}, so they are left out")
    assert len(said) <= MAX_DETAIL_BYTES


def test_a_record_at_the_size_limit_fits_the_dead_letter_topic(broker: Broker, unique: Unique) -> None:
    limit = 1024 * 1024
    topic = broker.create_topic(unique("events"), config={"max.message.bytes": str(limit)})
    value = bytes(range(256)) * ((limit - 200) // 256)
    produce(broker.bootstrap_servers, topic, [value], key=b"u1", message_max_bytes=2 * limit)
    record = records_of(broker, topic, 1)[0]

    letter = dead_letters_of(broker, unique, [record], "too-large", "x" * 100_000)[0]

    assert letter.value() == value


@pytest.mark.parametrize(
    ("detail", "written"),
    [
        ("x" * 5000, b"x" * MAX_DETAIL_BYTES),
        ("xü" * 1000, ("xü" * 341 + "x").encode()),  # never half a character
        ("half a pair: \ud800", b"half a pair: \\ud800"),
        ("", b""),
    ],
)
def test_a_detail_is_cut_to_size_and_always_utf_8(
    in_process: InProcess, unique: Unique, detail: str, written: bytes
) -> None:
    topic = in_process.create_topic(unique("events"))
    produce(in_process.bootstrap_servers, topic, [b"x"])

    letter = dead_letters_of(in_process, unique, records_of(in_process, topic, 1), detail=detail)[0]

    assert dict(letter.headers() or [])["error.detail"] == written


def test_a_failed_delivery_raises_at_the_next_call_and_at_every_one_after_it(in_process: InProcess) -> None:
    publisher = a_publisher(in_process, in_process.create_topic("recommendations"))
    called: list[str] = []
    in_process.faults.fail_next_requests(PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED])
    publisher.send(lists_of("u1"), lambda *_: called.append("delivered"))

    with pytest.raises(DeliveryFailed, match=r"the list of user 'u1' to recommendations: TOPIC_AUTHORIZATION_FAILED"):
        publisher.flush(SECONDS)

    for call in (publisher.poll, lambda: publisher.forget("u2"), lambda: publisher.send(lists_of("u2"))):
        with pytest.raises(DeliveryFailed, match="1 records could not be delivered"):
            call()
    assert called == []


def test_a_topic_that_is_gone_is_told_with_the_command_that_makes_it(kafka: Kafka, unique: Unique) -> None:
    # It could be new and not known everywhere yet: the client waits half a minute for it by default.
    settings = {"topic.metadata.propagation.max.ms": "500", "topic.metadata.refresh.interval.ms": "200"}
    topic = kafka.create_topic(unique("recommendations"))
    publisher = a_publisher(kafka, topic, librdkafka=settings)
    publisher.send(lists_of("u1"))
    publisher.flush(SECONDS)
    kafka.admin.delete_topics([topic], operation_timeout=SECONDS)[topic].result()

    why = failure_of(publisher)
    if "_DESTROY" in why:  # what it was sending when the partition lost its leader, before it heard of the topic
        why = failure_of(a_publisher(kafka, topic, librdkafka=settings))

    assert re.search(rf"to {topic}: .*\. Make the topics with `headrace topics create`\.$", why)


def failure_of(publisher: Publisher) -> str:
    """What it says when it fails, as it goes on sending."""
    with pytest.raises(DeliveryFailed) as raised:
        send_on(publisher)
    return str(raised.value)


def send_on(publisher: Publisher) -> None:
    while True:
        publisher.send(lists_of("u1"))
        publisher.flush(SECONDS)


def test_a_mark_is_acknowledged_once_all_that_was_sent_before_it_is(in_process: InProcess) -> None:
    topic, letters = in_process.create_topic("recommendations"), in_process.create_topic("dlq")
    produce(in_process.bootstrap_servers, in_process.create_topic("events"), [b"x"])
    reject = Rejected(records_of(in_process, "events", 1)[0], "not-json", "$")
    publisher = a_publisher(in_process, topic, letters)
    nothing = publisher.mark()
    in_process.faults.delay_answers(200)
    marks = []
    for send in (
        lambda: publisher.send(lists_of("u1", "u2")),
        lambda: publisher.forget("u1"),
        lambda: publisher.dead_letter([reject]),
    ):
        send()
        marks.append(publisher.mark())

    before = [mark.is_acknowledged for mark in (nothing, *marks)]
    publisher.flush(SECONDS)

    assert before == [True, False, False, False]
    assert all(mark.is_acknowledged for mark in marks)


def test_what_is_sent_after_a_mark_is_none_of_its_business(in_process: InProcess) -> None:
    publisher = a_publisher(in_process, in_process.create_topic("recommendations"))
    publisher.send(lists_of("u1"))
    earlier = publisher.mark()
    publisher.flush(SECONDS)
    in_process.faults.delay_answers(10_000)
    publisher.send(lists_of("u2"))
    later = publisher.mark()

    publisher.poll()

    assert earlier.is_acknowledged
    assert not later.is_acknowledged


def test_a_failed_dead_letter_names_the_record(in_process: InProcess) -> None:
    produce(in_process.bootstrap_servers, in_process.create_topic("events"), [b"x"])
    record = records_of(in_process, "events", 1)[0]
    publisher = a_publisher(in_process, "unused", in_process.create_topic("dlq"))
    in_process.faults.fail_next_requests(PRODUCE, [KafkaError.MSG_SIZE_TOO_LARGE])

    publisher.dead_letter([Rejected(record, "not-json", "$")])

    with pytest.raises(DeliveryFailed, match=r"the dead letter of events\[0\]@0 to dlq: MSG_SIZE_TOO_LARGE"):
        publisher.flush(SECONDS)


def test_what_is_too_large_for_its_topic_is_told_with_what_to_do(kafka: Kafka, unique: Unique) -> None:
    topic = kafka.create_topic(unique("recommendations"), config={"max.message.bytes": "100"})
    publisher = a_publisher(kafka, topic)

    why = failure_of(publisher)

    assert re.search(rf"to {topic}: MSG_SIZE_TOO_LARGE: .* Raise the topic's max\.message\.bytes", why)


def test_many_failures_are_counted_and_the_first_told(in_process: InProcess) -> None:
    publisher = a_publisher(in_process, in_process.create_topic("recommendations"), librdkafka={"linger.ms": "1000"})
    in_process.faults.fail_next_requests(PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED] * 100)

    for number in range(20):
        publisher.send(lists_of(f"u{number}"))

    with pytest.raises(DeliveryFailed, match=r"20 records could not .*'u0'.*'u1'.*'u2'.*; \.\.\.$") as caught:
        publisher.flush(SECONDS)
    assert "'u3'" not in str(caught.value)


def test_what_is_not_acknowledged_in_time_raises_with_the_address(in_process: InProcess) -> None:
    publisher = a_publisher(in_process, in_process.create_topic("recommendations"))
    in_process.faults.disconnect()
    publisher.send(lists_of("u1"))

    with pytest.raises(DeliveryFailed, match=r"1 records were sent to 127.0.0.1:\d+ and not acknowledged within 0.5 s"):
        publisher.flush(0.5)


def test_a_passing_failure_is_retried_and_nothing_repeated(in_process: InProcess) -> None:
    topic = in_process.create_topic("recommendations")
    publisher = a_publisher(in_process, topic, librdkafka={"retry.backoff.ms": "1"})
    in_process.faults.fail_next_requests(PRODUCE, [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.REQUEST_TIMED_OUT])

    for number in range(10):
        publisher.send(lists_of(f"u{number}"))
    publisher.flush(SECONDS)

    assert [message.key() for message in read(in_process.bootstrap_servers, topic, 10)] == [
        b"u%d" % number for number in range(10)
    ]


def test_a_full_queue_is_waited_for(in_process: InProcess) -> None:
    topic = in_process.create_topic("recommendations")
    publisher = a_publisher(in_process, topic, librdkafka={"queue.buffering.max.messages": "10"})
    called: list[int] = []

    for number in range(500):
        publisher.send(lists_of(f"u{number}"), lambda numbers, _: called.append(len(numbers)))
    publisher.flush(SECONDS)

    assert sum(called) == 500
    assert len(read(in_process.bootstrap_servers, topic, 500)) == 500


def test_a_full_queue_that_nobody_empties_raises_when_the_records_time_out(in_process: InProcess) -> None:
    topic = in_process.create_topic("recommendations")
    properties = {"queue.buffering.max.messages": "1", "delivery.timeout.ms": "300"}
    publisher = a_publisher(in_process, topic, librdkafka=properties)
    in_process.faults.disconnect()
    publisher.send(lists_of("u1"))

    with pytest.raises(DeliveryFailed, match=r"'u1'.*_MSG_TIMED_OUT"):
        publisher.send(lists_of("u2"))


def test_a_full_queue_that_nobody_empties_is_waited_for_until_the_worker_says_that_it_is_enough(
    in_process: InProcess,
) -> None:
    topic = in_process.create_topic("recommendations")
    waits: list[int] = []

    def while_full() -> None:
        waits.append(publisher.unanswered)
        if len(waits) == 3:
            publisher.give_up(7, 60)

    properties = {"queue.buffering.max.messages": "1"}
    publisher = a_publisher(in_process, topic, librdkafka=properties, while_full=while_full)
    in_process.faults.disconnect()
    publisher.send(lists_of("u1"))

    with pytest.raises(DeliveryFailed, match=r"^7 records were sent to .* and not acknowledged within 60 s"):
        publisher.send(lists_of("u2"))

    assert len(waits) == 3
    assert min(waits) >= 1  # the client counts what it has to tell, too


def test_lists_that_wait_for_their_acknowledgement_are_told_of_once_and_when_it_is_over(
    in_process: InProcess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    now = [1000.0]
    publisher = a_publisher(in_process, in_process.create_topic("recommendations"), now_seconds=lambda: now[0])
    in_process.faults.disconnect()
    publisher.send(lists_of("u1"))
    is_late = []
    for now[0] in (1059.0, 1061.0, 1300.0):
        publisher.poll()
        is_late.append(publisher.is_late)
    in_process.faults.reconnect()
    publisher.flush(SECONDS)
    publisher.poll()

    assert (is_late, publisher.is_late) == ([False, True, True], False)
    late, over = [record.getMessage() for record in caplog.records]
    assert re.match(rf"lists sent to {in_process.bootstrap_servers} are not acknowledged for 61 s.*: waiting on", late)
    assert over == f"{in_process.bootstrap_servers} acknowledges lists again"


def test_flushing_nothing_is_done_at_once(in_process: InProcess) -> None:
    a_publisher(in_process, "recommendations").flush(0)


@pytest.mark.parametrize(
    ("properties", "complaint"),
    [
        ({"acks": "1"}, "acks='1': Headrace sets this property itself"),
        ({"enable.idempotence": "false"}, "enable.idempotence='false'"),
        ({"compression.type": "zip"}, "compression.codec"),
    ],
)
def test_a_wrong_client_property_is_refused_at_once(properties: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Publisher("127.0.0.1:1", topic="t", dead_letter_topic="d", epoch=1, librdkafka=properties)
    with pytest.raises(ValueError, match=complaint):
        check_properties("127.0.0.1:1", properties)


def test_what_is_not_acknowledged_has_the_clients_trouble_and_no_count_of_brokers(in_process: InProcess) -> None:
    publisher = a_publisher(in_process, in_process.create_topic("lists"))

    for error in (
        KafkaError(KafkaError._TRANSPORT, "refused"),
        KafkaError(KafkaError._ALL_BROKERS_DOWN, "0/2 are down"),
    ):
        publisher._on_error(error)

    with pytest.raises(DeliveryFailed, match=r"not acknowledged within 60 s \(refused\)\. Nothing was saved"):
        publisher.give_up(1, 60)
    publisher.close()


@pytest.mark.parametrize("value", ["all", "ALL", "-1"])
def test_acknowledged_by_all_replicas_may_be_said_in_words_or_as_a_number(value: str) -> None:
    check_properties("127.0.0.1:1", {"acks": value})
