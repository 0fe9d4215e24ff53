"""Reading a rating at the median: the mean minimises the squared error of a prediction, the median the absolute one.

The distribution of ratings given the predicted mean is a live table over the values that ratings have had (their
levels), interpolated between nodes of the scale and tilted by each user's habit.
"""

import numpy as np
from numpy.typing import NDArray

from model.columns import Columns
from model.kernels.median import fill_start, new_levels, read_at_median

Doubles = NDArray[np.float64]

NODES = 33
MOST_LEVELS = 64
"""On a scale with more values than this, later ones count at the nearest of the first 64."""
FIRST_LEVELS = 8


class MedianTable:
    """Counts by node of the scale and level, and how often each user gave each level: 8 bytes a user and level.

    Room for levels doubles from 8 to 64 as they come, so that a scale of few values costs a user little.
    """

    def __init__(self, lowest: float, highest: float) -> None:
        self.lowest = lowest
        self.highest = highest
        self.known = 0
        self._allocate(FIRST_LEVELS)

    def read_then_learn(self, users_B: NDArray[np.int64], predictions_B: Doubles, ratings_B: Doubles) -> Doubles:
        """The median at each prediction, before its own rating is counted; the prediction itself before any rating."""
        self._make_room(ratings_B)
        medians_B = np.zeros(len(ratings_B))
        self.known = read_at_median(
            users_B,
            predictions_B,
            ratings_B,
            self.lowest,
            self.highest,
            self.levels_L,
            self.order_L,
            self.known,
            self.counts_NL,
            self._start_NL,
            self.users["seen"],
            self.users["expected"],
            medians_B,
        )
        return medians_B

    def state(self) -> dict[str, NDArray[np.generic]]:
        return {
            "levels": self.levels_L[: self.known],
            "counts": self.counts_NL[:, : self.known],
            **self.users.state(),
        }

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        self._allocate(state["seen"].shape[1])
        self.known = len(state["levels"])
        self.levels_L[: self.known] = state["levels"]
        self.order_L[: self.known] = np.argsort(state["levels"], kind="stable")
        self.counts_NL[:, : self.known] = state["counts"]
        self.users.load(state)
        self._fill_start()

    def _allocate(self, width: int) -> None:
        self.levels_L = np.zeros(width)
        self.order_L = np.zeros(width, dtype=np.int64)
        self.counts_NL = np.zeros((NODES, width))
        self._start_NL = np.zeros((NODES, width))
        start_L = np.zeros(width, dtype=np.float32)
        self.users = Columns({"seen": start_L, "expected": start_L})

    def _make_room(self, ratings_B: Doubles) -> None:
        """Columns for as many levels as the batch may bring; that they are known is decided event by event."""
        width = len(self.levels_L)
        if width == MOST_LEVELS:
            return
        levels = self.known + new_levels(self.levels_L, self.known, ratings_B, np.empty(MOST_LEVELS))
        while width < min(levels, MOST_LEVELS):
            width *= 2
        if width > len(self.levels_L):
            self._widen(width)

    def _widen(self, width: int) -> None:
        missing = width - len(self.levels_L)
        self.levels_L = np.pad(self.levels_L, (0, missing))
        self.order_L = np.pad(self.order_L, (0, missing))
        self.counts_NL = np.pad(self.counts_NL, ((0, 0), (0, missing)))
        self._start_NL = np.zeros((NODES, width))
        self.users.widen("seen", width)
        self.users.widen("expected", width)
        self._fill_start()

    def _fill_start(self) -> None:
        fill_start(self.levels_L, self.order_L, self.known, self.lowest, self.highest, self._start_NL)
