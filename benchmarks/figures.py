"""From the arrays of a test to its figures, worked out here anew and not taken from what `evaluate` prints."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.prequential import Outcome
from benchmarks.workloads import Rows

Doubles = NDArray[np.float64]
Figures = dict[str, float | None]

K: Final = 10
COLD_EVENTS: Final = 5
"""A user, or an item, is cold until so many events of theirs are over."""
CURVE_POINTS: Final = 40


def figures_of(rows: Rows, outcome: Outcome) -> Figures:
    """Figures of the whole stream and of its second half; None where there is nothing to judge by."""
    ranks_E = outcome.ranks_E
    half = len(ranks_E) // 2
    cold_users_E = prior_events(rows.users_E) < COLD_EVENTS
    cold_items_E = prior_events(rows.items_E) < COLD_EVENTS
    found: dict[str, float] = {
        "hr@10": hit_ratio(ranks_E),
        "ndcg@10": ndcg(ranks_E),
        "mrr": float(np.nan_to_num(1.0 / (ranks_E + 1.0), nan=0.0).mean()) if len(ranks_E) else np.nan,
        "hr@10_second_half": hit_ratio(ranks_E[half:]),
        "ndcg@10_second_half": ndcg(ranks_E[half:]),
        "hr@10_cold_users": hit_ratio(ranks_E[cold_users_E]),
        "hr@10_cold_items": hit_ratio(ranks_E[cold_items_E]),
        **_errors(rows.ratings_E, outcome, ""),
        **_errors(rows.ratings_E[half:], _later(outcome, half), "_second_half"),
        "events_per_second": len(ranks_E) / outcome.seconds if outcome.seconds else np.nan,
    }
    if np.isnan(ranks_E).all():  # a model of ratings alone: nothing was ranked
        found.update({name: np.nan for name in found if name.startswith(("hr", "ndcg", "mrr"))})
        rated = int((~np.isnan(rows.ratings_E)).sum())
        found["events_per_second"] = rated / outcome.seconds if outcome.seconds else np.nan
    return {name: None if np.isnan(value) else float(value) for name, value in found.items()}


def hit_ratio(ranks_E: Doubles, k: int = K) -> float:
    """Share of the events whose item was among the first k; a miss (NaN) is none."""
    return float(np.mean(ranks_E < k)) if len(ranks_E) else np.nan


def ndcg(ranks_E: Doubles, k: int = K) -> float:
    """Mean of 1 / log2(rank + 2) for ranks below k, else 0."""
    if not len(ranks_E):
        return np.nan
    hits = ranks_E[ranks_E < k]
    return float((1.0 / np.log2(hits + 2.0)).sum() / len(ranks_E))


def curve(ranks_E: Doubles, points: int = CURVE_POINTS) -> list[float]:
    """HR@10 of each of `points` equal slices of the stream, oldest first."""
    return [hit_ratio(slice_E) for slice_E in np.array_split(ranks_E, min(points, max(len(ranks_E), 1)))]


def prior_events(rows_E: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many earlier events have the same user (or item), for each event."""
    order = np.argsort(rows_E, kind="stable")
    sorted_E = rows_E[order]
    first_E = np.searchsorted(sorted_E, sorted_E, side="left")
    prior_E = np.empty(len(rows_E), dtype=np.int64)
    prior_E[order] = np.arange(len(rows_E)) - first_E
    return prior_E


def _errors(ratings_E: Doubles, outcome: Outcome, suffix: str) -> dict[str, float]:
    judged_E = ~np.isnan(outcome.predictions_E) & ~np.isnan(ratings_E)
    medians_E = ~np.isnan(outcome.medians_E) & ~np.isnan(ratings_E)
    errors = (outcome.predictions_E - ratings_E)[judged_E]
    at_median = (outcome.medians_E - ratings_E)[medians_E]
    return {
        f"mae{suffix}": float(np.abs(errors).mean()) if len(errors) else np.nan,
        f"rmse{suffix}": float(np.sqrt((errors**2).mean())) if len(errors) else np.nan,
        f"mae_median{suffix}": float(np.abs(at_median).mean()) if len(at_median) else np.nan,
    }


def _later(outcome: Outcome, half: int) -> Outcome:
    return Outcome(
        outcome.ranks_E[half:],
        outcome.predictions_E[half:],
        outcome.medians_E[half:],
        outcome.seconds,
        outcome.settings,
    )
