"""Lists of different lengths, each somewhere in one pool."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled

Ints = NDArray[np.int64]


@compiled
def end_to_end(pool: NDArray[Any], start_R: Ints, length_R: Ints, packed: NDArray[Any]) -> None:
    """Fill `packed`, which has as many numbers as the lists have together, with the lists in their order.

    It may be the beginning of the pool, where none of the lists begins before the place that it gets.
    """
    place = 0
    for row in range(len(length_R)):
        source = pool[start_R[row] :]
        target = packed[place:]
        for number in range(length_R[row]):
            target[number] = source[number]
        place += length_R[row]


@compiled
def copy_spans(pool: NDArray[Any], start_N: Ints, length_N: Ints, other: NDArray[Any]) -> None:
    """Copy lists to the same places of another pool."""
    for one in range(len(length_N)):
        first, past = start_N[one], start_N[one] + length_N[one]
        source, target = pool[first:past], other[first:past]
        for number in range(length_N[one]):
            target[number] = source[number]
