"""`headrace run` as a process: killed at any moment on a real Kafka, asked to stop, told twice."""

import json
import random
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from broker_clients import produce
from conftest import InProcess, Kafka
from worker_process import WorkerProcess
from worker_site import Listed, SavedStates, Site, relearned, tastes

from producer.client import EventProducer
from producer.events import Click, Event, Forget, Impression
from producer.replay import replay

Unique = Callable[[str], str]

KEYS = {"step", "epoch", "model_version", "learned", "duplicates", "dead_letters", "offsets", "state_sha256"}
PARTITIONS = 3
EVENTS = 6_000
GARBAGE = [b"hello", b"\xff\xfe", b'{"type":"click"}', b'{"type":"no such type"}', None]


# --- killed ---


def rough_stream(seed: int) -> Iterator[Event]:
    """Events of every kind; each twentieth comes a second time."""
    draw = random.Random(seed)
    for number, event in enumerate(tastes(EVENTS, seed, users=60, items=200)):
        kind = draw.random()
        if kind < 0.01:
            yield Forget(user_id=event.user_id, timestamp=event.timestamp)
        elif kind < 0.03:
            yield Impression(user_id=event.user_id, recommendation_id="r", items=["i1"], timestamp=event.timestamp)
        elif kind < 0.08:
            again = Click(user_id=event.user_id, item_id="i1", timestamp=event.timestamp, event_id=f"e{number}")
            yield from (again, again)
        else:
            yield event


class Sending:
    """A service that goes on sending, whatever becomes of the worker; every hundredth record is garbage."""

    def __init__(self, site: Site, seed: int, rate: float) -> None:
        self._site, self._rate = site, rate
        self.events = list(rough_stream(seed))
        self.garbage = 0
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        address, topic = self._site.broker.bootstrap_servers, self._site.settings.events_topic
        with EventProducer(address, topic=topic) as producer:
            for start in range(0, len(self.events), 100):
                replay(producer, self.events[start : start + 100], rate=self._rate)
                produce(address, topic, [GARBAGE[self.garbage % len(GARBAGE)]], partition=self.garbage % PARTITIONS)
                self.garbage += 1

    def wait(self) -> None:
        self._thread.join()

    @property
    def repeated(self) -> int:
        """Events that came before, by their event_id."""
        ids = Counter(event.event_id for event in self.events if event.event_id is not None)
        return sum(ids.values()) - len(ids)


def kill_at_random_moments(site: Site, folder: Path, kills: int, draw: random.Random) -> list[dict[str, Any]]:
    """Kill worker after worker: after so many lists, so long after it began to work, while it still starts."""
    moments = []
    with site.counting_lists() as count:
        for number in range(kills):
            before, started = count(), time.monotonic()
            with WorkerProcess(site.settings, folder / f"killed-{number}.log") as worker:
                if number % 3 == 0:
                    enough = before + draw.randint(1, 500)
                    worker.wait_until(lambda enough=enough: count() >= enough)  # type: ignore[misc]
                else:
                    if number % 3 == 1:
                        worker.wait_until(worker.is_working)
                    at = time.monotonic() + draw.uniform(0, 2) if number % 3 == 1 else started + draw.uniform(1, 4)
                    worker.wait_until(lambda at=at: time.monotonic() > at)  # type: ignore[misc]
                worker.kill()
                seconds = round(time.monotonic() - started, 2)
                moments.append({"seconds": seconds, "lists": count() - before, **told(worker)})
    return moments


def told(worker: WorkerProcess) -> dict[str, int]:
    """What its log says of checkpoints, and of steps that it made again since a worker before it had died."""
    log = worker.log()
    return {
        "checkpoints": sum(entry["event"] == "checkpoint saved" for entry in log),
        "repeated_steps": sum(entry.get("steps_to_repeat", 0) for entry in log),
    }


def assert_exact_after_kills(kafka: Kafka, folder: Path, unique: Unique, *, kills: int, rate: float, seed: int) -> None:
    site = Site(
        kafka,
        folder / "state",
        unique,
        partitions=PARTITIONS,
        batch_size=8,
        checkpoint_seconds=0.7,
        checkpoints_kept=10_000,
        max_staleness_seconds=0,  # however slow the machine, each step has its lists
    )
    sending = Sending(site, seed, rate)

    moments = kill_at_random_moments(site, folder, kills, random.Random(seed))
    sending.wait()
    with WorkerProcess(site.settings, folder / "last.log", "--until-end") as worker:
        status, output = worker.end()
        last = told(worker)

    answer = json.loads(output.splitlines()[-1])
    ends = Counter(message.partition() for message in site.events())
    records = len(sending.events) + sending.garbage
    print(*moments, last, f"{records} records", answer, sep="\n")
    assert status == 0
    assert answer == json.loads(json.dumps(site.newest_checkpoint().summary()))

    # Every record is one of three things, once.
    assert answer["offsets"] == {site.settings.events_topic: {str(number): end for number, end in sorted(ends.items())}}
    assert answer["learned"] + answer["duplicates"] + answer["dead_letters"] == records == sum(ends.values())
    assert answer["learned"] == len(sending.events) - sending.repeated
    assert answer["duplicates"] == sending.repeated > 100
    assert answer["dead_letters"] == sending.garbage
    assert site.committed() == dict(ends)

    # State and lists are those of a learner that never stopped; a repeated list is the same, byte for byte.
    saved_states = SavedStates(site.settings.checkpoint_dir)
    expected = relearned(site.settings, site.steps(), saved_states)
    assert saved_states.differing == {}
    assert answer["state_sha256"] == expected.state_sha256
    values: defaultdict[tuple[bytes, int], set[bytes]] = defaultdict(set)
    lists = set()
    for message in site.lists():
        if message.value() is not None:
            one = json.loads(message.value())
            values[message.key(), one["model_version"]].add(message.value())
            items = [(item["item_id"], item["score"]) for item in one["items"]]
            lists.add(Listed(one["user_id"], one["model_version"], *map(tuple, zip(*items, strict=True))))
    assert all(len(same) == 1 for same in values.values())
    assert lists == expected.changed

    # And the workers did die while they worked: some had published what no checkpoint held.
    assert sum(moment["lists"] for moment in moments) > 0
    assert sum(moment["repeated_steps"] for moment in [*moments, last]) > 0
    assert answer["epoch"] > 1


def test_a_worker_killed_three_times_has_learned_each_event_exactly_once(
    kafka: Kafka, tmp_path: Path, unique: Unique
) -> None:
    assert_exact_after_kills(kafka, tmp_path, unique, kills=3, rate=400, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", [2, 3])
def test_a_worker_killed_ten_times_has_learned_each_event_exactly_once(
    kafka: Kafka, tmp_path: Path, unique: Unique, seed: int
) -> None:
    assert_exact_after_kills(kafka, tmp_path, unique, kills=10, rate=90, seed=seed)


# --- asked to stop ---


def test_sigterm_and_ctrl_c_end_the_worker_with_0_after_everything_is_saved(
    in_process: InProcess, tmp_path: Path, unique: Unique
) -> None:
    site = Site(in_process, tmp_path / "state", unique, batch_size=8)
    send(site, tastes(4_000))
    learned = [0]
    for number in (signal.SIGTERM, signal.SIGINT):
        with site.counting_lists() as count, WorkerProcess(site.settings, tmp_path / number.name) as worker:
            before = count()
            worker.wait_until(lambda count=count, before=before: count() > before)  # type: ignore[misc]

            worker.send(number)
            status, output = worker.end()

        answer = json.loads(output.splitlines()[-1])
        assert status == 0
        assert set(answer) == KEYS
        assert answer == json.loads(json.dumps(site.newest_checkpoint().summary()))
        assert answer["learned"] == sum(answer["offsets"][site.settings.events_topic].values())
        assert answer["learned"] == sum(site.committed().values())
        assert max(number for _, number in numbered(site)) <= answer["model_version"]
        learned.append(answer["learned"])

    manifest = site.work()

    assert learned == sorted(set(learned))
    assert manifest.counts.learned == 4_000
    assert set(numbered(site).values()) == {1}  # nothing had to be made again


def test_a_second_signal_leaves_at_once_and_saves_nothing(
    in_process: InProcess, tmp_path: Path, unique: Unique
) -> None:
    site = Site(in_process, tmp_path / "state", unique, batch_size=8)
    send(site, tastes(3_000))
    with site.counting_lists() as count, WorkerProcess(site.settings, tmp_path / "log") as worker:
        worker.wait_until(lambda: count() > 0)
        in_process.faults.disconnect()  # what is not acknowledged now keeps the worker from ending
        worker.send(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.end(1)

        worker.send(signal.SIGTERM)
        status, output = worker.end(2)

    in_process.faults.reconnect()
    assert (status, output) == (128 + signal.SIGTERM, "")
    assert site.newest_checkpoint().step == 0
    assert site.work().counts.learned == 3_000


def numbered(site: Site) -> Counter[tuple[bytes, int]]:
    """How often each list stands on the topic, by user and model_version."""
    return Counter((message.key(), json.loads(message.value())["model_version"]) for message in site.lists())


def send(site: Site, events: Iterator[Event]) -> None:
    with EventProducer(site.broker.bootstrap_servers, topic=site.settings.events_topic) as producer:
        for event in events:
            producer.send(event)
