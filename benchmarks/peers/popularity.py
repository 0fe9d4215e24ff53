"""What everybody takes, for everybody; optionally with a count that halves as events go by."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

_LARGEST_STEP = 1e200


class Popularity:
    def __init__(self, items: int, *, half_life: float | None = None) -> None:
        """`half_life` in events; None counts for ever."""
        self.settings: Mapping[str, object] = {"half_life_events": half_life}
        self._growth = 1.0 if half_life is None else 2.0 ** (1.0 / half_life)
        self._step = 1.0
        self._count_I = np.zeros(items)

    def scores(self, user: int, history: Sequence[int], items: int) -> Doubles:
        del user, history
        return self._count_I[:items]

    def learn(self, user: int, item: int, rating: float) -> None:
        del user, rating
        self._count_I[item] += self._step
        self._step *= self._growth  # newer events weigh more: the same order as older ones that fade
        if self._step > _LARGEST_STEP:
            self._count_I /= self._step
            self._step = 1.0
