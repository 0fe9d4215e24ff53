"""What a worker works on, and what outlives it: topics on a broker and a folder. Plain clients look at both.

`relearned` is the oracle of the tests that kill workers: a learner that never stops, given the same steps.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from broker_clients import SECONDS
from columns import One, each
from confluent_kafka import Consumer, Message, TopicPartition
from conftest import Broker
from torch import Tensor

from consumer.actions import to_model
from consumer.checkpoint import CheckpointStore, Manifest, read_checkpoint
from consumer.config import Settings, load
from consumer.decode import Decoder
from consumer.journal import Journal
from consumer.modelling import make_learner
from consumer.records import Taken
from consumer.source import Record
from consumer.worker import Worker
from model.interactions import Forget
from model.learner import Learner
from model.state import state_digest
from model.topk import TopK
from producer.events import Click, Event, Rating

SMALL: Mapping[str, object] = {
    "device": "cpu",
    "batch_size": 16,
    "k": 5,
    "embedding_dim": 8,
    "rating_dim": 4,
    "history_window": 5,
    "max_event_bytes": 2_000,
    "checkpoint_seconds": 3600,
}


def tastes(count: int, seed: int = 0, users: int = 12, items: int = 40) -> Iterator[Event]:
    """Clicks, views, skips and ratings, now, of people who each like one half of the items."""
    draw = random.Random(seed)
    now = time.time_ns() // 1_000_000
    for number in range(count):
        user = draw.randrange(users)
        item = f"i{2 * int(items / 2 * draw.random() ** 2) + (user + (draw.random() < 0.1)) % 2}"
        who = {"user_id": f"u{user}", "item_id": item, "timestamp": now - count + number}
        if draw.random() < 0.3:
            yield Rating(**who, rating=draw.randint(1, 10) / 2)
        else:
            yield Click(**who, action=draw.choices(["click", "view", "skip"], [6, 3, 1])[0])


class Site:
    """Three topics with names of their own, and a folder; `settings` are those of the worker, small ones by default."""

    def __init__(
        self, broker: Broker, folder: Path, unique: Callable[[str], str], *, partitions: int = 3, **settings: object
    ) -> None:
        self.broker = broker
        compacted = {"cleanup.policy": "compact"}
        self.settings: Settings = load(
            {
                **SMALL,
                "bootstrap_servers": broker.bootstrap_servers,
                "librdkafka": broker.librdkafka,
                "group_id": unique("worker"),
                "events_topic": broker.create_topic(unique("events"), partitions),
                "recommendations_topic": broker.create_topic(unique("lists"), partitions, compacted),
                "dead_letter_topic": broker.create_topic(unique("dead")),
                "checkpoint_dir": folder,
                **settings,
            },
            environment={},
        )

    def work(self, **options: object) -> Manifest:
        """One worker, from its start to the end of the topic as it is now: its last checkpoint."""
        with Worker(self.settings, **options) as worker:  # type: ignore[arg-type]
            return worker.run(lambda: False, worker.end_offsets())

    def events(self) -> list[Message]:
        return everything(self.broker.bootstrap_servers, self.settings.events_topic)

    def lists(self) -> list[Message]:
        """The records of the recommendations topic, tombstones among them."""
        return everything(self.broker.bootstrap_servers, self.settings.recommendations_topic)

    @contextmanager
    def counting_lists(self) -> Iterator[Callable[[], int]]:
        """A function that says, cheaply, how many lists and tombstones were ever published."""
        topic = self.settings.recommendations_topic
        consumer = _consumer(self.broker.bootstrap_servers, "counting")
        places = [TopicPartition(topic, number) for number in consumer.list_topics(topic).topics[topic].partitions]
        try:
            yield lambda: sum(consumer.get_watermark_offsets(place, SECONDS)[1] for place in places)
        finally:
            consumer.close()

    def dead_letters(self) -> list[Message]:
        return everything(self.broker.bootstrap_servers, self.settings.dead_letter_topic)

    def committed(self) -> dict[int, int]:
        """The offsets that lag tools see."""
        topic = self.settings.events_topic
        consumer = _consumer(self.broker.bootstrap_servers, self.settings.group_id)
        try:
            wanted = [TopicPartition(topic, number) for number in consumer.list_topics(topic).topics[topic].partitions]
            return {found.partition: found.offset for found in consumer.committed(wanted, timeout=SECONDS)}
        finally:
            consumer.close()

    def newest_checkpoint(self) -> Manifest:
        """Read from the folder, every byte checked."""
        found = CheckpointStore(self.settings.checkpoint_dir).newest()
        assert found is not None
        return found[0]

    def steps(self) -> Iterator[tuple[int, list[Message]]]:
        """Each step since the oldest checkpoint and its records in the order in which they were learned."""
        found = {(message.partition(), message.offset()): message for message in self.events()}
        oldest = CheckpointStore(self.settings.checkpoint_dir).oldest_step()
        for step, runs, *_ in Journal(self.settings.checkpoint_dir / "journal").steps_after(oldest):
            yield step, [found[run.partition, offset] for run in runs for offset in range(run.first, run.next)]


def everything(bootstrap_servers: str, topic: str) -> list[Message]:
    """All records of a topic; those of a partition in their order."""
    consumer = _consumer(bootstrap_servers, "reading-everything")
    try:
        places = [TopicPartition(topic, number, 0) for number in consumer.list_topics(topic).topics[topic].partitions]
        count = sum(end - first for first, end in (consumer.get_watermark_offsets(place, SECONDS) for place in places))
        consumer.assign(places)
        messages: list[Message] = []
        while len(messages) < count:
            came = consumer.consume(count - len(messages), SECONDS)
            assert came, f"{len(messages)} of {count} records of {topic}, then nothing for {SECONDS} s"
            messages += came
        assert [message.error() for message in messages] == [None] * count
        return messages
    finally:
        consumer.close()


def _consumer(bootstrap_servers: str, group_id: str) -> Consumer:
    # The in-process broker lets an empty fetch wait out its time, half a second by default.
    return Consumer({"bootstrap.servers": bootstrap_servers, "group.id": group_id, "fetch.wait.max.ms": 5})


class Listed(NamedTuple):
    """A list that a learner made of a user: what a reader of the topic can see of it."""

    user_id: str
    model_version: int
    items: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass
class Relearned:
    """What a learner that never stopped makes of all steps."""

    learned: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    state_sha256: str = ""
    changed: set[Listed] = field(default_factory=set)
    unchanged: int = 0


def relearned(
    settings: Settings,
    steps: Iterator[tuple[int, list[Message]]],
    look: Callable[[int, Learner], None] | None = None,
) -> Relearned:
    """Learn the steps one after the other, with duplicates and changes looked after in plain Python.

    `look` is shown the learner after each step.
    """
    decode = Decoder(settings.rating_min, settings.rating_max, settings.max_future_seconds, settings.max_event_bytes)
    learner = make_learner(settings)
    top_k = TopK(learner, settings.k)
    newest_ids: dict[int, deque[str]] = {}
    last: dict[str, tuple[str, ...]] = {}
    result = Relearned()
    for step, records in steps:
        events, rejects = decode(Taken(as_records(records)))
        accepted = each(events)
        fresh = [one for one in accepted if not _repeats(one, newest_ids)]
        result.learned += len(fresh)
        result.duplicates += len(accepted) - len(fresh)
        result.dead_letters += len(rejects)
        weights = settings.action_weights, settings.default_weight, settings.rating_weight
        meant = [meaning for one in fresh if (meaning := to_model(one.event, *weights)) is not None]
        done = learner.test_then_learn(meant, step)
        if look is not None:
            look(step, learner)
        touched: set[str] = set()
        for meaning in meant:
            if isinstance(meaning, Forget):
                last.pop(meaning.user_id, None)
                touched.discard(meaning.user_id)
            else:
                touched.add(meaning.user_id)
        names = [learner.users.name(row) for row in done.touched_users().tolist()]
        assert sorted(touched) == sorted(names)
        for one in top_k.lists_of(names):
            items = tuple(one.item_ids)
            if last.get(one.user_id) == items:
                result.unchanged += 1
            else:
                last[one.user_id] = items
                result.changed.add(Listed(one.user_id, step, items, tuple(one.scores)))
    result.state_sha256 = state_digest(learner.state())
    return result


class SavedStates:
    """The checkpoints that are kept, to be compared, bit for bit, with a learner that never stopped (`relearned`)."""

    def __init__(self, folder: Path) -> None:
        self._saved: dict[int, dict[str, Tensor]] = {}
        self.differing: dict[int, list[str]] = {}
        """By step, the parts of the state that were not saved as that learner has them."""
        for path in CheckpointStore(folder).paths():
            manifest, tensors = read_checkpoint(path)
            self._saved[manifest.step] = {
                name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")
            }

    def __call__(self, step: int, learner: Learner) -> None:
        saved = self._saved.get(step)
        if saved is None:
            return
        ours = learner.state()
        if names := [name for name in sorted({*ours, *saved}) if not _same(ours.get(name), saved.get(name))]:
            self.differing[step] = names


def _same(ours: Tensor | None, theirs: Tensor | None) -> bool:
    return ours is not None and theirs is not None and state_digest({"": ours}) == state_digest({"": theirs})


def as_records(messages: list[Message]) -> list[Record]:
    """A message of the client is all that is asked of a record."""
    return list(messages)  # type: ignore[arg-type]


def _repeats(one: One, newest_ids: dict[int, deque[str]]) -> bool:
    ids = newest_ids.setdefault(one.record.partition(), deque(maxlen=100_000))
    event_id = one.event.event_id
    if event_id is None:
        return False
    if event_id in ids:
        return True
    ids.append(event_id)
    return False
