"""The in-process broker: what clients find there, and the faults that other tests rely on."""

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from broker_clients import numbers, produce, read
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

import consumer.broker
from consumer.broker import FETCH, PRODUCE, InProcessBroker, InProcessBrokerUnavailable

StartBroker = Callable[..., InProcessBroker]


def test_each_topic_has_the_partitions_asked_for(in_process_broker: StartBroker) -> None:
    broker = in_process_broker({"events": 6, "lists": 1})

    topics = Producer({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=10).topics

    assert {name: len(topic.partitions) for name, topic in topics.items()} == {"events": 6, "lists": 1}


def test_only_the_loopback_address_listens(in_process_broker: StartBroker) -> None:
    broker = in_process_broker(events=1)

    assert broker.bootstrap_servers.startswith("127.0.0.1:")


def test_records_come_back_as_they_were_sent(in_process_broker: StartBroker) -> None:
    broker = in_process_broker(events=1)
    produce(broker.bootstrap_servers, "events", [b"\xff\x00", None], key=b"k", headers=[("h", b"v"), ("h", None)])

    first, second = read(broker.bootstrap_servers, "events", 2)

    assert (first.key(), first.value(), first.headers()) == (b"k", b"\xff\x00", [("h", b"v"), ("h", None)])
    assert second.value() is None


def test_another_process_can_write(in_process_broker: StartBroker) -> None:
    broker = in_process_broker(events=1)
    program = (
        "import sys, confluent_kafka as k; p = k.Producer({'bootstrap.servers': sys.argv[1]}); "
        "p.produce('events', b'from afar'); sys.exit(p.flush(30))"
    )

    subprocess.run([sys.executable, "-c", program, broker.bootstrap_servers], check=True, timeout=60)

    assert read(broker.bootstrap_servers, "events", 1)[0].value() == b"from afar"


def test_two_brokers_share_nothing(in_process_broker: StartBroker) -> None:
    one, other = in_process_broker(events=1), in_process_broker(events=1)

    produce(one.bootstrap_servers, "events", [b"one"])

    assert _extent(one) == (0, 1)
    assert _extent(other) == (0, 0)


@pytest.mark.parametrize("partitions", [0, -1])
def test_a_topic_without_partitions_is_refused(in_process_broker: StartBroker, partitions: int) -> None:
    broker = in_process_broker()

    with pytest.raises(ValueError, match=f"'events': expected at least one partition, got {partitions}"):
        broker.create_topic("events", partitions)


def test_a_topic_that_exists_is_refused(in_process_broker: StartBroker) -> None:
    broker = in_process_broker(events=1)

    with pytest.raises(ValueError, match=r"'events' with 2 partitions: .*already exists"):
        broker.create_topic("events", 2)


def test_a_failure_that_was_asked_for_reaches_the_client(in_process_broker: StartBroker) -> None:
    broker = in_process_broker(events=1)
    failures: list[KafkaError] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})

    broker.fail_next_requests(PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED])
    producer.produce("events", b"", on_delivery=lambda error, _: failures.append(error))
    producer.flush(30)

    assert [error.code() for error in failures] == [KafkaError.TOPIC_AUTHORIZATION_FAILED]


def test_cleared_failures_do_not_reach_the_client(in_process_broker: StartBroker) -> None:
    broker = in_process_broker(events=1)
    broker.fail_next_requests(PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED])
    broker.fail_next_requests(FETCH, [KafkaError.TOPIC_AUTHORIZATION_FAILED])

    broker.clear_failures(PRODUCE)
    broker.clear_failures(FETCH)

    produce(broker.bootstrap_servers, "events", [b"through"])
    assert read(broker.bootstrap_servers, "events", 1)[0].value() == b"through"


def test_disconnected_clients_get_no_answer_and_find_their_records_afterwards(in_process_broker: StartBroker) -> None:
    broker = in_process_broker(events=1)
    produce(broker.bootstrap_servers, "events", [b"kept"])

    broker.disconnect()

    quiet = {"log_level": 0, "bootstrap.servers": broker.bootstrap_servers}
    with pytest.raises(KafkaException):
        Producer(quiet).list_topics(timeout=0.5)
    broker.reconnect()
    assert read(broker.bootstrap_servers, "events", 1)[0].value() == b"kept"


def test_answers_are_delayed_as_long_as_asked(in_process_broker: StartBroker) -> None:
    broker = in_process_broker(events=1)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    producer.list_topics(timeout=10)

    broker.delay_answers(5000)

    with pytest.raises(KafkaException):
        producer.list_topics(timeout=0.2)
    broker.delay_answers(0)


def test_deleted_records_are_gone_and_the_rest_keep_their_offsets(in_process_broker: StartBroker) -> None:
    broker = in_process_broker(events=1)
    produce(broker.bootstrap_servers, "events", numbers(0, 10))

    broker.delete_records("events", 0, 7)

    assert _extent(broker) == (7, 10)


def test_deleting_in_a_partition_that_does_not_exist_is_refused(in_process_broker: StartBroker) -> None:
    broker = in_process_broker(events=1)

    with pytest.raises(ValueError, match=r"events\[9\] below 1"):
        broker.delete_records("events", 9, 1)


def test_nobody_listens_after_close() -> None:
    broker = InProcessBroker({"events": 1})

    broker.close()
    broker.close()

    with pytest.raises(KafkaException):
        Producer({"log_level": 0, "bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=0.5)


def test_a_client_library_without_the_mock_cluster_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer.broker.ctypes, "CDLL", lambda _: SimpleNamespace())

    with pytest.raises(InProcessBrokerUnavailable, match=r"does not export; install the wheel .* or use a real broker"):
        InProcessBroker({"events": 1})


def _extent(broker: InProcessBroker) -> tuple[int, int]:
    reader = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "tests"})
    extent = reader.get_watermark_offsets(TopicPartition("events", 0), timeout=10)
    reader.close()
    return extent
