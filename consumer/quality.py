"""Live figures: how well the newest events, and all of this process, were ranked before they were learned.

Rolling figures look back on a window of the newest events and are worked out when they are read: ranks are what is
kept, so they follow `model.evaluation` to the letter and a NaN leaves with its event. (river.utils.Rolling would
walk through every event in Python for each figure.) Drift is River's: ADWIN over the hit ratio.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN

from model import evaluation

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]

DRIFT_BLOCK: Final = 32
"""Ranked events whose mean hit is one observation of the drift detector, wherever steps were cut."""


class Figures(NamedTuple):
    """NaN where there is nothing to judge by."""

    ranked: int
    """Ranked events behind the ranking figures."""
    hit_ratio: float
    ndcg: float
    mrr: float
    popularity_hit_ratio: float
    popularity_ndcg: float
    rated: int
    """Ratings behind the errors."""
    mae: float
    rmse: float
    mae_median: float
    """MAE of the predictions read at the median instead of the mean."""


class LiveQuality:
    """Rolling and total figures at `k`; predictions are judged clipped to the scale, where one is given."""

    def __init__(
        self, *, window: int, k: int = 10, rating_min: float = -math.inf, rating_max: float = math.inf
    ) -> None:
        self.drifts = 0
        """Times the hit ratio changed for good."""
        self._k = k
        self._scale = (rating_min, rating_max)
        self._ranks = _Newest(window, columns=2)
        self._ratings = _Newest(window, columns=3)
        self._totals = _Totals()
        self._drift = _DriftDetector()

    def observe(
        self,
        *,
        ranked_B: Flags,
        ranks_B: Doubles,
        popularity_ranks_B: Doubles,
        ratings_B: Doubles,
        predictions_B: Doubles,
        medians_B: Doubles,
    ) -> None:
        """One step's events (B) in stream order.

        `ranked_B` says which were ranked; among those a NaN rank is a miss. `ratings_B` is NaN where no rating came;
        the predictions count where one did.
        """
        ranks_R2 = np.column_stack((ranks_B, popularity_ranks_B))[ranked_B]
        rated_B = ~np.isnan(ratings_B)
        predictions_R2 = np.column_stack((predictions_B, medians_B))[rated_B].clip(*self._scale)
        ratings_R3 = np.column_stack((ratings_B[rated_B], predictions_R2))
        self._ranks.append(ranks_R2)
        self._ratings.append(ratings_R3)
        self._totals.add(ranks_R2, ratings_R3, self._k)
        self.drifts += self._drift.update(evaluation.hits(ranks_R2[:, 0], self._k))

    def rolling(self) -> Figures:
        """The figures of the newest `window` ranked events and ratings."""
        return _figures(self._ranks.rows(), self._ratings.rows(), self._k)

    def total(self) -> Figures:
        """The figures of all events since the start."""
        return self._totals.figures()


class _Newest:
    """The newest rows, in no particular order, in one array that is written round and round."""

    def __init__(self, window: int, columns: int) -> None:
        if window < 1:
            raise ValueError(f"window: expected at least 1 event, got {window}")
        self._rows = np.zeros((window, columns))
        self._written = 0

    def append(self, rows: Doubles) -> None:
        window = len(self._rows)
        newest = rows[-window:]
        first = self._written + len(rows) - len(newest)
        self._rows[(first + np.arange(len(newest))) % window] = newest
        self._written += len(rows)

    def rows(self) -> Doubles:
        return self._rows[: self._written]


class _Totals:
    """Sums over everything, one addition a step."""

    def __init__(self) -> None:
        self._ranked = 0
        self._rated = 0
        self._of_ranks = np.zeros(5)
        self._of_errors = np.zeros(3)

    def add(self, ranks_R2: Doubles, ratings_R3: Doubles, k: int) -> None:
        ranks_R, popularity_R = ranks_R2.T
        ratings_R, predictions_R, medians_R = ratings_R3.T
        self._ranked += len(ranks_R2)
        self._rated += len(ratings_R3)
        self._of_ranks += (
            evaluation.hits(ranks_R, k).sum(),
            evaluation.gains(ranks_R, k).sum(),
            evaluation.reciprocal_ranks(ranks_R).sum(),
            evaluation.hits(popularity_R, k).sum(),
            evaluation.gains(popularity_R, k).sum(),
        )
        self._of_errors += (
            np.abs(predictions_R - ratings_R).sum(),
            ((predictions_R - ratings_R) ** 2).sum(),
            np.abs(medians_R - ratings_R).sum(),
        )

    def figures(self) -> Figures:
        hit_ratio, ndcg, mrr, popularity_hit_ratio, popularity_ndcg = _divided(self._of_ranks, self._ranked)
        mae, mean_square, mae_median = _divided(self._of_errors, self._rated)
        return Figures(
            ranked=self._ranked,
            hit_ratio=hit_ratio,
            ndcg=ndcg,
            mrr=mrr,
            popularity_hit_ratio=popularity_hit_ratio,
            popularity_ndcg=popularity_ndcg,
            rated=self._rated,
            mae=mae,
            rmse=math.sqrt(mean_square),
            mae_median=mae_median,
        )


class _DriftDetector:
    """ADWIN (Bifet and Gavalda 2007) over the mean hit of each block of ranked events."""

    def __init__(self) -> None:
        self._adwin = ADWIN()  # type: ignore[no-untyped-call]  # river has no types here
        self._waiting = np.zeros(0)

    def update(self, hits_R: Doubles) -> int:
        """How many times these hits made the detector see a change."""
        hits_R = np.concatenate((self._waiting, hits_R))
        blocks = len(hits_R) // DRIFT_BLOCK
        self._waiting = hits_R[blocks * DRIFT_BLOCK :]
        found = 0
        for mean in hits_R[: blocks * DRIFT_BLOCK].reshape(blocks, DRIFT_BLOCK).mean(1).tolist():
            self._adwin.update(mean)  # type: ignore[no-untyped-call]
            found += self._adwin.drift_detected
        return found


def _divided(sums: Doubles, count: int) -> list[float]:
    return [float(total) / count if count else math.nan for total in sums]


def _figures(ranks_R2: Doubles, ratings_R3: Doubles, k: int) -> Figures:
    ranks_R, popularity_R = ranks_R2.T
    ratings_R, predictions_R, medians_R = ratings_R3.T
    return Figures(
        ranked=len(ranks_R2),
        hit_ratio=evaluation.hit_rate(ranks_R, k),
        ndcg=evaluation.ndcg(ranks_R, k),
        mrr=evaluation.mrr(ranks_R),
        popularity_hit_ratio=evaluation.hit_rate(popularity_R, k),
        popularity_ndcg=evaluation.ndcg(popularity_R, k),
        rated=len(ratings_R3),
        mae=evaluation.mean_absolute_error(predictions_R, ratings_R),
        rmse=evaluation.root_mean_squared_error(predictions_R, ratings_R),
        mae_median=evaluation.mean_absolute_error(medians_R, ratings_R),
    )
