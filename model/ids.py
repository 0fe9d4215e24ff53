"""Many ids as columns: spans of one buffer of UTF-8, so that a batch of them is one object and not hundreds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model.packing import pack


@dataclass(frozen=True, slots=True)
class Ids:
    """Id number b is the `length_B[b]` bytes of `buffer` from `start_B[b]` on; spans may overlap and leave gaps."""

    buffer: NDArray[np.uint8]
    start_B: NDArray[np.int64]
    length_B: NDArray[np.int64]

    @classmethod
    def of(cls, ids: Sequence[str]) -> Self:
        packed = pack(ids)
        return cls(packed.bytes, np.cumsum(packed.lengths) - packed.lengths, packed.lengths)

    def __len__(self) -> int:
        return len(self.start_B)

    def __getitem__(self, places: slice | NDArray[np.generic]) -> "Ids":
        """The ids at these places, of the same buffer."""
        return Ids(self.buffer, self.start_B[places], self.length_B[places])

    def utf8(self, place: int) -> bytes:
        start = int(self.start_B[place])
        return self.buffer[start : start + int(self.length_B[place])].tobytes()

    def name(self, place: int) -> str:
        return self.utf8(place).decode()

    def names(self) -> list[str]:
        return [self.name(place) for place in range(len(self))]
