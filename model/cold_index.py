"""The catalogue's items without an event, kept so that only those that changed are brought up to date: see `TopK`."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.content import Content
from model.growth import grown
from model.item_index import Best, ItemIndex, Items
from model.kernels.scan import Askers


class ColdIndex:
    """Finds the best items without an event, by their content vectors alone."""

    _index: ItemIndex
    _updated: int
    _cold: int
    """How many items may be listed."""
    _known_X: NDArray[np.bool_]
    """Those that may be listed, or might at some time since all was taken anew."""
    _hidden_X: NDArray[np.bool_]
    _zeros_X: NDArray[np.int64]
    _biases_X: Tensor

    def __init__(self) -> None:
        self._content: Content | None = None
        self._forget()

    def best(self, content: Content, askers: Askers, k: int) -> Best | None:
        """The k best of each user, exact, as rows of the catalogue; None where there are no such items.

        Extras and seen items of the askers do not count.
        """
        self._update(content)
        if self._cold == 0:
            return None
        no_extras_U = np.zeros(len(askers.starts_U), dtype=np.int64)
        return self._index.best(askers._replace(starts_U=no_extras_U, hides_seen=False), k)

    def _update(self, content: Content) -> None:
        rows = len(content.ids)
        if content is not self._content:
            self._forget()
            self._content = content
        moved_R = content.moved_rows.since(self._updated)
        if moved_R is None:
            if self._cold < self._index.size // 2:
                self._forget()
            moved_R = np.arange(rows)
        elif len(moved_R):
            moved_R = np.unique(moved_R)
        self._updated = content.moved_rows.end
        if not len(moved_R):
            return
        self._known_X, self._hidden_X = grown(self._known_X, rows), grown(self._hidden_X, rows)
        self._zeros_X = grown(self._zeros_X, rows)
        if len(self._biases_X) < rows:
            self._biases_X = torch.zeros(len(self._zeros_X))
        self._cold -= self._candidates(moved_R)
        is_cold_R = content.is_cold(moved_R)
        self._known_X[moved_R] |= is_cold_R
        self._hidden_X[moved_R] = ~is_cold_R
        self._cold += self._candidates(moved_R)
        biases_X, zeros_X = self._biases_X[:rows], self._zeros_X[:rows]
        items = Items(content.vectors_XD, biases_X, zeros_X, self._known_X[:rows], self._hidden_X[:rows])
        self._index.update(items, moved_R)

    def _candidates(self, rows_R: NDArray[np.int64]) -> int:
        return int((self._known_X[rows_R] & ~self._hidden_X[rows_R]).sum())

    def _forget(self) -> None:
        self._index, self._updated, self._cold = ItemIndex(), -1, 0
        self._known_X, self._hidden_X = np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.bool_)
        self._zeros_X, self._biases_X = np.zeros(0, dtype=np.int64), torch.zeros(0)
