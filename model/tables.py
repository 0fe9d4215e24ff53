"""Rows of parameters that grow with the vocabulary.

A row starts at `model.growth.normal_rows` of its number, so it does not matter how batches were cut or what the row
held before it was given back.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.growth import growable, grown, normal_rows, room_for

_RENEWED = 0x4E45574C
"""Tells what is drawn for a step from what is drawn for the rows of a table."""
_ON_CPU = {torch.float32: np.float32, torch.float64: np.float64}


class Rows:
    """Rows of numbers on a device, new ones 0; those of a CPU grow where they lie (`model.growth`)."""

    def __init__(self, width: int, *, device: torch.device, dtype: torch.dtype) -> None:
        self.width = width
        self._storage = self._in_use = torch.zeros((0, width), device=device, dtype=dtype)
        self._rows = self._rows_in_use = 0
        """Rows that there is room for, and those of the view that was asked for last: it is nearly always asked for
        again, and a tensor's length takes as long to ask for as a view."""
        self._array: NDArray[np.floating] | None = None
        """What the storage is a tensor of, on a CPU."""
        if self._storage.device.type == "cpu" and dtype in _ON_CPU:
            self._hold(np.zeros((0, width), dtype=_ON_CPU[dtype]))

    def first(self, rows: int) -> Tensor:
        """Rows 0 .. rows - 1, which there are from now on: a view, good for writing to until more are asked for."""
        if rows != self._rows_in_use:
            if rows > self._rows:
                self._grow(rows)
            self._in_use, self._rows_in_use = self._storage[:rows], rows
        return self._in_use

    def load(self, values: Tensor) -> None:
        """Replaces all rows by a copy of these."""
        if self._array is None:
            self._keep(values.to(self._storage).clone())
        else:
            self._hold(growable(values.cpu().numpy(), self._array.dtype.type))

    def _grow(self, rows: int) -> None:
        if self._array is not None:
            self._hold(grown(self._array, rows))
            return
        larger = self._storage.new_zeros((room_for(rows, len(self._storage)), self.width))
        larger[: len(self._storage)] = self._storage
        self._keep(larger)

    def _hold(self, array: NDArray[np.floating]) -> None:
        self._array = array
        self._keep(torch.from_numpy(array))

    def _keep(self, storage: Tensor) -> None:
        self._storage = self._in_use = storage
        self._rows = self._rows_in_use = len(storage)


def renewed_rows(name: str, seed: int, step: int, rows: int, width: int, spread: float) -> NDArray[np.float32]:
    """First values of rows that begin anew after a step: normal around 0, a function of (seed, name, step) alone.

    Not those of their numbers (`normal_rows`): the rows lie anywhere, and those are drawn a thousand at a time.
    """
    sequence = np.random.SeedSequence([seed, *name.encode(), step, _RENEWED])
    drawn = np.random.Generator(np.random.Philox(sequence)).standard_normal((rows, width), dtype=np.float32)
    return drawn * np.float32(spread)


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
        self._rows = Rows(width, device=device, dtype=dtype)

    @property
    def values(self) -> Tensor:
        """The rows in use, shape (rows, width): a view, writing to it moves the parameters."""
        return self._rows.first(self.rows)

    def grow(self, rows: int) -> None:
        """Make room for rows 0 .. rows - 1, the new ones at their first values."""
        if rows <= self.rows:
            return
        self._rows.first(rows)[self.rows :] = self._first_values(self.rows, rows)
        self.rows = rows

    def reset(self, row: int) -> None:
        """Put one row back to its first value."""
        self.values[row] = self._first_values(row, row + 1)[0]

    def renew(self, rows_N: NDArray[np.int64], step: int) -> None:
        """Let these rows begin anew, as those of other ids, after this step."""
        values = renewed_rows(self.name, self._seed, step, len(rows_N), self.width, self.spread)
        self.values[torch.from_numpy(rows_N).to(self.values.device)] = torch.from_numpy(values).to(self.values)

    def load(self, values: NDArray[np.floating]) -> None:
        if values.ndim != 2 or values.shape[1] != self.width:
            raise ValueError(
                f"table {self.name}: the saved rows have the shape {values.shape}, "
                f"the settings ask for width {self.width}"
            )
        self._rows.load(torch.from_numpy(values))
        self.rows = len(values)

    def _first_values(self, first: int, past: int) -> Tensor:
        values = normal_rows(self.name, self._seed, first, past, self.width, self.spread)
        return torch.from_numpy(values).to(self._rows.first(0))
