"""The last list of every user: what a new one is compared with, and kept in the checkpoint for that."""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.lists import find_coded, replace_lists, unpack_lists
from model.growth import grown
from model.moved import MovedRows
from model.ragged import Part, Ragged, copied

_NONE: Final = -1

Ints = NDArray[np.int64]


class LastLists:
    """The last list of each user, as item codes under the user's row; kept in the checkpoint.

    4 bytes an item and 4 a user.
    """

    def __init__(self) -> None:
        self.moved = MovedRows()
        """Rows whose list changed, or went."""
        self._rows = 0
        self._codes_RK = np.zeros((0, 0), dtype=np.int32)
        self._length_R = np.zeros(0, dtype=np.int32)
        """`_NONE`: the user has no list."""

    def __len__(self) -> int:
        return int((self._length_R[: self._rows] != _NONE).sum())

    def replace(self, users_U: Ints, codes_UK: NDArray[np.int32], lengths_U: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Remember these lists; whether each differs from the one before."""
        changed_U = np.empty(len(users_U), dtype=np.bool_)
        if len(users_U):
            self._grow(int(users_U.max()) + 1, codes_UK.shape[1])
            replace_lists(users_U, codes_UK, lengths_U, self._codes_RK, self._length_R, changed_U)
            self.moved.add(users_U[changed_U])
        return changed_U

    def clear(self, rows: Iterable[int]) -> None:
        """Forget the lists of these rows: their users are gone, and others may get the rows."""
        rows_N = np.fromiter(rows, dtype=np.int64)
        here = rows_N[(rows_N >= 0) & (rows_N < self._rows)]
        self._length_R[here], self._codes_RK[here] = _NONE, 0
        self.moved.add(here)

    def clear_naming(self, first: int, past: int, items_I: NDArray[np.bool_]) -> None:
        """Forget those lists of the rows `first` to `past` that name one of these items: others may get their codes."""
        past = min(past, self._rows)
        codes_RK, lengths_R = self._codes_RK[first:past], self._length_R[first:past]
        if not len(items_I):
            return
        is_item_RK = (np.arange(codes_RK.shape[1]) < lengths_R[:, None]) & (codes_RK >= 0)
        names_R = (is_item_RK & items_I[np.where(is_item_RK, codes_RK, 0)]).any(1)
        self.clear((first + np.flatnonzero(names_R)).tolist())

    def clear_coded(self, codes: Ints) -> None:
        """Forget those lists that have one of these codes, below 0: others may get them."""
        if not len(codes) or not self._rows:
            return
        is_one_X = np.zeros(-int(codes.min()), dtype=np.bool_)
        is_one_X[-1 - codes] = True
        names_R = np.zeros(self._rows, dtype=np.bool_)
        find_coded(self._codes_RK, self._length_R[: self._rows], is_one_X, names_R)
        self.clear(np.flatnonzero(names_R))

    def parts(self) -> dict[str, Part]:
        """`codes` of all lists, in the order of the rows, and how many each row has, -1 for no list: views."""
        lengths_R = self._length_R[: self._rows]
        return {"codes": Ragged.of_table(self._codes_RK, lengths_R), "lengths": lengths_R}

    def state(self) -> dict[str, NDArray[np.generic]]:
        """`parts` of which nothing moves, the codes end to end."""
        return {name: copied(part) for name, part in self.parts().items()}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Replaces everything by what `state` returned; ValueError where the arrays do not fit together."""
        lengths_R, packed = state["lengths"].astype(np.int32), state["codes"].astype(np.int32)
        if lengths_R.min(initial=0) < _NONE:
            raise ValueError(f"last lists: a list of {int(lengths_R.min())} items")
        items = int(lengths_R.clip(0).sum(dtype=np.int64))
        if items != len(packed):
            raise ValueError(
                f"last lists: {len(lengths_R)} users have lists of together {items} items, but there are {len(packed)}"
            )
        self._rows = 0
        self.moved.add(None)
        self._codes_RK, self._length_R = np.zeros((0, 0), dtype=np.int32), np.zeros(0, dtype=np.int32)
        self._grow(len(lengths_R), int(lengths_R.max(initial=0)))
        self._length_R[: self._rows] = lengths_R
        unpack_lists(packed, self._codes_RK, lengths_R)

    def _grow(self, rows: int, width: int) -> None:
        if width > self._codes_RK.shape[1]:
            wider = grown(np.zeros((0, width), dtype=np.int32), len(self._codes_RK))
            wider[: len(self._codes_RK), : self._codes_RK.shape[1]] = self._codes_RK
            self._codes_RK = wider
            self.moved.add(None)
        self._codes_RK, self._length_R = grown(self._codes_RK, rows), grown(self._length_R, rows, fill=_NONE)
        self._rows = max(self._rows, rows)
