"""Watching the loop: metrics, live quality, freshness, heartbeat. Observing changes nothing of what is learned."""

import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import structlog
from numpy.typing import NDArray

from consumer.config import Settings
from consumer.metrics import EventOutcome, ListOutcome, Metrics, Stage
from consumer.quality import COLD_EVENTS, LiveQuality

if TYPE_CHECKING:
    from consumer.lists import Written
    from consumer.loop import Batch
    from consumer.progress import Progress
    from consumer.refreshes import Refreshes
    from consumer.source import Source
    from model.learner import Learner
    from model.step import Step
    from model.topk import Lists, TopK

log = structlog.get_logger()

ALIVE_SECONDS: Final = 60.0
"""A loop that has not come round for this long is stuck."""
LOOK_SECONDS: Final = 1.0
"""Between two looks at what need not be looked at in every step: lag, rolling figures, sizes."""

RAN_AWAY: Final = (
    ". If steps are refused after that too, earlier ones have left weights that are too large: go back to a checkpoint "
    "from before them (move newer ones out of HEADRACE_CHECKPOINT_DIR), or begin anew with another folder and "
    "--reset earliest"
)
"""A step may be finite and leave weights from which no later one is."""

FreshnessListener = Callable[[NDArray[np.float64], int], None]
"""Seconds of events until their effect, and how many lists that the broker had are behind them."""


class Observation:
    """Turns what `consumer.loop.run` tells into metrics; listeners (a demo's screen) hear the same."""

    def __init__(
        self, metrics: Metrics, settings: Settings, *, clock: Callable[[], float], now_seconds: Callable[[], float]
    ) -> None:
        self.metrics = metrics
        self.quality = LiveQuality(window=settings.quality_window)
        self.batch_listeners: list[Callable[[Batch, Written], None]] = []
        self.freshness_listeners: list[FreshnessListener] = []
        self._clock = clock
        self._now_seconds = now_seconds
        self._learning_rate = settings.learning_rate
        self._rating_learning_rate = settings.rating_learning_rate
        self._drift_boost = settings.drift_boost
        self.doing = "starting"
        """What the start is at, until the loop comes round for the first time; nothing after that."""
        self._ticked_at: float | None = None
        self._looked_at = -LOOK_SECONDS
        self._newest_record_ms = 0
        self._refused: Counter[str] = Counter()
        """How often, by the remedy."""
        metrics.set_checkpoint_interval(settings.checkpoint_seconds)
        metrics.watch_readiness(self.is_ready)

    @classmethod
    def of(
        cls,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        now_seconds: Callable[[], float] = time.time,
    ) -> Self:
        """One with metrics of its own."""
        metrics = Metrics(freshness_buckets=settings.freshness_buckets)
        return cls(metrics, settings, clock=clock, now_seconds=now_seconds)

    def watch(
        self,
        source: "Source",
        learner: "Learner",
        top_k: "TopK | None" = None,
        refreshes: "Refreshes | None" = None,
    ) -> None:
        """What to look at between steps, restored by now."""
        self._source, self._learner = source, learner
        self._top_k, self._refreshes = top_k, refreshes
        self.metrics.set_learning_rate(self._learning_rate * learner.drift.pace)
        self.metrics.set_model_version(learner.version)

    def is_alive(self) -> bool:
        """Whether the loop came round lately; a start that is still restoring counts as alive."""
        return self._ticked_at is None or self._clock() - self._ticked_at < ALIVE_SECONDS

    def is_ready(self) -> bool:
        """Whether the worker has restored and is reading."""
        return self._ticked_at is not None and self.is_alive()

    def timed(self, stage: Stage) -> AbstractContextManager[None]:
        """Measures a stage; each take is a heartbeat."""
        if stage is Stage.TAKE:
            self.beat()
        return self.metrics.timed(stage)

    def beat(self) -> None:
        """The loop is not stuck: it came round, or it knows what it waits for."""
        self._ticked_at, self.doing = self._clock(), ""
        if self._ticked_at - self._looked_at >= LOOK_SECONDS:
            self._looked_at = self._ticked_at
            self._look()

    def observe(self, batch: "Batch", written: "Written") -> None:
        """A step was learned and its lists are on their way."""
        metrics, step = self.metrics, batch.step
        metrics.observe_batch(len(batch.taken))
        for outcome, events in ((EventOutcome.LEARNED, batch.learned), (EventOutcome.DUPLICATE, batch.duplicates)):
            for event_type, count in events.counts().items():
                metrics.count_events(event_type, outcome, count)
        for event_type, count in Counter(reject.event_type for reject in batch.rejects).items():
            metrics.count_events(event_type, EventOutcome.DEAD_LETTER, count)
        metrics.count_recommendations(ListOutcome.UNCHANGED, written.unchanged)
        metrics.set_model_version(step.version)
        metrics.count_samples(int(step.ranked_B.sum()))
        metrics.count_evicted_rows("users", len(step.evicted_U))
        metrics.count_evicted_rows("items", len(step.evicted_I))
        if np.isfinite(step.losses_B).any() or not math.isfinite(step.ranking_loss):
            metrics.set_loss("ranking", step.ranking_loss)
        self._observe_refusals(step)
        for alarm in step.alarms:
            metrics.count_drifts()
            log.warning(
                "drift: the live error rose for good",
                cohort=alarm.cohort,
                rise_nats=round(alarm.rise, 3),
                step=step.version,
                learns_faster=self._drift_boost > 1,
            )
        metrics.set_learning_rate(self._learning_rate * step.pace)
        errors_B = step.predictions_B - step.ratings_B
        if not np.isnan(errors_B).all():
            metrics.set_loss("rating", float(np.nanmean(errors_B**2)))
        self.quality.observe(
            ranked_B=step.ranked_B,
            ranks_B=step.ranks_B,
            popularity_ranks_B=step.popularity_ranks_B,
            ratings_B=step.ratings_B,
            predictions_B=step.predictions_B,
            medians_B=step.medians_B,
            losses_B=step.losses_B,
            earlier_events_B=step.earlier_events_B,
            user_means_B=step.user_means_B,
        )
        self.quality.let_items_go(step.evicted_I)
        self._observe_lists(batch.lists)
        newest_ms = int(batch.taken.time_R.max(initial=-1))
        if newest_ms >= 0:  # below, no record of the step says when it was sent
            self._newest_record_ms = newest_ms
        for listener in self.batch_listeners:
            listener(batch, written)

    def lists_settled(
        self, record_times_ms_E: NDArray[np.int64], at_seconds_E: NDArray[np.float64] | None, published: int
    ) -> None:
        """The broker had the lists that reflect these records (E) at these times; None: they did not change, as was
        found just now. `published`: how many lists the broker had. A record below 0 has no time and is left out; one
        that is ahead of the clock counts as 0 seconds.
        """
        settled_at = self._now_seconds() if at_seconds_E is None else at_seconds_E
        seconds_E = np.maximum(settled_at - record_times_ms_E / 1000, 0.0)[record_times_ms_E >= 0]
        self.metrics.observe_freshness(seconds_E)
        self.metrics.count_recommendations(ListOutcome.PUBLISHED, published)
        for listener in self.freshness_listeners:
            listener(seconds_E, published)

    def saved(self, progress: "Progress") -> None:
        """A checkpoint is durable."""
        self.metrics.checkpoint_saved(progress.save_seconds, progress.pause_seconds)

    def _observe_refusals(self, step: "Step") -> None:
        """What the ranking head or the rating model could not learn, and the setting that is to be changed.

        Told at the 1st, 2nd, 4th, 8th, ... time: once weights have run away each step is refused, hundreds a second.
        """
        lower = f"lower HEADRACE_LEARNING_RATE (now {self._learning_rate}) or the weights of actions"
        lower_of_ratings = f"lower HEADRACE_RATING_LEARNING_RATE (now {self._rating_learning_rate})"
        refusals = ((step.refused, lower), (step.ratings_refused, lower_of_ratings))
        for why, remedy in refusals:
            if why is None:
                continue
            self._refused[remedy] += 1
            if (times := self._refused[remedy]) & (times - 1) == 0:
                log.error("a step was refused; going on without it", why=why, remedy=f"{remedy}{RAN_AWAY}", times=times)
        if any(why is not None for why, _ in refusals):
            self.metrics.count_refused_step()

    def _observe_lists(self, lists: "Lists") -> None:
        live = self._learner.live
        if len(lists.users_U):
            is_cold_U = live.history.pushed_U[lists.users_U] < COLD_EVENTS
            listed_UK = np.arange(lists.codes_UK.shape[1]) < lists.lengths_U[:, None]
            count_I = live.counts.count_I[: live.counts.items]
            rows_UK = self._learner.rows_of_list(np.where(listed_UK, lists.codes_UK, 0))
            self.quality.observe_lists(np.where(listed_UK, rows_UK, -1), is_cold_U, count_I)

    def _look(self) -> None:
        lag = self._source.lag()
        behind = (
            self._now_seconds() - self._newest_record_ms / 1000 if self._newest_record_ms and any(lag.values()) else 0
        )
        self.metrics.set_lag(lag, max(behind, 0.0))
        self.metrics.set_broker_away(self._source.away_seconds())
        if self._top_k is not None:
            self.metrics.set_topk_recall(self._top_k.recall.value)
        if self._refreshes is not None:
            self.metrics.set_list_staleness(self._refreshes.staleness_seconds())
        figures = self.quality.rolling()
        self.metrics.set_quality(
            hit_ratio=figures.hit_ratio,
            ndcg=figures.ndcg,
            mae=figures.mae,
            popularity_hit_ratio=figures.popularity_hit_ratio,
        )
        known_items = int(self._learner.live.counts.known_I.sum())
        for cohort, measures in self.quality.by_cohort(known_items).items():
            self.metrics.set_cohort_quality(cohort, measures._asdict())
        self.metrics.set_vocabulary_rows("users", self._learner.users.in_use)
        self.metrics.set_vocabulary_rows("items", self._learner.items.in_use)
