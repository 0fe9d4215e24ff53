"""What one take brought, also as columns: where each record stands, and when it was sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from consumer.source import Record


@dataclass(frozen=True)
class Taken:
    """The records of a step, in the order in which they are learned; columns have one entry a record (R,)."""

    records: "Sequence[Record]"

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def partition_R(self) -> NDArray[np.int64]:
        return np.array([record.partition() for record in self.records], dtype=np.int64)

    @cached_property
    def offset_R(self) -> NDArray[np.int64]:
        return np.array([record.offset() for record in self.records], dtype=np.int64)

    @cached_property
    def stamps_R2(self) -> NDArray[np.int64]:
        """The type of each timestamp, and the record's time in ms."""
        return np.array([record.timestamp() for record in self.records], dtype=np.int64).reshape(-1, 2)

    @property
    def time_R(self) -> NDArray[np.int64]:
        return self.stamps_R2[:, 1]
