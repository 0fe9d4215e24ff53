"""The catalogue is read whole, followed, and taken in by steps that can be made again; what is bad is passed over."""

import json
import time

import pytest
from catalogue_cases import Items, Told, Users, ids, read_anew, reading, reading_users, restarted
from confluent_kafka import Producer
from faulty_disk import SimulatedCrash, without_waiting
from stream_fakes import TIME_MS, FakeSource, Topic, click
from structlog.testing import capture_logs
from worker_fakes import FakeWorker

from consumer.broker import CLIENT_PROPERTIES, InProcessBroker
from consumer.catalogue import MOST_TAKEN_AT_ONCE, ROWS, Catalogue, Catalogues, RowOutcome, content_of
from consumer.config import Settings
from consumer.journal import Change, Entry, Journal, Run
from consumer.offsets import Reset
from consumer.worker import Worker
from model.entries import ItemContent
from model.state import state_digest
from producer.events import Forget, Item, User, encode


@pytest.fixture
def items():
    return Items()


# --- what is taken in ---


def test_a_start_takes_in_the_newest_row_of_each_item_and_nothing_of_the_older_ones(items):
    items.put("a", title="old")
    items.put("b", title="b")
    items.put("a", title="new")
    items.put("gone", title="x")
    items.put("gone", None)
    told = Told()
    catalogue = reading(items, told)

    catalogue.apply(catalogue.take())

    assert told == [{"a": ItemContent(title="new"), "b": ItemContent(title="b"), "gone": None}]


def test_an_items_fields_come_to_the_model_as_they_are():
    item = Item(
        item_id="a",
        timestamp=1,
        title="t",
        text="x",
        categories=["c"],
        features={"p": 1.5},
        vector=[1.0],
        available=False,
    )

    assert content_of(item) == ItemContent("t", "x", ["c"], {"p": 1.5}, [1.0], False)


def test_reading_ends_with_what_a_look_up_raises_however_long_the_broker_is_away(items):
    items.put("a")
    catalogue, source = Catalogue(Told()), FakeSource(items)
    source.seek(None, Reset.EARLIEST)
    source.take = lambda *_: []
    looks = iter([None] * 5)

    with pytest.raises(StopIteration):
        catalogue.read(source, look_up=lambda: next(looks))


def test_what_comes_later_is_taken_in_before_the_next_step_and_only_once(items):
    items.put("a", title="a")
    told = Told()
    catalogue = reading(items, told)
    catalogue.apply(catalogue.take())
    items.put("b", title="b")
    items.put("a", None)

    changes = catalogue.take()
    catalogue.apply(changes)

    assert ids(changes) == [("b", True), ("a", False)]
    assert told[1] == {"b": ItemContent(title="b"), "a": None}
    assert catalogue.take() == []


def test_a_row_that_says_what_is_known_is_no_change(items):
    counted = []
    items.put("a", title="a")
    catalogue = reading(items, count=lambda _kind, outcome, rows: counted.append((outcome, rows)))
    catalogue.apply(catalogue.take())
    items.put("a", title="a")

    assert catalogue.take() == []
    assert (RowOutcome.UNCHANGED, 1) in counted
    assert (RowOutcome.TAKEN, 1) in counted


def test_a_row_that_vanished_from_the_topic_while_the_worker_was_away_is_taken_for_removed(items):
    items.put("a", title="a")
    items.put("b", title="b")
    first = reading(items)
    first.apply(first.take())
    items.put("a", None)
    items.put("b", title="b")
    items.records[0] = [row for row in items.records[0] if row.key() != b"a"]
    second = restarted(first, items)

    assert ids(second.take()) == [("a", False)]


def test_a_removal_is_told_once_also_over_restarts(items):
    items.put("a", None)
    first = reading(items)
    first.apply(first.take())
    second = restarted(first, items)

    assert second.take() == []


def test_without_a_catalogue_there_is_nothing_to_take_and_nothing_to_save():
    catalogue = Catalogue(Told())

    assert catalogue.take() == []
    assert catalogue.state() == {}
    catalogue.load({})


# --- bad rows ---


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("a", b"no json", "malformed"),
        ("a", b"", "truncated"),
        ("a", b'{"item_id":"a"}', "timestamp"),
        ("a", b'{"item_id":"a","timestamp":1,"title":"\xff"}', "utf-8"),
        ("a", b'{"item_id":"a","timestamp":1,"vector":["x"]}', "$.vector"),
        ("a", b'{"item_id":"b","timestamp":1}', "expected the record's key 'a', got 'b'"),
        (
            "a",
            json.dumps({"item_id": "a", "timestamp": 1, "vector": [0.5] * 4097}).encode(),
            "length <= 4096 - at `$.vector`",
        ),
        ("a", b"[" * 100_000, ""),
        (b"\xff", b"{}", ""),
        ("", None, "key: expected item_id of 1"),
        ("x" * 257, None, "key: expected item_id of 1"),
    ],
)
def test_a_bad_row_is_counted_and_logged_and_what_was_known_stays(items, key, value, why):
    counted = []
    items.put("a", title="good")
    catalogue = reading(items, count=lambda *counts: counted.append(counts[1]))
    catalogue.apply(catalogue.take())
    items.put(key, value) if value != b"{}" else items.append(0, value)

    with capture_logs() as logs:
        changes = catalogue.take()

    assert changes == []
    assert counted.count(RowOutcome.REJECTED) == 1
    assert logs[0]["log_level"] == "warning"
    assert (logs[0]["topic"], logs[0]["partition"], logs[0]["offset"]) == ("items", 0, 1)
    assert why.lower() in logs[0]["why"].lower()


def test_a_flood_of_bad_rows_is_counted_but_does_not_flood_the_log(items):
    counted = []
    for number in range(100):
        items.put(f"i{number}", b"bad")

    with capture_logs() as logs:
        reading(items, count=lambda *counts: counted.append(counts[1]))

    warnings = [log for log in logs if log["log_level"] == "warning"]
    assert counted.count(RowOutcome.REJECTED) == 100
    assert [log["passed_over"] for log in warnings] == [1, 2, 4, 8, 16, 32, 64]
    assert [log["offset"] for log in warnings] == [0, 1, 3, 7, 15, 31, 63]


def test_a_bad_row_in_the_place_of_a_good_one_does_not_remove_the_item_at_the_next_start(items):
    items.put("a", title="good")
    first = reading(items)
    first.apply(first.take())
    items.put("a", b"bad")
    items.compact()
    second = restarted(first, items)

    assert second.take() == []


# --- rows of one id in several partitions ---


@pytest.fixture
def two_partitions():
    """Partition 0, which is read first, has the later words on a, b and c; on d both were sent at the same time."""
    items = Items(2)
    for item_id in "abcd":
        items.put(item_id, title="old", partition=1, time_ms=TIME_MS)
    items.put("a", title="new", time_ms=TIME_MS + 5)
    items.put("b", None, time_ms=TIME_MS + 5)
    items.put("c", None, time_ms=TIME_MS + 1)
    items.put("c", title="back", time_ms=TIME_MS + 2)
    items.put("d", title="as good", time_ms=TIME_MS)
    return items


def values(changes):
    return {change.name: change.value and json.loads(change.value)["title"] for change in changes}


def test_of_rows_in_two_partitions_a_start_takes_the_one_that_was_sent_last(two_partitions):
    changes = reading(two_partitions).take()

    assert values(changes) == {"a": "new", "b": None, "c": "back", "d": "old"}, "of equals the last to come"


def test_a_restart_changes_nothing_where_rows_lie_in_two_partitions(two_partitions):
    first = reading(two_partitions)
    first.apply(first.take())
    second = restarted(first, two_partitions)

    assert second.take() == []


def test_what_comes_late_by_another_partition_is_passed_over_a_removal_too(two_partitions):
    counted = []
    catalogue = reading(two_partitions, count=lambda *counts: counted.append(counts[1:]))
    catalogue.apply(catalogue.take())
    counted.clear()
    two_partitions.put("a", None, partition=1, time_ms=TIME_MS + 4)
    two_partitions.put("b", title="stale", partition=1, time_ms=TIME_MS + 4)
    two_partitions.put("c", title="newer", partition=1, time_ms=TIME_MS + 4)

    assert values(catalogue.take()) == {"c": "newer"}
    assert counted.count((RowOutcome.UNCHANGED, 1)) == 2


def test_in_one_partition_the_last_row_counts_whatever_its_producers_clock_said(items):
    items.put("a", title="first", time_ms=TIME_MS + 9)
    items.put("a", title="last", time_ms=TIME_MS)

    assert values(reading(items).take()) == {"a": "last"}


# --- what is kept ---


def test_ids_that_were_removed_are_kept_as_long_as_the_topic_has_them_and_no_longer(items):
    items.put("a", None)
    first = reading(items)
    first.apply(first.take())
    items.put("b", b"bad")
    items.records[0] = items.records[0][1:]
    second = restarted(first, items)

    changes = second.take()

    assert changes == []
    assert "digests" in first.state()
    assert second.state() == {}


def test_items_and_users_are_saved_and_loaded_side_by_side(items):
    users = Users()
    items.put("a", title="a")
    users.put("a", categories=["x"])
    told_items, told_users = Told(), Told()
    both = Catalogues(reading(items, told_items), reading_users(users, told_users))
    both.apply(both.take())

    other = Catalogues(Catalogue(Told()), Catalogue(Told(), rows=ROWS["users"]))
    other.load(both.state())
    read_anew(other.items, items)
    read_anew(other.users, users)

    assert (told_items, told_users) == ([{"a": ItemContent(title="a")}], [{"a": ItemContent(categories=["x"])}])
    assert other.take() == []
    assert {name: array.tolist() for name, array in other.state().items()} == {
        name: array.tolist() for name, array in both.state().items()
    }


# --- in the worker ---


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A function that starts a worker with a catalogue on this test's folder; the one before it ends."""
    without_waiting(monkeypatch)
    started = []

    def run(topic, items, folder="state", **named):
        for one in started:
            one.close()
        started.append(FakeWorker(tmp_path / folder, topic, **named))
        read_anew(started[-1].catalogue.items, items)
        return started[-1]

    yield run

    for one in started:
        one.close()


def clicks(topic, first, end):
    topic.append(0, *[click(f"u{n % 4}", f"i{n % 5}", event_id=f"e{n}") for n in range(first, end)])


def described(worker):
    content = worker.learner.ranking.content
    return set() if content is None else {content.ids.name(row) for row in range(len(content.ids))}


def test_the_catalogue_is_taken_in_before_the_first_event_is_learned(start, items):
    topic = Topic()
    items.put("i1", title="one")
    items.put("cold", title="one")
    clicks(topic, 0, 5)
    worker = start(topic, items)

    worker.run()

    assert described(worker) == {"i1", "cold"}
    assert worker.learner.ranking.content.born_cold_X[: len(described(worker))].tolist() == [True, False]


def test_steps_are_made_again_with_what_the_catalogue_said_then_even_if_the_topic_has_forgotten_it(start, items):
    topic = Topic()
    items.put("i1", title="first words", categories=["x"])
    items.put("i2", title="first thing", categories=["x"])
    clicks(topic, 0, 40)
    worker = start(topic, items)
    worker.run(until={0: 20}, batch_size=5)
    items.put("i1", available=False)
    items.put("i3", title="other words", categories=["x"])
    worker.failing["keep"] = SimulatedCrash()
    with pytest.raises(SimulatedCrash):
        worker.run(batch_size=5)
    state, sent = state_digest(worker.learner.state()), worker.messages()
    items.put("i1", title="back again")
    items.put("i3", None)
    items.compact()

    again = start(topic, items)
    steps = again.stream.steps_to_repeat
    again.run(batch_size=5)

    assert steps > 0
    assert state_digest(again.learner.state()) == state
    assert again.messages() == sent[len(sent) - len(again.messages()) :]
    assert ids(again.catalogue.items.take()) == [("i1", True), ("i3", False)], "the news waits for a new step"


def test_rows_that_come_while_no_event_does_are_taken_in_by_steps_of_their_own_and_made_again(start, items):
    topic = Topic()
    clicks(topic, 0, 5)
    worker = start(topic, items)
    worker.run()
    rows = 2 * MOST_TAKEN_AT_ONCE + 5
    for number in range(rows):
        items.put(f"new{number}", title="words", categories=["x"])
    before = worker.stream.step
    worker.failing["flush"] = SimulatedCrash()
    takes = len(worker.effects)
    with pytest.raises(SimulatedCrash):
        worker.run(until={0: 6}, stopping=lambda: worker.effects[takes:].count("take") == 5)
    state, steps = state_digest(worker.learner.state()), worker.stream.step - before

    again = start(topic, items)
    steps_to_repeat = again.stream.steps_to_repeat
    again.run()

    assert len(described(worker)) == rows
    assert steps == steps_to_repeat == 3, "the takes after them found nothing, and made no step"
    assert [len(batch.taken) for batch in worker.observer.batches[-3:]] == [0, 0, 0]
    assert state_digest(again.learner.state()) == state
    assert again.stream.step == worker.stream.step


def test_a_large_catalogue_is_taken_in_by_several_steps_before_the_first_event(start, items, monkeypatch):
    monkeypatch.setattr("consumer.catalogue.MOST_TAKEN_AT_START", 3)
    topic = Topic()
    for number in range(8):
        items.put(f"i{number}", title="one")
    clicks(topic, 0, 5)
    killed = start(topic, items)
    killed.failing["flush"] = SimulatedCrash()
    with pytest.raises(SimulatedCrash):
        killed.run(stopping=lambda: killed.stream.step == 2)
    half = described(killed)

    worker = start(topic, items)
    worker.run()
    restarted = start(topic, items)
    restarted.run(until={0: 6}, stopping=lambda: restarted.effects.count("take") == 1)

    assert half == {f"i{number}" for number in range(6)}
    assert [len(batch.taken) for batch in worker.observer.batches] == [0, 0, 0, 5], "two made again"
    assert described(worker) == {f"i{number}" for number in range(8)}
    assert restarted.observer.batches == [], "what is known already is no step"


def test_a_restart_goes_on_with_the_catalogue_of_the_checkpoint(start, items):
    topic = Topic()
    items.put("i1", title="one")
    clicks(topic, 0, 10)
    before = start(topic, items)
    before.run()

    worker = start(topic, items)

    assert state_digest(worker.learner.state()) == state_digest(before.learner.state())
    assert worker.catalogue.take() == []


def test_a_list_whose_item_took_the_row_of_a_removed_one_is_published(start, items, monkeypatch):
    monkeypatch.setattr("model.content.REST_EVENTS", 10)
    topic = Topic()
    alike = {"title": "alpha beta", "categories": ["x"]}
    items.put("i0", **alike)
    items.put("before", **alike)
    topic.append(0, click("u", "i0"))
    worker = start(topic, items)
    worker.top_k.cold_items = True
    worker.run()
    items.put("before", None)
    topic.append(0, *[click(f"w{n}", "i0") for n in range(12)])
    worker.run(batch_size=1)
    items.put("after", **alike)
    topic.append(0, click("u", "i0"))

    worker.run()

    content = worker.learner.ranking.content
    assert (content.ids.row("before"), content.ids.row("after")) == (None, 1)
    lists = [[item.item_id for item in one.items] for one in worker.publisher.lists if one.user_id == "u"]
    assert lists == [["before"], ["after"]]


def test_the_journal_gives_back_changes_as_they_were_and_lines_without_any_read_as_ever(tmp_path, monkeypatch):
    without_waiting(monkeypatch)
    journal = Journal(tmp_path)
    changes = [Change("a", '{"title":"ü \U0001f600"}'.encode()), Change("\x00 b", None), Change("u", b"{}", "users")]
    journal.start_segment(0)
    journal.append(1, [Run(0, 0, 3)], changes)
    journal.append(2, [Run(0, 3, 4)])

    entries = journal.steps_after(0)
    journal.close()

    assert entries == [Entry(1, [Run(0, 0, 3)], changes), Entry(2, [Run(0, 3, 4)])]


def send(broker, topic, *records):
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for key, value in records:
        producer.produce(topic, value, key)
    assert producer.flush(20) == 0


def settings_for(broker, folder):
    return Settings(
        bootstrap_servers=broker.bootstrap_servers,
        librdkafka=CLIENT_PROPERTIES,
        checkpoint_dir=folder,
        device="cpu",
        encoder="recency",
        k=9,
    )


def test_the_worker_reads_and_follows_the_topic_and_cold_items_reach_the_lists(tmp_path):
    topics = dict.fromkeys(("recs.events.v1", "recs.items.v1", "recs.recommendations.v1", "dlq.recs.events.v1"), 2)
    rows = [(n, encode(Item(item_id=n, timestamp=0, title="a word", categories=["x"]))) for n in ("i0", "cold", "shy")]
    with InProcessBroker(topics) as broker:
        send(broker, "recs.items.v1", *rows, ("shy", None), ("bad", b"{"))
        send(broker, "recs.events.v1", *[(f"u{n % 3}", click(f"u{n % 3}", f"i{n % 4}")) for n in range(24)])
        with Worker(settings_for(broker, tmp_path)) as worker:
            worker.run(lambda: False, worker.end_offsets())
            [listed] = worker.parts.top_k.lists_of(["u0"])
            rejected = worker.metrics.registry.get_sample_value(
                "headrace_catalogue_rows_total", {"kind": "items", "outcome": "rejected"}
            )
            send(broker, "recs.items.v1", ("cold", None))
            send(broker, "recs.events.v1", ("u0", click("u0", "i1")))
            state = state_digest(worker.learner.state())
        with Worker(settings_for(broker, tmp_path)) as worker:
            restored = state_digest(worker.learner.state())
            worker.run(lambda: False, worker.end_offsets())
            [listed_later] = worker.parts.top_k.lists_of(["u0"])

    assert "cold" in listed.item_ids
    assert "shy" not in listed.item_ids
    assert rejected == 1
    assert restored == state
    assert "cold" not in listed_later.item_ids


def test_the_worker_reads_the_users_topic_and_a_forget_erases_what_it_said(tmp_path):
    topics = dict.fromkeys(
        ("recs.events.v1", "recs.items.v1", "recs.users.v1", "recs.recommendations.v1", "dlq.recs.events.v1"), 2
    )
    rows = [(f"u{n}", encode(User(user_id=f"u{n}", timestamp=0, categories=["x"]))) for n in range(3)]
    forget = ("u0", encode(Forget(user_id="u0", timestamp=1)))
    with InProcessBroker(topics) as broker:
        send(broker, "recs.users.v1", *rows, ("bad", b"{"))
        send(broker, "recs.events.v1", ("u0", click("u0", "i0")), ("u1", click("u1", "i1")))
        with Worker(settings_for(broker, tmp_path)) as worker:
            worker.run(lambda: False, worker.end_offsets())
            said = worker.learner.said.content.ids.in_use
            rejected = worker.metrics.registry.get_sample_value(
                "headrace_catalogue_rows_total", {"kind": "users", "outcome": "rejected"}
            )
            send(broker, "recs.events.v1", forget)
        with Worker(settings_for(broker, tmp_path)) as worker:
            worker.run(lambda: False, worker.end_offsets())
            state = state_digest(worker.learner.state())
        with Worker(settings_for(broker, tmp_path)) as worker:
            send(broker, "recs.events.v1", ("u1", click("u1", "i0")))
            restored = state_digest(worker.learner.state())
            worker.run(lambda: False, worker.end_offsets())

            assert worker.learner.said.content.ids.row("u0") is None
            assert worker.learner.said.content.ids.row("u1") is not None
    assert (said, rejected) == (3, 1)
    assert restored == state


def test_a_worker_without_an_items_topic_says_so_and_works(tmp_path, caplog):
    topics = dict.fromkeys(("recs.events.v1", "recs.recommendations.v1", "dlq.recs.events.v1"), 1)
    with InProcessBroker(topics) as broker:
        send(broker, "recs.events.v1", ("u0", click("u0", "i1")))
        with capture_logs() as logs, Worker(settings_for(broker, tmp_path)) as worker:
            worker.run(lambda: False, worker.end_offsets())

            assert worker.learner.ranking.content is None
            worker.source.close()
            broker.disconnect()
            time.sleep(0.5)  # a client that is still there notices
        broker.reconnect()
    said = [entry["event"] for entry in logs]
    assert any("no catalogue of items" in event for event in said)
    assert any("no catalogue of users" in event for event in said)
    assert "waiting for the broker" not in caplog.text, "nobody reads what is not there"
