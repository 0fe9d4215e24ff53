"""Test, then learn, for any recommender: the protocol of docs/quality.md in plain NumPy, one event after another.

The peers are measured by this file. Headrace's own ranks come from its learner; that both follow one rule is tested
on the popularity ranks, which either side works out for itself.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads import Rows

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Ranker(Protocol):
    """A recommender that learns event by event."""

    settings: Mapping[str, object]

    def scores(self, user: int, history: Sequence[int], items: int) -> Doubles:
        """Scores (items,) of the items that are known; `history`: the user's items, oldest first, repeats included."""

    def learn(self, user: int, item: int, rating: float) -> None:
        """Take an event in; `rating` is NaN where it is none."""


class Predictor(Protocol):
    """A model of ratings that learns event by event."""

    settings: Mapping[str, object]

    def predict(self, user: int, item: int) -> float: ...

    def learn(self, user: int, item: int, rating: float) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What a test gave, an entry an event (E)."""

    ranks_E: Doubles
    """From 0; NaN for a miss."""
    predictions_E: Doubles
    """Read at the mean; NaN where there is none."""
    medians_E: Doubles
    seconds: float
    """Processor time of ranking and learning, and of nothing else: what others do on the machine is not in it."""
    settings: Mapping[str, object]


def rank_then_learn(rows: Rows, ranker: Ranker, *, allow_repeats: bool, strictly_before: bool = False) -> Outcome:
    """Rank each event's item among the candidates, then let the ranker learn it.

    Candidates are the known items less those the user has had (unless repeats are allowed), the event's own item
    always among them. An item that is not known is a miss. `strictly_before` hides from `history` what has the
    event's own timestamp.
    """
    ranks_E = np.full(len(rows.users_E), np.nan)
    histories: list[list[int]] = [[] for _ in range(rows.users)]
    times: list[list[int]] = [[] for _ in range(rows.users)]
    unseen: dict[int, Flags] = {}
    known = 0
    started = time.process_time()
    events = zip(
        rows.users_E.tolist(), rows.items_E.tolist(), rows.times_E.tolist(), rows.ratings_E.tolist(), strict=True
    )
    for place, (user, item, moment, rating) in enumerate(events):
        unseen_I = None if allow_repeats else unseen.setdefault(user, np.ones(rows.items, dtype=np.bool_))
        if item < known:
            history: Sequence[int] = histories[user]
            if strictly_before:
                history = history[: _before(times[user], moment)]
            candidates_I = None if unseen_I is None else unseen_I[:known]
            ranks_E[place] = rank_of(ranker.scores(user, history, known), item, candidates_I)
        ranker.learn(user, item, rating)
        histories[user].append(item)
        times[user].append(moment)
        if unseen_I is not None:
            unseen_I[item] = False
        known = max(known, item + 1)
    seconds = time.process_time() - started
    nothing_E = np.full(len(ranks_E), np.nan)
    return Outcome(ranks_E, nothing_E, nothing_E, seconds, ranker.settings)


def predict_then_learn(rows: Rows, predictor: Predictor, *, lowest: float, highest: float) -> Outcome:
    """Predict each rating, clipped to the scale, then let the predictor learn it."""
    predictions_E = np.full(len(rows.users_E), np.nan)
    rated = np.flatnonzero(~np.isnan(rows.ratings_E))
    started = time.process_time()
    for place in rated.tolist():
        user, item, rating = int(rows.users_E[place]), int(rows.items_E[place]), float(rows.ratings_E[place])
        predictions_E[place] = min(max(predictor.predict(user, item), lowest), highest)
        predictor.learn(user, item, rating)
    seconds = time.process_time() - started
    nothing_E = np.full(len(predictions_E), np.nan)
    return Outcome(nothing_E, predictions_E, nothing_E, seconds, predictor.settings)


def rank_of(scores_I: Doubles, item: int, candidates_I: Flags | None = None) -> int:
    """Better candidates + half the ties, whole part; NaN last. The item itself need not be marked as a candidate."""
    own = scores_I[item]
    chosen_I = np.ones(len(scores_I), dtype=np.bool_) if candidates_I is None else candidates_I.copy()
    chosen_I[item] = False
    others = scores_I[chosen_I]
    if np.isnan(own):
        strangers = np.isnan(others)
        return int((~strangers).sum() + strangers.sum() // 2)
    return int((others > own).sum() + (others == own).sum() // 2)


def _before(times: Sequence[int], moment: int) -> int:
    """How many of the entries are older than `moment`."""
    place = len(times)
    while place and times[place - 1] >= moment:
        place -= 1
    return place
