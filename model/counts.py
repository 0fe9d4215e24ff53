"""Which items are known and how often each was chosen: popularity, live and undecayed."""

import numpy as np
from numpy.typing import NDArray

from model.growth import growable, grown


class ItemCounts:
    """Counts per item, and how many items have each count, so that a popularity rank is a look-up."""

    def __init__(self) -> None:
        self.items = 0
        self.total = 0
        """Sum of the counts."""
        self.known_I = np.zeros(0, dtype=np.bool_)
        self.count_I = np.zeros(0, dtype=np.int64)
        self.items_with_count = np.zeros(64, dtype=np.int64)
        self.items_above_count = np.zeros(64, dtype=np.int64)

    def grow(self, items: int) -> None:
        self.known_I = grown(self.known_I, items)
        self.count_I = grown(self.count_I, items)
        self.items = max(self.items, items)

    def reserve(self, items_B: NDArray[np.int64]) -> None:
        """Make room for every event of the batch to raise the highest count by one."""
        highest = int(self.count_I[items_B].max(initial=0)) + len(items_B) + 2
        self.items_with_count = grown(self.items_with_count, highest)
        self.items_above_count = grown(self.items_above_count, highest)

    def let_go(self, items_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """These known items are not known any more, and were never chosen; the counts that they had."""
        counts_N: NDArray[np.int64] = self.count_I[items_N]
        self.known_I[items_N], self.count_I[items_N] = False, 0
        self.total -= int(counts_N.sum())
        with_count = np.bincount(counts_N)
        self.items_with_count[: len(with_count)] -= with_count
        self.items_above_count[: len(with_count)] -= len(items_N) - np.cumsum(with_count)
        return counts_N

    def state(self) -> dict[str, NDArray[np.generic]]:
        return {"known": self.known_I[: self.items], "count": self.count_I[: self.items]}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        self.known_I = growable(state["known"], np.bool_)
        self.count_I = growable(state["count"], np.int64)
        self.items = len(self.count_I)
        self.total = int(self.count_I.sum())
        by_count = np.bincount(self.count_I[self.known_I], minlength=64).astype(np.int64)
        self.items_with_count = by_count
        self.items_above_count = by_count.sum() - np.cumsum(by_count)
