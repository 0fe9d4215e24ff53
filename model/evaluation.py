"""From ranks to figures: hit rate, NDCG, MRR, precision, recall, F1; and the errors of ratings. Pure functions.

A rank counts from 0 (the best) and is NaN for a miss: an item that was not a candidate, since nothing earlier in the
stream had it. rank = number of better candidates + half the ties, whole part; `rank_of` is that rule in plain words.
Each event has exactly one relevant item, its own. Events that are not ranked must be left out before.
B: events.
"""

import math

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def rank_of(own_score: float, other_scores_C: Doubles) -> int:
    """The rank of a score among the other candidates' scores (C): better ones + half the ties, whole part; NaN last."""
    others = other_scores_C[~np.isnan(other_scores_C)]
    if math.isnan(own_score):
        return len(others) + (len(other_scores_C) - len(others)) // 2
    return int((others > own_score).sum() + (others == own_score).sum() // 2)


def hits(ranks_B: Doubles, k: int = 10) -> Doubles:
    """(B,) 1.0 where the item was among the best k, else 0.0."""
    return (ranks_B < k).astype(np.float64)  # a comparison with NaN is False


def gains(ranks_B: Doubles, k: int = 10) -> Doubles:
    """(B,) NDCG of each event: 1 / log2(rank + 2) among the best k, else 0. The ideal is 1, the item in front."""
    return np.where(ranks_B < k, 1.0 / np.log2(np.nan_to_num(ranks_B, nan=0.0) + 2.0), 0.0)


def reciprocal_ranks(ranks_B: Doubles) -> Doubles:
    """(B,) 1 / (rank + 1) over the full ranking, 0 for a miss."""
    return np.nan_to_num(1.0 / (ranks_B + 1.0), nan=0.0)


def hit_rate(ranks_B: Doubles, k: int = 10) -> float:
    """HR@k: the share of events whose item was among the best k. NaN where there are none."""
    return _mean(hits(ranks_B, k))


def ndcg(ranks_B: Doubles, k: int = 10) -> float:
    """NDCG@k over all events. NaN where there are none."""
    return _mean(gains(ranks_B, k))


def mrr(ranks_B: Doubles) -> float:
    """Mean reciprocal rank over the full ranking. NaN where there are none."""
    return _mean(reciprocal_ranks(ranks_B))


def precision(ranks_B: Doubles, k: int = 10) -> float:
    """Relevant items among the best k, divided by k: with one relevant item HR@k / k."""
    return hit_rate(ranks_B, k) / k


def recall(ranks_B: Doubles, k: int = 10) -> float:
    """Relevant items among the best k, divided by all relevant items: with one relevant item HR@k."""
    return hit_rate(ranks_B, k)


def f1(ranks_B: Doubles, k: int = 10) -> float:
    """Mean over events of 2 precision recall / (precision + recall): with one relevant item 2 HR@k / (k + 1)."""
    return 2.0 * hit_rate(ranks_B, k) / (k + 1)


def mean_absolute_error(predictions_B: Doubles, ratings_B: Doubles) -> float:
    """MAE. NaN where there are no ratings, and where any prediction is NaN."""
    return _mean(np.abs(predictions_B - ratings_B))


def root_mean_squared_error(predictions_B: Doubles, ratings_B: Doubles) -> float:
    """RMSE. NaN where there are no ratings, and where any prediction is NaN."""
    return math.sqrt(_mean((predictions_B - ratings_B) ** 2))


def _mean(values_B: Doubles) -> float:
    return float(values_B.mean()) if len(values_B) else math.nan
