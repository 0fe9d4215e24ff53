"""Live figures over a window and over everything, fed step by step."""

import math

import numpy as np
import pytest

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


def test_a_collapse_of_the_hit_ratio_is_a_drift_and_a_steady_one_is_none():
    generator = np.random.default_rng(1)
    live = quality()

    live.observe(**step(np.where(generator.random(20_000) < 0.3, 0, 50).tolist()))
    steady = live.drifts
    live.observe(**step(np.where(generator.random(20_000) < 0.05, 0, 50).tolist()))

    assert steady == 0
    assert live.drifts >= 1


def test_a_window_of_nothing_is_refused():
    with pytest.raises(ValueError, match="window: expected at least 1"):
        quality(window=0)
