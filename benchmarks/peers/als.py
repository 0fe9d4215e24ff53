"""implicit's ALS, refitted from scratch now and then on everything so far, with the user solved anew at every event.

Items that came after the last refit have no factors and score 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

Doubles = NDArray[np.float64]


class RefittedAls:
    def __init__(
        self,
        users: int,
        items: int,
        *,
        refit_events: int = 5_000,
        factors: int = 32,
        regularization: float = 0.05,
        alpha: float = 10.0,
        iterations: int = 10,
        seed: int = 0,
    ) -> None:
        self.settings: Mapping[str, object] = {
            "refit_events": refit_events,
            "factors": factors,
            "regularization": regularization,
            "alpha": alpha,
            "iterations": iterations,
            "seed": seed,
        }
        self._make = lambda: AlternatingLeastSquares(
            factors=factors,
            regularization=regularization,
            alpha=alpha,
            iterations=iterations,
            num_threads=1,
            random_state=seed,
        )
        self._model: Any = None  # implicit has no types
        self._fitted_items = 0
        self._refit_events = refit_events
        self._shape = (users, items)
        self._events: list[tuple[int, int]] = []

    def scores(self, user: int, history: Sequence[int], items: int) -> Doubles:
        del user
        scores_I = np.zeros(items)
        known = [item for item in history if item < self._fitted_items]
        if self._model is None or not known:
            return scores_I
        user_D = self._model.recalculate_user(0, self._row(known))
        scores_I[: self._fitted_items] = self._model.item_factors[: self._fitted_items] @ user_D
        return scores_I

    def learn(self, user: int, item: int, rating: float) -> None:
        del rating
        self._events.append((user, item))
        # sooner at the start, or the first thousands of events would meet no model at all
        if len(self._events) % self._refit_events == 0 or len(self._events) in (250, 500, 1_000, 2_500):
            self._refit()

    def _refit(self) -> None:
        users, items = np.array(self._events).T
        matrix = csr_matrix((np.ones(len(users), dtype=np.float32), (users, items)), shape=self._shape)
        self._model = self._make()
        with threadpool_limits(1, "blas"):
            self._model.fit(matrix, show_progress=False)
        self._fitted_items = int(items.max()) + 1

    def _row(self, items: list[int]) -> Any:
        columns, counts = np.unique(np.array(items, dtype=np.int32), return_counts=True)
        ends = np.array([0, len(columns)], dtype=np.int32)
        return csr_matrix((counts.astype(np.float32), columns, ends), shape=(1, self._shape[1]))
