"""A worker put together from the settings: what stops its start, what it leaves behind, what it holds."""

import errno
import gc
import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from broker_clients import AT_ONCE, SECONDS, produce
from columns import events_of
from conftest import InProcess, Kafka
from worker_site import Site, tastes

from consumer import durable, lists
from consumer.checkpoint import CheckpointError, CheckpointStore, Counts, FolderInUse
from consumer.environment import SettingsError
from consumer.observation import Observation
from consumer.offsets import TopicMadeAnew
from consumer.publish import DeliveryFailed
from consumer.signals import Stopped
from consumer.topics import TopicsMissing
from consumer.worker import Worker
from model.kernels.compiled import IS_COMPILED, compiled
from producer.client import EventProducer
from producer.events import Click, Rating

pytestmark = pytest.mark.usefixtures("quick_producers")


@pytest.fixture
def site(in_process: InProcess, tmp_path: Path, unique: Callable[[str], str]) -> Site:
    return Site(in_process, tmp_path / "state", unique)


def send(site: Site, count: int, seed: int = 0) -> None:
    address, topic = site.broker.bootstrap_servers, site.settings.events_topic
    with EventProducer(address, topic=topic, librdkafka=AT_ONCE) as producer:
        for event in tastes(count, seed):
            producer.send(event)


def test_a_folder_that_another_worker_holds_stops_the_start_and_that_worker_goes_on(site: Site) -> None:
    send(site, 50)
    with Worker(site.settings) as first:
        with pytest.raises(FolderInUse, match="held by another worker"):
            Worker(site.settings)

        manifest = first.run(lambda: False, first.end_offsets())

    assert manifest.counts.learned == 50


def test_a_start_that_failed_lets_go_of_the_folder(site: Site) -> None:
    with pytest.raises(TopicsMissing, match=r"no\.such\.topic"):
        Worker(site.settings.model_copy(update={"events_topic": "no.such.topic"}))

    store = CheckpointStore(site.settings.checkpoint_dir)
    assert store.acquire() > 1  # the failed start took an epoch
    store.release()
    assert list(store.paths()) == []


@pytest.mark.parametrize(
    ("properties", "complaint"),
    [
        ({"no.such": "1"}, r'^librdkafka refused the settings: No such configuration property: "no\.such"'),
        ({"fetch.min.bytes": "many"}, "fetch.min.bytes"),
        ({"auto.offset.reset": "latest"}, "auto.offset.reset='latest': Headrace sets this property itself"),
        ({"compression.type": "zip"}, "compression.codec"),
        ({"acks": "1"}, "acks='1': Headrace sets this property itself"),
        ({"stats_cb": "x"}, "the Kafka client refused the settings: expected stats_cb"),
    ],
)
def test_a_property_that_a_client_refuses_is_a_wrong_setting_and_found_before_anything_is_compiled(
    site: Site, monkeypatch: pytest.MonkeyPatch, properties: dict[str, str], complaint: str
) -> None:
    monkeypatch.setattr("consumer.worker.warm_up", lambda *_: pytest.fail("it compiles"))

    with pytest.raises(SettingsError, match=complaint):
        Worker(site.settings.model_copy(update={"librdkafka": properties}))

    assert not site.settings.checkpoint_dir.exists()


@pytest.mark.parametrize("setting", ["events_topic", "recommendations_topic", "dead_letter_topic"])
def test_a_topic_that_it_cannot_do_without_stops_the_start_before_anything_is_saved(site: Site, setting: str) -> None:
    with pytest.raises(TopicsMissing, match=r"topic no\.such\.topic does not exist .* `headrace topics create`"):
        Worker(site.settings.model_copy(update={setting: "no.such.topic"}))

    assert list(CheckpointStore(site.settings.checkpoint_dir).paths()) == []


def test_told_to_stop_while_it_waits_for_the_broker_a_start_ends_and_lets_go_of_the_folder(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.topics._LOOK_UP_SECONDS", 0.2)
    site.broker.faults.disconnect()  # type: ignore[attr-defined]
    observation = Observation.of(site.settings)
    looks = []

    def stopping() -> bool:
        looks.append(observation.doing)
        return looks.count("looking for the topics") > 2

    with pytest.raises(Stopped):
        Worker(site.settings, observation=observation, stopping=stopping)

    site.broker.faults.reconnect()  # type: ignore[attr-defined]
    send(site, 50)
    assert site.work().counts.learned == 50


def test_told_to_stop_before_it_began_a_start_touches_nothing(site: Site) -> None:
    with pytest.raises(Stopped):
        Worker(site.settings, stopping=lambda: True)

    assert not site.settings.checkpoint_dir.exists()


@pytest.mark.skipif(not IS_COMPILED, reason="numba is not installed")
def test_told_to_stop_while_the_kernels_of_lists_are_compiled_a_start_compiles_no_further_one(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "kernels"))
    began = []

    @compiled
    def kernel(number: float) -> float:
        return 2 * number

    def warm_up() -> None:
        began.append(None)
        kernel(1.0)

    monkeypatch.setattr(lists, "warm_up", warm_up)

    with pytest.raises(Stopped):
        Worker(site.settings, stopping=lambda: bool(began))

    assert kernel.signatures == []


def test_a_wrong_setting_of_the_model_stops_the_start_before_the_folder_is_touched(site: Site) -> None:
    with pytest.raises(SettingsError, match="HEADRACE_ENCODER"):
        Worker(site.settings.model_copy(update={"encoder": "magic"}))

    assert not site.settings.checkpoint_dir.exists()


def test_settings_that_do_not_fit_what_was_learned_stop_the_start(site: Site) -> None:
    send(site, 50)
    before = site.work()

    with pytest.raises(CheckpointError, match=r"other settings: HEADRACE_EMBEDDING_DIM \(was 8, is 16\)\. Set"):
        Worker(site.settings.model_copy(update={"embedding_dim": 16}))

    assert site.newest_checkpoint() == before
    assert site.work().state_sha256 == before.state_sha256


@pytest.mark.parametrize("what", ["checkpoint", "journal"])
def test_a_full_disk_ends_the_run_with_the_path_and_the_setting_and_nothing_is_lost(
    site: Site, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(site, 50)
    write_all = durable.write_all

    def refuse(descriptor: int, data: bytes | memoryview) -> None:
        if what in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_all(descriptor, data)

    with Worker(site.settings) as worker:
        monkeypatch.setattr(durable, "write_all", refuse)
        folder = site.settings.checkpoint_dir
        with pytest.raises(
            CheckpointError, match=rf"^{folder}/{what}.*: No space left on device\. .*HEADRACE_CHECKPOINT_DIR"
        ):
            worker.run(lambda: False, worker.end_offsets())

    monkeypatch.setattr(durable, "write_all", write_all)
    assert site.work().counts.learned == 50


def test_closing_saves_nothing(site: Site) -> None:
    send(site, 50)
    with Worker(site.settings) as worker:
        worker.parts.source.take(50, 10)

    assert site.newest_checkpoint().counts == Counts()
    assert site.work().counts.learned == 50


def test_a_step_that_failed_is_not_saved_and_not_published(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    send(site, 50)
    with Worker(site.settings) as worker:

        def fail(*_: object) -> None:
            raise FloatingPointError("step 1 gave a non-finite loss")

        monkeypatch.setattr(worker.learner, "test_then_learn", fail)
        with pytest.raises(FloatingPointError):
            worker.run(lambda: False, worker.end_offsets())

    assert site.newest_checkpoint().step == 0
    assert site.lists() == []
    assert site.work().counts.learned == 50


def test_a_worker_that_is_told_to_stop_saves_and_answers_with_what_it_saved(site: Site) -> None:
    send(site, 500)
    with Worker(site.settings) as worker:
        manifest = worker.run(lambda: worker.progress.counts.learned >= 100)

    assert 100 <= manifest.counts.learned < 500
    assert manifest == site.newest_checkpoint()
    assert site.work().counts.learned == 500


def test_a_worker_whose_lists_find_no_room_while_the_broker_is_away_is_alive_and_can_be_stopped(
    in_process: InProcess, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.worker.FLUSH_SECONDS", 0.5)
    send(site, 50)
    small = {**site.settings.librdkafka, "queue.buffering.max.messages": "1"}
    beats: list[float] = []
    with Worker(site.settings.model_copy(update={"librdkafka": small})) as worker:
        learn = worker.learner.test_then_learn
        beat = worker.observation.beat

        def cut_off(*given: Any) -> Any:
            in_process.faults.disconnect()
            return learn(*given)

        def noted() -> None:
            beats.append(time.monotonic())
            beat()

        monkeypatch.setattr(worker.learner, "test_then_learn", cut_off)
        monkeypatch.setattr(worker.observation, "beat", noted)

        with pytest.raises(DeliveryFailed, match=r"not acknowledged within 0.5 s"):
            worker.run(lambda: len(beats) > 10)
    in_process.faults.reconnect()

    assert 0.5 <= beats[-1] - beats[10] < 10
    assert site.newest_checkpoint().step == 0
    assert site.work().counts.learned == 50


def test_a_worker_that_has_ended_leaves_nothing_behind_in_its_process(site: Site) -> None:
    send(site, 20)
    with Worker(site.settings) as worker:
        worker.run(lambda: False, worker.end_offsets())
        source = weakref.ref(worker.source)

    del worker
    gc.collect()

    assert source() is None


def test_lists_have_at_most_k_items(site: Site) -> None:
    send(site, 200)
    with Worker(site.settings.model_copy(update={"k": 3})) as worker:
        worker.run(lambda: False, worker.end_offsets())

        lists = worker.parts.top_k.lists_of(["u1", "u2"])

    assert [len(one.item_ids) for one in lists] == [3, 3]


def test_the_settings_are_kept_in_the_checkpoint_without_secrets(site: Site) -> None:
    secret = {"sasl.password": "a word nobody may see", "client.id": "one"}
    settings = site.settings.model_copy(update={"librdkafka": secret})
    with Worker(settings) as worker:
        manifest = worker.run(lambda: True)

    assert manifest.settings == settings.shown()
    assert "a word nobody may see" not in str(manifest)
    for path in site.settings.checkpoint_dir.rglob("*.json"):
        assert "a word nobody may see" not in path.read_text()


def test_metrics_say_what_runs_here(site: Site) -> None:
    with Worker(site.settings) as worker:
        told = worker.metrics.render().decode()

    assert f'torch="{torch.__version__}"' in told
    assert 'device="cpu"' in told


def test_decoding_follows_the_settings(in_process: InProcess, tmp_path: Path, unique: Callable[[str], str]) -> None:
    site = Site(in_process, tmp_path / "state", unique, rating_min=1, rating_max=10, max_event_bytes=200)
    with EventProducer(in_process.bootstrap_servers, topic=site.settings.events_topic) as producer:
        producer.rate("u1", "i1", 10.0)
        producer.rate("u1", "i2", 0.5)
        producer.click("u1", "i3", text="x" * 200)
    produce(in_process.bootstrap_servers, site.settings.events_topic, [b"x" * 201])

    assert site.work().counts == Counts(learned=1, dead_letters=3)


def test_a_catalogues_topic_made_anew_with_more_rows_than_were_read_ends_the_run(
    kafka: Kafka, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    topic = kafka.create_topic(unique("items"))
    produce(kafka.bootstrap_servers, topic, [b"{}"] * 3, key=b"no row, but read")
    with Worker(Site(kafka, tmp_path / "state", unique, items_topic=topic).settings) as worker:
        kafka.admin.delete_topics([topic])[topic].result()
        while topic in kafka.admin.list_topics(timeout=30).topics:
            pass
        kafka.create_topic(topic)
        produce(kafka.bootstrap_servers, topic, [b"{}"] * 5, key=b"no row")
        worker._content_sources["items"]._lookout.every_seconds = 0
        enough = time.monotonic() + SECONDS

        with pytest.raises(TopicMadeAnew, match=r"is not the topic that was read before.*: each start reads all"):
            worker.run(lambda: time.monotonic() > enough)


def test_what_an_event_weighs_is_in_the_settings(
    in_process: InProcess, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    weights = {"action_weights": "purchase=7", "default_weight": 0.1, "rating_weight": 0.7}
    site = Site(in_process, tmp_path / "state", unique, **weights)
    events = [
        Click(user_id="u", item_id="i", timestamp=5),
        Click(user_id="u", item_id="i", timestamp=5, action="purchase"),
        Click(user_id="u", item_id="i", timestamp=5, action="skip"),
        Click(user_id="u", item_id="i", timestamp=5, action="wave"),
        Rating(user_id="u", item_id="i", timestamp=5, rating=2.0),
    ]

    with Worker(site.settings) as worker:
        meaning = worker.parts.interpret(events_of(*events))

    assert meaning.interactions.weights_B.tolist() == [1.0, 7.0, -0.5, 0.1, 0.7]
