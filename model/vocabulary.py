"""Ids become rows: a new id gets the next row, a removed id gives its row back.

Knows nothing of what the rows hold. The ids lie in one blob and are found by a compiled index (`model.kernels.ids`);
the index moves to a larger table some rows at a time, so that no call has to move all of them. A removed id's place in
the blob goes to the next id of its length.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.growth import growable, grown, zeros
from model.ids import Ids
from model.kernels import ids as kernel
from model.packing import check_lengths
from model.ragged import Part, Ragged, copied

MOST_LOAD = 0.5
"""Share of the slots of the index that may be taken."""
MOVED_AT_ONCE = 1024
"""Rows that a call moves to a larger index, at least."""
MOVED_AN_ID = 3
"""And so many for each of its ids: just enough to be done before the next move."""
TOUCHED_AT_ONCE = 1 << 14
"""Slots of the next index that a call touches, at least, when the index in use is three quarters full."""

_KEY_2 = np.array([hash("ids") & 0xFFFFFFFF, hash("ids") >> 32 & 0xFFFFFFFF], dtype=np.int64)
"""Python's own secret of this process. Which row an id has does not follow from it."""

_Index = tuple[
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.uint32],
    NDArray[np.uint8],
    NDArray[np.int64],
    NDArray[np.int32],
]


class Vocabulary:
    """A one-to-one map from ids to row numbers 0, 1, 2, ... in the order in which the ids arrive."""

    def __init__(self) -> None:
        self._empty_blob(0)
        self.start_R: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.length_R: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        """-1 where the row was given back. Arrays are longer than there are rows."""
        self.hash_R: NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)
        """The hash that each id is found by, another one in each process."""
        self._free: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._counters = np.zeros(3, dtype=np.int64)
        self._slots = zeros(_slots_needed(0), np.int32)
        self._old_slots: NDArray[np.int32] = np.zeros(1, dtype=np.int32)
        self._next_slots: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self._touched = 0
        self._moved = self._to_move = 0

    def __len__(self) -> int:
        """Rows in use and rows given back: the height a table must have."""
        return int(self._counters[kernel.ROWS])

    @property
    def in_use(self) -> int:
        return len(self) - int(self._counters[kernel.FREE])

    def rows(self, ids: Sequence[str] | Ids) -> NDArray[np.int64]:
        """The row of each id, int64 of shape (len(ids),); ids not met before get one."""
        ids = ids if isinstance(ids, Ids) else Ids.of(ids)
        rows_B = np.empty(len(ids), dtype=np.int64)
        self._make_room(len(ids), kernel.words_for(ids.length_B, kernel.WORDS_S))
        kernel.intern(
            ids.buffer, ids.start_B, ids.length_B, *self._index(), self._free, self._counters, *self._spans(), rows_B
        )
        return rows_B

    def find(self, ids: Sequence[str] | Ids) -> NDArray[np.int64]:
        """The row of each id, -1 where it has none; nobody gets one."""
        ids = ids if isinstance(ids, Ids) else Ids.of(ids)
        rows_B = np.empty(len(ids), dtype=np.int64)
        kernel.find(ids.buffer, ids.start_B, ids.length_B, *self._index(), rows_B)
        return rows_B

    def row(self, name: str) -> int | None:
        """The row of an id, None where it has none."""
        row = int(self.find((name,))[0])
        return None if row < 0 else row

    def name(self, row: int) -> str:
        """The id of a row; KeyError for a row that was given back, IndexError for one that there never was."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        length = int(self.length_R[row])
        if length < 0:
            raise KeyError(f"row {row} is not in use")
        start = int(self.start_R[row])
        return self.blob[start : start + length].tobytes().decode()

    def hashes(self, rows_N: NDArray[np.int64]) -> NDArray[np.uint32]:
        """A hash of the id of each row in use, the same on every machine."""
        hash_N = np.empty(len(rows_N), dtype=np.uint32)
        kernel.hash_spans(self.blob, self.start_R[rows_N], self.length_R[rows_N], hash_N)
        return hash_N

    def remove(self, name: str) -> int:
        """Give the id's row back for the next new id; KeyError for an id that has none."""
        row = self.row(name)
        if row is None:
            raise KeyError(name)
        self.remove_rows(np.array([row]))
        return row

    def remove_rows(self, rows_N: NDArray[np.int64]) -> None:
        """Give back distinct rows that are in use, for the next new ids; the last of them is the first to go."""
        self._free = grown(self._free, int(self._counters[kernel.FREE]) + len(rows_N))
        words_S, free_S, _, words = self._spans()
        kernel.remove_rows(
            rows_N,
            self._slots,
            self._old_slots,
            self.hash_R,
            self.start_R,
            self.length_R,
            self._free,
            self._counters,
            words_S,
            free_S,
            words,
        )

    def _index(self) -> _Index:
        """What ids are looked up in, in the order of the kernels' arguments."""
        return _KEY_2, self._slots, self._old_slots, self.hash_R, self.blob, self.start_R, self.length_R

    def _spans(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """What spans of the blob are taken from, in the order of the kernels' arguments."""
        return kernel.WORDS_S, self._free_S, self._used_1, self._words

    def _empty_blob(self, words: int) -> None:
        self._words = grown(np.zeros(0, dtype=np.int64), words)
        self.blob: NDArray[np.uint8] = self._words.view(np.uint8)
        """The ids' UTF-8: id of row r is the `length_R[r]` bytes from `start_R[r]` on."""
        self._free_S = np.zeros(len(kernel.WORDS_S), dtype=np.int64)
        self._used_1 = np.zeros(1, dtype=np.int64)

    def _make_room(self, ids: int, words: int) -> None:
        rows = len(self) + ids
        self.start_R, self.length_R = grown(self.start_R, rows), grown(self.length_R, rows)
        self.hash_R = grown(self.hash_R, rows)
        self._words = grown(self._words, int(self._used_1[0]) + words)
        self.blob = self._words.view(np.uint8)
        self._move_on(max(MOVED_AT_ONCE, MOVED_AN_ID * ids))
        left = int(MOST_LOAD * len(self._slots)) - int(self._counters[kernel.SLOTS])
        if left < MOST_LOAD / 4 * len(self._slots):
            self._prepare(ids, left)
        if left < ids:
            self._move_on(len(self))  # seldom: many new ids came at once, before the last move was done
            if len(self._next_slots) < _slots_needed(self.in_use + ids):
                self._next_slots = zeros(_slots_needed(self.in_use + ids), np.int32)
            self._old_slots, self._slots = self._slots, self._next_slots
            self._next_slots, self._touched = np.zeros(0, dtype=np.int32), 0
            self._moved, self._to_move = 0, len(self)
            self._counters[kernel.SLOTS] = self.in_use

    def _prepare(self, ids: int, left: int) -> None:
        """Have the system give some more memory to the index that comes next, so that a move finds it there."""
        if not len(self._next_slots):
            self._next_slots = zeros(_slots_needed(self.in_use + max(left, ids)), np.int32)
        some = TOUCHED_AT_ONCE + ids * 2 * len(self._next_slots) // max(left, ids)
        self._next_slots[self._touched : self._touched + some] = 0
        self._touched = min(self._touched + some, len(self._next_slots))

    def _move_on(self, rows: int) -> None:
        """Put some more rows into the index that is in use now; the old one goes when all are there."""
        past = min(self._moved + rows, self._to_move)
        kernel.move_rows(self._moved, past, self.hash_R, self.length_R, self._slots)
        self._moved = past
        if past == self._to_move and len(self._old_slots) > 1:
            self._old_slots = np.zeros(1, dtype=np.int32)

    def parts(self) -> dict[str, Part]:
        """Ids, their lengths in bytes (-1: a row given back), and rows given back; views, and none is copied."""
        rows = len(self)
        length_R = self.length_R[:rows]
        return {
            "bytes": Ragged(self.blob, self.start_R[:rows], length_R),
            "lengths": length_R,
            "free": self._free[: int(self._counters[kernel.FREE])],
        }

    def state(self) -> dict[str, NDArray[np.generic]]:
        """`parts`, of which the ids are one run of UTF-8 bytes, rows in order."""
        return {name: copied(part) for name, part in self.parts().items()}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Replaces everything by what `state` returned; ValueError where the arrays do not fit together."""
        length_R = state["lengths"].astype(np.int64)
        check_lengths("ids", state["bytes"], np.maximum(length_R, 0))
        rows = len(length_R)
        self.length_R = growable(length_R, np.int32)
        self.start_R = grown(np.zeros(0, dtype=np.int64), rows)
        self.hash_R = grown(np.zeros(0, dtype=np.uint32), rows)
        self._empty_blob(kernel.words_for(self.length_R, kernel.WORDS_S))
        kernel.place_spans(
            state["bytes"].astype(np.uint8), self.length_R, kernel.WORDS_S, self._used_1, self.blob, self.start_R
        )
        kernel.keyed_hashes(_KEY_2, self.blob, self.start_R[:rows], self.length_R, self.hash_R)
        self._free = growable(state["free"], np.int64)
        self._counters[:] = (rows, len(self._free), rows - len(self._free))
        self._slots = zeros(_slots_needed(rows), np.int32)
        self._old_slots = np.zeros(1, dtype=np.int32)
        self._next_slots, self._touched = np.zeros(0, dtype=np.int32), 0
        self._moved = self._to_move = 0
        kernel.move_rows(0, rows, self.hash_R, self.length_R, self._slots)


def _slots_needed(rows: int) -> int:
    """Slots of an index with room for a third more rows, at least: twice as many as one has that is just full."""
    size = 1024
    while rows > MOST_LOAD * 3 / 4 * size:
        size *= 2
    return size
