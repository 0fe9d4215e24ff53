"""Top-k lists for the touched users: the best of all known items, less the seen and the unavailable ones.

With `cold_items` also available items of the catalogue that had no event yet, where their content says so.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.content import cold_code
from model.learner import Learner

SCORES_AT_ONCE = 1 << 24


class UserList(NamedTuple):
    """A user's list, best first; shorter than k where there are fewer candidates. A NaN score makes no candidate."""

    user_id: str
    item_rows: list[int]
    """Row numbers; below 0 for items that the catalogue knew before their first event (`Content.list_codes`)."""
    item_ids: list[str]
    scores: list[float]


class Lists(NamedTuple):
    """The lists of U users, best first."""

    users_U: NDArray[np.int64]
    """User rows."""
    codes_UK: NDArray[np.int32]
    """Item rows; below 0 for items of the catalogue before their first event (`Content.list_codes`). Unspecified from
    the list's length on."""
    lengths_U: NDArray[np.int32]
    scores_UK: NDArray[np.float32]


class TopK:
    """Makes the lists of a learner as it stands now."""

    def __init__(self, learner: Learner, k: int, *, cold_items: bool = False) -> None:
        self.learner = learner
        self.k = k
        self.cold_items = cold_items

    def __call__(self, user_ids: Sequence[str]) -> list[UserList]:
        """One list for each of these users, in their order; users that are not known are left out."""
        learner = self.learner
        known = [(user_id, row) for user_id in user_ids if (row := learner.users.row(user_id)) is not None]
        content = learner.ranking.content
        cold_X = content.cold_rows() if content is not None and self.cold_items else np.zeros(0, dtype=np.int64)
        size = max(1, SCORES_AT_ONCE // max(len(learner.items) + len(cold_X), 1))
        lists: list[UserList] = []
        for start in range(0, len(known), size):
            users = known[start : start + size]
            rows_U = np.array([row for _, row in users], dtype=np.int64)
            scores_UI = learner.scores(rows_U)
            if len(cold_X):
                scores_UI = torch.cat((scores_UI, learner.cold_scores(rows_U, cold_X)), 1)
            values_UK, items_UK = best(scores_UI, self.k)
            for (user_id, _), values, items in zip(users, values_UK.tolist(), items_UK.tolist(), strict=True):
                kept = [place for place, value in enumerate(values) if value != -np.inf]
                rows, ids = self._named([items[place] for place in kept], cold_X)
                lists.append(UserList(user_id, rows, ids, [round(values[place], 6) for place in kept]))
        return lists

    def arrays(self, user_ids: Sequence[str]) -> Lists:
        """The same lists as arrays."""
        lists = self(user_ids)
        codes_UK = np.zeros((len(lists), self.k), dtype=np.int32)
        scores_UK = np.zeros((len(lists), self.k), dtype=np.float32)
        for place, one in enumerate(lists):
            codes_UK[place, : len(one.item_rows)] = one.item_rows
            scores_UK[place, : len(one.item_rows)] = one.scores
        users_U = self.learner.users.rows([one.user_id for one in lists])
        return Lists(users_U, codes_UK, np.array([len(one.item_rows) for one in lists], dtype=np.int32), scores_UK)

    def _named(self, columns: list[int], cold_X: NDArray[np.int64]) -> tuple[list[int], list[str]]:
        """The rows and the ids of columns of scores: first all items, then the cold ones of the catalogue."""
        items, content = self.learner.items, self.learner.ranking.content
        if content is None:
            return columns, [items.name(column) for column in columns]
        known = len(items)
        codes = iter(content.list_codes([column for column in columns if column < known]))
        cold = {column: int(cold_X[column - known]) for column in columns if column >= known}
        rows = [cold_code(cold[column]) if column in cold else next(codes) for column in columns]
        ids = [content.ids.name(cold[column]) if column in cold else items.name(column) for column in columns]
        return rows, ids


def best(scores_UI: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best scores of each row and their columns, best first, ties to the lower column; both (U, min(k, I)).

    NaN counts as -inf.

    `torch.topk` alone leaves open which of several equal scores it takes, and lists must not depend on that.
    """
    k = min(k, scores_UI.shape[1])
    if k == 0:
        return scores_UI[:, :0].cpu(), torch.zeros((len(scores_UI), 0), dtype=torch.int64)
    values_UK, columns_UK = torch.topk(scores_UI, k, dim=1)
    if values_UK.isnan().any():  # CPU-GPU sync point; torch.topk puts NaN first, so it is here if it is anywhere
        scores_UI = scores_UI.masked_fill(scores_UI.isnan(), -torch.inf)
        values_UK, columns_UK = torch.topk(scores_UI, k, dim=1)
    tied_U = (scores_UI >= values_UK[:, -1:]).float().sum(1) > k  # summing booleans is many times slower
    if tied_U.any():  # CPU-GPU sync point; ties at the end of the list are settled by a stable sort of the whole row
        values, columns = torch.sort(scores_UI[tied_U], dim=1, descending=True, stable=True)
        values_UK[tied_U], columns_UK[tied_U] = values[:, :k], columns[:, :k]
    columns_UK, by_column = torch.sort(columns_UK, dim=1)
    values_UK, by_value = torch.sort(values_UK.gather(1, by_column), dim=1, descending=True, stable=True)
    return values_UK.cpu(), columns_UK.gather(1, by_value).cpu()
