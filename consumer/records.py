"""What one take brought, also as columns: where each record stands, and when it was sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
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
        return np.fromiter([record.partition() for record in self.records], np.int64, len(self.records))

    @cached_property
    def offset_R(self) -> NDArray[np.int64]:
        return np.fromiter([record.offset() for record in self.records], np.int64, len(self.records))

    @cached_property
    def stamps_R2(self) -> NDArray[np.int64]:
        """The type of each timestamp, and the record's time in ms."""
        stamps = chain.from_iterable([record.timestamp() for record in self.records])
        return np.fromiter(stamps, np.int64, 2 * len(self.records)).reshape(-1, 2)

    @property
    def time_R(self) -> NDArray[np.int64]:
        return self.stamps_R2[:, 1]
