"""Every metric of the worker, in one place; the only file that imports prometheus_client.

The help of each says what it is and when it is bad. Counters are of this process: they begin at 0 with it.
No user and no item stands in a label. What is counted and when is the callers'.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

FRESHNESS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_STAGE_BUCKETS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    5.0,
    30.0,
)
_BATCH_BUCKETS: Final = (1, 4, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)

# What labels may say: a rate does not see the first value of a series, so each is there from the start.
_EVENT_TYPES: Final = ("click", "rating", "impression", "forget")
_UNKNOWN_TYPE: Final = "unknown"
_KINDS: Final = ("items", "users")
_ROW_OUTCOMES: Final = ("taken", "unchanged", "rejected")


class Stage(StrEnum):
    """The stages whose time is measured. Ranking is inside of learn."""

    TAKE = "take"
    DECODE = "decode"
    LEARN = "learn"
    TOPK = "topk"
    PUBLISH = "publish"
    CHECKPOINT = "checkpoint"


class EventOutcome(StrEnum):
    """What became of a record; each has exactly one."""

    LEARNED = "learned"
    DUPLICATE = "duplicate"
    DEAD_LETTER = "dead_letter"


class ListOutcome(StrEnum):
    """What became of a list."""

    PUBLISHED = "published"
    """Acknowledged by the broker."""
    UNCHANGED = "unchanged"
    """Not sent, since nothing changed: one that is published all the same is not among these."""


class Metrics:
    """The worker's metrics in a registry of their own, so that two workers in one process do not mix."""

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        freshness_buckets: Sequence[float] = FRESHNESS_BUCKETS,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry() if registry is None else registry
        self._clock = clock
        ProcessCollector(registry=self.registry)
        self._make_counters()
        self._make_histograms(freshness_buckets)
        self._make_model_gauges()
        self._make_checkpoint_gauges()
        for gauge in self._unknown_at_first:
            gauge.set(math.nan)  # 0 would say something that nobody knows while the worker starts

    # --- what the loop tells ---

    def count_events(self, event_type: str, outcome: EventOutcome, count: int = 1) -> None:
        """`count` records of this type ("unknown" where it names none that exists) came to this end."""
        self._events.labels(event_type, outcome).inc(count)

    def count_recommendations(self, outcome: ListOutcome, count: int = 1) -> None:
        """`count` lists came to this end."""
        self._recommendations.labels(outcome).inc(count)

    def observe_freshness(self, seconds_E: NDArray[np.float64]) -> None:
        """One observation an event: from its record's timestamp to the acknowledgement of the list that reflects it."""
        self._freshness.observe(seconds_E)

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Measures the time of a stage, also of one that raises."""
        start = self._clock()
        try:
            yield
        finally:
            self._stage_seconds[stage].observe(self._clock() - start)

    def observe_batch(self, events: int) -> None:
        """A step took this many events."""
        self._batch_events.observe(events)

    def set_lag(self, records: Mapping[int, int], seconds: float) -> None:
        """Records not taken yet, by partition, and the age of the newest record taken (0 where nothing waits)."""
        for partition, count in records.items():
            self._lag_records.labels(partition).set(count)
        self._lag_seconds.set(seconds)

    def set_broker_away(self, seconds: float) -> None:
        """For how long no broker has answered; 0 while one does."""
        self._broker_away.set(seconds)

    def set_quality(self, *, hit_ratio: float, ndcg: float, mae: float, popularity_hit_ratio: float) -> None:
        """The rolling figures; NaN where there is nothing to judge by."""
        self._hit_ratio.set(hit_ratio)
        self._ndcg.set(ndcg)
        self._mae.set(mae)
        self._popularity_hit_ratio.set(popularity_hit_ratio)

    def set_cohort_quality(self, cohort: str, measures: Mapping[str, float]) -> None:
        """The rolling figures of a cohort (all, cold, warm), by name of the measure."""
        for measure, value in measures.items():
            self._quality.labels(measure, cohort).set(value)

    def count_samples(self, count: int) -> None:
        """`count` events were ranked before they were learned."""
        self._samples.inc(count)

    def count_drifts(self, count: int = 1) -> None:
        """The watch over drift found a cohort's error risen for good, `count` times."""
        self._drifts.inc(count)

    def set_topk_recall(self, ratio: float) -> None:
        self._topk_recall.set(ratio)

    def set_list_staleness(self, seconds: float) -> None:
        """For how long the oldest events whose lists were put off have been waiting."""
        self._list_staleness.set(seconds)

    def count_refused_step(self) -> None:
        """A step's gradient was not finite, so that no weight was moved."""
        self._refused_steps.inc()

    def count_catalogue_rows(self, kind: str, outcome: str, count: int) -> None:
        """`count` records of the catalogue, items or users, came to this end: taken, unchanged or rejected."""
        self._catalogue_rows.labels(kind, outcome).inc(count)

    def set_loss(self, kind: str, value: float) -> None:
        """Mean loss of the newest step; kind is ranking or rating."""
        self._loss.labels(kind).set(value)

    def set_learning_rate(self, rate: float) -> None:
        self._learning_rate.set(rate)

    def set_vocabulary_rows(self, kind: str, rows: int) -> None:
        """Rows in use; kind is users or items."""
        self._rows.labels(kind).set(rows)

    def count_evicted_rows(self, kind: str, count: int) -> None:
        """Rows given back since they lay idle."""
        self._evicted.labels(kind).inc(count)

    def checkpoint_saved(self, seconds: float, pause_seconds: float) -> None:
        """A checkpoint became durable just now, took this long, and kept the loop from its steps that long."""
        self._saved_at = self._clock()
        self._checkpoint_seconds.set(seconds)
        self._checkpoint_pause.set(pause_seconds)

    def set_checkpoint_interval(self, seconds: float) -> None:
        """How far apart checkpoints are meant to be."""
        self._checkpoint_interval.set(seconds)

    def set_model_version(self, version: int) -> None:
        self._model_version.set(version)

    def watch_readiness(self, is_ready: Callable[[], bool]) -> None:
        """Show what /readyz says."""
        self._ready.set_function(lambda: float(is_ready()))

    def set_build_info(self, *, version: str, torch: str, device: str) -> None:
        self._build.labels(version, torch, device).set(1)

    def render(self) -> bytes:
        """The body of /metrics, in Prometheus's text format 0.0.4."""
        return generate_latest(self.registry)

    @property
    def _unknown_at_first(self) -> tuple[Gauge, ...]:
        return (
            *(self._hit_ratio, self._ndcg, self._mae, self._popularity_hit_ratio, self._model_version),
            *(self._learning_rate, self._lag_seconds, self._broker_away),
            *(self._checkpoint_seconds, self._checkpoint_pause),
        )

    # --- what there is ---

    def _counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"headrace_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"headrace_{name}", help_text, labels, registry=self.registry)

    def _make_counters(self) -> None:
        self._events = self._counter(
            "events",
            "Records by type and by what became of them. Bad: dead_letter grows (a producer sends what does not fit; "
            "`headrace dead-letters list` says why), or nothing grows while the lag does.",
            ["type", "outcome"],
        )
        for outcome in EventOutcome:
            for event_type in _EVENT_TYPES:
                self._events.labels(event_type, outcome)
        self._events.labels(_UNKNOWN_TYPE, EventOutcome.DEAD_LETTER)
        self._recommendations = self._counter(
            "recommendations",
            "Lists by what became of them: acknowledged by the broker, or not sent since nothing changed. "
            "Bad: published stands still while events are learned.",
            ["outcome"],
        )
        for list_outcome in ListOutcome:
            self._recommendations.labels(list_outcome)
        self._samples = self._counter(
            "prequential_samples",
            "Events ranked before they were learned. Bad: stands still while events are learned; the rolling "
            "figures are old then.",
        )
        self._drifts = self._counter(
            "drift",
            "Times a cohort's error rose for good; the log says whose and by how much. Bad: more than a few a day; "
            "what people do keeps changing, or the events changed their meaning.",
        )
        self._refused_steps = self._counter(
            "refused_steps",
            "Steps in which the ranking head or the rating model computed a number that is not finite. Their events "
            "are counted and ranked, but that part of the model moved no weight. Bad: anything but 0; the log names "
            "the rate to lower. Where steps are refused after that too, go back to a checkpoint from before them.",
        )
        self._catalogue_rows = self._counter(
            "catalogue_rows",
            "Records of the topics of items and users by what became of them. Bad: rejected grows; somebody sends "
            "records that are no item or no user, and the log says which.",
            ["kind", "outcome"],
        )
        for kind in _KINDS:
            for row_outcome in _ROW_OUTCOMES:
                self._catalogue_rows.labels(kind, row_outcome)
        self._evicted = self._counter(
            "evicted_rows",
            "Rows of idle users and items that were given back. Bad: rises all the time; HEADRACE_MAX_USERS or "
            "HEADRACE_MAX_ITEMS is too low for those who are active then.",
            ["kind"],
        )
        for kind in _KINDS:
            self._evicted.labels(kind)

    def _make_histograms(self, freshness_buckets: Sequence[float]) -> None:
        self._freshness = _Freshness(freshness_buckets)
        self.registry.register(self._freshness)
        stage_seconds = Histogram(
            "headrace_stage_seconds",
            "Time of each stage of a step; take includes waiting. Bad: a stage other than take fills the time between "
            "two steps while the lag grows.",
            ["stage"],
            buckets=_STAGE_BUCKETS,
            registry=self.registry,
        )
        # A stage that never ran shows as 0, not as missing.
        self._stage_seconds = {stage: stage_seconds.labels(stage) for stage in Stage}
        self._batch_events = Histogram(
            "headrace_batch_events",
            "Events in a step. Bad: nearly always HEADRACE_BATCH_SIZE; events then come as fast as the worker learns, "
            "or faster.",
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )

    def _make_model_gauges(self) -> None:
        self._lag_records = self._gauge(
            "consumer_lag_records", "Records on the topic that were not taken yet. Bad: grows.", ["partition"]
        )
        self._lag_seconds = self._gauge(
            "consumer_lag_seconds",
            "How far behind the topic the worker is: age of the newest record taken, 0 where no other waits. Bad: more "
            "than the age that you allow a list.",
        )
        self._broker_away = self._gauge(
            "broker_away_seconds",
            "For how long no broker has answered the worker; 0 while one does. Bad: more than a minute; nothing is "
            "read then, and the lag is that of the last answer.",
        )
        self._hit_ratio = self._gauge(
            "prequential_hit_ratio",
            "Share of the newest events whose item was in the top 10 just before it was learned. "
            "Bad: at or below headrace_popularity_hit_ratio.",
        )
        self._ndcg = self._gauge(
            "prequential_ndcg", "NDCG at 10 of the newest events. Bad: falls while the hit ratio does not."
        )
        self._mae = self._gauge(
            "prequential_mae", "Mean absolute error of the newest ratings. Bad: rises, or NaN while ratings come."
        )
        self._list_staleness = self._gauge(
            "list_staleness_seconds",
            "How long the oldest event has waited whose list was put off, because lists could not be made as fast as "
            "events came; 0 where none waits. Bad: above 0 for long; the worker is too slow for its lists.",
        )
        self._topk_recall = self._gauge(
            "topk_recall_ratio",
            "Share of the exact lists' items in fast ones, measured on sampled lists; 1 with HEADRACE_TOPK=exact. "
            "Bad: below HEADRACE_TOPK_RECALL for long; all lists are made exact then, and slower.",
        )
        self._topk_recall.set(1)
        self._popularity_hit_ratio = self._gauge(
            "popularity_hit_ratio",
            "Hit ratio of a plain list of the most popular items on the same events: the line to beat.",
        )
        self._quality = self._gauge(
            "quality",
            "Rolling figures by measure, for all, for cold users (fewer than 5 earlier events) and for warm ones. "
            "Bad: hit_ratio at or below popularity_hit_ratio in any cohort, or coverage that falls.",
            ["measure", "cohort"],
        )
        self._loss = self._gauge(
            "loss", "Mean loss of the newest step. Bad: rises for long, or is not finite.", ["kind"]
        )
        self._learning_rate = self._gauge(
            "learning_rate",
            "Rate of the items' embeddings in the newest step. Bad: above what you set for hours; drift raises it, "
            "and it comes back within some thousand events of the last alarm.",
        )
        self._rows = self._gauge(
            "vocabulary_rows",
            "Users and items that have a row. Bad: grows without end; memory grows with it.",
            ["kind"],
        )
        self._model_version = self._gauge(
            "model_version", "Number of the newest step. Bad: stands still while the lag grows."
        )
        self._ready = self._gauge(
            "ready",
            "1 where /readyz says so: what was saved is restored, and the topic is read. Bad: 0 for minutes; /readyz "
            "says what the worker does instead.",
        )
        self._build = self._gauge(
            "build_info", "What runs here: Headrace, torch, device.", ["version", "torch", "device"]
        )

    def _make_checkpoint_gauges(self) -> None:
        self._saved_at = self._clock()
        self._gauge(
            "checkpoint_age_seconds",
            "Time since the newest checkpoint of this process, or since its start. "
            "Bad: several times HEADRACE_CHECKPOINT_SECONDS; all events of that time are read again after a crash.",
        ).set_function(lambda: self._clock() - self._saved_at)
        self._checkpoint_seconds = self._gauge(
            "checkpoint_seconds", "How long the newest checkpoint took. Bad: near HEADRACE_CHECKPOINT_SECONDS."
        )
        self._checkpoint_interval = self._gauge(
            "checkpoint_interval_seconds",
            "HEADRACE_CHECKPOINT_SECONDS, to compare headrace_checkpoint_age_seconds with. Bad: near the topic's "
            "retention.",
        )
        self._checkpoint_pause = self._gauge(
            "checkpoint_pause_seconds",
            "How long the newest checkpoint kept the loop from its steps; it is written by another thread. Bad: above "
            "your objective for freshness.",
        )


class _Freshness(Collector):
    """The freshness histogram. Takes many observations at once: there is one for each event."""

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = np.array(edges, dtype=np.float64)
        self._counts = np.zeros(len(edges) + 1, dtype=np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, seconds_E: NDArray[np.float64]) -> None:
        """A negative time, from a producer's clock that is ahead, counts as 0."""
        seconds_E = np.maximum(seconds_E, 0.0)
        counts = np.bincount(np.searchsorted(self._edges, seconds_E), minlength=len(self._counts))
        with self._lock:
            self._counts += counts
            self._sum += float(seconds_E.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        with self._lock:
            counts, total = self._counts.tolist(), self._sum
        below, buckets = 0, []
        for edge, count in zip((*self._edges.tolist(), float("inf")), counts, strict=True):
            below += count
            buckets.append(("+Inf" if math.isinf(edge) else str(float(edge)), float(below)))
        yield HistogramMetricFamily(
            "headrace_freshness_seconds",
            "From the time an event was sent to the broker's acknowledgement of the list that reflects it, one "
            "observation an event. Bad: the 99th percentile above your objective.",
            buckets=buckets,
            sum_value=total,
        )
