"""EventProducer: what it sends is what the worker accepts; what does not arrive is reported."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from conftest import Broker

from consumer.broker import PRODUCE, InProcessBroker
from model.entries import MOST_NUMBERS
from producer import client
from producer.checking import Message as Sendable
from producer.client import DeliveryFailed, EventProducer, FailedDelivery, TopicMissing
from producer.events import LATEST_TIMESTAMP, MAX_NUMBERS, Click, Event, Forget, Impression, Item, Rating, User

FAST_FAILURE = {"message.timeout.ms": 300, "retries": 0, "enable.idempotence": False, "log_level": 0}


def read_all(bootstrap_servers: str, topic: str, partitions: int, number: int) -> list[Message]:
    """The first so many messages of a topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "reader", "fetch.wait.max.ms": 5})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    messages: list[Message] = []
    deadline = time.monotonic() + 20
    while len(messages) < number and time.monotonic() < deadline:
        messages += consumer.consume(number - len(messages), 0.1)
    consumer.close()
    assert all(message.error() is None for message in messages)
    return messages


def events_of(messages: list[Message]) -> list[Event]:
    return [msgspec.json.decode(message.value() or b"", type=Event) for message in messages]


@pytest.fixture
def refusing(in_process_broker: Callable[..., InProcessBroker]) -> InProcessBroker:
    """A broker that refuses whatever is written."""
    broker = in_process_broker({"events": 1})
    broker.fail_next_requests(PRODUCE, [KafkaError.POLICY_VIOLATION] * 1_000)
    return broker


def test_importing_it_needs_nothing_but_msgspec_and_confluent_kafka() -> None:
    heavy = ["torch", "numpy", "river", "typer", "pydantic", "rich", "structlog", "prometheus_client", "numba"]
    program = (
        "import sys\n"
        f"for name in {heavy!r}: sys.modules[name] = None\n"  # an import of it raises
        "import producer.client, producer.subscriber, producer.datasets, producer.replay, producer.simulate\n"
        "print(*(name for name in sys.modules if name.partition('.')[0] in ('consumer', 'model')))\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_every_kind_of_event_arrives_keyed_by_its_user(broker: Broker, unique: Callable[[str], str]) -> None:
    topic = broker.create_topic(unique("events"), 3)
    before = int(time.time() * 1000) - 1

    with EventProducer(broker.bootstrap_servers, topic=topic) as producer:
        producer.click("u1", "i9", action="play", value=12.5, context={"device": "phone"}, timestamp=1)
        producer.rate("u2", "i9", 4.5, event_id="e1", timestamp=2)
        producer.impression("u3", "r1", ["i9", "i3"], timestamp=3)
        producer.forget("ü4", timestamp=4)
        producer.click("u1", "i8")

    messages = read_all(broker.bootstrap_servers, topic, 3, 5)
    events = sorted(events_of(messages), key=lambda event: event.timestamp)
    assert events[:4] == [
        Click(user_id="u1", item_id="i9", action="play", value=12.5, context={"device": "phone"}, timestamp=1),
        Rating(user_id="u2", item_id="i9", rating=4.5, event_id="e1", timestamp=2),
        Impression(user_id="u3", recommendation_id="r1", items=["i9", "i3"], timestamp=3),
        Forget(user_id="ü4", timestamp=4),
    ]
    assert before < events[4].timestamp <= int(time.time() * 1000)
    for message, event in zip(messages, events_of(messages), strict=True):
        assert message.key() == event.user_id.encode()
        assert message.timestamp()[1] > before  # the time of sending, not the event's


def test_a_user_has_one_partition_the_one_java_clients_choose(
    in_process_broker: Callable[..., InProcessBroker],
) -> None:
    broker = in_process_broker({"events": 8})

    with EventProducer(broker.bootstrap_servers, topic="events") as producer:
        for user_id in ("21", "foobar", "a-little-bit-long-string"):
            producer.forget(user_id)

    # murmur2 of these keys as in the tests of Kafka's own client: -973932308, -790332482, -985981536
    chosen = {message.key(): message.partition() for message in read_all(broker.bootstrap_servers, "events", 8, 3)}
    assert chosen == {
        b"21": (-973932308 & 0x7FFFFFFF) % 8,
        b"foobar": (-790332482 & 0x7FFFFFFF) % 8,
        b"a-little-bit-long-string": (-985981536 & 0x7FFFFFFF) % 8,
    }


def test_what_is_known_of_items_and_users_goes_to_topics_of_their_own_keyed_by_their_ids(
    in_process_broker: Callable[..., InProcessBroker],
) -> None:
    broker = in_process_broker({"items": 1, "users": 1})

    with EventProducer(broker.bootstrap_servers, items_topic="items", users_topic="users") as producer:
        producer.describe_item("i9", title="Nine", categories=["drama"], features={"year": 1999.0}, timestamp=1)
        producer.remove_item("i9")
        producer.describe_user("u1", categories=["student"], features={"age": 31}, timestamp=2)
        producer.remove_user_features("u1")

    items, users = (read_all(broker.bootstrap_servers, topic, 1, 2) for topic in ("items", "users"))
    assert [row.key() for row in items + users] == [b"i9", b"i9", b"u1", b"u1"]
    assert [items[1].value(), users[1].value()] == [None, None]
    item = Item(item_id="i9", title="Nine", categories=["drama"], features={"year": 1999.0}, timestamp=1)
    assert msgspec.json.decode(items[0].value() or b"", type=Item) == item
    user = User(user_id="u1", categories=["student"], features={"age": 31}, timestamp=2)
    assert msgspec.json.decode(users[0].value() or b"", type=User) == user


def test_flush_reports_each_event_once(in_process_broker: Callable[..., InProcessBroker]) -> None:
    broker = in_process_broker({"events": 1})
    with EventProducer(broker.bootstrap_servers, topic="events") as producer:
        for number in range(5):
            producer.click("u1", f"i{number}")

        first, second = producer.flush(10), producer.flush(10)

    assert first == (5, [], 0)
    assert second == (0, [], 0)


def test_flush_says_what_failed_and_why(refusing: InProcessBroker) -> None:
    producer = EventProducer(refusing.bootstrap_servers, topic="events", librdkafka=FAST_FAILURE)
    producer.click("u1", "i9", timestamp=1)

    report = producer.flush(10)

    assert (report.delivered, report.still_queued) == (0, 0)
    (failed,) = report.failed
    assert failed.key == b"u1"
    assert msgspec.json.decode(failed.value, type=Event) == Click(user_id="u1", item_id="i9", timestamp=1)
    assert "POLICY_VIOLATION" in failed.error
    producer.close()  # the failure was taken: nothing is left to say


def test_leaving_the_block_raises_what_failed_and_names_the_user(refusing: InProcessBroker) -> None:
    with (
        pytest.raises(DeliveryFailed, match=r"1 events were not delivered and 0 .*first for key 'u1'") as failed,
        EventProducer(refusing.bootstrap_servers, topic="events", librdkafka=FAST_FAILURE) as producer,
    ):
        producer.click("u1", "i9")

    assert len(failed.value.failed) == 1


def test_the_reason_of_a_failed_delivery_is_told_whatever_its_key() -> None:
    failed = DeliveryFailed([FailedDelivery(b"u\xff", b"value", "the topic is gone")], 0)

    assert str(failed) == (
        "1 events were not delivered and 0 are still queued: the topic is gone, "
        "first for key 'u\N{REPLACEMENT CHARACTER}'"
    )


def test_an_error_in_the_block_is_not_hidden_by_a_failed_delivery(
    refusing: InProcessBroker, caplog: pytest.LogCaptureFixture
) -> None:
    def send_and_fail() -> None:
        with EventProducer(refusing.bootstrap_servers, topic="events", librdkafka=FAST_FAILURE) as producer:
            producer.click("u1", "i9")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        send_and_fail()

    assert "1 events were not delivered" in caplog.text


def test_what_was_sent_while_the_broker_was_away_arrives_when_it_is_back(
    in_process_broker: Callable[..., InProcessBroker],
) -> None:
    broker = in_process_broker({"events": 1})
    quiet = {"log_level": 0, "reconnect.backoff.max.ms": 100}
    with EventProducer(broker.bootstrap_servers, topic="events", librdkafka=quiet) as producer:
        producer.click("u1", "i0", timestamp=0)
        producer.flush(10)
        broker.disconnect()
        for number in range(1, 4):
            producer.click("u1", f"i{number}", timestamp=number)
        away = producer.flush(0.05)
        broker.reconnect()

    messages = read_all(broker.bootstrap_servers, "events", 1, 4)
    assert away == (0, [], 3)
    assert [event.timestamp for event in events_of(messages)] == [0, 1, 2, 3]


def test_a_full_queue_makes_the_sender_wait_and_loses_nothing(
    in_process_broker: Callable[..., InProcessBroker],
) -> None:
    broker = in_process_broker({"events": 1})
    small_queue = {"queue.buffering.max.messages": 10, "linger.ms": 50}

    with EventProducer(broker.bootstrap_servers, topic="events", librdkafka=small_queue) as producer:
        for number in range(55):
            producer.click("u1", "i9", timestamp=number)
        report = producer.flush(10)

    messages = read_all(broker.bootstrap_servers, "events", 1, 55)
    assert report == (55, [], 0)
    assert [event.timestamp for event in events_of(messages)] == list(range(55))


def test_failures_that_nobody_takes_stop_the_sender_and_none_is_dropped(
    refusing: InProcessBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_KEPT_FAILURES", 3)
    producer = EventProducer(refusing.bootstrap_servers, topic="events", librdkafka=FAST_FAILURE)
    for number in range(3):
        producer.click("u1", f"i{number}")
    producer._producer.flush(10)  # deliveries fail, and nobody takes the report

    with pytest.raises(DeliveryFailed, match="3 events were not delivered"):
        producer.click("u1", "i3")

    report = producer.flush(10)
    assert [msgspec.json.decode(failed.value)["item_id"] for failed in report.failed] == ["i0", "i1", "i2"]
    producer.click("u1", "i9")  # taken: it goes on
    assert len(producer.flush(10).failed) == 1


def test_ctrl_c_inside_a_call_of_the_client_is_ctrl_c(
    in_process_broker: Callable[..., InProcessBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = EventProducer(in_process_broker({"events": 1}).bootstrap_servers, topic="events")
    monkeypatch.setattr(producer, "_on_delivery", lambda *_: signal.raise_signal(signal.SIGINT))
    producer.click("u1", "i9")

    with pytest.raises(KeyboardInterrupt):
        producer.flush(10)

    producer.close()


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (
            "",
            "the process ends, and an EventProducer was not closed: 0 events were not delivered and 2 are still queued",
        ),
        ("try: producer.close(0)\nexcept DeliveryFailed: pass", ""),  # it was told
        ("if os.fork() == 0: sys.exit()\nos.wait(); os._exit(0)", ""),  # it is for the parent to say
    ],
)
def test_what_is_queued_when_the_process_ends_is_told(closed_port: str, ending: str, said: str) -> None:
    program = (
        "import logging, os, sys\n"
        "from producer.client import DeliveryFailed, EventProducer\n"
        "logging.basicConfig(format='%(message)s')\n"
        f"producer = EventProducer({closed_port!r})\n"
        "producer.forget('u1'); producer.forget('u2')\n"
        f"{ending}\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    lines = [line for line in done.stderr.splitlines() if not line.startswith("no broker at ")]
    assert lines == ([said] if said else [])


def test_threads_may_share_it(in_process_broker: Callable[..., InProcessBroker]) -> None:
    broker = in_process_broker({"events": 2})
    with EventProducer(broker.bootstrap_servers, topic="events") as producer:

        def send(user_id: str) -> None:
            for number in range(250):
                producer.click(user_id, f"i{number}")

        threads = [threading.Thread(target=send, args=(f"u{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report = producer.flush(10)

    assert report == (1_000, [], 0)


@pytest.fixture(scope="module")
def unsent() -> Iterator[EventProducer]:
    """A producer without a broker, for what is refused before anything is queued."""
    producer = EventProducer("127.0.0.1:1", librdkafka={"log_level": 0})

    yield producer

    assert producer.flush(0) == (0, [], 0)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (Click(user_id="", item_id="i", timestamp=1), r"click: .*\$\.user_id"),
        (Click(user_id="u" * 257, item_id="i", timestamp=1), r"click: .*\$\.user_id"),
        (Click(user_id="u", item_id="", timestamp=1), r"click: .*\$\.item_id"),
        (Click(user_id="u", item_id=7, timestamp=1), r"click: .*\$\.item_id"),  # type: ignore[arg-type]
        (Click(user_id="u\ud800", item_id="i", timestamp=1), r"click: \$\.user_id: .*surrogates"),
        (Click(user_id="u", item_id="i", timestamp=-1), r"click: .*\$\.timestamp"),
        (Click(user_id="u", item_id="i", timestamp=1.5), r"click: .*\$\.timestamp"),  # type: ignore[arg-type]
        (Click(user_id="u", item_id="i", timestamp=1, value=float("inf")), r"\$\.value: inf would arrive as None"),
        (Click(user_id="u", item_id="i", timestamp=1, context={"a": object()}), r"\$\.context"),  # type: ignore[dict-item]
        (Click(user_id="u", item_id="i", timestamp=1, text="x" * 1_100_000), r"click: 1100\d+ bytes .*message\.max"),
        (Rating(user_id="u", item_id="i", rating=float("nan"), timestamp=1), r"rating: .*\$\.rating"),
        (Rating(user_id="u", item_id="i", rating="5", timestamp=1), r"rating: .*\$\.rating"),  # type: ignore[arg-type]
        (Impression(user_id="u", recommendation_id="r", items=[""], timestamp=1), r"impression: .*\$\.items\[0\]"),
        (Forget(user_id="", timestamp=1), r"forget: .*\$\.user_id"),
        (Item(item_id="", timestamp=1), r"item: .*\$\.item_id"),
        (Item(item_id="i", timestamp=1, vector=[float("nan")]), r"item: .*\$\.vector"),
        (Item(item_id="i", timestamp=1, vector=[0.5] * 4097), r"item: .*4096 - at `\$\.vector`"),
        (
            Item(item_id="i", timestamp=1, features={str(n): 1.0 for n in range(4097)}),
            r"item: .*4096 - at `\$\.features`",
        ),
        (
            User(user_id="u", timestamp=1, features={str(n): 1.0 for n in range(4097)}),
            r"user: .*4096 - at `\$\.features`",
        ),
        (
            Click(user_id="u", item_id="i", timestamp=LATEST_TIMESTAMP + 1),
            r"click: \$\.timestamp: expected at most 2534",
        ),
        (Forget(user_id="u", timestamp=10**30), r"forget: \$\.timestamp: expected at most 2534.* got 1000"),
        (User(user_id="u", timestamp=1, features={"age": "old"}), r"user: .*\$\.features"),  # type: ignore[dict-item]
        (User(user_id="u", timestamp=1, categories=[7]), r"user: .*\$\.categories"),  # type: ignore[list-item]
    ],
)
def test_what_the_worker_would_not_accept_is_refused_by_its_field(
    unsent: EventProducer, event: Sendable, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        unsent.send(event)


def test_the_most_that_the_worker_accepts_is_sent(in_process_broker: Callable[..., InProcessBroker]) -> None:
    broker = in_process_broker({"events": 1, "items": 1, "users": 1})
    features = {str(number): 1.0 for number in range(MAX_NUMBERS)}

    with EventProducer(broker.bootstrap_servers, topic="events", items_topic="items", users_topic="users") as producer:
        producer.describe_item("i", vector=[0.5] * MAX_NUMBERS, features=features)
        producer.describe_user("u", features=features)
        producer.click("u", "i", timestamp=LATEST_TIMESTAMP)
        report = producer.flush(30)

    assert (report.delivered, report.failed) == (3, [])


def test_the_producer_and_the_model_have_the_same_bound() -> None:
    assert MAX_NUMBERS == MOST_NUMBERS


def test_what_is_no_event_is_refused(unsent: EventProducer) -> None:
    with pytest.raises(TypeError, match=r"expected one of the messages of producer\.events, got dict"):
        unsent.send({"type": "forget", "user_id": "u", "timestamp": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "x" * 257])
def test_ids_that_no_row_can_have_are_refused(unsent: EventProducer, name: str) -> None:
    with pytest.raises(ValueError, match=r"\$\.item_id: expected 1 to 256 characters"):
        unsent.remove_item(name)
    with pytest.raises(ValueError, match=r"\$\.user_id: expected 1 to 256 characters"):
        unsent.remove_user_features(name)


def test_a_closed_producer_takes_nothing_more() -> None:
    producer = EventProducer("127.0.0.1:1", librdkafka={"log_level": 0})
    producer.close()
    producer.close()

    with pytest.raises(RuntimeError, match="closed"):
        producer.forget("u1")


def test_reaching_comes_back_at_once_where_the_topic_is_there(
    in_process_broker: Callable[..., InProcessBroker],
) -> None:
    with EventProducer(in_process_broker({"events": 1}).bootstrap_servers, topic="events") as producer:
        assert producer.reach(30) is None  # type: ignore[func-returns-value]


def test_no_broker_within_the_time_is_a_connection_error_that_says_why(closed_port: str) -> None:
    producer = EventProducer(closed_port)

    with pytest.raises(
        ConnectionError, match=rf"no broker at {closed_port} \(.*refused\) answered within 0\.5 seconds"
    ):
        producer.reach(0.5)


def test_that_no_broker_answers_is_said_once_each_time_it_goes_away(
    in_process_broker: Callable[..., InProcessBroker], caplog: pytest.LogCaptureFixture
) -> None:
    broker = in_process_broker({"events": 1})
    often = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50}
    with EventProducer(broker.bootstrap_servers, topic="events", librdkafka=often) as producer:
        for times in (1, 2):
            broker.disconnect()
            producer.click("u1", "i9")
            deadline = time.monotonic() + 10
            while len(caplog.records) < times and time.monotonic() < deadline:
                producer.flush(0.1)
            producer.flush(0.5)  # it is heard of many times more
            broker.reconnect()
            assert producer.flush(10).still_queued == 0

    said = [record.getMessage().partition(",")[0] for record in caplog.records]
    assert said == [f"no broker at {broker.bootstrap_servers} answers"] * 2


class SlowToMake(EventProducer):
    """Its broker makes the topic so many seconds after it was asked for first. Time passes only by sleeping."""

    def __init__(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__("127.0.0.1:1", librdkafka={"log_level": 0})
        self.seconds = seconds
        self.now = 0.0
        monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self._sleep))

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _ask_for_topic(self, _timeout_seconds: float) -> str | None:
        return "" if self.now >= self.seconds else "topic events does not exist"


def test_a_topic_that_the_broker_makes_when_it_is_asked_for_is_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    SlowToMake(2.5, monkeypatch).reach(20)


def test_a_topic_that_does_not_come_is_waited_for_no_longer_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = SlowToMake(10, monkeypatch)

    with pytest.raises(TopicMissing, match=r"^topic events does not exist$"):
        producer.reach(20)

    assert producer.now < 5


def test_what_is_told_to_stop_waits_neither_for_room_nor_long_for_answers(
    closed_port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "STOP_SECONDS", 0.1)
    stopping = threading.Event()
    one_place = {"queue.buffering.max.messages": 1}
    producer = EventProducer(closed_port, librdkafka=one_place, stopping=stopping.is_set)
    producer.forget("u1")
    stopping.set()
    started = time.monotonic()

    with pytest.raises(BufferError):
        producer.forget("u2")
    with pytest.raises(ConnectionError, match="answered before it was stopped"):
        producer.reach(30)
    report = producer.flush(30)

    assert report == (0, [], 1)
    assert time.monotonic() - started < 15
    with pytest.raises(DeliveryFailed):
        producer.close(0)


def test_an_unknown_property_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"librdkafka refused the settings: .*no\.such\.property"):
        EventProducer("127.0.0.1:1", librdkafka={"no.such.property": 1})


def test_the_example_of_its_docstring_runs(in_process_broker: Callable[..., InProcessBroker]) -> None:
    broker = in_process_broker({"recs.events.v1": 1, "recs.items.v1": 1, "recs.users.v1": 1})
    example = "\n".join(line[4:] for line in (client.__doc__ or "").splitlines() if line.startswith("    "))

    exec(example.replace("localhost:9092", broker.bootstrap_servers), {"EventProducer": EventProducer})

    kinds = [type(event) for event in events_of(read_all(broker.bootstrap_servers, "recs.events.v1", 1, 2))]
    assert kinds == [Click, Rating]
