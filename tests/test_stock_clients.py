"""Clients that know nothing of Headrace send events that are learned, and read lists that parse.

Java's console clients, which come with every Kafka, and kcat where it is installed: other libraries than ours, with
partitioners of their own. Only topics, JSON and headers are agreed upon.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Broker, Kafka
from kafka_server import run_tool
from worker_site import Site

from consumer.checkpoint import Counts

TIME_MS = 1_700_000_000_000
PEOPLE = {"ada": range(0, 12, 2), "bob": range(1, 12, 2), "çelik": range(0, 12, 3)}
EVENTS: list[dict[str, Any]] = [
    {"type": "click", "user_id": user, "item_id": f"film {item}", "timestamp": TIME_MS + item, "sent_by": "somebody"}
    for user, items in PEOPLE.items()
    for item in items
]


@pytest.fixture
def site(kafka: Kafka, tmp_path: Path, unique: Callable[[str], str]) -> Site:
    return Site(kafka, tmp_path / "state", unique)


def assert_lists_of_everybody(lists: list[dict[str, Any]]) -> None:
    """What json.loads made of each record: lists for all three, none with what that user has taken."""
    assert {one["user_id"] for one in lists} == set(PEOPLE)
    for user, items in PEOPLE.items():
        newest = max((one for one in lists if one["user_id"] == user), key=lambda one: one["model_version"])
        listed = {item["item_id"] for item in newest["items"]}
        assert listed
        assert listed <= {f"film {item}" for item in set(range(12)) - set(items)}
        assert all(isinstance(item["score"], float) for item in newest["items"])


def test_javas_console_clients_send_events_and_read_lists(site: Site) -> None:
    address, settings = ("--bootstrap-server", site.broker.bootstrap_servers), site.settings
    lines = [f"a key of their own\t{json.dumps(event)}" for event in EVENTS] + ["another key\tno JSON"]
    run_tool(
        "org.apache.kafka.tools.ConsoleProducer",
        *address,
        *("--topic", settings.events_topic),
        *("--reader-property", "parse.key=true"),
        *("--command-property", "partitioner.class=org.apache.kafka.clients.producer.RoundRobinPartitioner"),
        given="\n".join(lines) + "\n",
    )

    manifest = site.work()

    assert manifest.counts == Counts(len(EVENTS), 0, 1)
    assert min(manifest.offsets[settings.events_topic].values()) > 0  # each person's events lay in all partitions
    output = run_tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *address,
        *("--topic", settings.recommendations_topic, "--from-beginning"),
        *("--max-messages", str(len(site.lists())), "--timeout-ms", "30000"),
        *("--formatter-property", "print.key=true", "--formatter-property", "print.headers=true"),
    )
    records = [line.split("\t") for line in output.splitlines()]
    lists = [json.loads(value) for _, _, value in records]
    [header] = {headers for headers, _, _ in records}
    assert re.fullmatch(r"headrace\.epoch:\d+", header)
    assert [key for _, key, _ in records] == [one["user_id"] for one in lists]
    assert_lists_of_everybody(lists)


@pytest.mark.skipif(shutil.which("kcat") is None, reason="no kcat on this machine (Debian: apt-get install kcat)")
def test_kcat_sends_events_and_reads_lists(broker: Broker, tmp_path: Path, unique: Callable[[str], str]) -> None:
    site = Site(broker, tmp_path / "state", unique)
    kcat("-P", "-t", site.settings.events_topic, site=site, given="".join(f"{json.dumps(event)}\n" for event in EVENTS))

    manifest = site.work()

    assert manifest.counts == Counts(len(EVENTS), 0, 0)
    output = kcat("-C", "-t", site.settings.recommendations_topic, "-o", "beginning", "-e", "-q", site=site)
    assert_lists_of_everybody([json.loads(line) for line in output.splitlines()])


def kcat(*arguments: str, site: Site, given: str = "") -> str:
    command = ["kcat", "-b", site.broker.bootstrap_servers, *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=True).stdout
