"""The whole loop as other services see it, on the in-process broker and on a real Kafka: events in, lists out.

What goes in comes from `EventProducer` and from plain clients that send garbage; what comes out is read by
`Subscriber` and, record by record, by plain clients.
"""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from broker_clients import AT_ONCE, SECONDS, produce
from confluent_kafka import Message, Producer
from conftest import Broker
from prometheus_client.parser import text_string_to_metric_families
from worker_site import Listed, Site, relearned, tastes

from consumer.checkpoint import Counts
from consumer.offsets import CheckpointLost, Reset
from consumer.worker import Worker
from producer.client import EventProducer
from producer.events import EPOCH_HEADER, Click, Forget, Recommendations
from producer.subscriber import Forgotten, Subscriber

NOW = time.time_ns() // 1_000_000


def raw(**fields: object) -> bytes:
    return json.dumps({"type": "click", "user_id": "mallory", "item_id": "i1", "timestamp": NOW, **fields}).encode()


def sized(size: int, **fields: object) -> bytes:
    """An event of exactly so many bytes."""
    return raw(text="x" * (size - len(raw(text="", **fields))), **fields)


GARBAGE: list[tuple[bytes | None, str]] = [
    (b"", "not-json"),
    (b"hello", "not-json"),
    (b'{"type":"click","user_id":"u1"', "not-json"),
    (raw(user_id="caf?").replace(b"?", b"\xe9"), "not-json"),
    (raw(text="?").replace(b"?", b"\xff"), "not-json"),
    (None, "invalid"),
    (b"[]", "invalid"),
    (b"17", "invalid"),
    (raw(item_id=17), "invalid"),
    (raw(timestamp="now"), "invalid"),
    (raw(user_id=""), "invalid"),
    (raw(context={"place": ["not", "a", "string"]}), "invalid"),
    (b'{"type":"click","user_id":"u1","timestamp":1}', "invalid"),
    (b'{"type":"rating","user_id":"u1","item_id":"i1","timestamp":1}', "invalid"),
    (b"[" * 1_000 + b"]" * 1_000, "invalid"),
    (raw(type="purchase"), "unknown-type"),
    (b'{"user_id":"u1","item_id":"i1","timestamp":1}', "unknown-type"),
    (sized(2_001), "too-large"),
    (raw(user_id="u" * 257), "id-too-long"),
    (raw(item_id="i" * 257), "id-too-long"),
    (raw(type="rating", rating=5.5), "out-of-range"),
    (raw(type="rating", rating=float("nan")), "out-of-range"),
    (raw(type="rating", rating=float("inf")), "out-of-range"),
    (raw(timestamp=-1), "out-of-range"),
    (raw(timestamp=NOW + 3_600_000), "from-the-future"),
]


@pytest.fixture
def site(broker: Broker, tmp_path: Path, unique: Callable[[str], str]) -> Site:
    return Site(broker, tmp_path / "state", unique)


def send_events(site: Site, count: int = 300, seed: int = 0) -> None:
    """Clicks, skips and ratings of twelve people."""
    address, topic = site.broker.bootstrap_servers, site.settings.events_topic
    with EventProducer(address, topic=topic, librdkafka=AT_ONCE) as producer:
        for event in tastes(count, seed):
            producer.send(event)


def send_garbage(site: Site) -> None:
    """Each kind once, over the partitions in turn, with a key and headers of its own."""
    producer = Producer({"bootstrap.servers": site.broker.bootstrap_servers})
    for number, (payload, _) in enumerate(GARBAGE):
        headers = [("trace", b"%d" % number), ("bare", None), ("trace", b"again")]
        producer.produce(site.settings.events_topic, payload, b"key %d" % number, number % 3, headers=headers)
    assert producer.flush(SECONDS) == 0


def read_news(site: Site, count: int) -> list[Recommendations | Forgotten]:
    """The first so many messages that a new subscriber finds."""
    with Subscriber(
        site.broker.bootstrap_servers, topic=site.settings.recommendations_topic, from_beginning=True
    ) as subscriber:
        news = []
        while len(news) < count:
            message = subscriber.poll(SECONDS)
            assert message is not None, f"{len(news)} of {count} messages, then nothing for {SECONDS} s"
            news.append(message)
        assert subscriber.malformed == 0
        return news


def epoch_of(message: Message) -> int:
    return int(dict(message.headers() or [])[EPOCH_HEADER])


def decoded(messages: list[Message]) -> list[dict]:
    """Lists as anybody reads them: with json.loads and nothing of ours."""
    return [json.loads(message.value()) for message in messages if message.value() is not None]


def samples(metrics: bytes, name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by its labels' values, in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.decode())
        for sample in family.samples
        if sample.name == name
    }


def test_each_record_is_learned_or_a_duplicate_or_a_dead_letter_and_counted(site: Site) -> None:
    send_events(site)
    with EventProducer(site.broker.bootstrap_servers, topic=site.settings.events_topic) as producer:
        for _ in range(3):
            producer.click("u1", "i1", event_id="once")
            producer.rate("u2", "i1", 4.0, event_id="once")
        producer.click("u1", "i2", action="skip")
        producer.impression("u1", "some list", ["i1", "i2"])
        producer.forget("u2")
    produce(site.broker.bootstrap_servers, site.settings.events_topic, [sized(2_000)])  # the longest that is accepted
    send_garbage(site)

    with Worker(site.settings) as worker:
        manifest = worker.run(lambda: False, worker.end_offsets())
        metrics = worker.metrics.render()

    once = {message.partition() for message in site.events() if b'"event_id":"once"' in (message.value() or b"")}
    learned, duplicates = 300 + len(once) + 3 + 1, 6 - len(once)
    assert manifest.counts == Counts(learned, duplicates, len(GARBAGE))
    assert learned + duplicates + len(GARBAGE) == sum(manifest.offsets[site.settings.events_topic].values())
    outcomes: Counter[str] = Counter()
    for (outcome, _), count in samples(metrics, "headrace_events_total").items():
        outcomes[outcome] += int(count)
    assert outcomes == {"learned": learned, "duplicate": duplicates, "dead_letter": len(GARBAGE)}
    assert samples(metrics, "headrace_events_total")["learned", "impression"] == 1
    assert samples(metrics, "headrace_events_total")["learned", "forget"] == 1
    unranked = sum(isinstance(event, Click) and event.action == "skip" for event in tastes(300)) + 3
    assert samples(metrics, "headrace_prequential_samples_total")[()] == learned - unranked


def test_the_checkpoint_and_the_group_are_at_the_end_of_the_topic(site: Site) -> None:
    send_events(site)

    manifest = site.work()

    ends: Counter[int] = Counter(message.partition() for message in site.events())
    assert site.newest_checkpoint() == manifest
    assert manifest.offsets == {site.settings.events_topic: dict(ends)}
    assert site.committed() == dict(ends)


def test_garbage_is_found_in_the_dead_letter_topic_as_it_came_with_the_reason(site: Site) -> None:
    send_garbage(site)
    send_events(site, count=20)
    came = {(message.partition(), message.offset()): message for message in site.events()}

    site.work()

    reasons = {b"key %d" % number: reason for number, (_, reason) in enumerate(GARBAGE)}
    letters = site.dead_letters()
    assert sorted(message.key() for message in letters) == sorted(reasons)
    for letter in letters:
        headers = letter.headers()
        told = {name: value.decode() for name, value in headers[-5:]}
        original = came[int(told["source.partition"]), int(told["source.offset"])]
        assert letter.value() == original.value()
        assert letter.key() == original.key()
        assert headers[:-5] == original.headers()
        assert told["source.topic"] == site.settings.events_topic
        assert told["error.reason"] == reasons[letter.key()]
        assert told["error.detail"].startswith("$")


def test_a_subscriber_reads_lists_of_known_items_that_the_user_has_not_taken(site: Site) -> None:
    send_events(site)
    site.work()
    taken: defaultdict[str, set[str]] = defaultdict(set)
    for event in tastes(300):
        if not isinstance(event, Click) or event.action != "skip":
            taken[event.user_id].add(event.item_id)
    known = {event.item_id for event in tastes(300)}

    news = read_news(site, len(site.lists()))

    newest = {one.user_id: one for one in news if isinstance(one, Recommendations)}
    assert set(newest) == set(taken)
    for user_id, one in newest.items():
        items = [item.item_id for item in one.items]
        scores = [item.score for item in one.items]
        assert len(set(items)) == len(items) == 5
        assert scores == sorted(scores, reverse=True)
        assert set(items) <= known - taken[user_id]


def test_every_list_names_the_newest_event_of_its_user_in_its_step(site: Site) -> None:
    send_events(site)
    site.work()
    newest: dict[tuple[str, int], Message] = {}
    times: dict[int, int] = {}
    for step, records in site.steps():
        times[step] = max(record.timestamp()[1] for record in records)
        for record in records:
            newest[json.loads(record.value())["user_id"], step] = record

    lists = decoded(site.lists())

    assert len(lists) > 50
    for one in lists:
        record = newest[one["user_id"], one["model_version"]]
        assert one["source"] == {
            "topic": site.settings.events_topic,
            "partition": record.partition(),
            "offset": record.offset(),
            "timestamp": record.timestamp()[1],
        }
        assert one["generated_at"] == times[one["model_version"]]
    assert len({one["recommendation_id"] for one in lists}) == len(lists)


def test_a_list_is_published_only_when_its_items_or_their_order_changed(site: Site) -> None:
    send_events(site, count=600)
    with Worker(site.settings) as worker:
        worker.run(lambda: False, worker.end_offsets())
        counted = samples(worker.metrics.render(), "headrace_recommendations_total")

    messages = site.lists()

    of_user: defaultdict[str, list[dict]] = defaultdict(list)
    for one in decoded(messages):
        of_user[one["user_id"]].append(one)
    for lists in of_user.values():
        versions = [one["model_version"] for one in lists]
        assert versions == sorted(set(versions))
        for before, after in pairwise(lists):
            assert [item["item_id"] for item in before["items"]] != [item["item_id"] for item in after["items"]]
    expected = relearned(site.settings, site.steps())
    assert counted == {("published",): len(messages), ("unchanged",): expected.unchanged}
    assert expected.unchanged > 0
    assert {
        Listed(
            one["user_id"],
            one["model_version"],
            tuple(item["item_id"] for item in one["items"]),
            tuple(item["score"] for item in one["items"]),
        )
        for one in decoded(messages)
    } == expected.changed


def test_a_forgotten_user_has_a_tombstone_on_the_topic_and_comes_back_as_a_stranger(site: Site) -> None:
    with EventProducer(site.broker.bootstrap_servers, topic=site.settings.events_topic) as producer:
        for user_id in ("ada", "bob"):
            for item in range(8):
                producer.click(user_id, f"i{item % 4 if user_id == 'ada' else item}")
        producer.forget("ada")
    site.work()

    news = read_news(site, len(site.lists()))

    [tombstone] = [message for message in site.lists() if message.value() is None]
    assert tombstone.key() == b"ada"
    assert {epoch_of(tombstone)} == {epoch_of(message) for message in site.lists()}
    assert [one for one in news if one.user_id == "ada"][-1] == Forgotten("ada")
    assert Forgotten("bob") not in news
    with EventProducer(site.broker.bootstrap_servers, topic=site.settings.events_topic) as producer:
        producer.click("ada", "i7")
    site.work()
    newest = [one for one in decoded(site.lists()) if one["user_id"] == "ada"][-1]
    assert {item["item_id"] for item in newest["items"]} & {"i0", "i1", "i2", "i3"}  # taken before, in another life


def test_a_second_worker_goes_on_where_the_first_one_ended(site: Site) -> None:
    send_events(site, seed=1)
    with EventProducer(site.broker.bootstrap_servers, topic=site.settings.events_topic) as producer:
        producer.click("u1", "i1", event_id="over the restart")
    first = site.work()
    lists_before = len(site.lists())
    send_events(site, seed=2)
    with EventProducer(site.broker.bootstrap_servers, topic=site.settings.events_topic) as producer:
        producer.click("u1", "i1", event_id="over the restart")

    second = site.work()

    assert first.counts == Counts(301, 0, 0)
    assert second.counts == Counts(601, 1, 0)
    assert second.epoch > first.epoch
    expected = relearned(site.settings, site.steps())
    assert second.state_sha256 == expected.state_sha256
    lists = site.lists()
    assert len(lists) == len(expected.changed) > lists_before  # a list of the first half counts as the last one
    assert sorted({epoch_of(message) for message in lists}) == [first.epoch, second.epoch]
    assert len(read_news(site, len(lists))) == len(lists)


def test_a_worker_with_nothing_new_publishes_nothing(site: Site) -> None:
    send_events(site)
    send_garbage(site)
    before = site.work()
    lists, letters = len(site.lists()), len(site.dead_letters())

    after = site.work()

    assert (after.step, after.counts, after.state_sha256) == (before.step, before.counts, before.state_sha256)
    assert (len(site.lists()), len(site.dead_letters())) == (lists, letters)


def test_one_partition_one_event_a_step_ends_in_the_same_state_with_and_without_a_restart(
    broker: Broker, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    site = Site(broker, tmp_path / "whole", unique, partitions=1, batch_size=1)
    send_events(site, count=120)
    with EventProducer(site.broker.bootstrap_servers, topic=site.settings.events_topic) as producer:
        producer.send(Forget(user_id=json.loads(site.events()[0].value())["user_id"], timestamp=NOW))
    whole = site.work()

    halves = site.settings.model_copy(update={"checkpoint_dir": tmp_path / "halves", "group_id": unique("worker")})
    for until in (61, 121):
        with Worker(halves) as worker:
            manifest = worker.run(lambda: False, {0: until})

    assert manifest.step == 121
    assert manifest.state_sha256 == whole.state_sha256
    assert manifest.counts == whole.counts


def test_a_lost_checkpoint_refuses_the_start_until_a_person_chooses(site: Site) -> None:
    send_events(site)
    whole = site.work()
    site.settings.checkpoint_dir.rename(site.settings.checkpoint_dir.with_name("lost"))

    with pytest.raises(CheckpointLost, match="--reset earliest"):
        site.work()

    again = site.work(reset=Reset.EARLIEST)
    assert again.counts == whole.counts
