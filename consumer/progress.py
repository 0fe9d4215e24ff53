"""How far the worker is, and how it is kept: counts, checkpoints, journal segments, committed offsets.

Knows the order of effects at a save: what was published is acknowledged, then the checkpoint is durable, then the
group's offsets are committed (for lag tools and people: nobody waits for it, and nothing hangs on it).

While the worker runs the loop's thread only copies the state, and what grows with users and items a piece at a time
(`consumer.precopy`). Another thread digests the copy and writes it to the disk, where it gets its name, and by that
becomes a checkpoint, once all that was published before the copy was made is acknowledged. Between two steps the loop
asks whether anything is to be done (`due`), and has it done (`advance`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from consumer.catalogue import Catalogues
from consumer.checkpoint import MODEL_PREFIX, CheckpointError, CheckpointStore, Counts, Manifest, Prepared, Snapshot
from consumer.duplicates import RecentEventIds
from consumer.journal import Journal, JournaledSource
from consumer.last_lists import LastLists
from consumer.precopy import CopyMemory, Precopies
from consumer.publish import Mark, Publisher
from consumer.refreshes import Refreshes
from consumer.source import Source
from model.learner import Learner
from model.ragged import Part
from model.state import state_digest, tensors_of, under

if TYPE_CHECKING:
    from consumer.offsets import Reset

LISTS: Final = "lists"

log = structlog.get_logger()


class HoldsArrays(Protocol):
    def state(self) -> dict[str, NDArray[Any]]:
        """May be views: they are copied before anything moves."""
        ...

    def load(self, state: dict[str, NDArray[Any]]) -> None: ...


@dataclass(frozen=True)
class _Copy:
    """What a checkpoint holds, as it was between two steps."""

    step: int
    model_version: int
    offsets: dict[str, dict[int, int]]
    counts: Counts
    model: dict[str, Part]
    others: dict[str, Part]


@dataclass
class _Save:
    """A save under way: first it is prepared, then, once all before `mark` is acknowledged, it is kept."""

    mark: Mark
    begun_at: float
    preparing: Future[Prepared]
    keeping: Future[Manifest] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it cannot go on without the loop's thread."""
        if self.keeping is not None:
            return self.keeping.done()
        return self.preparing.done() and (self.mark.is_acknowledged or self.preparing.exception() is not None)


class Progress:
    """Restores what was saved, counts what is done, saves it again."""

    def __init__(
        self,
        *,
        topic: str,
        store: CheckpointStore,
        journal: Journal,
        learner: Learner,
        seen_ids: RecentEventIds,
        last_lists: LastLists,
        top_k: HoldsArrays,
        catalogue: Catalogues,
        settings: dict[str, Any],
        every_seconds: float,
        flush_seconds: float,
        clock: Callable[[], float],
        executor: Executor,
        journal_writer: Executor | None = None,
        refreshes: Refreshes | None = None,
    ) -> None:
        """`executor` writes checkpoints, `journal_writer` (where there is one) the journal beside the loop; both are
        this object's from now on, and have one thread each. `refreshes` decides which steps have lists; a step before a
        save always has.
        """
        self._refreshes = refreshes
        self.counts = Counts()
        self.saved: Manifest | None = None
        """The newest checkpoint, verified when it was read or written."""
        self._topic = topic
        self._store = store
        self._journal = journal
        self._learner = learner
        self._holders: dict[str, HoldsArrays] = {
            "ids": seen_ids,
            LISTS: last_lists,
            "catalogue": catalogue,
            "topk": top_k,
        }
        self._catalogue = catalogue
        self._settings = settings
        self._every_seconds = every_seconds
        self._flush_seconds = flush_seconds
        self._clock = clock
        self._executor = executor
        self._journal_writer = journal_writer
        self._memory = CopyMemory()
        """Where copies lie from save to save, each written over by the next."""
        self._last_lists = last_lists
        self._lists_noted = 0
        """Which lists moved before this place of `last_lists.moved` is known."""
        self._precopies = Precopies(self._memory, self._growing_parts())
        self._populating: Future[None] | None = None
        """Where room for copies is to have memory first: to get it takes longer than to copy."""
        self._under_way: _Save | None = None
        self._begun_at = clock()
        self.save_seconds = math.nan
        """How long the newest save took, from its beginning until it was durable; NaN before the first one."""
        self.pause_seconds = math.nan
        """Longest time for which it kept the loop from its steps; NaN before the first one."""

    def restore(self, source: Source, reset: Reset | None) -> JournaledSource:
        """Load the newest whole checkpoint and hand out a source that goes on behind it, journaled steps first.

        Where there is none, or a person's `reset` moved the offsets, a checkpoint is saved at once: a crash before
        the next one must not send the worker back to a place that nobody chose.

        Raises what `CheckpointStore.newest`, `Source.was_made_anew` and `Source.seek` raise where a person has to
        choose, JournalMismatch, and CheckpointError for a checkpoint of another topic.
        """
        found = self._store.newest()
        saved: Mapping[int, int] | None = None
        step = 0
        if found is not None:
            self.saved, tensors = found
            self.counts, step, saved = self.saved.counts, self.saved.step, self._offsets_of(self.saved)
            self._learner.load(under(tensors, MODEL_PREFIX))
            for name, holder in self._holders.items():
                holder.load({part: value.numpy() for part, value in under(tensors, f"{name}.").items()})
        saved_id = None if self.saved is None else self.saved.topic_ids.get(self._topic)
        if source.was_made_anew(saved_id, reset):
            saved = None
        topic_id = source.topic_id or saved_id  # where nobody tells it now somebody may the next time
        self._topic_ids = {} if topic_id is None else {self._topic: topic_id}
        source.seek(saved, reset)
        offsets = source.next_offsets()
        stays = saved is not None and all(saved.get(partition, 0) == offset for partition, offset in offsets.items())
        if not stays:
            self._journal.clear()  # its steps cannot be made again from here
        self._source = JournaledSource(
            source, self._journal, step, offsets, self._catalogue, self._journal_writer, self._decide
        )
        self._topic_source = source
        self._store.drop_old()  # if more were kept once, they may be what fills the disk
        if not stays:
            self._tell(self._store.keep(self._prepare(self._copy())))
        self._journal.start_segment(self._store.oldest_step())
        log.info(
            "restored" if found else "starting from nothing",
            step=step,
            epoch=self._store.epoch,
            learned=self.counts.learned,
            steps_to_repeat=self._source.steps_to_repeat,
            offsets=offsets,
        )
        return self._source

    def count(self, counts: Counts) -> None:
        """Add what became of the records of a step."""
        self.counts = Counts(
            self.counts.learned + counts.learned,
            self.counts.duplicates + counts.duplicates,
            self.counts.dead_letters + counts.dead_letters,
        )

    def _decide(self, more_wait: bool) -> bool:
        """Whether the next step has lists. What waits for its list is not in a checkpoint: none may begin then."""
        return self._refreshes is None or self._refreshes.decide(more_wait=more_wait, at_once=self.due())

    def note_moved(self, moved_rows: Mapping[str, NDArray[np.int64] | None]) -> None:
        """A step moved these rows: see `Learner.moved_rows`."""
        self._precopies.note(moved_rows)

    def due(self) -> bool:
        """Whether a save is to begin now, or the one under way waits for the loop's thread."""
        if self._populating is not None:
            return self._populating.done()
        if self._is_copying:
            return True
        if self._under_way is None:
            return self._clock() - self._begun_at >= self._every_seconds
        return self._under_way.is_waiting

    @property
    def lacks_only_offsets(self) -> bool:
        """Whether the newest checkpoint has all that was learned, and only what is no record was read over since.

        Retention may come up to there, and would look like a loss to the next start. Checkpoints go by the numbers of
        their steps, so a new one takes a new step.
        """
        return (
            self._is_saved()
            and self.saved is not None
            and self.saved.offsets[self._topic] != self._source.next_offsets()
            and not self._source.is_repeating
        )

    def advance(self, publisher: Publisher) -> bool:
        """Do what is due, without waiting for anything. True: a checkpoint became durable and its offsets are on
        their way to the group, or there was nothing new to save.

        Raises OSError where the disk has refused, TopicMadeAnew; nothing was committed then.
        """
        started = self._clock()
        if self._under_way is not None:
            is_done = self._go_on(self._under_way)
        elif self._is_copying:
            is_done = self._copy_on(publisher)
        else:
            is_done = self._begin(publisher, started)
        self.pause_seconds = max(self.pause_seconds, self._clock() - started)
        return is_done

    def save(self, publisher: Publisher) -> Manifest:
        """Wait for all acknowledgements, write a checkpoint, commit the offsets. Nothing new, nothing written.

        A save that is under way comes to its end first. Raises DeliveryFailed where an acknowledgement is missing,
        OSError where the disk refuses, TopicMadeAnew; nothing was committed then.
        """
        begun_at = self._clock()
        self._populating = None
        self._precopies.drop()
        publisher.flush(self._flush_seconds)
        while self._under_way is not None:
            self._go_on(self._under_way)
        if not self._is_saved():
            self._finish(self._keep(self._prepare(self._copy())), begun_at)
            self.pause_seconds = self.save_seconds
        self._begun_at = self._clock()
        assert self.saved is not None
        return self.saved

    def close(self) -> None:
        """Let a save under way go: what it left on the disk is no checkpoint, and is removed by the next start."""
        self._executor.shutdown(cancel_futures=True)
        if self._journal_writer is not None:
            self._journal_writer.shutdown()

    def _begin(self, publisher: Publisher, now: float) -> bool:
        self._begun_at = now
        if self._is_saved():
            return True
        self.pause_seconds = 0.0
        for parts in self._growing_parts().values():
            for name, part in parts.items():
                self._memory.make_room(name, part)
        if self._memory.has_empty:
            self._populating = self._executor.submit(self._memory.populate)
            return False
        return self._copy_on(publisher)

    @property
    def _is_copying(self) -> bool:
        return self._populating is not None or self._precopies.is_under_way

    def _copy_on(self, publisher: Publisher) -> bool:
        """Copy a piece of what grows; with the last one all the rest, and hand it over."""
        self._populating = None
        moved, self._lists_noted = self._last_lists.moved.since(self._lists_noted), self._last_lists.moved.end
        self._precopies.note({LISTS: moved})
        parts = self._growing_parts()
        if not self._precopies.advance(parts):
            return False
        # Whatever is sent from now on is of steps that are not in the copy.
        copy, mark = self._copy(self._precopies.finish(parts)), publisher.mark()
        self._under_way = _Save(mark, self._begun_at, self._executor.submit(self._prepare, copy))
        return False

    def _growing_parts(self) -> dict[str, dict[str, Part]]:
        """What is copied a piece at a time, by the names of a checkpoint's parts; its lists' rows are users'."""
        lists = {f"{LISTS}.{name}": part for name, part in self._last_lists.parts().items()}
        return {**self._learner.growing_parts(), LISTS: lists}

    def _is_saved(self) -> bool:
        saved = self.saved
        return saved is not None and (saved.step, saved.epoch) == (self._source.step, self._store.epoch)

    def _copy(self, copied: Mapping[str, Part] | None = None) -> _Copy:
        """All that a checkpoint holds, out of reach of the steps to come. `copied`: what is so already."""
        copied = copied or {}

        def copies(parts: Mapping[str, Part]) -> dict[str, Part]:
            return {
                name: copied[name] if name in copied else self._memory.copy(name, part) for name, part in parts.items()
            }

        others = {
            f"{holder_name}.{name}": part
            for holder_name, holder in self._holders.items()
            for name, part in (self._last_lists.parts() if holder_name == LISTS else holder.state()).items()
        }
        return _Copy(
            step=self._source.step,
            model_version=self._learner.version,
            offsets={self._topic: self._source.next_offsets()},
            counts=self.counts,
            model=copies(self._learner.parts()),
            others=copies(others),
        )

    def _prepare(self, copy: _Copy) -> Prepared:
        """Digest and write the copy: seconds, in which other threads run.

        TopicMadeAnew where what was learned may be of another topic than the offsets; asked after the copy was made.
        """
        self._topic_source.check_topic()
        model = tensors_of(copy.model)
        return self._store.prepare(
            Snapshot(
                step=copy.step,
                model_version=copy.model_version,
                offsets=copy.offsets,
                counts=copy.counts,
                settings=self._settings,
                state_sha256=state_digest(model),
                topic_ids=self._topic_ids,
                tensors={
                    **{f"{MODEL_PREFIX}{name}": value for name, value in model.items()},
                    **tensors_of(copy.others),
                },
            )
        )

    def _go_on(self, save: _Save) -> bool:
        """Take the next step of a save, waiting where it is not there yet; whether that was its end."""
        try:
            if save.keeping is None:
                save.keeping = self._executor.submit(self._keep, save.preparing.result())
                return save.keeping.done() and self._go_on(save)
            saved = save.keeping.result()
        except BaseException:
            self._under_way = None
            raise
        self._under_way = None
        self._finish(saved, save.begun_at)
        return True

    def _keep(self, prepared: Prepared) -> Manifest:
        """The checkpoint gets its name, then the journal a file for what comes after it: each waits for the disk."""
        saved = self._store.keep(prepared)
        self._journal.prepare_segment(self._store.oldest_step())
        return saved

    def _finish(self, saved: Manifest, begun_at: float) -> None:
        """The checkpoint is durable: what came before it is not needed any more, and the group may know."""
        self._tell(saved)
        self._journal.switch_segment()
        self._topic_source.commit_soon(saved.offsets[self._topic])
        self.save_seconds = self._clock() - begun_at

    def _tell(self, saved: Manifest) -> None:
        self.saved = saved
        log.info("checkpoint saved", step=saved.step, model_version=saved.model_version, offsets=saved.offsets)

    def _offsets_of(self, manifest: Manifest) -> Mapping[int, int]:
        if self._topic not in manifest.offsets:
            raise CheckpointError(
                f"the checkpoint in {self._store.folder} was learned from {', '.join(manifest.offsets)}, and the "
                f"events topic is {self._topic} now. Set HEADRACE_EVENTS_TOPIC back, or give the worker a folder "
                "of its own with HEADRACE_CHECKPOINT_DIR"
            )
        return manifest.offsets[self._topic]
