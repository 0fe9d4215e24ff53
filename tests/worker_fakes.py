"""A worker on a topic in memory: real model, decoder, journal and checkpoints; fakes where Kafka would be.

What it does to the world is noted in `effects`, in order, and any of it can be made to fail.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from stream_fakes import FakeSource, Topic

from consumer.actions import Interpreter
from consumer.catalogue import Catalogue
from consumer.checkpoint import CheckpointStore
from consumer.decode import Decoder
from consumer.duplicates import RecentEventIds
from consumer.journal import Journal
from consumer.lists import LastLists, ListWriter
from consumer.loop import Parts, run
from consumer.offsets import Reset
from consumer.progress import Progress
from model.learner import Learner, LearnerSettings
from model.topk import TopK
from producer.events import encode

SMALL = LearnerSettings(width=4, rating_width=2, window=3, depth=4)


ACKNOWLEDGED_AT = 1_700_000_123.5


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class FakePublisher:
    """Takes everything and acknowledges it when polled or flushed."""

    def __init__(self) -> None:
        self.lists: list = []
        self.records: list[tuple[str, bytes | None]] = []
        """(user, value) of lists and tombstones, as the topic would have them."""
        self.tombstones: list[str] = []
        self.dead_letters: list = []
        self._waiting: list = []

    def send(self, recommendations, on_delivery=None):
        self.lists.append(recommendations)
        self.records.append((recommendations.user_id, encode(recommendations)))
        self._waiting.append(on_delivery)

    def forget(self, user_id):
        self.tombstones.append(user_id)
        self.records.append((user_id, None))

    def dead_letter(self, rejects):
        self.dead_letters += rejects

    def poll(self):
        self._acknowledge()

    def flush(self, timeout_seconds):
        del timeout_seconds
        self._acknowledge()

    def _acknowledge(self):
        waiting, self._waiting = self._waiting, []
        for on_delivery in waiting:
            on_delivery(ACKNOWLEDGED_AT)


@dataclass
class Watching:
    """An observer that remembers."""

    batches: list = field(default_factory=list)
    written: list = field(default_factory=list)
    stages: list = field(default_factory=list)
    saves: int = 0

    def timed(self, stage):
        self.stages.append(stage)
        return nullcontext()

    def observe(self, batch, written):
        self.batches.append(batch)
        self.written.append(written)

    def saved(self, progress):
        del progress
        self.saves += 1


class FakeWorker:
    """One process. `close` it, as its end would, before the next one takes the folder."""

    def __init__(
        self,
        folder: Path,
        topic: Topic,
        *,
        group: dict[int, int] | None = None,
        reset: Reset | None = None,
        every_seconds: float = float("inf"),
        settings: LearnerSettings = SMALL,
    ) -> None:
        self.effects: list[str] = []
        self.failing: dict[str, BaseException] = {}
        """Effect -> what it raises instead of happening."""
        self.fresh: list[tuple[list[int], float | None]] = []
        self.clock, self.observer = Clock(), Watching()
        self.learner = Learner(settings)
        self.source = FakeSource(topic, {} if group is None else group)
        self.publisher = FakePublisher()
        self.catalogue = Catalogue(self.learner.describe)
        self.store, self.journal = CheckpointStore(folder), Journal(folder / "journal")
        self.seen_ids, self.last_lists = RecentEventIds(), LastLists()
        self.progress = Progress(
            topic=topic.name,
            store=self.store,
            journal=self.journal,
            learner=self.learner,
            seen_ids=self.seen_ids,
            last_lists=self.last_lists,
            catalogue=self.catalogue,
            settings={"k": 3},
            every_seconds=every_seconds,
            flush_seconds=1,
            clock=self.clock,
        )
        self.epoch = self.store.acquire()
        try:
            self.stream = self.progress.restore(self.source, reset)
        except BaseException:
            self.close()
            raise
        self.parts = Parts(
            source=self.stream,
            decode=Decoder(),
            seen_ids=self.seen_ids,
            catalogue=self.catalogue,
            interpret=Interpreter({"skip": -0.5}, 1.0, 1.0),
            learner=self.learner,
            top_k=TopK(self.learner, 3),
            publisher=self.publisher,
            lists=ListWriter(self.publisher, self.last_lists, lambda times, at: self.fresh.append((list(times), at))),
            observer=self.observer,
            progress=self.progress,
        )
        for part, name in (
            (self.source, "take"),
            (self.source, "commit"),
            (self.journal, "append"),
            (self.learner, "test_then_learn"),
            (self.publisher, "send"),
            (self.publisher, "forget"),
            (self.publisher, "dead_letter"),
            (self.publisher, "poll"),
            (self.publisher, "flush"),
            (self.store, "save"),
        ):
            self._note(part, name)

    def run(self, *, batch_size=100, stopping=lambda: False, until: Mapping[int, int] | None = None) -> None:
        """Work; by default until everything that is in the topic now is done."""
        until = self.source.end_offsets() if until is None else until
        run(self.parts, batch_size=batch_size, batch_wait_seconds=0, stopping=stopping, until=until)

    def messages(self) -> list[bytes]:
        """What was sent to the recommendations topic, as bytes."""
        return [encode(message) for message in self.publisher.lists]

    def close(self) -> None:
        self.journal.close()
        self.store.release()

    def _note(self, part, name):
        done = getattr(part, name)

        def noted(*given, **named):
            self.effects.append(name)
            if name in self.failing:
                raise self.failing[name]
            return done(*given, **named)

        setattr(part, name, noted)
