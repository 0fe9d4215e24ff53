"""From steps to metrics: what a learner's steps show on /metrics, and what is only logged."""

from types import SimpleNamespace

import numpy as np
import pytest
from columns import events_of
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from consumer.config import Settings
from consumer.lists import Written
from consumer.loop import Batch
from consumer.metrics import Metrics, Stage
from consumer.observation import ALIVE_SECONDS, LOOK_SECONDS, Observation
from consumer.records import Taken
from model.drift import DriftSettings
from model.entries import ItemContent
from model.interactions import Interaction
from model.learner import Learner
from model.settings import LearnerSettings
from model.topk import TopK


class Clock:
    seconds = 1000.0

    def __call__(self):
        return self.seconds


class Watched:
    """An observation of a learner, with a record for each interaction; nothing of Kafka."""

    def __init__(self, **settings):
        self.clock = Clock()
        self.settings = Settings(**settings)
        self.metrics = Metrics()
        self.observation = Observation(self.metrics, self.settings, clock=self.clock, now_seconds=self.clock)
        drift = DriftSettings(boost=self.settings.drift_boost)
        self.learner = Learner(
            LearnerSettings(width=4, rating_width=2, window=3, depth=4, drift=drift, max_items=self.settings.max_items)
        )
        self.observation.watch(SimpleNamespace(lag=dict, away_seconds=float), self.learner)

    def learn(self, interactions):
        step = self.learner.test_then_learn(interactions)
        lists = TopK(self.learner, 5)(step.touched_users())
        taken = Taken([SimpleNamespace(timestamp=lambda: (1, 999_000)) for _ in interactions])
        self.observation.observe(Batch(taken, [], events_of(), events_of(), step, lists), Written(0, 0))
        return step

    def look(self):
        self.clock.seconds += LOOK_SECONDS
        with self.observation.timed(Stage.TAKE):
            pass

    def value(self, name, **labels):
        (found,) = [
            sample.value
            for family in text_string_to_metric_families(self.metrics.render().decode())
            for sample in family.samples
            if sample.name == name and labels == sample.labels
        ]
        return found


def clicks(number, *, users=8, items=12, seed=0):
    generator = np.random.default_rng(seed)
    return [
        Interaction(
            f"u{generator.integers(users)}", f"i{generator.integers(items)}", place, 1.0, float(place % 5 + 0.5)
        )
        for place in range(number)
    ]


def test_rolling_figures_are_shown_for_all_for_cold_and_for_warm_users():
    watched = Watched()

    step = watched.learn(clicks(200))
    watched.look()

    is_cold = step.earlier_events_B < 5
    hits = (step.ranks_B < 10).astype(float)
    for cohort, rows in (("all", slice(None)), ("cold", is_cold), ("warm", ~is_cold)):
        shown = watched.value("headrace_quality", measure="hit_ratio", cohort=cohort)
        assert shown == pytest.approx(hits[rows].mean()), cohort
        losses = step.losses_B[rows]
        shown = watched.value("headrace_quality", measure="log_loss", cohort=cohort)
        assert shown == pytest.approx(losses[~np.isnan(losses)].mean()), cohort
    assert watched.value("headrace_prequential_hit_ratio") == pytest.approx(hits.mean())
    assert 0 < watched.value("headrace_quality", measure="liked_accuracy", cohort="all") <= 1


def test_coverage_and_novelty_are_those_of_the_lists():
    watched = Watched()

    watched.learn(clicks(200, items=12))
    watched.look()

    rows = {row for one in TopK(watched.learner, 5).lists_of([f"u{n}" for n in range(8)]) for row in one.item_rows}
    assert watched.value("headrace_quality", measure="coverage", cohort="all") == pytest.approx(len(rows) / 12)
    assert watched.value("headrace_quality", measure="novelty", cohort="warm") > 0


def test_items_that_a_catalogue_knew_before_their_first_event_count_in_coverage_and_novelty_as_others_do():
    watched = Watched()
    watched.learner.describe({f"i{n}": ItemContent(categories=[f"kind {n % 3}"]) for n in range(12)})

    watched.learn(clicks(200, items=12))
    watched.look()

    items = {item for one in TopK(watched.learner, 5).lists_of([f"u{n}" for n in range(8)]) for item in one.item_ids}
    assert watched.value("headrace_quality", measure="coverage", cohort="all") == pytest.approx(len(items) / 12)
    assert watched.value("headrace_quality", measure="novelty", cohort="warm") > 0


def test_coverage_is_a_share_also_where_items_leave():
    watched = Watched(max_items=20)
    shown = []

    for turn in range(30):
        watched.learn([Interaction(f"u{n % 8}", f"i{turn * 6 + n % 12}", turn, 1.0) for n in range(32)])
        watched.look()
        shown.append(watched.value("headrace_quality", measure="coverage", cohort="all"))

    assert watched.value("headrace_evicted_rows_total", kind="items") > 0
    assert max(shown) <= 1


def test_figures_are_not_worked_out_in_every_step():
    watched = Watched()
    watched.look()
    looked = watched.value("headrace_vocabulary_rows", kind="users")

    watched.learn(clicks(50))
    with watched.observation.timed(Stage.TAKE):
        pass

    assert watched.value("headrace_vocabulary_rows", kind="users") == looked == 0


def turn_over(watched):
    """Learn until drift is found: clicks within groups of items, then groups dealt anew."""
    generator = np.random.default_rng(1)
    dealt, groups, steps = generator.permutation(80), generator.integers(0, 8, 20), []
    for number in range(60):
        stream = []
        for place in range(100):
            user = int(generator.integers(0, 20))
            item = int(groups[user]) * 10 + int(generator.integers(0, 10))
            item = int(dealt[item]) if number >= 45 else item
            stream.append(Interaction(f"u{user}", f"i{item}", number * 100 + place, 1.0, None))
        groups[generator.integers(0, 20)] = generator.integers(0, 8)
        steps.append(watched.learn(stream))
        if steps[-1].alarms:
            break
    return steps


def repeating(**settings):
    watched = Watched(**settings)
    drift = DriftSettings(boost=watched.settings.drift_boost)
    watched.learner = Learner(
        LearnerSettings(encoder="blend", width=8, rating_width=2, allow_repeats=True, drift=drift)
    )
    watched.observation.watch(SimpleNamespace(lag=dict, away_seconds=float), watched.learner)
    return watched


def test_every_alarm_is_counted_and_logged_and_the_rate_shows_what_it_did():
    watched = repeating(learning_rate=0.1)

    with capture_logs() as logs:
        steps = turn_over(watched)
    watched.learn(clicks(10))

    alarms = [alarm for step in steps for alarm in step.alarms]
    lines = [line for line in logs if line["event"].startswith("drift")]
    assert alarms
    assert watched.value("headrace_drift_total") == len(alarms) == len(lines)
    assert lines[0]["cohort"] == alarms[0].cohort
    assert lines[0]["learns_faster"] is True
    assert watched.value("headrace_learning_rate") > 0.1


def test_with_the_answer_switched_off_alarms_are_told_and_the_rate_stays():
    watched = repeating(learning_rate=0.1, drift_boost=1)

    with capture_logs() as logs:
        turn_over(watched)
    watched.learn(clicks(10))

    lines = [line for line in logs if line["event"].startswith("drift")]
    assert watched.value("headrace_drift_total") == len(lines) > 0
    assert lines[0]["learns_faster"] is False
    assert watched.value("headrace_learning_rate") == pytest.approx(0.1)


def test_the_loop_is_alive_as_long_as_it_comes_round():
    watched = Watched()
    restoring = (watched.observation.is_alive(), watched.observation.is_ready())

    watched.look()
    reading = (watched.observation.is_alive(), watched.observation.is_ready())
    watched.clock.seconds += ALIVE_SECONDS
    stuck = (watched.observation.is_alive(), watched.observation.is_ready())

    assert (restoring, reading, stuck) == ((True, False), (True, True), (False, False))
