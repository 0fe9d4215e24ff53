"""How far the worker is, and how it is kept: counts, checkpoints, journal segments, committed offsets.

Knows the order of effects at a save: what was published is acknowledged, then the checkpoint is durable, then the
group's offsets are committed (for lag tools and people; a failed commit is no reason to stop).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Protocol

import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from consumer.catalogue import Catalogue
from consumer.checkpoint import CheckpointError, CheckpointStore, Counts, Manifest, Snapshot
from consumer.duplicates import RecentEventIds
from consumer.journal import Journal, JournaledSource
from consumer.lists import LastLists
from consumer.publish import Publisher
from consumer.source import CommitFailed, Source
from model.learner import Learner
from model.state import state_digest

if TYPE_CHECKING:
    from consumer.offsets import Reset

log = structlog.get_logger()


class HoldsArrays(Protocol):
    def state(self) -> dict[str, NDArray[Any]]: ...

    def load(self, state: dict[str, NDArray[Any]]) -> None: ...


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
        catalogue: Catalogue,
        settings: dict[str, Any],
        every_seconds: float,
        flush_seconds: float,
        clock: Callable[[], float],
        writer: Executor | None = None,
    ) -> None:
        """`writer` writes the journal beside the loop, where there is one."""
        self.counts = Counts()
        self.saved: Manifest | None = None
        """The newest checkpoint, verified when it was read or written."""
        self._topic = topic
        self._store = store
        self._journal = journal
        self._learner = learner
        self._holders: dict[str, HoldsArrays] = {"ids": seen_ids, "lists": last_lists, "catalogue": catalogue}
        self._catalogue = catalogue
        self._settings = settings
        self._every_seconds = every_seconds
        self._flush_seconds = flush_seconds
        self._clock = clock
        self._writer = writer
        self._saved_at = clock()
        self.save_seconds = 0.0
        """How long the newest save took, the wait for acknowledgements included."""

    def restore(self, source: Source, reset: Reset | None) -> JournaledSource:
        """Load the newest whole checkpoint and hand out a source that goes on behind it, journaled steps first.

        Where there is none, or a person's `reset` moved the offsets, a checkpoint is saved at once: a crash before
        the next one must not send the worker back to a place that nobody chose.

        Raises what `CheckpointStore.newest` and `Source.seek` raise where a person has to choose, JournalMismatch,
        and CheckpointError for a checkpoint of another topic.
        """
        found = self._store.newest()
        saved: Mapping[int, int] | None = None
        step = 0
        if found is not None:
            self.saved, tensors = found
            self.counts, step, saved = self.saved.counts, self.saved.step, self._offsets_of(self.saved)
            self._learner.load(_under(tensors, "model."))
            for name, holder in self._holders.items():
                holder.load({part: value.numpy() for part, value in _under(tensors, f"{name}.").items()})
        source.seek(saved, reset)
        offsets = source.next_offsets()
        stays = saved is not None and all(saved.get(partition, 0) == offset for partition, offset in offsets.items())
        if not stays:
            self._journal.clear()  # its steps cannot be made again from here
        self._source = JournaledSource(source, self._journal, step, offsets, self._catalogue, self._writer)
        self._topic_source = source
        if not stays:
            self._write()
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

    def seconds_since_save(self) -> float:
        return self._clock() - self._saved_at

    def due(self) -> bool:
        return self.seconds_since_save() >= self._every_seconds

    def save(self, publisher: Publisher) -> Manifest:
        """Wait for all acknowledgements, write a checkpoint, commit the offsets. Nothing new, nothing written.

        Raises DeliveryFailed where an acknowledgement is missing, OSError where the disk refuses; nothing was
        committed then.
        """
        started = self._clock()
        publisher.flush(self._flush_seconds)
        if self.saved is not None and (self.saved.step, self.saved.epoch) == (self._source.step, self._store.epoch):
            self._saved_at = self._clock()
            return self.saved
        saved = self._write()
        self._journal.start_segment(self._store.oldest_step())
        try:
            self._topic_source.commit(saved.offsets[self._topic])
        except CommitFailed as error:
            log.warning("offsets not committed; lag tools will show old ones until the next save", why=str(error))
        self._saved_at = self._clock()
        self.save_seconds = self._saved_at - started
        return saved

    def _write(self) -> Manifest:
        model = self._learner.state()
        tensors = {f"model.{name}": value for name, value in model.items()}
        for name, holder in self._holders.items():
            tensors.update({f"{name}.{part}": torch.tensor(array) for part, array in holder.state().items()})
        self.saved = self._store.save(
            Snapshot(
                step=self._source.step,
                model_version=self._learner.version,
                offsets={self._topic: self._source.next_offsets()},
                counts=self.counts,
                settings=self._settings,
                state_sha256=state_digest(model),
                tensors=tensors,
            )
        )
        log.info(
            "checkpoint saved", step=self.saved.step, model_version=self.saved.model_version, offsets=self.saved.offsets
        )
        return self.saved

    def _offsets_of(self, manifest: Manifest) -> Mapping[int, int]:
        if self._topic not in manifest.offsets:
            raise CheckpointError(
                f"the checkpoint in {self._store.folder} was learned from {', '.join(manifest.offsets)}, and the "
                f"events topic is {self._topic} now. Set HEADRACE_EVENTS_TOPIC back, or give the worker a folder "
                "of its own with HEADRACE_CHECKPOINT_DIR"
            )
        return manifest.offsets[self._topic]


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
