"""Lists of different lengths, a row each, where they lie: what large parts of a state are before they are packed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.kernels.ragged import copy_spans, end_to_end

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ragged:
    """Row r has the `length_R[r]` numbers of the pool from `start_R[r]` on; a length below 0 is that of no list."""

    pool: NDArray[Any]
    """(P,)"""
    start_R: Ints | int
    """A number: lists are the first columns of a table of this width."""
    length_R: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.length_R)

    @classmethod
    def of_table(cls, rows_RK: NDArray[Any], length_R: NDArray[np.integer]) -> "Ragged":
        """The first `length_R[r]` numbers of each row."""
        return cls(rows_RK.reshape(-1), rows_RK.shape[1], length_R)

    def row_bytes(self) -> int:
        """Of a list with its place and its length, at the mean."""
        numbers = int(np.maximum(self.length_R, 0).sum(dtype=np.int64))
        return self.pool.itemsize * numbers // max(len(self), 1) + 16

    def copy_rows(self, rows_N: Ints, pool: NDArray[Any]) -> None:
        """Copy the lists of these rows to the same places of another pool."""
        start_N, length_N = self._spans(rows_N)
        copy_spans(self.pool, start_N, length_N, pool)

    def packed(self, *, in_place: bool = False) -> NDArray[Any]:
        """The lists end to end, in the order of their rows. `in_place`: a table's may take the place of the lists."""
        start_R, length_R = self._spans(np.arange(len(self)))
        numbers = int(length_R.sum())
        is_table = isinstance(self.start_R, int)
        packed = self.pool[:numbers] if in_place and is_table else np.empty(numbers, dtype=self.pool.dtype)
        end_to_end(self.pool, start_R, length_R, packed)
        return packed

    def _spans(self, rows_N: Ints) -> tuple[Ints, Ints]:
        start_N = self.start_R * rows_N if isinstance(self.start_R, int) else self.start_R[rows_N]
        return start_N, np.maximum(self.length_R[rows_N], 0).astype(np.int64)


Part = NDArray[Any] | Ragged
"""Of a state."""


def packed(part: Part) -> NDArray[Any]:
    """The array that is saved of it: for lists a new one."""
    return part.packed() if isinstance(part, Ragged) else part


def copied(part: Part) -> NDArray[Any]:
    """The same in memory of its own."""
    return part.packed() if isinstance(part, Ragged) else np.array(part)
