"""The worker itself (`consumer.worker.Worker`, with checkpoints, journal, metrics and live figures), phase by phase.

It runs in a process of its own. Before anything is timed its learner has met every user and every item, so that the
stated number of items is what lists are made from. Phases follow each other on one topic and differ in what is left
out.
"""

import gc
import resource
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.introduction import introduce
from benchmarks.phases import Phase
from benchmarks.stream import Stream
from consumer import loop
from consumer.broker import CLIENT_PROPERTIES
from consumer.config import Settings, load
from consumer.lists import Written
from consumer.loop import Batch
from consumer.metrics import Stage
from consumer.modelling import make_top_k
from consumer.worker import FLUSH_SECONDS, Worker
from model.topk import Lists, TopK

FIRST_SECONDS = 30.0
"""Longest wait for the first event of a phase; the phase's time begins with its step."""


class NoLists(TopK):
    """Stands where top-k does: nobody's list is made."""

    def __call__(self, users_U: NDArray[np.int64]) -> Lists:
        del users_U
        nothing = np.zeros(0, dtype=np.int32)
        return Lists(nothing.astype(np.int64), nothing.reshape(0, 1), nothing, nothing.reshape(0, 1).astype(np.float32))


class Service:
    """A worker, what it has done, and how long its events waited."""

    def __init__(self, bootstrap_servers: str, stream: Stream, settings: dict[str, object]) -> None:
        self._closing = ExitStack()
        folder = self._closing.enter_context(TemporaryDirectory(prefix="headrace-speed-"))
        self.settings = worker_settings(bootstrap_servers, stream.topic, Path(folder), settings)
        self.worker = self._closing.enter_context(Worker(self.settings))
        introduce(self.worker.learner, stream)
        gc.freeze()  # as `Worker.run` does
        # There is nothing to write yet; the time until the next checkpoint begins.
        self.worker.progress.save(self.worker.parts.publisher)
        self.events = self.steps = self.sent = self.unchanged = 0
        self.freshness: list[float] = []
        self._first: tuple[float, int] | None = None
        """When the first step of a phase was done, and how many events had been by then."""
        self.worker.observation.batch_listeners.append(self._batch_done)
        self.worker.observation.freshness_listeners.append(self._lists_settled)

    def run(self, phase: Phase) -> dict[str, Any]:
        """Rate and shares of time of one phase. The save at its end is told apart; those within it count."""
        worker = self.worker
        share = self.settings.quality_share if phase.ranked_share is None else phase.ranked_share
        worker.learner.settings = replace(worker.learner.settings, ranked_share=share)
        parts = replace(worker.parts, top_k=self._top_k(phase))
        events, steps, sent, unchanged = self.events, self.steps, self.sent, self.unchanged
        stages = self._stage_seconds()
        self.freshness.clear()
        self._first = None
        started, cpu_started = time.perf_counter(), time.process_time()
        ended: list[float] = []

        def stopping() -> bool:
            now = time.perf_counter()
            is_over = now - started > FIRST_SECONDS if self._first is None else now - self._first[0] > phase.seconds
            if self.events - events < phase.events and not is_over:
                return False
            if not ended:
                worker.parts.publisher.flush(FLUSH_SECONDS)  # what is not acknowledged is not done
                ended.extend((time.perf_counter(), time.process_time()))
                stages.update({stage: now - stages[stage] for stage, now in self._stage_seconds().items()})
            return True

        loop.run(
            parts,
            batch_size=phase.batch_size or self.settings.batch_size,
            batch_wait_seconds=self.settings.batch_wait_seconds,
            stopping=stopping,
        )
        seconds = ended[0] - started
        first_at, by_then = (started, events) if self._first is None else self._first
        done, recomputed = self.events - events, self.sent - sent + self.unchanged - unchanged
        return {
            "events": done,
            "seconds": round(seconds, 3),
            "events_per_second": round(done / seconds, 1),
            "events_per_second_once_begun": round((self.events - by_then) / (ended[0] - first_at), 1),
            "events_per_cpu_second": round(done / (ended[1] - cpu_started), 1),
            "events_per_step": round(done / max(self.steps - steps, 1), 1),
            "lists": recomputed,
            "lists_per_event": round(recomputed / max(done, 1), 4),
            "lists_published": self.sent - sent,
            "ranked_share": "auto" if share is None else share,
            "topk": phase.topk if phase.lists else None,
            "topk_recall": round(parts.top_k.recall.value, 5),
            "share_of_time": {
                **{stage: round(spent / seconds, 4) for stage, spent in stages.items()},
                "other": round(1 - sum(stages.values()) / seconds, 4),
            },
            "save_seconds": round(worker.progress.save_seconds, 3),
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }

    def _top_k(self, phase: Phase) -> TopK:
        if not phase.lists:
            return NoLists(self.worker.learner, 0)
        return make_top_k(self.settings, self.worker.learner, mode=phase.topk)

    def catch_up(self) -> int:
        """Learn what is left on the topic, without lists; how many events that were."""
        before = self.events
        self.worker.learner.settings = replace(self.worker.learner.settings, ranked_share=0.0)
        loop.run(
            replace(self.worker.parts, top_k=NoLists(self.worker.learner, 0)),
            batch_size=self.settings.batch_size,
            batch_wait_seconds=self.settings.batch_wait_seconds,
            stopping=lambda: False,
            until=self.worker.end_offsets(),
        )
        return self.events - before

    def close(self) -> None:
        self._closing.close()

    def _stage_seconds(self) -> dict[str, float]:
        value = self.worker.metrics.registry.get_sample_value
        return {stage.value: value("headrace_stage_seconds_sum", {"stage": stage.value}) or 0.0 for stage in Stage}

    def _batch_done(self, batch: Batch, written: Written) -> None:
        self.events += len(batch.learned)
        self._first = self._first or (time.perf_counter(), self.events)
        self.steps += 1
        self.sent += written.sent
        self.unchanged += written.unchanged

    def _lists_settled(self, seconds_E: NDArray[np.float64], _published: int) -> None:
        self.freshness.extend(seconds_E.tolist())


def worker_settings(bootstrap_servers: str, topic: str, folder: Path, given: dict[str, object]) -> Settings:
    """The defaults of `headrace run`, save for what a benchmark has to give; the environment is not looked at.

    No list is put off: rates are those of a list for every touched user at every step.
    """
    fixed = {
        "bootstrap_servers": bootstrap_servers,
        "librdkafka": CLIENT_PROPERTIES,
        "events_topic": topic,
        "checkpoint_dir": folder,
        "max_staleness_seconds": 0.0,  # every touched user gets a list at every step
    }
    return load({**fixed, **given}, environment={})
