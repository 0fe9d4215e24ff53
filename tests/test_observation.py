"""Watching the loop: every metric says what happened, and looking changes nothing."""

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from columns import events_of
from prometheus_client.parser import text_string_to_metric_families
from stream_fakes import TIME_MS, Record
from structlog.testing import capture_logs
from worker_fakes import Clock

from consumer.config import load
from consumer.decode import Reject
from consumer.lists import Written
from consumer.loop import Batch
from consumer.metrics import Metrics, Stage
from consumer.observation import ALIVE_SECONDS, LOOK_SECONDS, Observation
from consumer.reasons import Reason
from consumer.records import Taken
from model.cohorts import COLD_EVENTS
from model.drift import Alarm
from model.step import Step
from model.topk import Lists
from producer.events import Click, Forget, Rating

NAN = math.nan
NO_LISTS = Lists(
    np.zeros(0, dtype=np.int64),
    np.zeros((0, 3), dtype=np.int32),
    np.zeros(0, dtype=np.int32),
    np.zeros((0, 3), dtype=np.float32),
)


class Watched:
    """An observation with everything around it made up: `lag`, `away_seconds`, `users`, `items` are what it finds."""

    def __init__(self) -> None:
        self.clock, self.wall = Clock(), Clock()
        self.wall.seconds = TIME_MS / 1000 + 2.0
        self.lag = {0: 0, 1: 0}
        self.away_seconds = 0.0
        self.users, self.items = SimpleNamespace(in_use=3), SimpleNamespace(in_use=7)
        self.looks = 0
        self.observation = Observation(
            Metrics(clock=self.clock),
            load({"learning_rate": 0.25}, environment={}),
            clock=self.clock,
            now_seconds=self.wall,
        )
        source = SimpleNamespace(lag=self._look, away_seconds=lambda: self.away_seconds)
        counts = SimpleNamespace(known_I=np.ones(7, dtype=np.bool_))
        live = SimpleNamespace(counts=counts)
        drift = SimpleNamespace(pace=2.0)
        self.learner = SimpleNamespace(users=self.users, items=self.items, live=live, version=8, drift=drift)
        self.observation.watch(source, self.learner)  # type: ignore[arg-type]

    def _look(self) -> dict[int, int]:
        self.looks += 1
        return self.lag

    def take(self, after_seconds: float = 0.0) -> None:
        """The loop comes round."""
        self.clock.seconds += after_seconds
        with self.observation.timed(Stage.TAKE):
            pass

    def __getitem__(self, series: str) -> float:
        """The value of a series, as a scrape finds it: `name` or `name{label="value",...}`."""
        return self.series()[series]

    def series(self) -> dict[str, float]:
        found = {}
        for family in text_string_to_metric_families(self.observation.metrics.render().decode()):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
        return found


@pytest.fixture
def watched() -> Watched:
    return Watched()


def click(**fields: Any) -> Click:
    return Click(user_id="u", item_id="i", timestamp=1, **fields)


def rating(number: float) -> Rating:
    return Rating(user_id="u", item_id="i", timestamp=1, rating=number)


def step(version: int = 1, alarms: Sequence[Alarm] = (), pace: float = 1.0, **arrays: list[float]) -> Step:
    """A step of as many events as the arrays have; what is not given is as if nothing was ranked and nothing rated."""
    size = max((len(array) for array in arrays.values()), default=0)
    made = {
        name: np.array(arrays.get(name, [NAN] * size), dtype=np.float64)
        for name in (
            "ranks_B",
            "popularity_ranks_B",
            "ratings_B",
            "predictions_B",
            "medians_B",
            "losses_B",
            "user_means_B",
        )
    }
    ranked_B = np.array(arrays.get("ranked_B", [False] * size), dtype=np.bool_)
    return Step(
        version=version,
        ranked_B=ranked_B,
        ranking_loss=1.5,
        users_B=np.zeros(size, dtype=np.int64),
        forgotten=[],
        earlier_events_B=np.array(arrays.get("earlier_events_B", [9] * size), dtype=np.int64),
        alarms=list(alarms),
        pace=pace,
        **made,
    )


def batch(*learned: Any, duplicates: Sequence[Any] = (), **fields: Any) -> Batch:
    parts: dict[str, Any] = {"rejects": [], "step": step(), "lists": NO_LISTS, **fields}
    columns = events_of(*learned), events_of(*duplicates)
    records = [record for events in columns for record in events.taken.records]
    records += [reject.record for reject in parts["rejects"]]
    return Batch(taken=Taken(records), learned=columns[0], duplicates=columns[1], **parts)


def test_every_record_is_counted_by_type_and_by_what_became_of_it(watched: Watched) -> None:
    rejects = [
        Reject(Record(0, 5), Reason.NOT_JSON, "$"),
        Reject(Record(0, 6), Reason.OUT_OF_RANGE, "$.rating", "rating"),
        Reject(Record(0, 7), Reason.OUT_OF_RANGE, "$.rating", "rating"),
    ]
    learned = [click(), click(), rating(4), Forget(user_id="u", timestamp=1)]

    watched.observation.observe(
        batch(*learned, duplicates=[click()], rejects=rejects, step=step(version=12)), Written(2, 5)
    )

    series = watched.series().items()
    counted = {name: value for name, value in series if name.startswith("headrace_events_total") and value}
    assert counted == {
        'headrace_events_total{outcome="learned",type="click"}': 2,
        'headrace_events_total{outcome="learned",type="rating"}': 1,
        'headrace_events_total{outcome="learned",type="forget"}': 1,
        'headrace_events_total{outcome="duplicate",type="click"}': 1,
        'headrace_events_total{outcome="dead_letter",type="unknown"}': 1,
        'headrace_events_total{outcome="dead_letter",type="rating"}': 2,
    }
    assert watched["headrace_batch_events_sum"] == 8
    assert watched['headrace_recommendations_total{outcome="unchanged"}'] == 5
    assert watched['headrace_recommendations_total{outcome="published"}'] == 0  # none is acknowledged yet
    assert watched["headrace_model_version"] == 12


def test_version_and_rate_of_a_model_that_was_restored_are_told_before_the_first_event(watched: Watched) -> None:
    assert watched["headrace_model_version"] == 8
    assert watched["headrace_learning_rate"] == 0.5  # in the middle of a drift


def test_losses_and_samples_are_those_of_the_step(watched: Watched) -> None:
    done = step(
        ranked_B=[True, True, False],
        ranks_B=[3, NAN, NAN],
        losses_B=[1.25, 1.75, NAN],
        ratings_B=[4, NAN, 2],
        predictions_B=[3, NAN, 2.5],
        medians_B=[3, NAN, 2.5],
    )

    watched.observation.observe(batch(rating(4), step=done), Written(0, 0))

    assert watched["headrace_prequential_samples_total"] == 2
    assert watched['headrace_loss{kind="ranking"}'] == 1.5
    assert watched['headrace_loss{kind="rating"}'] == (1.0**2 + 0.5**2) / 2


def test_rows_of_idle_users_and_items_that_were_given_back_are_counted(watched: Watched) -> None:
    gone = replace(step(), evicted_U=np.array([3, 8], dtype=np.int64), evicted_I=np.array([1, 2, 4], dtype=np.int64))

    watched.observation.observe(batch(click(), step=gone), Written(0, 0))
    watched.observation.observe(batch(click()), Written(0, 0))

    assert watched.series()['headrace_evicted_rows_total{kind="users"}'] == 2
    assert watched.series()['headrace_evicted_rows_total{kind="items"}'] == 3


def test_a_step_without_ratings_and_without_losses_leaves_the_losses_as_they_were(watched: Watched) -> None:
    rated = step(ranked_B=[True], ranks_B=[0], losses_B=[1.5], ratings_B=[4], predictions_B=[3], medians_B=[3])
    watched.observation.observe(batch(rating(4), step=rated), Written(0, 0))

    of_a_stranger = replace(step(ranked_B=[True], ranks_B=[NAN]), ranking_loss=0.0)
    watched.observation.observe(batch(click(), step=of_a_stranger), Written(0, 0))

    assert watched['headrace_loss{kind="ranking"}'] == 1.5
    assert watched['headrace_loss{kind="rating"}'] == 1.0


def test_losses_are_shown_where_events_are_learned_and_none_is_ranked(watched: Watched) -> None:
    watched.observation.observe(batch(click(), step=step(ranked_B=[False], losses_B=[1.5])), Written(0, 0))

    assert watched['headrace_loss{kind="ranking"}'] == 1.5


def test_a_refused_step_is_told_with_the_rate_of_what_refused_it_and_the_way_back(watched: Watched) -> None:
    refused = replace(step(), refused="step 1: the loss is inf", ratings_refused="step 1: the rating head has diverged")

    with capture_logs() as logs:
        watched.observation.observe(batch(click(), step=replace(refused, ratings_refused=None)), Written(0, 0))
        watched.observation.observe(batch(click(), step=replace(refused, refused=None)), Written(0, 0))
        watched.observation.observe(batch(click(), step=refused), Written(0, 0))

    lower = [(line["why"], line["remedy"].split(". ")[0]) for line in logs]
    of_ranking = ("step 1: the loss is inf", "lower HEADRACE_LEARNING_RATE (now 0.25) or the weights of actions")
    of_ratings = ("step 1: the rating head has diverged", "lower HEADRACE_RATING_LEARNING_RATE (now 0.115)")
    assert lower == [of_ranking, of_ratings, of_ranking, of_ratings]
    assert all("a checkpoint from before" in line["remedy"] and "--reset earliest" in line["remedy"] for line in logs)
    assert watched["headrace_refused_steps_total"] == 3


def test_steps_that_are_refused_one_after_the_other_do_not_flood_the_log(watched: Watched) -> None:
    refused = replace(step(), refused="the loss is inf")

    with capture_logs() as logs:
        for _ in range(100):
            watched.observation.observe(batch(click(), step=refused), Written(0, 0))
        watched.observation.observe(batch(click(), step=replace(step(), ratings_refused="nan")), Written(0, 0))

    assert [(line["why"], line["times"]) for line in logs] == [
        *(("the loss is inf", times) for times in (1, 2, 4, 8, 16, 32, 64)),
        ("nan", 1),
    ]
    assert watched["headrace_refused_steps_total"] == 101


def test_a_loss_that_is_not_finite_is_shown_too(watched: Watched) -> None:
    refused = replace(step(ranked_B=[True], ranks_B=[0]), ranking_loss=math.inf, refused="step 1: the loss is inf")

    watched.observation.observe(batch(click(), step=refused), Written(0, 0))

    assert watched['headrace_loss{kind="ranking"}'] == math.inf


def test_freshness_is_one_observation_an_event_from_its_record_to_the_acknowledgement(watched: Watched) -> None:
    heard: list[tuple[list[float], int]] = []
    watched.observation.freshness_listeners.append(lambda seconds, lists: heard.append((seconds.tolist(), lists)))

    watched.observation.lists_settled(
        np.array([TIME_MS, TIME_MS + 1_000]), np.array([TIME_MS / 1000 + 1.5, TIME_MS / 1000 + 1.75]), 1
    )

    assert watched["headrace_freshness_seconds_count"] == 2
    assert watched["headrace_freshness_seconds_sum"] == pytest.approx(1.5 + 0.75)
    assert watched['headrace_recommendations_total{outcome="published"}'] == 1
    assert [(pytest.approx(seconds), lists) for seconds, lists in heard] == [([1.5, 0.75], 1)]


def test_behind_a_list_that_did_not_change_events_are_fresh_now_and_nothing_was_published(watched: Watched) -> None:
    watched.observation.lists_settled(np.array([TIME_MS]), None, 0)

    assert watched["headrace_freshness_seconds_sum"] == pytest.approx(2.0)
    assert watched['headrace_recommendations_total{outcome="published"}'] == 0


@pytest.mark.parametrize("at_seconds", [None, np.full(3, TIME_MS / 1000 + 2.0)])
def test_a_record_without_a_time_has_no_freshness_and_one_of_the_future_has_0(
    watched: Watched, at_seconds: np.ndarray | None
) -> None:
    heard: list[tuple[list[float], int]] = []
    watched.observation.freshness_listeners.append(lambda seconds, lists: heard.append((seconds.tolist(), lists)))

    watched.observation.lists_settled(np.array([-1, TIME_MS, 2**63 - 1]), at_seconds, 3)

    assert watched["headrace_freshness_seconds_count"] == 2
    assert watched["headrace_freshness_seconds_sum"] == pytest.approx(2.0)
    assert heard == [([pytest.approx(2.0), 0.0], 3)]


def test_records_without_a_time_leave_the_lag_at_the_newest_that_has_one(watched: Watched) -> None:
    watched.lag = {0: 5}
    timeless = Taken([Record(0, 0, time_ms=-1)])

    watched.observation.observe(replace(batch(click()), taken=timeless), Written(0, 0))
    watched.take(LOOK_SECONDS)
    before = watched["headrace_consumer_lag_seconds"]
    watched.observation.observe(batch(click()), Written(0, 0))
    watched.observation.observe(replace(batch(click()), taken=timeless), Written(0, 0))
    watched.take(LOOK_SECONDS)

    assert (before, watched["headrace_consumer_lag_seconds"]) == (0, pytest.approx(2.0))


def test_rolling_figures_lag_and_sizes_are_looked_at_once_a_second(watched: Watched) -> None:
    watched.take()
    done = step(ranked_B=[True] * 4, ranks_B=[0, 3, 50, NAN], popularity_ranks_B=[0, 99, 99, NAN])
    watched.observation.observe(batch(click(), step=done), Written(0, 0))
    watched.lag = {0: 5, 1: 0}

    watched.take(LOOK_SECONDS / 2)
    too_early = watched["headrace_prequential_hit_ratio"]
    watched.take(LOOK_SECONDS / 2)

    assert math.isnan(too_early)
    assert watched.looks == 2
    assert watched["headrace_prequential_hit_ratio"] == 0.5
    assert watched["headrace_popularity_hit_ratio"] == 0.25
    assert watched['headrace_consumer_lag_records{partition="0"}'] == 5
    assert watched["headrace_consumer_lag_seconds"] == pytest.approx(2.0)  # since the newest record that was taken
    assert watched['headrace_vocabulary_rows{kind="users"}'] == 3
    assert watched['headrace_vocabulary_rows{kind="items"}'] == 7
    assert watched["headrace_learning_rate"] == 0.25


def test_coverage_and_novelty_are_of_what_lists_hold_and_items_that_went_do_not_count(watched: Watched) -> None:
    counts = {"known_I": np.array([True] * 5 + [False]), "count_I": np.array([4, 2, 1, 1, 0, 0, 99]), "items": 6}
    watched.learner.live.counts = SimpleNamespace(**counts)
    watched.learner.live.history = SimpleNamespace(pushed_U=np.array([COLD_EVENTS, COLD_EVENTS - 1]))
    watched.learner.rows_of_list = np.vectorize({0: 0, 1: 1, 2: 2, -2: -1}.__getitem__)
    listed_UK = np.array([[0, 1, -2], [2, 99, -99]], dtype=np.int32)  # -2 has no event, what is behind an end is noise
    lists = Lists(np.array([1, 0]), listed_UK, np.array([3, 1], dtype=np.int32), listed_UK.astype(np.float32))
    watched.take()

    watched.observation.observe(batch(click(), lists=lists), Written(2, 0))
    watched.take(LOOK_SECONDS)
    whole = watched.series()
    gone = replace(step(), evicted_I=np.array([1], dtype=np.int64))
    watched.observation.observe(batch(click(), step=gone), Written(0, 0))
    watched.take(LOOK_SECONDS)

    cold, warm = (f'headrace_quality{{cohort="{cohort}",measure="coverage"}}' for cohort in ("cold", "warm"))
    assert (whole[cold], whole[warm]) == (2 / 5, 1 / 5)
    assert (watched[cold], watched[warm]) == (1 / 5, 1 / 5)
    half_more = 8 + 0.5 * 6
    assert whole['headrace_quality{cohort="warm",measure="novelty"}'] == pytest.approx(math.log2(half_more / 1.5))


def test_a_worker_that_has_everything_is_not_behind_however_old_the_newest_record_is(watched: Watched) -> None:
    watched.observation.observe(batch(click()), Written(0, 0))
    watched.wall.seconds += 3600

    watched.take(1)

    assert watched["headrace_consumer_lag_seconds"] == 0


def test_a_worker_that_has_everything_tells_of_a_broker_that_is_away_until_it_is_back(watched: Watched) -> None:
    watched.away_seconds = 90.0
    watched.take()
    away = watched["headrace_broker_away_seconds"], watched["headrace_consumer_lag_seconds"]

    watched.away_seconds = 0.0
    watched.take(LOOK_SECONDS)

    assert away == (90, 0)
    assert watched["headrace_broker_away_seconds"] == 0


def test_alarms_are_counted_and_the_rate_is_that_of_the_step(watched: Watched) -> None:
    alarmed = step(alarms=[Alarm("cold", 0.5), Alarm("warm", 0.7)], pace=2.0)

    watched.observation.observe(batch(click(), step=alarmed), Written(0, 0))

    assert watched["headrace_drift_total"] == 2
    assert watched["headrace_learning_rate"] == 0.5


def test_stages_are_measured(watched: Watched) -> None:
    with watched.observation.timed(Stage.LEARN):
        watched.clock.seconds += 0.25

    assert watched['headrace_stage_seconds_sum{stage="learn"}'] == 0.25
    assert watched['headrace_stage_seconds_count{stage="learn"}'] == 1


def test_a_save_resets_the_age_of_the_checkpoint(watched: Watched) -> None:
    watched.clock.seconds += 40
    before = watched["headrace_checkpoint_age_seconds"]

    watched.observation.saved(SimpleNamespace(save_seconds=0.75, pause_seconds=0.01))  # type: ignore[arg-type]
    watched.clock.seconds += 3

    assert before == 40
    assert watched["headrace_checkpoint_age_seconds"] == 3
    assert watched["headrace_checkpoint_seconds"] == 0.75
    assert watched["headrace_checkpoint_pause_seconds"] == 0.01


def test_a_worker_is_ready_once_it_reads_and_not_alive_when_the_loop_stands_still(watched: Watched) -> None:
    at_the_start = (watched.observation.is_alive(), watched.observation.is_ready())
    watched.take()
    reading = (watched.observation.is_alive(), watched.observation.is_ready())
    watched.clock.seconds += ALIVE_SECONDS
    stuck = (watched.observation.is_alive(), watched.observation.is_ready())
    watched.take()

    assert at_the_start == (True, False)
    assert reading == (True, True)
    assert stuck == (False, False)
    assert watched.observation.is_alive()


def test_a_step_without_records_leaves_the_lags_time_where_it_was(watched: Watched) -> None:
    watched.lag = {0: 3, 1: 0}
    watched.observation.observe(batch(click()), Written(1, 0))
    watched.observation.observe(batch(), Written(1, 0))

    watched.take(1)

    assert watched["headrace_consumer_lag_seconds"] == pytest.approx(2.0)


def test_listeners_hear_of_each_batch(watched: Watched) -> None:
    heard: list[tuple[Batch, Written]] = []
    watched.observation.batch_listeners.append(lambda *told: heard.append(told))
    one, written = batch(click()), Written(1, 0)

    watched.observation.observe(one, written)

    assert heard == [(one, written)]


def test_the_staleness_of_lists_that_wait_is_told(watched: Watched) -> None:
    observation = watched.observation
    refreshes = SimpleNamespace(staleness_seconds=lambda: 1.5)
    observation.watch(observation._source, watched.learner, None, refreshes)  # type: ignore[arg-type]

    watched.take()

    assert watched["headrace_list_staleness_seconds"] == 1.5


def test_a_record_from_a_clock_that_is_ahead_is_no_lag_below_0(watched: Watched) -> None:
    watched.lag = {0: 5}
    watched.wall.seconds = TIME_MS / 1000 - 3

    watched.observation.observe(batch(click()), Written(0, 0))
    watched.take(LOOK_SECONDS)

    assert watched["headrace_consumer_lag_seconds"] == 0


def test_recall_of_fast_lists_is_told_and_1_where_nobody_measures(watched: Watched) -> None:
    watched.take()
    assert watched["headrace_topk_recall_ratio"] == 1

    top_k = SimpleNamespace(recall=SimpleNamespace(value=0.97))
    source = SimpleNamespace(lag=dict, away_seconds=float)
    watched.observation.watch(source, watched.learner, top_k)  # type: ignore[arg-type]
    watched.take(after_seconds=10)

    assert watched["headrace_topk_recall_ratio"] == 0.97


def test_what_a_start_is_at_is_told_until_the_loop_comes_round(watched: Watched) -> None:
    watched.observation.doing = "restoring"
    before = watched.observation.doing, watched["headrace_ready"], watched.observation.is_alive()

    watched.take()

    assert before == ("restoring", 0, True)
    assert (watched.observation.doing, watched["headrace_ready"]) == ("", 1)
    watched.clock.seconds += ALIVE_SECONDS
    assert watched["headrace_ready"] == 0


def test_an_observation_can_be_made_of_settings_alone() -> None:
    observation = Observation.of(load({"freshness_buckets": "0.5,7", "checkpoint_seconds": "900"}, environment={}))

    shown = observation.metrics.render().decode()
    assert 'le="7.0"' in shown
    assert "\nheadrace_checkpoint_interval_seconds 900.0\n" in shown
    assert (observation.is_alive(), observation.is_ready()) == (True, False)
