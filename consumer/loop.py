"""The worker's loop: what a newcomer reads first. It calls the stages in their order and decides nothing else.

The order of effects is the guarantee:

    step journaled -> lists published and acknowledged -> checkpoint saved, offsets inside it -> offsets committed

A crash repeats lists (keyed and numbered, so a repeat is harmless); it never loses an event and never learns one
twice into a saved state. Parts come as arguments; none of them is made here.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from consumer.catalogue import Catalogue
from consumer.checkpoint import Counts
from consumer.decode import Accepted, Decoder, Reject
from consumer.duplicates import RecentEventIds
from consumer.journal import JournaledSource
from consumer.lists import ListWriter, Written
from consumer.metrics import Stage
from consumer.progress import Progress
from consumer.publish import Publisher
from consumer.source import Record
from model.interactions import Forget, Interaction
from model.learner import Learner, Step
from model.topk import Lists, TopK
from producer.events import Forget as ForgetEvent


class Observer(Protocol):
    """Who watches: metrics, live quality, a demo's screen. Observing changes nothing."""

    def timed(self, stage: Stage) -> AbstractContextManager[None]: ...

    def observe(self, batch: "Batch", written: Written) -> None: ...

    def saved(self, progress: Progress) -> None: ...


@dataclass(frozen=True)
class Batch:
    """What one take became."""

    records: Sequence[Record]
    rejects: Sequence[Reject]
    duplicates: Sequence[Accepted]
    learned: Sequence[Accepted]
    step: Step
    lists: Lists
    """The touched users' new lists."""


@dataclass(frozen=True)
class Parts:
    """The stages, in the order in which the loop calls them."""

    source: JournaledSource
    decode: Decoder
    seen_ids: RecentEventIds
    catalogue: Catalogue
    interpret: Callable[[Accepted], Interaction | Forget | None]
    learner: Learner
    top_k: TopK
    publisher: Publisher
    lists: ListWriter
    observer: Observer
    progress: Progress


def run(
    parts: Parts,
    *,
    batch_size: int,
    batch_wait_seconds: float,
    stopping: Callable[[], bool],
    until: Mapping[int, int] | None = None,
) -> None:
    """Learn from each batch of events, then publish fresh top-k for the users it touched.

    Ends when `stopping` says so, or when everything below the offsets of `until` is done; progress is saved then.
    """
    while not stopping() and not (until is not None and parts.source.has_reached(until)):
        with parts.observer.timed(Stage.TAKE):
            records = parts.source.take(batch_size, batch_wait_seconds)
        if records:
            parts.observer.observe(*learn_and_publish(parts, records))
        parts.publisher.poll()
        if parts.progress.due():
            keep_progress(parts)
    save_progress(parts)  # no finally: a failed step is never saved


def keep_progress(parts: Parts) -> None:
    """Begin a checkpoint, or take the one under way a step further; other threads write it while the loop goes on."""
    with parts.observer.timed(Stage.CHECKPOINT):
        is_durable = parts.progress.advance(parts.publisher)
    if is_durable:
        parts.observer.saved(parts.progress)


def save_progress(parts: Parts) -> None:
    """What was published is acknowledged, then the checkpoint is durable, then the offsets are committed."""
    with parts.observer.timed(Stage.CHECKPOINT):
        parts.progress.save(parts.publisher)
    parts.observer.saved(parts.progress)


def learn_and_publish(parts: Parts, records: Sequence[Record]) -> tuple[Batch, Written]:
    """One step: decode, test and learn, make the touched users' lists, publish what changed."""
    timed = parts.observer.timed
    with timed(Stage.DECODE):
        accepted, rejects = parts.decode(records)
        fresh, duplicates = parts.seen_ids.split(accepted)
    parts.publisher.dead_letter(rejects)

    with timed(Stage.LEARN):
        interpreted = [(one, meaning) for one in fresh if (meaning := parts.interpret(one)) is not None]
        parts.catalogue.apply(parts.source.changes)
        step = parts.learner.test_then_learn([meaning for _, meaning in interpreted], parts.source.step)
    with timed(Stage.TOPK):
        lists = parts.top_k.arrays(list(step.touched_users))
    with timed(Stage.PUBLISH):
        parts.lists.forget(step.forgotten)
        listed = [parts.learner.users.name(row) for row in lists.users_U.tolist()]
        behind = parts.lists.behind(listed, events_by_user([one for one, _ in interpreted]))
        written = parts.lists.write(lists, behind, step.version, max(record.timestamp()[1] for record in records))
    parts.progress.note_moved(parts.learner.moved_rows(step))
    parts.progress.count(Counts(len(fresh), len(duplicates), len(rejects)))
    return Batch(records, rejects, duplicates, fresh, step, lists), written


def events_by_user(accepted: Sequence[Accepted]) -> dict[str, list[Accepted]]:
    """The events of each user, in stream order; the last forget and what came before it are not among them."""
    by_user: dict[str, list[Accepted]] = defaultdict(list)
    for one in accepted:
        if isinstance(one.event, ForgetEvent):
            by_user.pop(one.event.user_id, None)
        else:
            by_user[one.event.user_id].append(one)
    return by_user
