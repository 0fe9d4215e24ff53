"""Rows of parameters that grow with the vocabulary.

A row starts at `model.growth.normal_rows` of its number, so it does not matter how batches were cut or what the row
held before it was given back.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.growth import normal_rows, room_for


class Table:
    """Parameters of shape (rows, width) on a device, normally distributed around 0 at the start."""

    def __init__(
        self,
        name: str,
        width: int,
        *,
        spread: float,
        seed: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.name = name
        self.width = width
        self.spread = spread
        self.rows = 0
        self._seed = seed
        self._storage = torch.zeros((0, width), device=device, dtype=dtype)

    @property
    def values(self) -> Tensor:
        """The rows in use, shape (rows, width): a view, writing to it moves the parameters."""
        return self._storage[: self.rows]

    def grow(self, rows: int) -> None:
        """Make room for rows 0 .. rows - 1, the new ones at their first values."""
        if rows <= self.rows:
            return
        capacity = room_for(rows, len(self._storage))
        if capacity > len(self._storage):
            larger = self._storage.new_zeros((capacity, self.width))
            larger[: self.rows] = self.values
            self._storage = larger
        self._storage[self.rows : rows] = self._first_values(self.rows, rows)
        self.rows = rows

    def reset(self, row: int) -> None:
        """Put one row back to its first value."""
        self._storage[row] = self._first_values(row, row + 1)[0]

    def load(self, values: NDArray[np.floating]) -> None:
        if values.ndim != 2 or values.shape[1] != self.width:
            raise ValueError(
                f"table {self.name}: the saved rows have the shape {values.shape}, "
                f"the settings ask for width {self.width}"
            )
        self._storage = torch.tensor(values, device=self._storage.device, dtype=self._storage.dtype)
        self.rows = len(values)

    def _first_values(self, first: int, past: int) -> Tensor:
        values = normal_rows(self.name, self._seed, first, past, self.width, self.spread)
        return torch.from_numpy(values).to(self._storage)
