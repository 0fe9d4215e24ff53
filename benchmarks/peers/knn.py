"""Item-kNN kept up to date: cosine between the sets of users that had each item (Miranda and Jorge 2009).

Counts of users and of pairs move with every event, so the cosines are exact at each one. A candidate's score is the sum
of its cosines to the user's items, all of them or the last `last`.
"""

from collections.abc import Mapping, Sequence

import numba
import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class ItemKnn:
    def __init__(self, users: int, items: int, *, last: int | None = None) -> None:
        self.settings: Mapping[str, object] = {"similarity": "cosine", "last_items": last}
        self._last = last
        self._pairs_II = np.zeros((items, items), dtype=np.float32)
        self._users_I = np.zeros(items, dtype=np.float32)
        """How many users had each item."""
        self._sets: list[dict[int, None]] = [{} for _ in range(users)]
        nobody, nothing = np.zeros(0, dtype=np.int64), np.zeros((1, 1), dtype=np.float32)
        _add_pairs(0, nobody, nothing)  # compiled here, so that no event waits for it
        _sum_of_cosines(nobody, nothing, nothing[0], 0)

    def scores(self, user: int, history: Sequence[int], items: int) -> Doubles:
        del user
        own = list(dict.fromkeys(reversed(history)))[: self._last]  # newest first, each once
        if not own:
            return self._users_I[:items].astype(np.float64)  # a stranger gets what is popular
        return _sum_of_cosines(np.array(own, dtype=np.int64), self._pairs_II, self._users_I, items)

    def learn(self, user: int, item: int, rating: float) -> None:
        del rating
        known = self._sets[user]
        if item in known:
            return
        _add_pairs(item, np.fromiter(known, dtype=np.int64, count=len(known)), self._pairs_II)
        self._users_I[item] += 1.0
        known[item] = None


@numba.njit(cache=True)
def _add_pairs(item: int, others: Ints, pairs_II: Floats) -> None:
    for other in others:
        pairs_II[item, other] += 1.0
        pairs_II[other, item] += 1.0
    pairs_II[item, item] += 1.0  # the cosine of an item with itself is 1: repeats can be recommended


@numba.njit(cache=True, fastmath=True)
def _sum_of_cosines(own: Ints, pairs_II: Floats, users_I: Floats, items: int) -> Doubles:
    scores_I = np.zeros(items, dtype=np.float32)
    for item in own:
        scale = np.float32(1.0) / np.sqrt(users_I[item])
        for other in range(items):
            scores_I[other] += scale * pairs_II[item, other]
    return (scores_I / np.sqrt(np.maximum(users_I[:items], np.float32(1.0)))).astype(np.float64)
