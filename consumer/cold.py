"""Figures of the cold: events of users, and of items, that had fewer than a few events before."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model import evaluation
from model.interactions import Forget, Interaction

FEW: Final = 5
"""Fewer earlier events than this is cold."""


class ColdFigures:
    """HR and NDCG at `k` over the ranked events of cold users and of cold items; misses count as 0, as everywhere.

    Earlier events are those that a ranking could know of: ratings and events of positive weight.
    """

    def __init__(self, k: int = 10) -> None:
        self._k = k
        self._of_user: Counter[str] = Counter()
        self._of_item: Counter[str] = Counter()
        self._ranks: dict[str, list[NDArray[np.float64]]] = {"users": [], "items": []}

    def observe(
        self, batch: Iterable[Interaction | Forget], ranked_B: NDArray[np.bool_], ranks_B: NDArray[np.float64]
    ) -> None:
        """The events of a step in stream order; one rank for each interaction."""
        users, items = [], []
        for entry in batch:
            if isinstance(entry, Forget):
                self._of_user.pop(entry.user_id, None)
                continue
            users.append(self._of_user[entry.user_id] < FEW)
            items.append(self._of_item[entry.item_id] < FEW)
            if entry.weight > 0 or entry.rating is not None:
                self._of_user[entry.user_id] += 1
                self._of_item[entry.item_id] += 1
        for name, cold in (("users", users), ("items", items)):
            self._ranks[name].append(ranks_B[ranked_B & np.array(cold, dtype=np.bool_)])

    def figures(self) -> dict[str, dict[str, Any]]:
        """`ranked`, `hr@10`, `ndcg@10` of cold users and of cold items; null where none was ranked."""
        return {name: self._figures(np.concatenate([*ranks, []])) for name, ranks in self._ranks.items()}

    def _figures(self, ranks_R: NDArray[np.float64]) -> dict[str, Any]:
        if not len(ranks_R):
            return {"ranked": 0, f"hr@{self._k}": None, f"ndcg@{self._k}": None}
        return {
            "ranked": len(ranks_R),
            f"hr@{self._k}": round(evaluation.hit_rate(ranks_R, self._k), 6),
            f"ndcg@{self._k}": round(evaluation.ndcg(ranks_R, self._k), 6),
        }
