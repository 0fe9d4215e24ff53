"""ISGD: matrix factors for positive-only streams, one gradient step an event (Vinagre, Jorge and Gama 2014).

With `negatives` it is their later variant (2015), which also tells the user's factors that the items longest not
taken by anybody are worth nothing.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


class Isgd:
    def __init__(
        self,
        users: int,
        items: int,
        *,
        factors: int,
        rate: float,
        regularization: float = 0.01,
        negatives: int = 0,
        seed: int = 0,
    ) -> None:
        self.settings: Mapping[str, object] = {
            "factors": factors,
            "rate": rate,
            "regularization": regularization,
            "negatives": negatives,
            "seed": seed,
        }
        rng = np.random.default_rng(seed)
        self._users_UD = rng.normal(0.0, 0.1, (users, factors))
        self._items_ID = rng.normal(0.0, 0.1, (items, factors))
        self._rate, self._regularization, self._negatives = rate, regularization, negatives
        self._longest_ago: OrderedDict[int, None] = OrderedDict()
        """Items by their last event, oldest first."""

    def scores(self, user: int, history: Sequence[int], items: int) -> Doubles:
        del history
        return self._items_ID[:items] @ self._users_UD[user]

    def learn(self, user: int, item: int, rating: float) -> None:
        del rating
        for stale in list(islice(self._longest_ago, self._negatives)):
            if stale != item:
                self._step(user, stale, 0.0)
            self._longest_ago.move_to_end(stale)
        self._step(user, item, 1.0)
        self._longest_ago[item] = None
        self._longest_ago.move_to_end(item)

    def _step(self, user: int, item: int, target: float) -> None:
        user_D, item_D = self._users_UD[user], self._items_ID[item]
        error = target - user_D @ item_D
        user_D += self._rate * (error * item_D - self._regularization * user_D)
        if target > 0:  # a guessed negative must not spoil the item for everybody
            item_D += self._rate * (error * user_D - self._regularization * item_D)
