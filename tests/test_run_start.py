"""`headrace run` while it starts: what it answers over HTTP, and that it can be told to stop."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import pytest
from confluent_kafka import Producer
from conftest import InProcess
from worker_process import ROOT, WorkerProcess, surroundings
from worker_site import Site, tastes

from producer.client import EventProducer

SOON_SECONDS = 60.0
"""One kernel's compilation, or one question to the broker, on a machine that has much else to do."""


@pytest.fixture
def site(in_process: InProcess, tmp_path: Path, unique: Callable[[str], str]) -> Site:
    return Site(in_process, tmp_path / "state", unique)


def ask(worker: WorkerProcess, path: str) -> tuple[int, str]:
    worker.wait_until(lambda: any(entry["event"] == "listening" for entry in worker.log()))
    address = next(entry["metrics"] for entry in worker.log() if entry["event"] == "listening")
    connection = HTTPConnection(address.split("/")[2], timeout=SOON_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def is_at(worker: WorkerProcess, doing: str) -> bool:
    return any(doing in entry.get("doing", "") for entry in worker.log())


def test_a_start_that_compiles_is_alive_not_ready_measured_and_ends_when_told_to(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))  # nothing is compiled yet
    with WorkerProcess(site.settings, tmp_path / "log") as worker:
        worker.wait_until(lambda: any((tmp_path / "kernels").rglob("*.nbc")))

        answers = [ask(worker, path) for path in ("/livez", "/readyz", "/metrics")]
        worker.send(signal.SIGTERM)
        status, output = worker.end(SOON_SECONDS)

    assert answers[0] == (200, "alive\n")
    assert answers[1][0] == 503
    assert "compiling" in answers[1][1]
    assert "\nheadrace_ready 0.0\n" in answers[2][1]
    assert (status, json.loads(output)["learned"]) == (0, 0)
    assert not site.settings.checkpoint_dir.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_while_no_broker_answers_it_ends_with_0(
    site: Site, tmp_path: Path, closed_port: str, number: signal.Signals
) -> None:
    settings = site.settings.model_copy(update={"bootstrap_servers": closed_port})
    with WorkerProcess(settings, tmp_path / "log") as worker:
        worker.wait_until(lambda: is_at(worker, "looking for the topics"))

        began = time.monotonic()
        worker.send(number)
        status, output = worker.end(SOON_SECONDS)

    assert (status, json.loads(output)["step"]) == (0, 0)
    assert time.monotonic() - began < 20  # it would have given up after 30


def test_told_to_stop_while_the_catalogue_is_read_and_the_broker_is_away_it_ends_and_nothing_is_lost(
    site: Site, in_process: InProcess, tmp_path: Path
) -> None:
    items = in_process.create_topic("recs.items.v1")
    producer = Producer({"bootstrap.servers": in_process.bootstrap_servers})
    for number in range(2_000):
        producer.produce(items, b'{"item_id":"i%d","timestamp":1}' % number, key=b"i%d" % number)
        producer.poll(0)
    assert producer.flush(30) == 0
    with EventProducer(in_process.bootstrap_servers, topic=site.settings.events_topic) as events:
        for event in tastes(100):
            events.send(event)
    before = site.work()
    in_process.faults.delay_answers(300)  # each, so that it is not read before the broker is gone
    with WorkerProcess(site.settings, tmp_path / "log") as worker:
        worker.wait_until(lambda: is_at(worker, "reading the catalogue of items"))
        in_process.faults.disconnect()

        worker.send(signal.SIGTERM)
        status, output = worker.end(SOON_SECONDS)

    in_process.faults.reconnect()
    in_process.faults.delay_answers(0)
    assert (status, json.loads(output)) == (0, json.loads(json.dumps(before.summary())))
    assert not any(entry["event"] == "working" for entry in worker.log())
    assert site.work().counts == before.counts


def test_a_port_that_is_taken_is_one_line_before_any_long_work(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "consumer", "run", f"--metrics-port={port}", f"--checkpoint-dir={tmp_path}"]
        run = subprocess.run(command, cwd=ROOT, env=surroundings(), capture_output=True, text=True, check=False)

    assert run.returncode == 1
    assert run.stderr.startswith(f"headrace run: cannot listen on 127.0.0.1 port {port}: Address already in use.")
    assert run.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
