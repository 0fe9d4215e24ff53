"""What the commands that send say when events do not get through: in time, with the address, and after a signal too."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition
from conftest import Kafka
from worker_process import ROOT, surroundings

from consumer.broker import InProcessBroker
from consumer.commands import sending
from consumer.commands.sending import deliver, send_all
from consumer.config import Settings, load
from consumer.signals import stop_signals
from producer import client
from producer.client import TopicMissing
from producer.events import Click, Event, encode


def settings_for(bootstrap_servers: str, **flags: object) -> Settings:
    return load({"bootstrap_servers": bootstrap_servers, **flags}, environment={})


def clicks(number: int) -> list[Event]:
    return [Click(user_id="u1", item_id=f"i{index}", timestamp=index) for index in range(number)]


def test_without_a_broker_a_stream_is_not_begun(
    closed_port: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sending, "REACH_SECONDS", 1.0)
    stream = iter(clicks(3))

    with pytest.raises(ConnectionError, match=rf"no broker at {closed_port} .* is HEADRACE_BOOTSTRAP_SERVERS right\?"):
        send_all(settings_for(closed_port), stream, rate=None)

    assert len(list(stream)) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"no broker at {closed_port} answers, still trying: " in caplog.text
    assert "Connection refused" in caplog.text


def test_a_topic_that_is_not_there_is_named_and_not_the_broker(
    kafka: Kafka, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_NEW_TOPIC_SECONDS", 0.3)
    nowhere = settings_for(kafka.bootstrap_servers, events_topic=unique("nowhere"))
    expected = rf"topic {nowhere.events_topic} does not exist on .*HEADRACE_EVENTS_TOPIC .*`headrace topics create`"

    with pytest.raises(TopicMissing, match=expected):
        deliver(nowhere, clicks(1)[0])
    with pytest.raises(TopicMissing, match=expected):
        send_all(nowhere, clicks(1), rate=None)


def test_a_wrong_property_is_a_wrong_setting() -> None:
    wrong = settings_for("127.0.0.1:1", librdkafka={"no.such": "1"})

    with pytest.raises(
        ValueError, match=r'^librdkafka refused the settings: No such configuration property: "no\.such"'
    ):
        deliver(wrong, clicks(1)[0])


@pytest.mark.parametrize("command", ["replay --dataset synthetic", "simulate", "watch", "click u1 i9"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_search_for_a_broker_soon_and_is_told_by_the_exit_status(
    closed_port: str, number: signal.Signals, command: str
) -> None:
    whole = [sys.executable, "-m", "consumer", *command.split()]
    environment = surroundings(HEADRACE_BOOTSTRAP_SERVERS=closed_port)
    process = subprocess.Popen(whole, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    assert process.stderr is not None
    first = process.stderr.readline()

    process.send_signal(number)
    _, last = process.communicate(timeout=10)

    assert "still trying" in first
    assert (process.returncode, last) == (128 + number, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_replay_that_waits_for_the_next_line_of_a_pipe(
    in_process_broker: Callable[..., InProcessBroker], number: signal.Signals
) -> None:
    broker = in_process_broker({"recs.events.v1": 1})
    environment = surroundings(HEADRACE_BOOTSTRAP_SERVERS=broker.bootstrap_servers)
    command = [sys.executable, "-m", "consumer", "replay", "--events", "/dev/stdin", "--json"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment
    )
    assert process.stdin is not None
    for event in clicks(3):
        process.stdin.write(encode(event) + b"\n")
    process.stdin.flush()
    wait_for_events(broker, 3)

    process.send_signal(number)
    status = process.wait(20)

    out, errors = process.communicate()
    assert (status, errors) == (0, b"")
    assert json.loads(out)["sent"] == 3


def wait_for_events(broker: InProcessBroker, number: int) -> None:
    """Until the events topic, of one partition, has so many."""
    reader = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "reader", "log_level": 0})
    deadline = time.monotonic() + 60
    while reader.get_watermark_offsets(TopicPartition("recs.events.v1", 0), timeout=10) != (0, number):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    reader.close()


def test_a_signal_while_the_broker_is_away_says_how_many_events_did_not_arrive(
    in_process_broker: Callable[..., InProcessBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "STOP_SECONDS", 0.5)
    broker = in_process_broker({"events": 1})

    def stream() -> Iterator[Event]:
        yield clicks(1)[0]
        time.sleep(1)  # so that the first one may arrive
        broker.close()
        yield from clicks(2)
        told.start()

    told = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))  # while it waits for acknowledgements
    settings = settings_for(broker.bootstrap_servers, events_topic="events")
    started = time.monotonic()

    expected = (
        rf"[23] of 3 events did not reach events: no acknowledgement in time \(brokers: {broker.bootstrap_servers}\)"
    )
    # Should the signal come too late, it must not end the tests.
    with stop_signals(), pytest.raises(RuntimeError, match=expected):
        send_all(settings, stream(), rate=None)
    told.join()

    assert time.monotonic() - started < 20  # it would wait for a minute
