"""Live figures over a window and over everything, fed step by step."""

import math

import numpy as np
import pytest
import river.metrics

from consumer.quality import LiveQuality
from model import evaluation

MISS = NONE = math.nan


def quality(**options):
    return LiveQuality(**{"window": 100, "rating_min": 0.5, "rating_max": 5.0, **options})


def step(ranks, *, popularity=None, ranked=None, ratings=None, predictions=None, medians=None):
    """The arguments of one step; what is left out is not there in any event."""
    size = len(ranks)
    nothing = [NONE] * size
    return {
        "ranked_B": np.array([True] * size if ranked is None else ranked, dtype=np.bool_),
        "ranks_B": np.array(ranks, dtype=np.float64),
        "popularity_ranks_B": np.array(popularity or nothing, dtype=np.float64),
        "ratings_B": np.array(ratings or nothing, dtype=np.float64),
        "predictions_B": np.array(predictions or nothing, dtype=np.float64),
        "medians_B": np.array(medians or nothing, dtype=np.float64),
    }


def test_before_the_first_event_there_is_nothing_to_judge_by():
    figures = quality().rolling()

    assert (figures.ranked, figures.rated) == (0, 0)
    assert math.isnan(figures.hit_ratio)
    assert math.isnan(figures.mae)
    assert math.isnan(quality().total().rmse)


def test_a_miss_counts_and_an_event_that_is_not_ranked_does_not():
    live = quality()

    live.observe(**step([0, MISS, NONE, 50], ranked=[True, True, False, True], popularity=[20, 9, NONE, MISS]))

    for figures in (live.rolling(), live.total()):
        assert figures.ranked == 3
        assert figures.hit_ratio == pytest.approx(1 / 3)
        assert figures.ndcg == pytest.approx(1 / 3)
        assert figures.mrr == pytest.approx((1 + 1 / 51) / 3)
        assert figures.popularity_hit_ratio == pytest.approx(1 / 3)
        assert figures.popularity_ndcg == pytest.approx(1 / math.log2(11) / 3)


def test_errors_are_read_at_mean_and_median_and_clipped_to_the_scale():
    live = quality()

    live.observe(
        **step(
            [NONE] * 3,
            ranked=[False] * 3,
            ratings=[5, NONE, 1],
            predictions=[6.5, 9, 2],
            medians=[4, 9, 0.0],
        )
    )

    for figures in (live.rolling(), live.total()):
        assert figures.rated == 2
        assert figures.mae == pytest.approx(0.5)
        assert figures.rmse == pytest.approx(math.sqrt(0.5))
        assert figures.mae_median == pytest.approx(0.75)


def test_an_empty_step_changes_nothing():
    live = quality()
    live.observe(**step([3]))

    live.observe(**step([]))

    assert live.rolling().ranked == live.total().ranked == 1


def test_the_window_forgets_and_the_total_does_not():
    live = quality(window=3)

    live.observe(**step([0, 0]))
    live.observe(**step([99, 99]))

    assert live.rolling().ranked == 3
    assert live.rolling().hit_ratio == pytest.approx(1 / 3)
    assert live.total().hit_ratio == pytest.approx(1 / 2)


def test_a_prediction_that_is_nan_shows_and_leaves_the_window_with_its_event():
    live = quality(window=2)

    live.observe(**step([0], ratings=[3], predictions=[math.nan], medians=[3]))
    shown = live.rolling().mae
    live.observe(**step([0, 0], ratings=[3, 3], predictions=[3, 4], medians=[3, 3]))

    assert math.isnan(shown)
    assert live.rolling().mae == pytest.approx(0.5)
    assert math.isnan(live.total().mae)


@pytest.mark.parametrize("cuts", [[], [1], [500], [7, 8, 300, 999], list(range(0, 1000, 3))])
def test_figures_do_not_depend_on_where_steps_were_cut(cuts):
    generator = np.random.default_rng(5)
    ranks = generator.integers(0, 40, 1000).astype(np.float64)
    ratings = generator.integers(1, 6, 1000).astype(np.float64)
    predictions = ratings + generator.normal(0, 0.5, 1000)
    live = quality(window=128)

    for part in np.split(np.arange(1000), cuts):
        live.observe(
            **step(
                ranks[part].tolist(),
                ratings=ratings[part].tolist(),
                predictions=predictions[part].tolist(),
                medians=predictions[part].tolist(),
            )
        )

    clipped = predictions.clip(0.5, 5)
    assert live.rolling().hit_ratio == pytest.approx(evaluation.hit_rate(ranks[-128:]))
    assert live.rolling().mae == pytest.approx(evaluation.mean_absolute_error(clipped[-128:], ratings[-128:]))
    assert live.total().mrr == pytest.approx(evaluation.mrr(ranks))
    assert live.total().rmse == pytest.approx(evaluation.root_mean_squared_error(clipped, ratings))


# --- by cohort ---


def cohort_step(ranks, earlier, **columns):
    size = len(ranks)
    nothing = [NONE] * size
    means, losses = columns.pop("means", nothing), columns.pop("losses", nothing)
    return step(ranks, **columns) | {
        "earlier_events_B": np.array(earlier),
        "user_means_B": np.array(means, dtype=np.float64),
        "losses_B": np.array(losses, dtype=np.float64),
    }


def many(seed=3, size=1000):
    """The arguments of a step with everything in it."""
    generator = np.random.default_rng(seed)
    ratings = generator.integers(1, 6, size).astype(np.float64)
    return cohort_step(
        generator.integers(0, 40, size).tolist(),
        generator.integers(0, 20, size).tolist(),
        popularity=generator.integers(0, 80, size).tolist(),
        losses=generator.gamma(2.0, 2.0, size).tolist(),
        ratings=np.where(generator.random(size) < 0.7, ratings, np.nan).tolist(),
        predictions=(ratings + generator.normal(0, 1.0, size)).clip(1, 5).tolist(),
        medians=ratings.tolist(),
        means=np.where(generator.random(size) < 0.9, generator.uniform(2, 4, size), np.nan).tolist(),
    )


def test_a_user_with_fewer_than_five_earlier_events_is_cold():
    live = quality()

    live.observe(**cohort_step([0, 50, 0, 0], earlier=[0, 4, 5, 900], losses=[1, 2, 3, 5]))

    found = live.by_cohort()
    assert {cohort: measures.hit_ratio for cohort, measures in found.items()} == {"all": 0.75, "cold": 0.5, "warm": 1}
    assert {cohort: measures.log_loss for cohort, measures in found.items()} == {"all": 2.75, "cold": 1.5, "warm": 4}


@pytest.mark.parametrize("cohort", ["all", "cold", "warm"])
def test_every_ranking_measure_is_that_of_the_definition(cohort):
    live, everything = quality(window=1000), many()
    in_cohort = {
        "all": slice(None),
        "cold": everything["earlier_events_B"] < 5,
        "warm": everything["earlier_events_B"] >= 5,
    }[cohort]
    ranks, popularity = everything["ranks_B"][in_cohort], everything["popularity_ranks_B"][in_cohort]

    live.observe(**everything)

    found = live.by_cohort()[cohort]
    for measure in ("ndcg", "mrr", "precision", "recall", "f1"):
        assert getattr(found, measure) == pytest.approx(getattr(evaluation, measure)(ranks)), measure
    assert found.hit_ratio == pytest.approx(evaluation.hit_rate(ranks))
    assert found.popularity_hit_ratio == pytest.approx(evaluation.hit_rate(popularity))
    assert found.popularity_ndcg == pytest.approx(evaluation.ndcg(popularity))
    assert found.popularity_mrr == pytest.approx(evaluation.mrr(popularity))
    assert found.log_loss == pytest.approx(everything["losses_B"][in_cohort].mean())


@pytest.mark.parametrize("cohort", ["all", "cold", "warm"])
def test_rating_measures_are_those_of_river(cohort):
    live, everything = quality(window=1000), many()
    theirs = {
        "mae": river.metrics.MAE(),
        "rmse": river.metrics.RMSE(),
        "liked_accuracy": river.metrics.Accuracy(),
        "liked_precision": river.metrics.Precision(),
        "liked_recall": river.metrics.Recall(),
        "liked_f1": river.metrics.F1(),
    }
    columns = ("ratings_B", "predictions_B", "user_means_B", "earlier_events_B")
    for rating, prediction, mean, earlier in zip(*(everything[name].tolist() for name in columns), strict=True):
        if math.isnan(rating) or (cohort != "all" and (earlier < 5) != (cohort == "cold")):
            continue
        for name, metric in theirs.items():
            if not name.startswith("liked"):
                metric.update(rating, prediction)
            elif not math.isnan(mean):
                metric.update(rating > mean, prediction > mean)

    live.observe(**everything)

    found = live.by_cohort()[cohort]
    assert {name: getattr(found, name) for name in theirs} == pytest.approx(
        {name: metric.get() for name, metric in theirs.items()}
    )


def test_the_cohorts_forget_what_left_the_window():
    live = quality(window=2)

    live.observe(**cohort_step([0, 0, 50, 50], earlier=[0, 0, 9, 9]))

    assert math.isnan(live.by_cohort()["cold"].hit_ratio)
    assert live.by_cohort()["warm"].hit_ratio == 0


def test_small_steps_give_the_figures_of_a_large_one():
    large, small, everything = quality(window=300), quality(window=300), many()

    large.observe(**everything)
    for start in range(0, 1000, 7):
        small.observe(**{name: column[start : start + 7] for name, column in everything.items()})

    for cohort, measures in large.by_cohort().items():
        assert small.by_cohort()[cohort] == pytest.approx(measures, nan_ok=True)
    assert small.total() == pytest.approx(large.total())


def test_without_events_every_measure_is_unknown():
    for measures in quality().by_cohort(10).values():
        assert all(math.isnan(value) for value in measures)


def test_coverage_counts_items_of_any_list_once_and_leaves_out_those_without_an_event():
    live = quality()

    live.observe_lists(np.array([[0, 1], [1, 2], [-99, 3]]), np.array([True, False, False]), np.ones(8, dtype=np.int64))

    found = live.by_cohort(known_items=8)
    assert {cohort: measures.coverage for cohort, measures in found.items()} == {
        "all": 0.5,
        "cold": 0.25,
        "warm": 0.375,
    }


def test_novelty_is_the_mean_of_the_bits_that_name_the_listed_items():
    live = quality()
    counts = np.array([7.5, 1.5, 5]).astype(np.int64)
    total = counts.sum() + 1.5
    bits = -np.log2((counts + 0.5) / total)

    live.observe_lists(np.array([[0, 1], [2, -1], [-99, -1]]), np.array([True, False, False]), counts)

    found = live.by_cohort(known_items=3)
    assert found["cold"].novelty == pytest.approx((bits[0] + bits[1]) / 2)
    assert found["warm"].novelty == pytest.approx(bits[2])


def test_a_list_counts_without_the_items_that_were_let_go_and_their_rows_are_other_items_then():
    live = quality()
    live.observe_lists(np.array([[0, 1], [1, -1]]), np.array([False, True]), np.array([8, 8, 8]))

    live.let_items_go(np.array([1]))
    after = live.by_cohort(known_items=2)
    live.observe_lists(np.array([[1, 2]]), np.array([False]), np.array([8, 1, 8]))

    assert after["all"].coverage == 0.5
    assert math.isnan(after["cold"].novelty)
    assert live.by_cohort(known_items=3)["all"].coverage == 1


def test_lists_that_grow_longer_are_taken_and_empty_ones_are_none():
    live = quality()

    live.observe_lists(np.array([[0], [-1]]), np.array([False, False]), np.ones(4, dtype=np.int64))
    live.observe_lists(np.zeros((0, 0), dtype=np.int32), np.zeros(0, dtype=np.bool_), np.ones(4, dtype=np.int64))
    before = live.by_cohort(known_items=4)["all"].coverage
    live.observe_lists(np.array([[1, 2, 3]]), np.array([False]), np.ones(4, dtype=np.int64))

    assert before == 0.25
    assert live.by_cohort(known_items=4)["all"].coverage == 0.75


def test_a_window_of_nothing_is_refused():
    with pytest.raises(ValueError, match="window: expected at least 1"):
        quality(window=0)
