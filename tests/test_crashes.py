"""A worker that dies at any moment ends, after its restarts, where one that never died would have ended.

The real worker on the in-process broker. Oracle: every step, as the dying workers cut it, is given to a fresh learner
that never stops. Compared are the state to the last bit, the counts, the records that were applied, and the lists.
"""

import itertools
import json
import random
from collections import Counter
from contextlib import suppress
from types import SimpleNamespace

import pytest
from broker_clients import SECONDS, produce, read
from confluent_kafka import Consumer, Producer, TopicPartition
from faulty_disk import FaultyDisk, SimulatedCrash
from stream_fakes import places
from worker_fakes import FakePublisher, InTurn, Watching

from consumer.actions import Interpreter
from consumer.broker import CLIENT_PROPERTIES
from consumer.catalogue import ROWS, Catalogue, Catalogues
from consumer.checkpoint import STATE_FILE, CheckpointStore, Counts
from consumer.config import load
from consumer.decode import Decoder
from consumer.duplicates import RecentEventIds
from consumer.last_lists import LastLists
from consumer.lists import ListWriter
from consumer.loop import Parts, learn_and_publish
from consumer.modelling import make_learner
from consumer.refreshes import Refreshes
from consumer.worker import Worker
from model.state import state_digest
from model.topk import TopK
from producer.events import EPOCH_HEADER, Click, Forget, Impression, Item, Rating, User, encode

PARTITIONS = 2
EVENTS, ITEMS, USERS, LISTS, DEAD = "events", "items", "users", "lists", "dead"

pytestmark = pytest.mark.usefixtures("quick_disk", "quick_producers")


def payloads(count, seed):
    """Records of every kind, as a rough stream has them."""
    draw = random.Random(seed)
    for number in range(count):
        user, item = f"u{draw.randrange(9)}", f"i{int(30 * draw.random() ** 2)}"
        kind = draw.random()
        if kind < 0.04:
            yield b"not JSON"
        elif kind < 0.07:
            yield encode(Forget(user_id=user, timestamp=number))
        elif kind < 0.12:
            yield encode(Impression(user_id=user, recommendation_id="r", items=[item], timestamp=number))
        elif kind < 0.3:
            yield encode(Rating(user_id=user, item_id=item, rating=draw.randint(1, 5), timestamp=number))
        else:
            action = draw.choice(["click", "view", "skip"])
            event_id = f"e{draw.randrange(count)}" if kind < 0.6 else None
            text, context = (f"about {item}", {"place": action}) if number % 3 == 0 else (None, None)
            yield encode(
                Click(
                    user_id=user,
                    item_id=item,
                    timestamp=number,
                    action=action,
                    event_id=event_id,
                    text=text,
                    context=context,
                )
            )


class Site:
    """A broker with events on it, and a folder: what outlives a worker. It keeps the books that the oracle reads."""

    def __init__(self, broker, folder, count=240, seed=1, **settings):
        self.broker = broker
        self.settings = load(
            {
                "bootstrap_servers": broker.bootstrap_servers,
                "librdkafka": CLIENT_PROPERTIES,
                "events_topic": EVENTS,
                "items_topic": ITEMS,
                "users_topic": USERS,
                "recommendations_topic": LISTS,
                "dead_letter_topic": DEAD,
                "checkpoint_dir": folder,
                "checkpoint_seconds": 10,  # of a clock that goes on by one whenever it is looked at
                "batch_size": 8,
                "k": 3,
                "embedding_dim": 8,
                "rating_dim": 4,
                "history_window": 5,
                "device": "cpu",
                **settings,
            },
            environment={},
        )
        self.steps = {}
        """Step -> its records, as it was handed out first."""
        self.changes = {}
        """Step -> what it took in of the catalogue."""
        self.has_lists = {}
        self.starts = 0
        self.crashes = 0
        stream = list(payloads(count, seed))
        self.forgets = [json.loads(payload)["user_id"] for payload in stream if b'"forget"' in payload]
        for partition in range(PARTITIONS):
            produce(broker.bootstrap_servers, EVENTS, stream[partition::PARTITIONS], partition=partition)

    def work(self, prepare=lambda _worker: None, *, threads=False):
        """One process, from its start to its crash or, with everything learned, to its end: its last manifest.

        The catalogue says something new before each start. Checkpoints are written by a thread of their own where
        `threads` says so; otherwise in turn, so that a crash comes where it is asked for.
        """
        self.describe_items()
        try:
            worker = Worker(self.settings, clock=itertools.count().__next__)
        except SimulatedCrash:
            self.crashes += 1
            return None
        try:
            self._keep_books(worker)
            if not threads:
                worker.progress._executor.shutdown()
                worker.progress._executor = InTurn()
                publisher = worker.parts.publisher
                publisher.poll = lambda: publisher.flush(SECONDS)  # nor does it hang on how fast the broker answers
            prepare(worker)
            return worker.run(lambda: False, worker.end_offsets())
        except SimulatedCrash:
            self.crashes += 1
            return None
        finally:
            # What waits in the client's queue dies with a process; what is on its way may arrive.
            producer = worker.parts.publisher._producer
            producer.purge(in_queue=True, in_flight=False)
            producer.flush(SECONDS)
            with suppress(SimulatedCrash):
                worker.close()
            vars(worker.parts.publisher).clear()  # its clients go now: without their broker each would take a second

    def describe_items(self):
        producer = Producer({"bootstrap.servers": self.broker.bootstrap_servers})
        for number in range(40):
            words = f"word {number % 7} of {self.starts if number < 9 else 0}"
            item = Item(item_id=f"i{number}", timestamp=0, title=words, features={"n": float(number)})
            producer.produce(ITEMS, None if number == 3 + self.starts else encode(item), item.item_id)
        for number in range(9):
            of = User(user_id=f"u{number}", timestamp=0, categories=["x"], features={"n": float(number + self.starts)})
            producer.produce(USERS, None if number == 2 + self.starts else encode(of), of.user_id)
        assert producer.flush(SECONDS) == 0
        self.starts += 1

    def _keep_books(self, worker):
        """A step counts from the moment in which it is on the disk: before that nobody hears of it."""
        stream = worker.parts.source
        wait_until_journaled = stream.wait_until_journaled
        taken = []

        def noting(take):
            def noted(*given):
                taken[:] = [take(*given)]
                return taken[0]

            return noted

        def journaled():
            wait_until_journaled()
            first = self.steps.setdefault(stream.step, taken[0])
            assert places(first) == places(taken[0]), f"step {stream.step} is made from other records than before"
            changes = self.changes.setdefault(stream.step, list(stream.changes))
            assert changes == list(stream.changes), f"step {stream.step} took in another catalogue than before"
            assert self.has_lists.setdefault(stream.step, stream.has_lists) == stream.has_lists

        stream.take, stream.step_without_records = noting(stream.take), noting(stream.step_without_records)
        stream.wait_until_journaled = journaled

    def messages(self):
        """The recommendations topic: (user, epoch, value) in order."""
        address = self.broker.bootstrap_servers
        consumer = Consumer({"bootstrap.servers": address, "group.id": "watching"})
        _, end = consumer.get_watermark_offsets(TopicPartition(LISTS, 0), timeout=SECONDS)
        consumer.close()
        return [
            (message.key().decode(), int(dict(message.headers())[EPOCH_HEADER]), message.value())
            for message in read(address, LISTS, end)
        ]


@pytest.fixture
def site(in_process_broker, tmp_path, request):
    broker = in_process_broker({EVENTS: PARTITIONS, ITEMS: 1, USERS: 1, LISTS: 1, DEAD: 1})
    return Site(broker, tmp_path / "state", **getattr(request, "param", {}))


def uninterrupted(site):
    """What a worker that never died makes of the same steps: learner, counts, publisher."""
    settings, publisher = site.settings, FakePublisher()
    learner, counted = make_learner(settings), []
    parts = Parts(
        source=SimpleNamespace(step=0, changes=(), has_lists=True, wait_until_journaled=lambda: None),
        decode=Decoder(),
        seen_ids=RecentEventIds(),
        catalogue=Catalogues(Catalogue(learner.describe), Catalogue(learner.describe_users, rows=ROWS["users"])),
        interpret=Interpreter(settings.action_weights, settings.default_weight, settings.rating_weight),
        learner=learner,
        refreshes=Refreshes(0, lambda: 0.0),
        top_k=TopK(learner, settings.k, cold_items=settings.cold_items),
        publisher=publisher,
        lists=ListWriter(
            publisher,
            LastLists(),
            lambda _times, _sent, _lists: None,
            topic=EVENTS,
            users=learner.users,
            items=learner.items,
            catalogue=learner.catalogue_ids,
        ),
        observer=Watching(),
        progress=SimpleNamespace(count=counted.append, note_moved=lambda _rows: None),
    )
    for parts.source.step in sorted(site.steps):
        parts.source.changes = site.changes[parts.source.step]
        parts.source.has_lists = site.has_lists[parts.source.step]
        learn_and_publish(parts, site.steps[parts.source.step])
    sums = zip(*((one.learned, one.duplicates, one.dead_letters) for one in counted), strict=True)
    return learner, Counts(*map(sum, sums)), publisher


def assert_as_if_never_stopped(site, manifest):
    learner, counts, publisher = uninterrupted(site)
    saved, _ = CheckpointStore(site.settings.checkpoint_dir).newest()
    assert saved == manifest

    # Every record is inside exactly once.
    applied = Counter(place for records in site.steps.values() for place in places(records))
    ends = dict.fromkeys(range(PARTITIONS), 120)
    assert applied == Counter((partition, offset) for partition, end in ends.items() for offset in range(end))
    assert list(site.steps) == list(range(1, len(site.steps) + 1))
    assert saved.offsets == {EVENTS: ends}
    assert saved.counts == counts
    assert counts.learned + counts.duplicates + counts.dead_letters == 240
    assert min(counts.duplicates, counts.dead_letters) > 0

    # The state is the same to the last bit.
    assert saved.state_sha256 == state_digest(learner.state())
    assert saved.model_version == learner.version

    # The lists are the same, byte for byte, under the same numbers; a repeat comes with a higher epoch only.
    messages = site.messages()
    epochs = [epoch for _, epoch, _ in messages]
    assert epochs == sorted(epochs)
    assert epochs[-1] <= manifest.epoch
    published = [(user, value) for user, _, value in messages]
    assert set(published) == set(publisher.records)
    assert dict(published) == dict(publisher.records), "the newest of each user"
    forgotten = Counter(user for user, value in published if value is None)
    assert forgotten >= Counter(site.forgets)


# --- where a worker may die ---


def dying(owner, name, at, *, done):
    """Let the call with this number, counted from 1, be the last thing that happens; `done`: it still does happen."""
    real, calls = getattr(owner, name), itertools.count(1)

    def last(*given, **named):
        number = next(calls)
        if number == at and not done:
            raise SimulatedCrash
        result = real(*given, **named)
        if number == at:
            raise SimulatedCrash
        return result

    setattr(owner, name, last)


def after_take(worker, at):
    dying(worker.source, "take", at, done=True)


def after_journal(worker, at):
    dying(worker._journal, "append", at, done=True)


def after_dead_letters(worker, at):
    dying(worker.parts.publisher, "dead_letter", at, done=True)


def after_learning(worker, at):
    dying(worker.learner, "test_then_learn", at, done=True)


def before_a_list_is_sent(worker, at):
    dying(worker.parts.publisher, "send", at, done=False)


def after_a_list_was_sent(worker, at):
    dying(worker.parts.publisher, "send", at, done=True)


def after_the_copy(worker, at):
    dying(worker.parts.publisher, "mark", at, done=True)


def before_the_checkpoint_is_written(worker, at):
    dying(worker.store, "prepare", at, done=False)


def before_the_checkpoint_has_its_name(worker, at):
    dying(worker.store, "keep", at, done=False)


def after_the_checkpoint(worker, at):
    dying(worker.store, "keep", at, done=True)


def before_commit(worker, at):
    dying(worker.source, "commit_soon", at, done=False)


def after_commit(worker, at):
    dying(worker.source, "commit_soon", at, done=True)


PLACES = [
    after_take,
    after_journal,
    after_dead_letters,
    after_learning,
    before_a_list_is_sent,
    after_a_list_was_sent,
    after_the_copy,
    before_the_checkpoint_is_written,
    before_the_checkpoint_has_its_name,
    after_the_checkpoint,
    before_commit,
    after_commit,
]


def test_a_worker_that_never_died_is_what_the_oracle_says(site):
    manifest = site.work()

    assert site.crashes == 0
    assert_as_if_never_stopped(site, manifest)


@pytest.mark.parametrize("die", PLACES, ids=lambda die: die.__name__)
def test_a_worker_that_dies_there_three_times_ends_as_if_it_had_not(site, die):
    # While steps are repeated everything that is there comes with the first take.
    for at in (2, 1, 1) if die is after_take else (3, 2, 1):
        site.work(lambda worker, at=at: die(worker, at))

    manifest = site.work()

    assert site.crashes == 3
    assert_as_if_never_stopped(site, manifest)


@pytest.mark.parametrize("site", [{"max_users": 4}], indirect=True)
@pytest.mark.parametrize("die", [after_journal, after_a_list_was_sent, after_the_copy], ids=lambda die: die.__name__)
def test_a_worker_that_keeps_few_users_and_dies_ends_as_if_it_had_not(site, die):
    evicted = []
    for at in (3, 4, 2):
        site.work(lambda worker, at=at: (die(worker, at), note_evictions(worker, evicted)))

    manifest = site.work(lambda worker: note_evictions(worker, evicted))

    assert site.crashes == 3
    assert sum(evicted) > 40
    assert_as_if_never_stopped(site, manifest)


@pytest.mark.parametrize("site", [{"max_items": 4}, {"max_items": 4, "max_users": 4}], indirect=True)
@pytest.mark.parametrize("die", [after_journal, after_a_list_was_sent, after_the_copy], ids=lambda die: die.__name__)
def test_a_worker_that_keeps_few_items_and_dies_ends_as_if_it_had_not(site, die):
    evicted = []
    for at in (3, 4, 2):
        site.work(lambda worker, at=at: (die(worker, at), note_evictions(worker, evicted, "evicted_I")))

    manifest = site.work(lambda worker: note_evictions(worker, evicted, "evicted_I"))

    assert site.crashes == 3
    assert sum(evicted) > 10
    assert_as_if_never_stopped(site, manifest)


def note_evictions(worker, evicted, name="evicted_U"):
    learn = worker.learner.test_then_learn

    def noted(*given):
        step = learn(*given)
        evicted.append(len(getattr(step, name)))
        return step

    worker.learner.test_then_learn = noted


@pytest.mark.parametrize("power_lost", [False, True], ids=["killed", "power lost"])
def test_a_worker_that_dies_at_effects_on_the_disk_ends_as_if_it_had_not(site, power_lost):
    disk = FaultyDisk(site.settings.checkpoint_dir)
    done = []
    for at in (3, 3, 9, 12, 15, 17, 23, 40):
        with disk.watched(fail_at=at):
            site.work()
        done.append(disk.effects[-1])
        if power_lost:
            disk.lose_power()

    manifest = site.work()

    assert site.crashes == len(done)
    assert len(set(done)) >= 4, f"the crashes came in different places: {done}"
    assert_as_if_never_stopped(site, manifest)


@pytest.mark.parametrize("at", [5, 11, 17])
def test_a_worker_that_dies_while_another_thread_writes_ends_as_if_it_had_not(site, at):
    for _ in range(3):
        site.work(lambda worker: dying(worker.source, "take", at, done=True), threads=True)

    manifest = site.work(threads=True)

    assert site.crashes >= 1
    assert_as_if_never_stopped(site, manifest)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_worker_that_dies_here_and_there_and_finds_its_newest_checkpoint_damaged_ends_as_if_it_had_not(site, seed):
    draw = random.Random(seed)
    for _ in range(5):
        die, at = draw.choice(PLACES), draw.randint(1, 4)
        site.work(lambda worker, die=die, at=at: die(worker, at))
        checkpoints = list(CheckpointStore(site.settings.checkpoint_dir).paths())
        if len(checkpoints) > 1 and draw.random() < 0.5:
            (checkpoints[0] / STATE_FILE).write_bytes(b"")

    manifest = site.work()

    assert site.crashes >= 4
    assert_as_if_never_stopped(site, manifest)
