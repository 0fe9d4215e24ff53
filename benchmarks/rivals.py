"""River and Vowpal Wabbit beside Headrace's rating models: speed on the same events, and the error on real ratings.

Events/s count predicting and learning each rating, one after the other, in memory; Headrace's rating models get them in
micro-batches, with users and items as rows. Real ratings are MovieLens-100K, where it can be had.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.river_ratings import BiasedMf
from benchmarks.stream import Stream, draw
from model.factors import FactorHead
from model.rating_model import RatingModel
from model.ratings import RatingHead
from model.vocabulary import Vocabulary
from producer import datasets
from producer.events import Rating
from producer.fetch import DatasetUnavailable

BATCH: Final = 512
FACTORS: Final = 16
"""The default of HEADRACE_RATING_DIM."""
MOST_EVENTS: Final = 60_000
"""Of the stream that River learns: a rate needs no more."""

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]
Result = dict[str, Any]


class Ratings:
    """Ratings as columns: user and item rows, times in ms, numbers."""

    def __init__(self, users_N: Ints, items_N: Ints, times_N: Ints, ratings_N: Doubles) -> None:
        self.users_N, self.items_N, self.times_N, self.ratings_N = users_N, items_N, times_N, ratings_N

    def __len__(self) -> int:
        return len(self.users_N)


def measure(stream: Stream) -> Result:
    """Rates on the stream's ratings; rates and RMSE on MovieLens-100K, None for it where it cannot be had.

    No more of its ratings than the stream has events.
    """
    found: Result = {"stream": {name: rate(of_stream(stream)) for name, rate in RATES.items()}}
    try:
        real = of_movielens(stream.events)
    except DatasetUnavailable as missing:
        return {**found, "movielens-100k": None, "why": str(missing)}
    return {**found, "movielens-100k": {name: rate(real) for name, rate in RATES.items()}}


def of_stream(stream: Stream) -> Ratings:
    """The first ratings of a stream."""
    draws = draw(stream)
    rated = np.flatnonzero(draws.rated_N)[:MOST_EVENTS]
    return Ratings(draws.users_N[rated], draws.items_N[rated], rated, draws.tenths_N[rated] / 10)


def of_movielens(most: int) -> Ratings:
    """The first ratings of MovieLens-100K in the order of time; fetched where it is not here yet."""
    events = datasets.load("movielens-100k").events
    ratings = [event for event in events if isinstance(event, Rating)][:most]
    users, items = Vocabulary(), Vocabulary()
    return Ratings(
        users.rows([event.user_id for event in ratings]),
        items.rows([event.item_id for event in ratings]),
        np.array([event.timestamp for event in ratings]),
        np.array([event.rating for event in ratings], dtype=np.float64),
    )


def rate_of_neighbours(ratings: Ratings) -> Result:
    """The default rating model alone, as the worker runs it."""
    return _rate_of_headrace(RatingHead(FACTORS, 0.5, 5.0, seed=0), ratings)


def rate_of_factors(ratings: Ratings) -> Result:
    """The rating model of HEADRACE_RATING_MODEL=factors alone, as the worker runs it."""
    return _rate_of_headrace(FactorHead(FACTORS, 0.5, 5.0, seed=0), ratings)


def _rate_of_headrace(head: RatingModel, ratings: Ratings) -> Result:
    head.grow(int(ratings.users_N.max()) + 1, int(ratings.items_N.max()) + 1)
    predicted_N = np.empty(len(ratings))

    def learn(first: int, past: int) -> None:
        part = slice(first, past)
        columns = ratings.users_N[part], ratings.items_N[part], ratings.times_N[part], ratings.ratings_N[part]
        predicted_N[part], _ = head.predict_then_learn(*columns)

    return _timed(ratings, predicted_N, learn, BATCH)


def rate_of_river(ratings: Ratings) -> Result:
    """River's BiasedMF, with the settings of River's own page on MovieLens-100K."""
    model = BiasedMf()
    rows = list(zip(ratings.users_N.tolist(), ratings.items_N.tolist(), ratings.ratings_N.tolist(), strict=True))
    predicted_N = np.empty(len(ratings))

    def learn(first: int, past: int) -> None:
        for place in range(first, past):
            user, item, rating = rows[place]
            predicted_N[place] = model.predict(user, item)
            model.learn(user, item, rating)

    return _timed(ratings, predicted_N, learn, BATCH)


def rate_of_vowpal_wabbit(ratings: Ratings) -> Result | None:
    """Biases of users and items at its default rate: others, and factors by `--lrq`, made its error larger.

    None where the package is not installed.
    """
    try:
        from vowpalwabbit import Workspace
    except ImportError:
        return None
    low, high = float(ratings.ratings_N.min()), float(ratings.ratings_N.max())
    model = Workspace(f"--quiet -b 20 --min_prediction {low} --max_prediction {high}")
    lines = [
        f"{rating} |u u{user} |i i{item}"
        for user, item, rating in zip(
            ratings.users_N.tolist(), ratings.items_N.tolist(), ratings.ratings_N.tolist(), strict=True
        )
    ]
    predicted_N = np.empty(len(ratings))

    def learn(first: int, past: int) -> None:
        for place in range(first, past):
            example = model.example(lines[place])
            model.learn(example)  # which predicts before it learns
            predicted_N[place] = example.get_simplelabel_prediction()
            model.finish_example(example)

    found = _timed(ratings, predicted_N, learn, BATCH)
    model.finish()
    return found


def _timed(ratings: Ratings, predicted_N: Doubles, learn: Callable[[int, int], None], size: int) -> Result:
    learn(0, min(size, len(ratings)))  # compiled and warm
    started = time.perf_counter()
    for first in range(size, len(ratings), size):
        learn(first, min(first + size, len(ratings)))
    seconds = time.perf_counter() - started
    error_N = predicted_N - ratings.ratings_N
    return {
        "events": len(ratings),
        "events_per_second": round((len(ratings) - size) / seconds, 1),
        "rmse": round(float(np.sqrt(np.mean(error_N**2))), 5),
    }


RATES: Final[dict[str, Callable[[Ratings], Result | None]]] = {
    "headrace": rate_of_neighbours,
    "headrace, factors": rate_of_factors,
    "river": rate_of_river,
    "vowpal wabbit": rate_of_vowpal_wabbit,
}
