"""What an encoder reads of a user: the last interactions, newest first."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GAP_BUCKETS = 14
"""Buckets of the time between two interactions: seconds below 3, 15, 63, ... (powers of 4)."""
KINDS = 6
"""What an interaction was: 0 an action, 1 to 5 a rating from the lowest to the highest fifth of the scale."""
LENGTH_BUCKETS = 10
"""Buckets of the length of a user's history: 0, 1 to 2, 3 to 6, 7 to 14, ... (powers of 2)."""


@dataclass(frozen=True)
class Windows:
    """Windows of B users or events, W interactions each."""

    items_BW: NDArray[np.int32]
    """Item rows, newest first, -1 where there are fewer."""
    gaps_BW: NDArray[np.int8]
    """Bucket of the time from each interaction to the newest one of the window."""
    kinds_BW: NDArray[np.int8]
    lengths_B: NDArray[np.int8]
    """Bucket of the number of interactions that the user ever had."""

    def __len__(self) -> int:
        return len(self.items_BW)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> "Windows":
        return Windows(self.items_BW[rows], self.gaps_BW[rows], self.kinds_BW[rows], self.lengths_B[rows])


def empty_windows(size: int, width: int) -> Windows:
    return Windows(
        np.full((size, width), -1, dtype=np.int32),
        np.zeros((size, width), dtype=np.int8),
        np.zeros((size, width), dtype=np.int8),
        np.zeros(size, dtype=np.int8),
    )
