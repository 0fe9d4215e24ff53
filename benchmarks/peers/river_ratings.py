"""River's models of ratings, with the settings of River's own page on MovieLens-100K, and BiasedMF as a ranker."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import facto, optim, reco

Doubles = NDArray[np.float64]

_FACTORS = 10
_SETTINGS: Mapping[str, object] = {
    "factors": _FACTORS,
    "rate_biases": 0.025,
    "rate_factors": 0.05,
    "spread": 0.1,
    "seed": 73,
}


def _latent() -> optim.initializers.Normal:
    return optim.initializers.Normal(mu=0.0, sigma=0.1, seed=73)


class Baseline:
    """Mean plus the biases of user and item."""

    settings: Mapping[str, object] = {"rate_biases": 0.025}

    def __init__(self) -> None:
        self._model = reco.Baseline(optimizer=optim.SGD(0.025))

    def predict(self, user: int, item: int) -> float:
        return float(self._model.predict_one(user=user, item=item))

    def learn(self, user: int, item: int, rating: float) -> None:
        self._model.learn_one(user=user, item=item, y=rating)


class BiasedMf:
    """Baseline plus the product of user and item factors."""

    settings = _SETTINGS

    def __init__(self) -> None:
        self.model: Any = reco.BiasedMF(
            n_factors=_FACTORS,
            bias_optimizer=optim.SGD(0.025),
            latent_optimizer=optim.SGD(0.05),
            latent_initializer=_latent(),
        )

    def predict(self, user: int, item: int) -> float:
        return float(self.model.predict_one(user=user, item=item))

    def learn(self, user: int, item: int, rating: float) -> None:
        self.model.learn_one(user=user, item=item, y=rating)


class FactorizationMachine:
    """Factorization machine of the user and the item, one-hot."""

    settings: Mapping[str, object] = {**_SETTINGS, "intercept": 3.0, "rate_intercept": 0.01}

    def __init__(self) -> None:
        self._model: Any = facto.FMRegressor(
            n_factors=_FACTORS,
            weight_optimizer=optim.SGD(0.025),
            latent_optimizer=optim.SGD(0.05),
            intercept=3.0,
            intercept_lr=0.01,
            latent_initializer=_latent(),
        )

    def predict(self, user: int, item: int) -> float:
        return float(self._model.predict_one(_one_hot(user, item)))

    def learn(self, user: int, item: int, rating: float) -> None:
        self._model.learn_one(_one_hot(user, item), rating)


def _one_hot(user: int, item: int) -> dict[str, str]:
    return {"user": f"u{user}", "item": f"i{item}"}


class RankedBiasedMf:
    """Items in the order of the rating that BiasedMF predicts; its item parameters are mirrored in arrays for that."""

    settings = _SETTINGS

    def __init__(self, items: int) -> None:
        self._river = BiasedMf()
        self._bias_I = np.zeros(items)
        self._items_ID = np.zeros((items, _FACTORS))

    def scores(self, user: int, history: Sequence[int], items: int) -> Doubles:
        del history
        # what is the same for all items, mean and user bias, is left out
        return self._bias_I[:items] + self._items_ID[:items] @ self._river.model.u_latents[user]

    def learn(self, user: int, item: int, rating: float) -> None:
        if np.isnan(rating):
            return
        self._river.learn(user, item, rating)
        self._bias_I[item] = self._river.model.i_biases[item]
        self._items_ID[item] = self._river.model.i_latents[item]
