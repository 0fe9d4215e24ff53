"""The metrics that dashboards and alerts rely on: names, labels, meaning."""

import math
import re

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from consumer.catalogue import RowOutcome
from consumer.decode import TYPE_NAMES
from consumer.journal import ITEMS, USERS
from consumer.metrics import EventOutcome, ListOutcome, Metrics, Stage
from consumer.reasons import UNKNOWN_TYPE

CONTRACT = {
    "headrace_events_total": ("counter", {"type", "outcome"}),
    "headrace_recommendations_total": ("counter", {"outcome"}),
    "headrace_freshness_seconds": ("histogram", set()),
    "headrace_stage_seconds": ("histogram", {"stage"}),
    "headrace_batch_events": ("histogram", set()),
    "headrace_consumer_lag_records": ("gauge", {"partition"}),
    "headrace_consumer_lag_seconds": ("gauge", set()),
    "headrace_broker_away_seconds": ("gauge", set()),
    "headrace_prequential_hit_ratio": ("gauge", set()),
    "headrace_prequential_ndcg": ("gauge", set()),
    "headrace_prequential_mae": ("gauge", set()),
    "headrace_popularity_hit_ratio": ("gauge", set()),
    "headrace_prequential_samples_total": ("counter", set()),
    "headrace_quality": ("gauge", {"measure", "cohort"}),
    "headrace_catalogue_rows_total": ("counter", {"kind", "outcome"}),
    "headrace_loss": ("gauge", {"kind"}),
    "headrace_drift_total": ("counter", set()),
    "headrace_refused_steps_total": ("counter", set()),
    "headrace_topk_recall_ratio": ("gauge", set()),
    "headrace_list_staleness_seconds": ("gauge", set()),
    "headrace_learning_rate": ("gauge", set()),
    "headrace_vocabulary_rows": ("gauge", {"kind"}),
    "headrace_evicted_rows_total": ("counter", {"kind"}),
    "headrace_checkpoint_age_seconds": ("gauge", set()),
    "headrace_checkpoint_seconds": ("gauge", set()),
    "headrace_checkpoint_interval_seconds": ("gauge", set()),
    "headrace_checkpoint_pause_seconds": ("gauge", set()),
    "headrace_model_version": ("gauge", set()),
    "headrace_ready": ("gauge", set()),
    "headrace_build_info": ("gauge", {"version", "torch", "device"}),
}


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def families(metrics):
    """What a Prometheus would scrape, by the name of the contract."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = family
    return found


def samples(metrics, name, **labels):
    """The samples of this exact name, with these labels among theirs."""
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


def value(metrics, name, **labels):
    (found,) = samples(metrics, name, **labels).values()
    return found


def busy_metrics():
    """Metrics of which every one was told something."""
    metrics = Metrics()
    metrics.count_events("click", EventOutcome.LEARNED)
    metrics.count_recommendations(ListOutcome.PUBLISHED)
    metrics.observe_freshness(np.array([0.01]))
    metrics.observe_batch(3)
    metrics.set_lag({0: 1}, 0.5)
    metrics.set_broker_away(0.0)
    metrics.set_quality(hit_ratio=0.2, ndcg=0.1, mae=0.7, popularity_hit_ratio=0.08)
    metrics.set_cohort_quality("cold", {"hit_ratio": 0.2})
    metrics.count_catalogue_rows("items", "taken", 1)
    metrics.count_samples(1)
    metrics.count_drifts()
    metrics.count_refused_step()
    metrics.set_loss("ranking", 1.0)
    metrics.set_learning_rate(0.1)
    metrics.set_vocabulary_rows("users", 1)
    metrics.count_evicted_rows("items", 1)
    metrics.checkpoint_saved(0.3, 0.01)
    metrics.set_model_version(7)
    metrics.set_build_info(version="1", torch="2", device="cpu")
    return metrics


def test_every_metric_of_the_contract_is_there_with_its_type_and_labels():
    found = families(busy_metrics())

    assert {name for name in found if name.startswith("headrace_")} == set(CONTRACT)
    for name, (kind, labels) in CONTRACT.items():
        assert found[name].type == kind, name
        own = {label for sample in found[name].samples for label in sample.labels} - {"le"}
        assert own == labels, name


def test_every_help_says_what_to_compare_or_when_it_is_bad():
    for name, family in families(busy_metrics()).items():
        if name.startswith("headrace_") and name not in ("headrace_build_info", "headrace_popularity_hit_ratio"):
            assert re.search(r"Bad: \w+", family.documentation), name


def test_there_are_no_created_series():
    assert b"_created" not in busy_metrics().render()


def test_events_are_counted_by_type_and_outcome():
    metrics = Metrics()

    metrics.count_events("click", EventOutcome.LEARNED, 5)
    metrics.count_events("click", EventOutcome.LEARNED)
    metrics.count_events("unknown", EventOutcome.DEAD_LETTER, 2)

    assert value(metrics, "headrace_events_total", type="click", outcome="learned") == 6
    assert value(metrics, "headrace_events_total", type="unknown", outcome="dead_letter") == 2


def test_outcomes_of_lists_are_there_from_the_start():
    metrics = Metrics()

    metrics.count_recommendations(ListOutcome.UNCHANGED, 4)

    assert value(metrics, "headrace_recommendations_total", outcome="unchanged") == 4
    assert value(metrics, "headrace_recommendations_total", outcome="published") == 0


def test_what_is_counted_is_there_from_the_start_as_a_rate_does_not_see_the_first_value_of_a_series():
    metrics = Metrics()

    assert {key: number for key, number in samples(metrics, "headrace_events_total").items() if number} == {}
    types = {
        kind: {dict(key)["type"] for key in samples(metrics, "headrace_events_total", outcome=kind)}
        for kind in EventOutcome
    }
    assert types == {
        EventOutcome.LEARNED: set(TYPE_NAMES),
        EventOutcome.DUPLICATE: set(TYPE_NAMES),
        EventOutcome.DEAD_LETTER: {*TYPE_NAMES, UNKNOWN_TYPE},
    }
    assert set(samples(metrics, "headrace_catalogue_rows_total").values()) == {0}
    assert {(dict(key)["kind"], dict(key)["outcome"]) for key in samples(metrics, "headrace_catalogue_rows_total")} == {
        (kind, outcome) for kind in (ITEMS, USERS) for outcome in RowOutcome
    }
    assert samples(metrics, "headrace_evicted_rows_total") == {(("kind", "items"),): 0, (("kind", "users"),): 0}


def test_freshness_falls_into_buckets_whose_upper_edge_is_inside():
    metrics = Metrics(freshness_buckets=(0.01, 0.1))

    metrics.observe_freshness(np.array([0.01, 0.011, 0.1, 7.0]))

    assert samples(metrics, "headrace_freshness_seconds_bucket") == {
        (("le", "0.01"),): 1,
        (("le", "0.1"),): 3,
        (("le", "+Inf"),): 4,
    }
    assert value(metrics, "headrace_freshness_seconds_count") == 4
    assert value(metrics, "headrace_freshness_seconds_sum") == pytest.approx(7.121)


def test_freshness_by_a_clock_that_is_ahead_counts_as_none():
    metrics = Metrics(freshness_buckets=(0.01,))

    metrics.observe_freshness(np.array([-3.0]))

    assert value(metrics, "headrace_freshness_seconds_sum") == 0
    assert value(metrics, "headrace_freshness_seconds_bucket", le="0.01") == 1


def test_no_freshness_leaves_the_histogram_at_nothing():
    metrics = Metrics()

    metrics.observe_freshness(np.zeros(0))

    assert value(metrics, "headrace_freshness_seconds_count") == 0


@pytest.mark.parametrize("edge", ["0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "30.0"])
def test_freshness_has_edges_where_objectives_lie(edge):
    assert value(Metrics(), "headrace_freshness_seconds_bucket", le=edge) == 0


def test_a_stage_is_timed_by_the_clock_that_is_passed_in():
    clock = Clock()
    metrics = Metrics(clock=clock)

    with metrics.timed(Stage.LEARN):
        clock.now += 0.004

    assert value(metrics, "headrace_stage_seconds_sum", stage="learn") == pytest.approx(0.004)
    assert value(metrics, "headrace_stage_seconds_count", stage="learn") == 1
    assert value(metrics, "headrace_stage_seconds_count", stage="topk") == 0


def test_a_stage_that_raises_is_timed_and_raises():
    metrics = Metrics()

    with pytest.raises(KeyError), metrics.timed(Stage.TAKE):
        raise KeyError("gone")

    assert value(metrics, "headrace_stage_seconds_count", stage="take") == 1


def test_the_age_of_the_checkpoint_grows_until_the_next_one():
    clock = Clock()
    metrics = Metrics(clock=clock)

    clock.now += 40
    before = value(metrics, "headrace_checkpoint_age_seconds")
    metrics.checkpoint_saved(1.5, 0.01)
    clock.now += 3

    assert before == 40
    assert value(metrics, "headrace_checkpoint_age_seconds") == 3
    assert value(metrics, "headrace_checkpoint_seconds") == 1.5


UNKNOWN_AT_FIRST = [
    *("prequential_hit_ratio", "prequential_ndcg", "prequential_mae", "popularity_hit_ratio", "model_version"),
    *("learning_rate", "consumer_lag_seconds", "broker_away_seconds", "checkpoint_seconds", "checkpoint_pause_seconds"),
]


@pytest.mark.parametrize("name", UNKNOWN_AT_FIRST)
def test_what_nobody_knows_while_the_worker_starts_is_no_number(name):
    assert math.isnan(value(Metrics(), f"headrace_{name}"))
    assert math.isfinite(value(busy_metrics(), f"headrace_{name}"))


def test_no_build_is_named_before_it_is_known():
    assert families(Metrics())["headrace_build_info"].samples == []


def test_quality_is_told_by_measure_and_cohort():
    metrics = Metrics()

    metrics.set_cohort_quality("cold", {"hit_ratio": 0.25, "mae": math.nan})
    metrics.set_cohort_quality("warm", {"hit_ratio": 0.5})
    metrics.set_cohort_quality("cold", {"hit_ratio": 0.125})

    assert value(metrics, "headrace_quality", measure="hit_ratio", cohort="cold") == 0.125
    assert value(metrics, "headrace_quality", measure="hit_ratio", cohort="warm") == 0.5
    assert math.isnan(value(metrics, "headrace_quality", measure="mae", cohort="cold"))


def test_two_workers_in_one_process_do_not_mix():
    one, other = Metrics(), Metrics(CollectorRegistry())

    one.set_model_version(3)

    assert math.isnan(value(other, "headrace_model_version"))


def test_the_build_says_what_runs():
    metrics = Metrics()

    metrics.set_build_info(version="0.1.0", torch="2.13.0", device="cuda:0")

    assert value(metrics, "headrace_build_info", version="0.1.0", torch="2.13.0", device="cuda:0") == 1
