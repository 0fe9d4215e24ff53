"""Lists of different lengths, each somewhere in one pool, put end to end."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled


@compiled
def end_to_end(
    pool: NDArray[np.int32], start_U: NDArray[np.int64], length_U: NDArray[np.int64], packed: NDArray[np.int32]
) -> None:
    """Fill `packed`, which has as many numbers as the lists have together, with the lists in their order."""
    place = 0
    for user in range(len(length_U)):
        source = pool[start_U[user] :]
        target = packed[place:]
        for number in range(length_U[user]):
            target[number] = source[number]
        place += length_U[user]
