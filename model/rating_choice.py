"""Which model predicts ratings, by name."""

from typing import Literal, get_args

from model.factors import FactorHead, FactorRates
from model.rating_model import RatingModel
from model.ratings import RatingHead, RatingRates

RatingModelName = Literal["neighbours", "factors"]
RATING_MODELS: tuple[RatingModelName, ...] = get_args(RatingModelName)


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
