"""Ranks to figures: known answers, worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model import evaluation

MISS = math.nan
NOTHING = np.zeros(0)


def array(*ranks):
    return np.array(ranks, dtype=np.float64)


@pytest.mark.parametrize(
    ("own", "others", "rank"),
    [
        (5.0, [], 0),
        (5.0, [1.0, 2.0], 0),
        (5.0, [6.0, 7.0, 1.0], 2),
        (5.0, [5.0], 0),
        (5.0, [5.0, 5.0], 1),
        (5.0, [6.0, 5.0, 5.0, 5.0, 1.0], 2),
        (5.0, [math.nan, math.nan], 0),
        (math.nan, [1.0, 2.0, 3.0], 3),
        (math.nan, [1.0, math.nan, math.nan], 2),
        (-math.inf, [-math.inf, -math.inf, 0.0], 2),
    ],
)
def test_a_rank_is_the_better_ones_and_half_the_ties_and_nan_is_last(own, others, rank):
    assert evaluation.rank_of(own, array(*others)) == rank


def test_the_hit_rate_is_the_share_of_ranks_below_k():
    assert evaluation.hit_rate(array(0, 9, 10, MISS)) == 0.5
    assert evaluation.hit_rate(array(0, 9, 10, MISS), k=1) == 0.25


def test_ndcg_discounts_by_the_place_and_misses_are_nothing():
    ranks = array(0, 2, 9, 10, MISS)

    ndcg = evaluation.ndcg(ranks)

    assert ndcg == pytest.approx((1 + 0.5 + 1 / math.log2(11)) / 5)


def test_mrr_reads_the_full_ranking_and_misses_are_nothing():
    assert evaluation.mrr(array(0, 3, 99, MISS)) == pytest.approx((1 + 1 / 4 + 1 / 100) / 4)


def test_precision_recall_and_f1_with_one_relevant_item():
    ranks = array(0, 4, 30, MISS)

    assert evaluation.precision(ranks, k=5) == pytest.approx(0.5 / 5)
    assert evaluation.recall(ranks, k=5) == 0.5
    assert evaluation.f1(ranks, k=5) == pytest.approx((1 / 3 + 1 / 3) / 4)


def test_the_errors_of_ratings():
    predictions, ratings = array(3, 4, 5), array(4, 4, 3)

    assert evaluation.mean_absolute_error(predictions, ratings) == 1.0
    assert evaluation.root_mean_squared_error(predictions, ratings) == pytest.approx(math.sqrt(5 / 3))


def test_a_prediction_that_is_nan_is_not_passed_over():
    assert math.isnan(evaluation.mean_absolute_error(array(3, MISS), array(3, 3)))
    assert math.isnan(evaluation.root_mean_squared_error(array(3, MISS), array(3, 3)))


@pytest.mark.parametrize("figure", ["hit_rate", "ndcg", "mrr", "precision", "recall", "f1"])
def test_no_events_give_no_figure(figure):
    assert math.isnan(getattr(evaluation, figure)(NOTHING))


def test_no_ratings_give_no_error():
    assert math.isnan(evaluation.mean_absolute_error(NOTHING, NOTHING))
    assert math.isnan(evaluation.root_mean_squared_error(NOTHING, NOTHING))


ranks_or_misses = st.lists(st.integers(0, 2000).map(float) | st.just(MISS), min_size=1, max_size=50)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ranks_or_misses, st.integers(1, 100))
def test_figures_are_those_of_a_plain_loop(ranks, k):
    hit = [0 if math.isnan(rank) or rank >= k else 1 for rank in ranks]
    gain = [1 / math.log2(rank + 2) if one else 0 for rank, one in zip(ranks, hit, strict=True)]
    reciprocal = [0 if math.isnan(rank) else 1 / (rank + 1) for rank in ranks]

    found = [figure(array(*ranks), k) for figure in (evaluation.hit_rate, evaluation.ndcg)]

    assert found == pytest.approx([sum(hit) / len(ranks), sum(gain) / len(ranks)])
    assert evaluation.mrr(array(*ranks)) == pytest.approx(sum(reciprocal) / len(ranks))
