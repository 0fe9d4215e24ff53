"""What many tests take: brokers, a disk that takes no time, stores of checkpoints.

Of brokers there are the in-process one, and a real Apache Kafka that is started once for all tests. A test that takes
`broker` runs on both. One that takes `kafka` or `kafka_server` runs on the real one only. Where Kafka cannot be had
such tests are skipped with one line that says why; with HEADRACE_REQUIRE_KAFKA=1 that is a failure.
"""

import itertools
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

import pytest
from broker_clients import AT_ONCE
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from faulty_disk import without_waiting
from kafka_server import KafkaServer, KafkaUnavailable
from kept_kernels import keep_in_turn

from consumer.broker import CLIENT_PROPERTIES, InProcessBroker

if TYPE_CHECKING:
    from consumer.checkpoint import CheckpointStore

_numbers = itertools.count(1)

keep_in_turn()
# Torch reads it when it is loaded. Tensors of tests are small: a second thread would only wait, at full speed.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell has what it starts in the background ignore Ctrl-C, and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Broker(Protocol):
    """What a test may ask of either broker."""

    name: str
    bootstrap_servers: str
    librdkafka: Mapping[str, str]
    """Properties for clients that are to read without delay."""

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Make the topic and return its name. The in-process broker knows no `config`."""
        ...

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Drop the records below `before_offset`, as retention would."""
        ...


class InProcess:
    """The in-process broker of one test."""

    name = "in-process"

    def __init__(self, broker: InProcessBroker) -> None:
        self.faults = broker
        self.bootstrap_servers = broker.bootstrap_servers
        self.librdkafka = CLIENT_PROPERTIES
        self.delete_records = broker.delete_records

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        del config
        self.faults.create_topic(name, partitions)
        return name


class Kafka:
    """A real Kafka, through its AdminClient."""

    name = "kafka"

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.librdkafka: Mapping[str, str] = {}
        self.admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 2})

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
        for made in self.admin.create_topics([topic], operation_timeout=30).values():
            made.result()
        deadline = time.monotonic() + 30
        while name not in self.admin.list_topics(timeout=30).topics:  # the controller answers before the broker knows
            assert time.monotonic() < deadline, f"{name} was made and is not there"
        return name

    def add_partitions(self, topic: str, until: int) -> None:
        """Let the topic have `until` partitions."""
        self.admin.create_partitions([NewPartitions(topic, until)])[topic].result()
        deadline = time.monotonic() + 30
        while len(self.admin.list_topics(topic, timeout=30).topics[topic].partitions) < until:
            assert time.monotonic() < deadline, f"{topic} has not got {until} partitions"

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        for deleted in self.admin.delete_records([TopicPartition(topic, partition, before_offset)]).values():
            deleted.result()


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncing costs nothing: see `without_waiting`."""
    without_waiting(monkeypatch)


@pytest.fixture
def quick_producers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's producers send at once: `AT_ONCE`. For tests of other things than publishing."""
    monkeypatch.setattr("consumer.publish._FIXED", {"acks": "all", **AT_ONCE})


@pytest.fixture
def open_store() -> Iterator[Callable[..., "CheckpointStore"]]:
    """A function that makes a store of checkpoints; it lets go of its folder at the end of the test."""
    from checkpoint_cases import stores_opened  # only now: torch is slow to come

    yield from stores_opened()


@pytest.fixture
def store(tmp_path: Path, open_store: Callable[..., "CheckpointStore"]) -> "CheckpointStore":
    """An acquired store with the checkpoints of steps 1, 2 and 3."""
    from checkpoint_cases import saved_thrice

    return saved_thrice(open_store(tmp_path / "state"))


@pytest.fixture
def in_process_broker() -> Iterator[Callable[..., InProcessBroker]]:
    """A function that starts an in-process broker with these topics: `in_process_broker(events=2)`, or a mapping."""
    started: list[InProcessBroker] = []

    def start(topics: Mapping[str, int] | None = None, **more: int) -> InProcessBroker:
        started.append(InProcessBroker({**(topics or {}), **more}))
        return started[-1]

    yield start

    for broker in started:
        broker.close()


@pytest.fixture
def in_process(in_process_broker: Callable[..., InProcessBroker]) -> InProcess:
    """The in-process broker, as the contract tests see it; `.faults` makes it fail."""
    return InProcess(in_process_broker())


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., KafkaServer]]:
    """A function that starts a Kafka of its own, for tests that kill it; all are ended with the session.

    It takes further server properties. A killed broker may come back once its old session has ended.
    """
    started: list[KafkaServer] = []
    reasons: list[str] = []  # what is missing is asked for once, not by every test

    def start(settings: Mapping[str, str] | None = None) -> KafkaServer:
        if reasons:
            _without_kafka(reasons[0])
        try:
            started.append(KafkaServer(tmp_path_factory.mktemp("kafka"), settings))
            started[-1].start()
        except KafkaUnavailable as error:
            reasons.append(str(error))
            _without_kafka(reasons[0])
        return started[-1]

    yield start

    for server in started:
        server.close()


@pytest.fixture(scope="session")
def mortal_kafka(kafka_server: Callable[..., KafkaServer]) -> KafkaServer:
    """A Kafka that a test may kill, as long as it starts it again."""
    # Nine seconds by default, and a broker that was killed is let in again only after them.
    return kafka_server({"broker.session.timeout.ms": "2500", "broker.heartbeat.interval.ms": "500"})


@pytest.fixture(scope="session")
def kafka(kafka_server: Callable[..., KafkaServer]) -> Kafka:
    """The real Kafka that the whole session shares, started when the first test asks. Do not kill this one."""
    return Kafka(kafka_server().bootstrap_servers)


@pytest.fixture(params=["in-process", "kafka"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """One contract, two brokers."""
    fixture = {"in-process": "in_process", "kafka": "kafka"}[request.param]
    found: Broker = request.getfixturevalue(fixture)
    return found


@pytest.fixture
def unique() -> Callable[[str], str]:
    """A name that no other test of this session uses, for topics and groups on the shared Kafka."""
    return lambda name: f"{name}.{next(_numbers)}"


@pytest.fixture
def closed_port() -> str:
    """host:port where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def _without_kafka(reason: str) -> NoReturn:
    line = f"no Apache Kafka for the tests: {reason}"
    if os.environ.get("HEADRACE_REQUIRE_KAFKA") == "1":
        pytest.fail(f"{line} (HEADRACE_REQUIRE_KAFKA=1 asks for it)", pytrace=False)
    pytest.skip(line)
