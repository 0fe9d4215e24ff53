"""The rating head: biases, the user's mood and factors, with the user's side and all running means live.

Biased matrix factorisation (Koren, Bell and Volinsky 2009) learned by squared error. A user's bias, mood (decayed
mean of the recent residuals) and factors move at each event; item factors move once a batch, by Adagrad per row.
Ratings are brought to a scale of length 4 inside, so that the rates below fit any scale.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.growth import grown, normal_rows
from model.kernels.ratings import predict_then_learn, read_at_median

Doubles = NDArray[np.float64]

LENGTH = 4.0
MEDIAN_BINS = 64
MEDIAN_LEVELS = 91
"""Levels of the table that medians are read from: steps of 0.05 on the scale from 0.5 to 5."""


@dataclass(frozen=True)
class RatingRates:
    """How fast each part moves; found on the first half of MovieLens-100K, see docs/quality.md."""

    user_prior: float = 10.7
    """Ratings' worth of doubt in a user's bias: the n-th rating moves it by 1 / (n + user_prior) of the error."""
    user_floor: float = 0.0227
    """The least rate of a user's bias, so that it follows slow change."""
    item_prior: float = 5.0
    item_floor: float = 0.009
    mood_rate: float = 0.232
    mood_weight: float = 0.303
    factor_rate: float = 0.123
    factor_pull: float = 0.0716
    """Pull of a user's factors back to the common start."""
    slowdown: float = 33.0
    """A user's factors move at factor_rate / sqrt(1 + ratings so far / slowdown)."""
    shrink: float = 0.024
    item_rate: float = 0.111

    def live(self) -> Doubles:
        """What the kernel unpacks, in its order."""
        return np.array(
            [
                self.user_prior,
                self.user_floor,
                self.item_prior,
                self.item_floor,
                self.mood_rate,
                self.mood_weight,
                self.factor_rate,
                self.factor_pull,
                self.slowdown,
                self.shrink,
            ]
        )


class RatingHead:
    """Predicts each rating before it learns it. Rows grow with the vocabularies."""

    def __init__(
        self, factors: int, lowest: float, highest: float, *, seed: int, rates: RatingRates | None = None
    ) -> None:
        self.lowest = lowest
        self.highest = highest
        self.rates = rates or RatingRates()
        self._live_rates = self.rates.live()
        self._seed = seed
        self._start_F = normal_rows("rating start", seed, 0, 1, factors, 0.039)[0]
        self.users = 0
        self.items = 0
        self.overall = np.array([0.0, 0.0, LENGTH / 2])
        self.user_bias_U = np.zeros(0)
        self.user_mood_U = np.zeros(0)
        self.user_count_U = np.zeros(0, dtype=np.int64)
        self.user_factors_UF = np.zeros((0, factors), dtype=np.float32)
        self.item_bias_I = np.zeros(0)
        self.item_count_I = np.zeros(0, dtype=np.int64)
        self.item_factors_IF = np.zeros((0, factors), dtype=np.float32)
        self.item_squares_I = np.zeros(0)
        self.median_table = np.zeros((MEDIAN_BINS, MEDIAN_LEVELS))

    def grow(self, users: int, items: int) -> None:
        self.user_bias_U = grown(self.user_bias_U, users)
        self.user_mood_U = grown(self.user_mood_U, users)
        self.user_count_U = grown(self.user_count_U, users)
        self.user_factors_UF = grown(self.user_factors_UF, users)
        if users > self.users:
            self.user_factors_UF[self.users : users] = self._start_F
            self.users = users
        self.item_bias_I = grown(self.item_bias_I, items)
        self.item_count_I = grown(self.item_count_I, items)
        self.item_squares_I = grown(self.item_squares_I, items)
        self.item_factors_IF = grown(self.item_factors_IF, items)
        if items > self.items:
            width = self.item_factors_IF.shape[1]
            first = normal_rows("rating items", self._seed, self.items, items, width, 0.13)
            self.item_factors_IF[self.items : items] = first
            self.items = items

    def predict_then_learn(
        self, users_B: NDArray[np.int64], items_B: NDArray[np.int64], ratings_B: Doubles
    ) -> tuple[Doubles, Doubles]:
        """Predictions made before each rating was learned, on the scale: at the mean and at the median, shape (B,).

        FloatingPointError for a rating that is not finite: nothing was changed then.
        """
        predictions_B = np.zeros(len(ratings_B))
        medians_B = np.zeros(len(ratings_B))
        if len(ratings_B) == 0:
            return predictions_B, medians_B
        if not np.isfinite(ratings_B).all():
            raise FloatingPointError(f"ratings have to be finite, got {ratings_B[~np.isfinite(ratings_B)][0]}")
        rows, items_here_B = np.unique(items_B, return_inverse=True)
        factors_IF = self.item_factors_IF[rows]
        gradient_IF = np.zeros_like(factors_IF)
        bias_I, count_I = self.item_bias_I[rows], self.item_count_I[rows]
        unit = LENGTH / (self.highest - self.lowest)
        predict_then_learn(
            users_B,
            items_here_B,
            (ratings_B - self.lowest) * unit,
            self._live_rates,
            self.overall,
            self.user_bias_U,
            self.user_mood_U,
            self.user_count_U,
            self.user_factors_UF,
            bias_I,
            count_I,
            factors_IF,
            self._start_F,
            gradient_IF,
            predictions_B,
        )
        if not np.isfinite(predictions_B).all():
            raise FloatingPointError("the rating head has diverged: a prediction is not finite; lower its rates")
        self.item_bias_I[rows], self.item_count_I[rows] = bias_I, count_I
        squares = self.item_squares_I[rows] + np.square(gradient_IF, dtype=np.float64).mean(1)
        self.item_squares_I[rows] = squares
        move_IF = gradient_IF * (self.rates.item_rate / np.sqrt(squares + 1e-8))[:, None]
        self.item_factors_IF[rows] = factors_IF + move_IF.astype(np.float32)

        np.clip(predictions_B / unit + self.lowest, self.lowest, self.highest, out=predictions_B)
        read_at_median(predictions_B, ratings_B, self.lowest, self.highest, self.median_table, medians_B)
        return predictions_B, medians_B

    def clear_user(self, user: int) -> None:
        self.user_bias_U[user] = 0
        self.user_mood_U[user] = 0
        self.user_count_U[user] = 0
        self.user_factors_UF[user] = self._start_F

    def state(self) -> dict[str, NDArray[np.generic]]:
        return {
            "overall": self.overall,
            "user_bias": self.user_bias_U[: self.users],
            "user_mood": self.user_mood_U[: self.users],
            "user_count": self.user_count_U[: self.users],
            "user_factors": self.user_factors_UF[: self.users],
            "item_bias": self.item_bias_I[: self.items],
            "item_count": self.item_count_I[: self.items],
            "item_factors": self.item_factors_IF[: self.items],
            "item_squares": self.item_squares_I[: self.items],
            "median_table": self.median_table,
        }

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        if state["item_factors"].shape[1] != self.item_factors_IF.shape[1]:
            raise ValueError(
                f"the saved rating factors have width {state['item_factors'].shape[1]}, "
                f"the settings ask for {self.item_factors_IF.shape[1]}"
            )
        self.overall = state["overall"].astype(np.float64)
        self.user_bias_U = state["user_bias"].astype(np.float64)
        self.user_mood_U = state["user_mood"].astype(np.float64)
        self.user_count_U = state["user_count"].astype(np.int64)
        self.user_factors_UF = state["user_factors"].astype(np.float32)
        self.item_bias_I = state["item_bias"].astype(np.float64)
        self.item_count_I = state["item_count"].astype(np.int64)
        self.item_factors_IF = state["item_factors"].astype(np.float32)
        self.item_squares_I = state["item_squares"].astype(np.float64)
        self.median_table = state["median_table"].astype(np.float64)
        self.users, self.items = len(self.user_bias_U), len(self.item_bias_I)
