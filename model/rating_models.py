"""Which model predicts ratings: by name, and what they have in common."""

from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from model.columns import Columns
from model.factors import FactorHead, FactorRates
from model.ratings import RatingHead, RatingRates

RatingModelName = Literal["neighbours", "factors"]
RATING_MODELS: tuple[RatingModelName, ...] = get_args(RatingModelName)


class RatingModel(Protocol):
    """Predicts each rating before it learns it; rows grow with the vocabularies."""

    @property
    def users(self) -> Columns:
        """What is held of each user, but for what the median needs."""

    @property
    def bytes_per_user(self) -> int: ...

    def grow(self, users: int, items: int) -> None: ...

    def predict_then_learn(
        self,
        users_B: NDArray[np.int64],
        items_B: NDArray[np.int64],
        times_B: NDArray[np.int64],
        ratings_B: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predictions made before each rating was learned, at the mean and at the median, shape (B,).

        FloatingPointError, and nothing changed, where a number is not finite.
        """

    def clear_user(self, user: int) -> None:
        """Forget a user: what can be taken back of what the user taught is taken back."""

    def let_go(self, users_U: NDArray[np.int64]) -> None:
        """Make these rows strangers'; what their users taught stays."""

    def state(self) -> dict[str, NDArray[np.generic]]: ...

    def load(self, state: dict[str, NDArray[np.generic]]) -> None: ...


def make_rating_model(
    name: str, factors: int, lowest: float, highest: float, *, seed: int, rates: RatingRates, factor_rates: FactorRates
) -> RatingModel:
    """`neighbours`: the filter of `model.ratings`, by `rates`; `factors`: the lean model of `model.factors`, by
    `factor_rates`. ValueError for another name.
    """
    if name == "neighbours":
        return RatingHead(factors, lowest, highest, seed=seed, rates=rates)
    if name == "factors":
        return FactorHead(factors, lowest, highest, seed=seed, rates=factor_rates)
    raise ValueError(f"rating model: expected one of {', '.join(RATING_MODELS)}, got {name!r}")
