"""The catalogue's items without an event, kept so that only those that changed are brought up to date: see `TopK`.

Items that have had none are numbered by catalogue row, so that what they cost does not grow with the others. An item
keeps its number, hidden, after its first event; when half are hidden and the table of content moves, or an item without
a number is let go by its row, all are numbered anew.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from model.bag_sums import NONE
from model.content import Content
from model.growth import grown
from model.item_index import Best, ItemIndex, Items
from model.kernels.cooccurrence import NOT_TOGETHER
from model.kernels.merge import may_enter
from model.kernels.scan import Askers
from model.side_by_side import SideBySide

NO_COUNT = math.log(0.5)
"""Log count of an item without an event."""


class ColdIndex:
    """Finds the best items without an event, by their content vectors alone."""

    _row_C: NDArray[np.int64]
    """The catalogue row of each number, ascending."""
    _hidden_C: NDArray[np.bool_]
    """Which are not to be listed."""
    _vectors_CD: NDArray[np.floating]
    _cold: int
    """How many may be listed."""

    def __init__(self, side_by_side: SideBySide | None = None) -> None:
        """`side_by_side` as of `ItemIndex`."""
        self._side_by_side = side_by_side
        self._content: Content | None = None
        self._updated = -1
        self._forget()

    def best(self, content: Content, askers: Askers, found: Best) -> Best | None:
        """The best items of each user that may get into the lists `found`, exact, by rows of the catalogue.

        None where no item may. As many as `found` has room for; those behind a list's end are unspecified. Extras and
        seen items of the askers do not count.
        """
        self._update(content)
        (users, k), least_U = found.scores_UK.shape, np.empty(len(found.lengths_U), dtype=np.float32)
        if self._cold == 0 or users * k == 0:
            return None
        parts = askers.users_UD, askers.popularity_U, found.scores_UK, found.lengths_U
        if not may_enter(*parts, NO_COUNT, self._index.longest(), least_U):
            return None
        no_extras_U = np.zeros(len(askers.starts_U), dtype=np.int64)
        cold = self._index.best(
            askers._replace(starts_U=no_extras_U, hides_seen=False, together=NOT_TOGETHER), k, least_U=least_U
        )
        rows_UK = np.take(self._row_C, cold.rows_UK, mode="clip")  # behind a list's end there is no number
        return cold._replace(rows_UK=rows_UK.astype(np.int32))

    def _update(self, content: Content) -> None:
        if content is not self._content:
            self._content, self._updated = content, -1
            self._forget()
        moved_R, self._updated = content.moved_rows.since(self._updated), content.moved_rows.end
        if (moved_R is None and 2 * self._cold < self._size) or self._lacks_one(content, moved_R):
            self._forget()
            moved_R = None
        numbers = self._numbers_of(content, moved_R)
        if not len(numbers):
            return
        rows = self._row_C[numbers]
        is_cold = content.is_cold(rows)
        self._cold += int(is_cold.sum()) - int((~self._hidden_C[numbers]).sum())
        self._hidden_C[numbers] = ~is_cold
        self._vectors_CD[numbers] = content.vectors(rows).numpy()
        vectors_CD = torch.from_numpy(self._vectors_CD[: self._size])
        zeros_C, hidden_C = np.zeros(self._size, dtype=np.int64), self._hidden_C[: self._size]
        self._index.update(Items(vectors_CD, torch.zeros(self._size), zeros_C, zeros_C == 0, hidden_C), numbers)

    def _lacks_one(self, content: Content, moved_R: NDArray[np.int64] | None) -> bool:
        """Whether one of the rows that moved (None: all) had events when others were numbered, and has none now."""
        if not self._size:
            return False
        row_C = self._row_C[: self._size]
        rows_R = np.arange(row_C[-1]) if moved_R is None else moved_R[moved_R < row_C[-1]]
        rows_R = rows_R[content.item_X[rows_R] == NONE]
        return bool((row_C[np.searchsorted(row_C, rows_R)] != rows_R).any())

    def _numbers_of(self, content: Content, moved_R: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """The numbers of rows that moved (None: all); rows that are new get one, in their order."""
        known, past = self._size, len(content.ids)
        first = int(self._row_C[known - 1]) + 1 if known else 0
        new_N = first + np.flatnonzero(content.item_X[first:past] == NONE)
        if len(new_N):
            self._size += len(new_N)
            self._row_C = grown(self._row_C, self._size)
            self._row_C[known : self._size] = new_N
            self._hidden_C = grown(self._hidden_C, self._size, fill=True)
            if not known:
                self._vectors_CD = content.vectors(new_N[:0]).numpy()
            self._vectors_CD = grown(self._vectors_CD, self._size)
        if moved_R is None:
            return np.arange(self._size)
        moved_R = np.unique(moved_R)
        numbers = np.searchsorted(self._row_C[: self._size], moved_R)
        is_numbered = np.take(self._row_C[: self._size], numbers, mode="clip") == moved_R if self._size else numbers < 0
        return numbers[is_numbered]

    def _forget(self) -> None:
        self._index, self._size, self._cold = ItemIndex(self._side_by_side), 0, 0
        self._row_C, self._hidden_C = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
        self._vectors_CD = np.zeros((0, 0), dtype=np.float32)
