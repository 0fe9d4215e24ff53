"""Which rows moved lately, for those that keep something about every row and bring only that up to date.

Readers keep their own place, so there may be several, or none.
"""

import numpy as np
from numpy.typing import NDArray


class MovedRows:
    """Rows that may have changed, newest last: a ring of `room` of them."""

    def __init__(self, room: int = 1 << 17) -> None:
        self.end = 0
        """The place from which on nothing has moved yet."""
        self._begin = 0
        self._ring = np.zeros(room, dtype=np.int64)

    def add(self, rows: NDArray[np.integer] | None) -> None:
        """These moved, or (None) all."""
        if rows is None or len(rows) > len(self._ring):
            self.end += 1
            self._begin = self.end
            return
        at = self.end % len(self._ring)
        before_turn = min(len(rows), len(self._ring) - at)
        self._ring[at : at + before_turn] = rows[:before_turn]
        self._ring[: len(rows) - before_turn] = rows[before_turn:]
        self.end += len(rows)
        self._begin = max(self._begin, self.end - len(self._ring))

    def since(self, place: int) -> NDArray[np.int64] | None:
        """The rows that moved since `end` was `place`, some of them repeatedly; None: it may be all of them."""
        if place < self._begin:
            return None
        first, past = place % len(self._ring), place % len(self._ring) + self.end - place
        if past <= len(self._ring):
            return self._ring[first:past].copy()
        return np.concatenate((self._ring[first:], self._ring[: past - len(self._ring)]))
