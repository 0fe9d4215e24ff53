"""The worker's loop: what a newcomer reads first. It calls the stages in their order and decides nothing else.

The order of effects is the guarantee:

    step journaled -> lists published and acknowledged -> checkpoint saved, offsets inside it -> offsets committed

A crash repeats lists (keyed and numbered, so a repeat is harmless); it never loses an event and never learns one
twice into a saved state. Parts come as arguments; none of them is made here.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from consumer.actions import Interpreter
from consumer.catalogue import Catalogues
from consumer.checkpoint import Counts
from consumer.decode import Events, Reject
from consumer.duplicates import RecentEventIds
from consumer.journal import JournaledSource
from consumer.lists import ListWriter, Written
from consumer.metrics import Stage
from consumer.progress import Progress
from consumer.publish import Publisher
from consumer.records import Taken
from consumer.refreshes import Refreshes, Touches
from model.learner import Learner
from model.step import Step
from model.topk import Lists, TopK

IDLE_SECONDS: Final = 0.1
"""Longest wait for an event where there is nothing else to look after. The first record ends it, so it delays none."""


class Observer(Protocol):
    """Who watches: metrics, live quality, a demo's screen. Observing changes nothing."""

    def timed(self, stage: Stage) -> AbstractContextManager[None]: ...

    def observe(self, batch: "Batch", written: Written) -> None: ...

    def saved(self, progress: Progress) -> None: ...


@dataclass(frozen=True)
class Batch:
    """What one take became."""

    taken: Taken
    rejects: Sequence[Reject]
    duplicates: Events
    learned: Events
    step: Step
    lists: Lists
    """The touched users' new lists."""


@dataclass(frozen=True)
class Parts:
    """The stages, in the order in which the loop calls them."""

    source: JournaledSource
    decode: Callable[[Taken], tuple[Events, list[Reject]]]
    seen_ids: RecentEventIds
    catalogue: Catalogues
    interpret: Interpreter
    learner: Learner
    refreshes: Refreshes
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
            taken = parts.source.take(batch_size, longest_wait(parts, batch_wait_seconds))
        if taken is not None:
            parts.observer.observe(*learn_and_publish(parts, taken))
        else:
            publish_waiting(parts)
        parts.publisher.poll()
        if parts.progress.due() and not parts.refreshes.is_waiting:
            count_gaps(parts)
            keep_progress(parts)
    publish_waiting(parts, is_last=True)
    if not parts.refreshes.is_waiting:  # else it stopped among steps made again: the save before them stays
        count_gaps(parts)
        save_progress(parts)  # no finally: a failed step is never saved


def longest_wait(parts: Parts, batch_wait_seconds: float) -> float:
    """How long the next take may wait: longer where no answer of the broker is near and no save waits for the loop."""
    if (parts.publisher.is_settled or parts.publisher.is_late) and not parts.progress.due():
        return max(batch_wait_seconds, IDLE_SECONDS)
    return batch_wait_seconds


def publish_waiting(parts: Parts, *, is_last: bool = False) -> None:
    """Where no event comes: the lists that were put off while events came faster than lists could be made.

    They are a step of their own, without events: made again after a crash it has the same lists again. Where the topic
    has more, which is slow to come, they wait as long as they may: the backlog is not over.
    """
    if not parts.refreshes.is_waiting or parts.source.is_repeating:
        return
    more_wait = not is_last and parts.source.is_behind()
    if not more_wait or parts.refreshes.is_late:
        parts.observer.observe(*learn_and_publish(parts, parts.source.step_without_records(more_wait=more_wait)))


def count_gaps(parts: Parts) -> None:
    """Aborted records or a transaction's marker came since the newest checkpoint, and no event: a step of its own,
    without events, so that the next checkpoint has their offsets.
    """
    if parts.progress.lacks_only_offsets:
        parts.observer.observe(*learn_and_publish(parts, parts.source.step_without_records(more_wait=False)))


def generated_at(taken: Taken, touches: Touches) -> int:
    """The largest record timestamp of a step; where it has no record with one, of the events behind its lists."""
    newest = int(taken.time_R.max(initial=-1))
    return newest if newest >= 0 else int(touches.shown_time_E.max(initial=0))


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


def learn_and_publish(parts: Parts, taken: Taken) -> tuple[Batch, Written]:
    """One step: decode, test and learn, make the touched users' lists, publish what changed."""
    timed = parts.observer.timed
    with timed(Stage.DECODE):
        accepted, rejects = parts.decode(taken)
        fresh, duplicates = parts.seen_ids.split(accepted)
    parts.publisher.dead_letter(rejects)

    with timed(Stage.LEARN):
        meaning = parts.interpret(fresh)
        parts.catalogue.apply(parts.source.changes)
        step = parts.learner.test_then_learn(meaning.interactions, parts.source.step)
    learned_B = meaning.place_B[~meaning.interactions.forgets_B]
    forgotten_at = taken.time_R[fresh.place_E[meaning.place_B[meaning.interactions.forgets_B]]]
    with timed(Stage.TOPK):
        touches = parts.refreshes.after(
            step, taken, fresh.place_E[learned_B], fresh.time_E[learned_B], has_lists=parts.source.has_lists
        )
        lists = parts.top_k(touches.users())
    with timed(Stage.PUBLISH):
        parts.source.wait_until_journaled()
        parts.lists.forget(step.forgotten)
        parts.lists.let_go(step.evicted_U)
        if step.swept is not None:
            parts.lists.let_items_leave(*step.swept)
        parts.lists.give_back_codes(step.given_back_X)
        newest_ms = generated_at(taken, touches)
        parts.catalogue.forget([user_id for user_id, _ in step.forgotten], forgotten_at.tolist(), newest_ms)
        behind = parts.lists.behind(lists.users_U, touches)
        written = parts.lists.write(lists, behind, step.version, newest_ms)
    parts.progress.note_moved(parts.learner.moved_rows(step))
    parts.progress.count(Counts(len(fresh), len(duplicates), len(rejects)))
    return Batch(taken, rejects, duplicates, fresh, step, lists), written
