"""Live figures: how well the newest events, and all of this process, were ranked before they were learned.

Rolling figures look back on a window of the newest events and are worked out when they are read: ranks are what is
kept, so they follow `model.evaluation` to the letter and a NaN leaves with its event. River has most of these metrics,
one event at a time: its rolling accuracy, precision, recall, F1 and MAE for three cohorts would take longer than a step
of learning. They are the judges in tests/test_quality.py instead.
"""

import math
from typing import Final, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from model import evaluation

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
_Scalar = TypeVar("_Scalar", bound=np.generic)

COLD_EVENTS: Final = 5
"""A user with fewer earlier events is cold, else warm."""
COHORTS: Final = ("all", "cold", "warm")
EVENTS_AT_ONCE: Final = 512
NEWEST_LISTS: Final = 1000
"""Lists that coverage and novelty look back on."""


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


class Measures(NamedTuple):
    """One cohort's rolling figures, at k where a list's length matters; NaN where there is nothing to judge by."""

    hit_ratio: float
    ndcg: float
    mrr: float
    precision: float
    recall: float
    f1: float
    popularity_hit_ratio: float
    popularity_ndcg: float
    popularity_mrr: float
    log_loss: float
    """Mean -log of the probability that the model gave the item, in nats."""
    mae: float
    rmse: float
    mae_median: float
    liked_accuracy: float
    """Of "this rating will be above the user's mean so far", where the user had ratings."""
    liked_precision: float
    liked_recall: float
    liked_f1: float
    coverage: float
    """Share of the known items that stand in any of the newest lists."""
    novelty: float
    """Mean -log2 of the recommended items' shares of all events, in bits."""


class _Events(NamedTuple):
    ranked_B: Flags
    ranks_B: Doubles
    popularity_ranks_B: Doubles
    ratings_B: Doubles
    predictions_B: Doubles
    medians_B: Doubles
    losses_B: Doubles
    user_means_B: Doubles
    earlier_events_B: Ints


class LiveQuality:
    """Rolling and total figures at `k`; predictions are judged clipped to the scale, where one is given."""

    def __init__(
        self, *, window: int, k: int = 10, rating_min: float = -math.inf, rating_max: float = math.inf
    ) -> None:
        self._k = k
        self._scale = (rating_min, rating_max)
        self._ranks = _Newest(window, columns=4, dtype=np.float64)
        self._ratings = _Newest(window, columns=5, dtype=np.float64)
        self._is_cold = _Newest(NEWEST_LISTS, columns=1, dtype=np.bool_)
        """Of the users of the newest lists, as `_listed` has those lists."""
        self._listed = _Newest(NEWEST_LISTS, columns=0, dtype=np.int64)
        self._totals = _Totals()
        # Small steps are taken in together: the cost of a call, not of an event, is what counts there.
        self._waiting: list[_Events] = []
        self._waiting_events = 0
        self._count_I = np.zeros(0, dtype=np.int64)

    def observe(
        self,
        *,
        ranked_B: Flags,
        ranks_B: Doubles,
        popularity_ranks_B: Doubles,
        ratings_B: Doubles,
        predictions_B: Doubles,
        medians_B: Doubles,
        losses_B: Doubles | None = None,
        earlier_events_B: Ints | None = None,
        user_means_B: Doubles | None = None,
    ) -> None:
        """One step's events (B) in stream order.

        `ranked_B` says which were ranked; among those a NaN rank is a miss. `ratings_B` is NaN where no rating came;
        the predictions count where one did. `earlier_events_B` tells the cohorts; without it everybody is warm.
        """
        nothing_B = np.full(len(ranks_B), np.nan)
        self._waiting.append(
            _Events(
                ranked_B,
                ranks_B,
                popularity_ranks_B,
                ratings_B,
                predictions_B,
                medians_B,
                nothing_B if losses_B is None else losses_B,
                nothing_B if user_means_B is None else user_means_B,
                np.full(len(ranks_B), COLD_EVENTS) if earlier_events_B is None else earlier_events_B,
            )
        )
        self._waiting_events += len(ranks_B)
        if self._waiting_events >= EVENTS_AT_ONCE:
            self._settle()

    def _settle(self) -> None:
        """Take in what waits."""
        if not self._waiting:
            return
        columns = [np.concatenate(parts) for parts in zip(*self._waiting, strict=True)]
        self._waiting.clear()
        self._waiting_events = 0
        all_B = _Events(*columns)
        is_cold_B = (all_B.earlier_events_B < COLD_EVENTS).astype(np.float64)
        ranks_B4 = np.column_stack((all_B.ranks_B, all_B.popularity_ranks_B, all_B.losses_B, is_cold_B))
        ranks_R4: Doubles = ranks_B4[all_B.ranked_B]
        predictions_B2 = np.column_stack((all_B.predictions_B, all_B.medians_B)).clip(*self._scale)
        ratings_B5 = np.column_stack((all_B.ratings_B, predictions_B2, all_B.user_means_B, is_cold_B))
        ratings_R5: Doubles = ratings_B5[~np.isnan(all_B.ratings_B)]
        self._ranks.append(ranks_R4)
        self._ratings.append(ratings_R5)
        self._totals.add(ranks_R4[:, :2], ratings_R5[:, :3], self._k)

    def observe_lists(self, item_rows_UK: NDArray[np.integer], is_cold_U: Flags, count_I: Ints) -> None:
        """The lists of a step as rows of items, best first, and whether each one's user is cold.

        `count_I` says how often each item was chosen, and is looked at when figures are read. Rows below 0 count for
        nothing: they are items without an event, and what is behind the end of a list.
        """
        length = item_rows_UK.shape[1]
        if length > self._listed.columns:  # longer lists than before: figures begin anew
            self._is_cold = _Newest(NEWEST_LISTS, columns=1, dtype=np.bool_)
            self._listed = _Newest(NEWEST_LISTS, columns=length, dtype=np.int64)
        self._is_cold.append(is_cold_U[:, None])
        self._listed.append(np.pad(item_rows_UK, ((0, 0), (0, self._listed.columns - length)), constant_values=-1))
        self._count_I = count_I

    def let_items_go(self, item_rows_N: Ints) -> None:
        """These rows go to other items: lists so far count without what they had there."""
        if len(item_rows_N):
            listed_LK = self._listed.rows()
            listed_LK[np.isin(listed_LK, item_rows_N)] = -1

    def rolling(self) -> Figures:
        """The figures of the newest `window` ranked events and ratings."""
        self._settle()
        return _figures(self._ranks.rows()[:, :2], self._ratings.rows()[:, :3], self._k)

    def by_cohort(self, known_items: int = 0) -> dict[str, Measures]:
        """The rolling figures of all, of cold and of warm users; coverage is of so many known items."""
        self._settle()
        ranks, ratings, lists, is_cold = (
            self._ranks.rows(),
            self._ratings.rows(),
            self._listed.rows(),
            self._is_cold.rows(),
        )
        measures = {}
        for cohort in COHORTS:
            ranks_R4, ratings_R5 = _of(cohort, ranks, ranks), _of(cohort, ratings, ratings)
            items_LK = _of(cohort, is_cold, lists)
            measures[cohort] = Measures(
                **_ranking_measures(ranks_R4, self._k),
                **_rating_measures(ratings_R5),
                coverage=_coverage(items_LK, known_items),
                novelty=_novelty(items_LK, self._count_I),
            )
        return measures

    def total(self) -> Figures:
        """The figures of all events since the start."""
        self._settle()
        return self._totals.figures()


class _Newest(Generic[_Scalar]):
    """The newest rows, in no particular order, in one array that is written round and round."""

    def __init__(self, window: int, columns: int, dtype: type[_Scalar]) -> None:
        if window < 1:
            raise ValueError(f"window: expected at least 1 event, got {window}")
        self.columns = columns
        self._rows: NDArray[_Scalar] = np.zeros((window, columns), dtype=dtype)
        self._written = 0

    def append(self, rows: NDArray[np.generic]) -> None:
        window = len(self._rows)
        newest = rows[-window:]
        first = (self._written + len(rows) - len(newest)) % window
        past = min(first + len(newest), window)
        self._rows[first:past] = newest[: past - first]
        self._rows[: len(newest) - (past - first)] = newest[past - first :]
        self._written += len(rows)

    def rows(self) -> NDArray[_Scalar]:
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


def _of(cohort: str, judged: NDArray[np.generic], rows: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """The rows whose place in `judged`, by its last column, is of the cohort."""
    if cohort == "all":
        return rows
    chosen: NDArray[_Scalar] = rows[(judged[:, -1] != 0) == (cohort == "cold")]
    return chosen


def _ranking_measures(ranks_R4: Doubles, k: int) -> dict[str, float]:
    ranks_R, popularity_R, losses_R, _ = ranks_R4.T
    return {
        "hit_ratio": evaluation.hit_rate(ranks_R, k),
        "ndcg": evaluation.ndcg(ranks_R, k),
        "mrr": evaluation.mrr(ranks_R),
        "precision": evaluation.precision(ranks_R, k),
        "recall": evaluation.recall(ranks_R, k),
        "f1": evaluation.f1(ranks_R, k),
        "popularity_hit_ratio": evaluation.hit_rate(popularity_R, k),
        "popularity_ndcg": evaluation.ndcg(popularity_R, k),
        "popularity_mrr": evaluation.mrr(popularity_R),
        "log_loss": _mean(losses_R[~np.isnan(losses_R)]),
    }


def _rating_measures(ratings_R5: Doubles) -> dict[str, float]:
    ratings_R, predictions_R, medians_R, means_R, _ = ratings_R5.T
    judged_R = ~np.isnan(means_R)
    liked_R, said_R = ratings_R[judged_R] > means_R[judged_R], predictions_R[judged_R] > means_R[judged_R]
    both, liked, said = int((liked_R & said_R).sum()), int(liked_R.sum()), int(said_R.sum())
    return {
        "mae": evaluation.mean_absolute_error(predictions_R, ratings_R),
        "rmse": evaluation.root_mean_squared_error(predictions_R, ratings_R),
        "mae_median": evaluation.mean_absolute_error(medians_R, ratings_R),
        "liked_accuracy": _mean((liked_R == said_R).astype(np.float64)),
        "liked_precision": _share(both, said),
        "liked_recall": _share(both, liked),
        "liked_f1": _share(2 * both, said + liked),
    }


def _coverage(items_LK: Ints, known_items: int) -> float:
    listed = items_LK[items_LK >= 0]
    return _share(int((np.bincount(listed) > 0).sum()) if len(listed) else 0, known_items if len(items_LK) else 0)


def _novelty(items_LK: Ints, count_I: Ints) -> float:
    """Mean over lists of the mean -log2 of their items' shares of all events; half an event more for each item."""
    listed_LK = items_LK >= 0
    if not listed_LK.any():
        return math.nan
    bits_LK = np.log2(count_I.sum() + 0.5 * len(count_I)) - np.log2(count_I[items_LK.clip(0)] + 0.5)
    listed_L = listed_LK.sum(1)
    return _mean((bits_LK * listed_LK).sum(1)[listed_L > 0] / listed_L[listed_L > 0])


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _mean(values: Doubles) -> float:
    return float(values.mean()) if len(values) else math.nan


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
