"""Partitions added to the events topic while a worker runs: learned, and exactly once also where it is killed then."""

from collections.abc import Callable
from pathlib import Path

import pytest
from broker_clients import produce
from conftest import Kafka
from faulty_disk import SimulatedCrash
from worker_site import Site, relearned, tastes

from consumer.worker import Worker
from producer.events import encode

OLD, NEW = 40, 60


@pytest.fixture
def site(kafka: Kafka, tmp_path: Path, unique: Callable[[str], str]) -> Site:
    site = Site(kafka, tmp_path / "state", unique, partitions=1)
    send(site, OLD, 0)
    return site


def send(site: Site, count: int, partition: int) -> None:
    values = [encode(event) for event in tastes(count, seed=partition)]
    produce(site.broker.bootstrap_servers, site.settings.events_topic, values, partition=partition)


def add_partitions(site: Site, kafka: Kafka) -> None:
    """A second and a third one; the third has events."""
    kafka.add_partitions(site.settings.events_topic, 3)
    send(site, NEW, 2)


def start(site: Site) -> Worker:
    worker = Worker(site.settings)
    worker.source._lookout.every_seconds = 0.05
    return worker


def handed_out(worker: Worker) -> int:
    """How many events of the added partition were in steps."""
    return worker.parts.source.next_offsets().get(2, 0)


def assert_all_is_learned_once(site: Site) -> None:
    saved = site.newest_checkpoint()
    expected = relearned(site.settings, site.steps())
    assert saved.counts.learned == expected.learned == OLD + NEW
    assert saved.state_sha256 == expected.state_sha256
    assert {message.key().decode() for message in site.lists()} == {one.user_id for one in expected.changed}


def test_a_worker_learns_from_partitions_that_were_added_and_keeps_their_offsets(site: Site, kafka: Kafka) -> None:
    with start(site) as worker:
        add_partitions(site, kafka)
        saved = worker.run(lambda: worker.progress.counts.learned == OLD + NEW)
        worker.observation._look()
        lag = worker.metrics.render().decode()

    assert saved.offsets == {site.settings.events_topic: {0: OLD, 2: NEW}}
    assert 'headrace_consumer_lag_records{partition="2"} 0.0' in lag
    assert_all_is_learned_once(site)
    assert site.work().state_sha256 == saved.state_sha256
    assert site.newest_checkpoint().offsets == {site.settings.events_topic: {0: OLD, 1: 0, 2: NEW}}


def test_a_worker_killed_when_only_the_journal_knows_the_added_partition_repeats_its_steps(
    site: Site, kafka: Kafka
) -> None:
    killed = []

    def kill_once_it_was_learned() -> bool:
        if handed_out(worker):
            killed.append(handed_out(worker))
            raise SimulatedCrash
        return False

    with start(site) as worker:
        add_partitions(site, kafka)
        with pytest.raises(SimulatedCrash):
            worker.run(kill_once_it_was_learned)
    known = site.newest_checkpoint().offsets
    with start(site) as worker:
        repeating = worker.parts.source.steps_to_repeat
        with pytest.raises(SimulatedCrash):
            worker.run(kill_once_it_was_learned)

    site.work()

    assert known == {site.settings.events_topic: {0: 0}}
    assert repeating > 0
    assert 0 < killed[0] <= killed[1] < NEW
    assert_all_is_learned_once(site)
