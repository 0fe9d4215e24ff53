"""The lean rating model: biased matrix factorisation by stochastic gradient descent, event by event.

    rating = mean + bias_u + session_u + (1 + slope_u) bias_i + popularity_u fame_i + factors_u . factors_i

Koren, Bell and Volinsky 2009 (Funk 2006): after each event the factors of its user and its item move along the
gradient of the squared error, at rates that fall with what each has been rated so far. Biases are running means with
some doubt, as in `model.ratings`; so are the session's offset, which fades with the time between two ratings, the
user's share of the item's bias, and the taste for the popular (fame: the log of an item's count, less what is usual).

Beside the filter of `model.ratings` it keeps no covariance, no neighbours and no stack: it is many times as fast and
its error a little larger (`python -m benchmarks.speed` measures both). The median is read as there (`model.median`).
A user takes 92 bytes at 16 factors, and 64 more with up to 8 values of ratings.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.columns import Columns
from model.growth import normal_rows
from model.kernels.factors import ITEM_FACTORS, USER_FACTORS, predict_then_learn, put_back
from model.rating_model import Part, RatingModel, load_parts, state_of
from model.tables import renewed_rows

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

SPREAD = 0.1
"""Standard deviation of a new row's factors."""


@dataclass(frozen=True)
class FactorRates:
    """How fast each part moves; found on the first half of MovieLens-100K."""

    rate: float = 0.115
    """Unit of the rates of factors: they begin at `rise` times this, and fall to `floor` times this."""
    rise: float = 2.8
    floor: float = 0.64
    fall: float = 0.017
    """After 1 / fall ratings the rate of a row's factors is half of what it was."""
    shrink: float = 0.035
    """Pull of factors to 0, relative to their rate."""
    user_prior: float = 8.0
    """Ratings' worth of doubt in a user's bias: the n-th rating moves it by 1 / (n + user_prior) of the error."""
    user_floor: float = 0.032
    """The least rate of a user's bias, so that it follows change."""
    item_prior: float = 5.0
    item_floor: float = 0.002
    session_rate: float = 0.095
    slope_rate: float = 0.067
    popularity_rate: float = 0.013
    bias_shrink: float = 0.0024
    """Pull of a user's bias to 0."""

    def live(self) -> Doubles:
        """What the kernel unpacks, in its order."""
        return np.array(
            [
                self.floor * self.rate,
                self.rise * self.rate,
                self.fall,
                self.shrink,
                self.user_prior,
                self.user_floor,
                self.item_prior,
                self.item_floor,
                self.session_rate,
                self.slope_rate,
                self.popularity_rate,
                self.bias_shrink,
            ]
        )


class FactorHead(RatingModel):
    """Predicts each rating before it learns it. Rows grow with the vocabularies."""

    def __init__(
        self, factors: int, lowest: float, highest: float, *, seed: int, rates: FactorRates | None = None
    ) -> None:
        super().__init__(lowest, highest)
        self.factors = factors
        self.rates = rates or FactorRates()
        self._live_rates = self.rates.live()
        self._seed = seed
        self.overall = np.zeros(6)
        start_X = np.zeros(USER_FACTORS + factors, dtype=np.float32)
        start_X[USER_FACTORS:] = normal_rows("rating factors of users", seed, 0, 1, factors, SPREAD)[0]
        self.users = Columns({"row": start_X, "time": np.array(0, dtype=np.int64)})
        self.items = Columns({"row": np.zeros(ITEM_FACTORS + factors, dtype=np.float32)})
        self._room(0)

    def grow(self, users: int, items: int) -> None:
        self.users.grow(users)
        self.median.users.grow(users)
        first = self.items.rows
        self.items.grow(items)
        if items > first:
            self.items["row"][first:items, ITEM_FACTORS:] = normal_rows(
                "rating factors of items", self._seed, first, items, self.factors, SPREAD
            )

    def _pass_over(self, users_B: Ints, items_B: Ints, times_B: Ints, ratings_B: Doubles) -> Doubles:
        events, length = len(users_B), self.highest - self.lowest
        if events > len(self._times_before_B):
            self._room(events)
        overall, predictions_B = self.overall.copy(), np.empty(events)
        user_rows, item_rows, user_time = self.users["row"], self.items["row"], self.users["time"]
        learned = predict_then_learn(
            users_B,
            items_B,
            times_B,
            (ratings_B - self.lowest) / length,
            self._live_rates,
            overall,
            user_time,
            user_rows,
            item_rows,
            predictions_B,
            self._times_before_B,
            self._users_before_BX,
            self._items_before_BY,
        )
        if learned < events:
            put_back(
                users_B[:learned],
                items_B[:learned],
                user_time,
                user_rows,
                item_rows,
                self._times_before_B,
                self._users_before_BX,
                self._items_before_BY,
            )
            raise FloatingPointError("the rating model has diverged: a number is not finite; lower its rates")
        self.overall = overall
        return np.minimum(np.maximum(self.lowest + predictions_B * length, self.lowest), self.highest)

    def _room(self, events: int) -> None:
        """Room for the rows that a batch is about to change."""
        self._times_before_B = np.zeros(events, dtype=np.int64)
        self._users_before_BX = np.zeros((events, USER_FACTORS + self.factors), dtype=np.float32)
        self._items_before_BY = np.zeros((events, ITEM_FACTORS + self.factors), dtype=np.float32)

    def renew_items(self, rows_N: Ints, step: int) -> None:
        self.items.clear(rows_N)
        self.items["row"][rows_N, ITEM_FACTORS:] = renewed_rows(
            "rating factors of items", self._seed, step, len(rows_N), self.factors, SPREAD
        )

    def state(self) -> dict[str, NDArray[np.generic]]:
        return {"overall": self.overall, **state_of(self._parts())}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        if (theirs := state["item_row"].shape[1] - ITEM_FACTORS) != self.factors:
            raise ValueError(f"the saved rating factors have width {theirs}, the settings ask for {self.factors}")
        self.overall = state["overall"].astype(np.float64)
        load_parts(self._parts(), state)

    def _parts(self) -> list[tuple[str, Part]]:
        return [("user", self.users), ("item", self.items), ("median", self.median)]
