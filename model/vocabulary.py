"""Ids become rows: a new id gets the next row, a removed id gives its row back.

Knows nothing of what the rows hold.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.growth import grown
from model.packing import pack, unpack


class Vocabulary:
    """A one-to-one map from ids to row numbers 0, 1, 2, ... in the order in which the ids arrive."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._ids: list[str | None] = []
        self._free: list[int] = []
        self._used = 0
        self.blob = np.zeros(0, dtype=np.uint8)
        """Ids in UTF-8, end to end."""
        self.start_R = np.zeros(0, dtype=np.int64)
        self.length_R = np.zeros(0, dtype=np.int64)
        """Bytes of the id of each row; -1: the row was given back."""

    def __len__(self) -> int:
        """Rows in use and rows given back: the height a table must have."""
        return len(self._ids)

    @property
    def in_use(self) -> int:
        return len(self._rows)

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each id, int64 of shape (len(ids),); ids not met before get one."""
        get = self._rows.get
        found = [get(name, -1) for name in ids]
        if -1 in found:
            for position, row in enumerate(found):
                if row < 0:
                    found[position] = self._add(ids[position])
        return np.array(found, dtype=np.int64)

    def row(self, name: str) -> int | None:
        """The row of an id, None where it has none."""
        return self._rows.get(name)

    def name(self, row: int) -> str:
        """The id of a row; KeyError for a row that was given back."""
        name = self._ids[row]
        if name is None:
            raise KeyError(f"row {row} is not in use")
        return name

    def remove(self, name: str) -> int:
        """Give the id's row back for the next new id; KeyError for an id that has none."""
        row = self._rows.pop(name)
        self._ids[row] = None
        self._free.append(row)
        self.length_R[row] = -1
        return row

    def _add(self, name: str) -> int:
        row = self._rows.get(name)  # the same new id twice in one call
        if row is not None:
            return row
        if self._free:
            row = self._free.pop()
            self._ids[row] = name
        else:
            row = len(self._ids)
            self._ids.append(name)
        self._rows[name] = row
        self._put(row, name)
        return row

    def _put(self, row: int, name: str) -> None:
        text = name.encode()
        end = self._used + len(text)
        self.blob = grown(self.blob, end)
        self.start_R, self.length_R = grown(self.start_R, row + 1), grown(self.length_R, row + 1)
        self.blob[self._used : end] = np.frombuffer(text, dtype=np.uint8)
        self.start_R[row], self.length_R[row] = self._used, len(text)
        self._used = end

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Ids as one run of UTF-8 bytes and their lengths in bytes (-1: a row given back), rows in order."""
        packed = pack("" if name is None else name for name in self._ids)
        lengths = packed.lengths
        lengths[self._free] = -1
        return {"bytes": packed.bytes, "lengths": lengths, "free": np.array(self._free, dtype=np.int64)}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Replaces everything by what `state` returned; ValueError where the arrays do not fit together."""
        lengths = state["lengths"].astype(np.int64)
        names = unpack("ids", state["bytes"], np.maximum(lengths, 0))
        in_use = (lengths >= 0).tolist()
        self._ids = [name if used else None for name, used in zip(names, in_use, strict=True)]
        self._rows = {name: row for row, name in enumerate(self._ids) if name is not None}
        self._free = state["free"].tolist()
        self.blob, self.length_R = state["bytes"].astype(np.uint8), lengths
        self.start_R = np.cumsum(np.maximum(lengths, 0)) - np.maximum(lengths, 0)
        self._used = len(self.blob)
