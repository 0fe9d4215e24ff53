"""A worker, put together from the settings: `run`, the demo and the tests all start it here.

Order of a start: see that the Kafka clients take their properties, compile, take the checkpoint folder (and with it an
epoch), see that the topics are there, restore, seek, go. What is wrong stops it before anything is read, and so does
being told to stop.
"""

import gc
import importlib.metadata
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

import structlog
import torch

from consumer import duplicates, lists, precopy, publish, reading_client, topics
from consumer.actions import Interpreter
from consumer.catalogue import ROWS, Catalogue, Catalogues
from consumer.checkpoint import CheckpointStore, Manifest
from consumer.config import Settings
from consumer.decode import Decoder
from consumer.duplicates import RecentEventIds
from consumer.environment import SettingsError
from consumer.journal import ITEMS, USERS, Journal, JournaledSource
from consumer.large_pages import LargePages
from consumer.last_lists import LastLists
from consumer.lists import ListWriter
from consumer.loop import Parts, run
from consumer.modelling import compiling, make_learner, make_top_k, warm_up
from consumer.observation import Observation
from consumer.offsets import ACCEPT_ANEW, ACCEPT_LOSS, READ_ANEW, Reset
from consumer.progress import Progress
from consumer.publish import Publisher
from consumer.refreshes import Refreshes
from consumer.refusals import disk_errors_told, other_settings
from consumer.signals import Stopped
from consumer.source import Source, TopicMissing
from model.growth import collapse_next
from model.state import OtherSettings

FLUSH_SECONDS = 60.0
"""Longest wait of a worker that is to stop for the broker's acknowledgements; the client itself never gives up."""


log = structlog.get_logger()


class Worker:
    """Reads, learns, publishes, saves. Use as a context manager; `run` may be called once."""

    def __init__(
        self,
        settings: Settings,
        *,
        reset: Reset | None = None,
        clock: Callable[[], float] = time.monotonic,
        now_seconds: Callable[[], float] = time.time,
        observation: Observation | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Restores what was saved. Raises what stops a start: CheckpointError, SourceError, SettingsError, ...

        `observation`: one that is watched already, since a start may take minutes. Stopped soon after `stopping` says
        so; nothing was read then.
        """
        self.settings = settings
        self.observation = observation or Observation.of(settings, clock, now_seconds)
        self.metrics = self.observation.metrics
        self._stopping = self._is_to_stop = stopping
        self._clock = clock
        self._stop_before: float | None = None
        """When a worker that was told to stop in the middle of a step gives it up."""
        self._check_properties()
        self._begin("compiling kernels, or finding those that were compiled before")
        warm_up(settings, self._look_up)
        with compiling(self._look_up):
            duplicates.warm_up()
            precopy.warm_up()
            lists.warm_up()
        self._look_up()
        self.learner = make_learner(settings)
        self.metrics.set_build_info(
            version=importlib.metadata.version("headrace"), torch=torch.__version__, device=str(self.learner.device)
        )
        self.store = CheckpointStore(settings.checkpoint_dir, settings.checkpoints_kept, first_epoch=int(now_seconds()))
        seen_ids, last_lists = RecentEventIds(), LastLists()
        refreshes = Refreshes(settings.max_staleness_seconds, clock)
        top_k = make_top_k(settings, self.learner)
        count = self.metrics.count_catalogue_rows
        self.catalogue = Catalogues(
            Catalogue(self.learner.describe, rows=ROWS[ITEMS], count=count),
            Catalogue(self.learner.describe_users, rows=ROWS[USERS], count=count),
        )
        self._journal = Journal(settings.checkpoint_dir / "journal")
        self.progress = Progress(
            topic=settings.events_topic,
            store=self.store,
            journal=self._journal,
            learner=self.learner,
            seen_ids=seen_ids,
            last_lists=last_lists,
            top_k=top_k,
            catalogue=self.catalogue,
            settings=settings.shown(),
            every_seconds=settings.checkpoint_seconds,
            flush_seconds=FLUSH_SECONDS,
            clock=clock,
            executor=ThreadPoolExecutor(1, "checkpoint"),
            journal_writer=ThreadPoolExecutor(1, "journal"),
            refreshes=refreshes,
        )
        self.source = self._source_of(settings.events_topic)
        decode = Decoder(
            settings.rating_min, settings.rating_max, settings.max_future_seconds, settings.max_event_bytes
        )
        self._content_sources = {
            kind: self._source_of(topic, after_loss=READ_ANEW, after_anew=READ_ANEW)
            for kind, topic in ((ITEMS, settings.items_topic), (USERS, settings.users_topic))
        }
        self._large_pages = LargePages(collapse_next)
        self._publisher: Publisher | None = None
        try:
            with self._disk_errors_told():
                epoch = self.store.acquire()
            # Before the rest: a client that numbers its records may not send for its first half second.
            self._publisher = publisher = Publisher(
                settings.bootstrap_servers,
                topic=settings.recommendations_topic,
                dead_letter_topic=settings.dead_letter_topic,
                epoch=epoch,
                librdkafka=settings.librdkafka,
                while_full=self._while_full,
            )
            self._begin("looking for the topics")
            topics.require(
                settings.bootstrap_servers,
                # Without those of the catalogue it learns from events alone.
                [settings.events_topic, settings.recommendations_topic, settings.dead_letter_topic],
                librdkafka=settings.librdkafka,
                look_up=self._look_up,
            )
            self._begin("restoring what was saved")
            journaled = self._restore(reset)
            self._read_catalogue()
            self._begin("taking the first records")
        except BaseException:
            self.close()
            raise
        self.parts = Parts(
            source=journaled,
            decode=decode,
            seen_ids=seen_ids,
            catalogue=self.catalogue,
            interpret=Interpreter(settings.action_weights, settings.default_weight, settings.rating_weight),
            learner=self.learner,
            refreshes=refreshes,
            top_k=top_k,
            publisher=publisher,
            lists=ListWriter(
                publisher,
                last_lists,
                self.observation.lists_settled,
                topic=settings.events_topic,
                users=self.learner.users,
                items=self.learner.items,
                catalogue=self.learner.catalogue_ids,
                always=settings.publish_always,
            ),
            observer=self.observation,
            progress=self.progress,
        )
        self.observation.watch(self.source, self.learner, top_k, refreshes)

    def end_offsets(self) -> dict[int, int]:
        """The high watermarks of the events topic now."""
        return self.source.end_offsets()

    def run(self, stopping: Callable[[], bool], until: Mapping[int, int] | None = None) -> Manifest:
        """Work until `stopping` says so or everything below `until` is done; the last checkpoint's manifest.

        What a stage raises passes through: nothing of a failed step is saved.
        """
        self._stopping = lambda: False  # from here on the loop looks, where nothing is half done
        self._is_to_stop = stopping
        gc.freeze()  # what the start made stays; a collection of all of it would stop a step for tenths of a second
        try:
            with self._disk_errors_told():
                run(
                    self.parts,
                    batch_size=self.settings.batch_size,
                    batch_wait_seconds=self.settings.batch_wait_seconds,
                    stopping=stopping,
                    until=until,
                )
        finally:
            gc.unfreeze()  # or what this worker held, its clients too, would stay when the process has another one
        assert self.progress.saved is not None
        return self.progress.saved

    def close(self) -> None:
        """Leave broker and folder. Saves nothing: `run` did, where it ended well."""
        self._large_pages.close()
        self.source.close()
        for source in self._content_sources.values():
            source.close()
        if self._publisher is not None:
            self._publisher.close()
        self.progress.close()
        self._journal.close()
        self.store.release()

    def _check_properties(self) -> None:
        """SettingsError where a Kafka client refuses one: a person should not have to wait for the kernels first."""
        settings = self.settings
        try:
            reading_client.check_properties(settings.bootstrap_servers, settings.group_id, settings.librdkafka)
            publish.check_properties(settings.bootstrap_servers, settings.librdkafka)
        except ValueError as error:
            raise SettingsError([f"{error}. They come from KAFKA_ variables."]) from error

    def _begin(self, doing: str) -> None:
        """The next part of the start."""
        self._look_up()
        self.observation.doing = doing
        log.info("starting", doing=doing)

    def _look_up(self) -> None:
        if self._stopping():
            raise Stopped

    def _while_full(self) -> None:
        """The publisher waits for room, in the middle of a step, for as long as the broker is away."""
        self.observation.beat()
        if not self._is_to_stop():
            return
        if self._stop_before is None:
            self._stop_before = self._clock() + FLUSH_SECONDS
        if self._clock() >= self._stop_before and self._publisher is not None:
            self._publisher.give_up(self._publisher.unanswered, FLUSH_SECONDS)

    def _disk_errors_told(self) -> AbstractContextManager[None]:
        return disk_errors_told(self.settings.checkpoint_dir, self.settings.checkpoints_kept)

    def _restore(self, reset: Reset | None) -> JournaledSource:
        try:
            with self._disk_errors_told():
                return self.progress.restore(self.source, reset)
        except OtherSettings as error:
            saved = self.progress.saved
            assert saved is not None
            folder = self.settings.checkpoint_dir
            raise other_settings(error, saved.settings, self.settings.shown(), folder) from error

    def _source_of(self, topic: str, after_loss: str = ACCEPT_LOSS, after_anew: str = ACCEPT_ANEW) -> Source:
        settings = self.settings
        return Source(
            settings.bootstrap_servers,
            topic,
            settings.group_id,
            librdkafka=settings.librdkafka,
            look_up=self._look_up,
            after_loss=after_loss,
            after_anew=after_anew,
        )

    def _read_catalogue(self) -> None:
        for kind, source in self._content_sources.items():
            self._begin(f"reading the catalogue of {kind}")
            source.was_made_anew(None, None)  # asks for its id: it is compared while the worker runs
            try:
                # Each start reads all of it: whatever the group committed, and whatever compaction took meanwhile.
                source.seek(None, Reset.EARLIEST)
            except TopicMissing as missing:
                log.warning(f"no catalogue of {kind}: they are learned from events alone", why=str(missing))
                source.close()  # or it would go on asking for the broker, and tell of an outage when all is over
                continue
            catalogue = self.catalogue.items if kind == ITEMS else self.catalogue.users
            catalogue.read(source, look_up=self._look_up)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
