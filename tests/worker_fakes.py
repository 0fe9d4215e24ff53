"""A worker on a topic in memory: real model, decoder, journal and checkpoints; fakes where Kafka would be.

What it does to the world is noted in `effects`, in order, and any of it can be made to fail.
"""

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from stream_fakes import FakeSource, Topic

from consumer.actions import Interpreter
from consumer.catalogue import ROWS, Catalogue, Catalogues
from consumer.checkpoint import CheckpointStore
from consumer.decode import Decoder
from consumer.duplicates import RecentEventIds
from consumer.journal import Journal
from consumer.last_lists import LastLists
from consumer.lists import ListWriter
from consumer.loop import Parts, keep_progress, learn_and_publish, run
from consumer.offsets import Reset
from consumer.progress import Progress
from consumer.refreshes import Refreshes
from model.learner import Learner
from model.settings import LearnerSettings
from model.topk import TopK
from producer.events import Recommendations

SMALL = LearnerSettings(width=4, rating_width=2, window=3, depth=4)


ACKNOWLEDGED_AT = 1_700_000_123.5


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class InTurn(Executor):
    """An executor that has done what it is given by the time it answers."""

    def submit(self, work, /, *given, **named):
        done = Future()
        try:
            done.set_result(work(*given, **named))
        except BaseException as error:
            done.set_exception(error)
        return done


class Held(InTurn):
    """An executor whose work is done when the test says so, one piece after the other: `do_next`."""

    def __init__(self):
        self.pieces = []

    def submit(self, work, /, *given, **named):
        future = Future()
        self.pieces.append((future, lambda: InTurn.submit(self, work, *given, **named)))
        return future

    def do_next(self):
        future, done = self.pieces.pop(0)
        result = done()
        if error := result.exception():
            future.set_exception(error)
        else:
            future.set_result(result.result())

    def shutdown(self, wait=True, *, cancel_futures=False):
        del wait
        while self.pieces and not cancel_futures:
            self.do_next()


@dataclass
class FakeMark:
    """Acknowledged as soon as nothing of what was sent before it waits."""

    publisher: "FakePublisher"
    sent: list

    @property
    def is_acknowledged(self):
        return not any(one in self.publisher._waiting for one in self.sent)


def keys_and_values(messages):
    """What is sent for each list."""
    bounds = messages.bounds
    return [
        (messages.data[key:value], messages.data[value:end])
        for key, value, end in zip(bounds[0::2], bounds[1::2], bounds[2::2], strict=False)
    ]


class FakePublisher:
    """Takes everything and acknowledges it when polled or flushed."""

    def __init__(self) -> None:
        self.lists: list = []
        self.records: list[tuple[str, bytes | None]] = []
        """(user, value) of lists and tombstones, as the topic would have them."""
        self.tombstones: list[str] = []
        self.dead_letters: list = []
        self.is_away = False
        """Whether the broker answers nothing."""
        self.is_late = False
        self._waiting: list = []

    def send(self, messages, on_delivery=None):
        received = keys_and_values(messages)
        self.lists += [msgspec.json.decode(value, type=Recommendations) for _, value in received]
        self.records += [(key.decode(), value) for key, value in received]
        self._waiting.append((on_delivery, len(received)))

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

    @property
    def is_settled(self):
        return not self._waiting

    def mark(self):
        return FakeMark(self, list(self._waiting))

    def _acknowledge(self):
        if self.is_away:
            return
        waiting, self._waiting = self._waiting, []
        for on_delivery, lists in waiting:
            on_delivery(np.arange(lists), np.full(lists, ACKNOWLEDGED_AT))


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
        max_staleness_seconds: float = 0.0,
        publish_always: bool = False,
        kept: int = 3,
        executor: Executor | None = None,
    ) -> None:
        """`executor`: by default everything is done when it is asked for, in the one thread."""
        self.effects: list[str] = []
        self.failing: dict[str, BaseException] = {}
        """Effect -> what it raises instead of happening."""
        self.fresh: list[tuple[list[int], list[float] | None]] = []
        self.clock, self.observer = Clock(), Watching()
        self.executor = InTurn() if executor is None else executor
        self.learner = Learner(settings)
        self.source = FakeSource(topic, {} if group is None else group)
        self.publisher = FakePublisher()
        self.catalogue = Catalogues(
            Catalogue(self.learner.describe), Catalogue(self.learner.describe_users, rows=ROWS["users"])
        )
        self.store, self.journal = CheckpointStore(folder, kept), Journal(folder / "journal")
        self.seen_ids, self.last_lists = RecentEventIds(), LastLists()
        self.refreshes = Refreshes(max_staleness_seconds, self.clock)
        self.top_k = TopK(self.learner, 3)
        self.progress = Progress(
            topic=topic.name,
            store=self.store,
            journal=self.journal,
            learner=self.learner,
            seen_ids=self.seen_ids,
            last_lists=self.last_lists,
            top_k=self.top_k,
            catalogue=self.catalogue,
            settings={"k": 3},
            every_seconds=every_seconds,
            flush_seconds=1,
            clock=self.clock,
            executor=self.executor,
            refreshes=self.refreshes,
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
            refreshes=self.refreshes,
            top_k=self.top_k,
            publisher=self.publisher,
            lists=ListWriter(
                self.publisher,
                self.last_lists,
                lambda times, at, _: self.fresh.append((times.tolist(), None if at is None else at.tolist())),
                topic=topic.name,
                users=self.learner.users,
                items=self.learner.items,
                catalogue=self.learner.catalogue_ids,
                always=publish_always,
            ),
            observer=self.observer,
            progress=self.progress,
        )
        for part, name in (
            (self.source, "take"),
            (self.source, "commit_soon"),
            (self.journal, "append"),
            (self.learner, "test_then_learn"),
            (self.publisher, "send"),
            (self.publisher, "forget"),
            (self.publisher, "dead_letter"),
            (self.publisher, "poll"),
            (self.publisher, "flush"),
            (self.publisher, "mark"),
            (self.store, "prepare"),
            (self.store, "keep"),
        ):
            self._note(part, name)

    def run(self, *, batch_size=100, stopping=lambda: False, until: Mapping[int, int] | None = None) -> None:
        """Work; by default until everything that is in the topic now is done."""
        until = self.source.end_offsets() if until is None else until
        run(self.parts, batch_size=batch_size, batch_wait_seconds=0, stopping=stopping, until=until)

    def run_steps(self, steps: int, batch_size=4) -> None:
        """Make so many steps as `run` does, looking after progress after each (0: once); no save at the end."""
        for _ in range(steps):
            learn_and_publish(self.parts, self.stream.take(batch_size, 0))
            self.publisher.poll()
            if self.progress.due():
                keep_progress(self.parts)
        if not steps and self.progress.due():
            keep_progress(self.parts)

    def messages(self) -> list[bytes]:
        """What was sent to the recommendations topic, tombstones left out, as bytes."""
        return [value for _, value in self.publisher.records if value is not None]

    def close(self) -> None:
        self.progress.close()
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
