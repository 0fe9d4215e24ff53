"""Arrays by name with one row a user (or an item), which grow, are cleared, saved and loaded together."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.growth import growable, grown

Arrays = dict[str, NDArray[Any]]


class Columns:
    """`columns[name]` has shape (capacity, *shape of a row); rows 0 .. rows - 1 are in use.

    How the capacity grows: `model.growth`.
    """

    def __init__(self, starts: Mapping[str, NDArray[Any]]) -> None:
        """`starts[name]` is what a new or cleared row holds; its type and shape are the column's."""
        self.rows = 0
        self._starts = dict(starts)
        self._arrays: Arrays = {
            name: np.zeros((0, *start.shape), dtype=start.dtype) for name, start in self._starts.items()
        }

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    @property
    def bytes_per_row(self) -> int:
        return sum(start.nbytes for start in self._starts.values())

    def grow(self, rows: int) -> None:
        """Make room for rows 0 .. rows - 1; a table never shrinks."""
        if rows <= self.rows:
            return
        for name, array in self._arrays.items():
            self._arrays[name] = grown(array, rows)
            self._arrays[name][self.rows : rows] = self._starts[name]
        self.rows = rows

    def widen(self, name: str, width: int) -> None:
        """Give the rows of a column at least `width` numbers; the new ones are 0."""
        missing = width - self._arrays[name].shape[1]
        if missing > 0:
            self._starts[name] = np.pad(self._starts[name], (0, missing))
            wider = np.pad(self._arrays[name], ((0, 0), (0, missing)))
            self._arrays[name] = growable(wider, wider.dtype.type)

    def clear(self, row: int | NDArray[np.int64]) -> None:
        """Make the row, or rows, what a new one is."""
        for name, array in self._arrays.items():
            array[row] = self._starts[name]

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The rows in use: views, not copies."""
        return {name: array[: self.rows] for name, array in self._arrays.items()}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take a saved state; its rows must have the shapes that these columns have."""
        self._arrays = {name: growable(state[name], start.dtype.type) for name, start in self._starts.items()}
        self.rows = len(next(iter(self._arrays.values())))
