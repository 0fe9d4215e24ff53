"""The hand of the clock that finds rows nobody uses: see `model.idle`."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

ONCE, AGAIN, NOW = 1, 2, 4
"""How a row was used since the hand came by: not again, in a later step again; and whether in this very step."""


@compiled
def touch(rows_N: Ints, used_R: Bytes) -> None:
    """These rows are used by the step; each once or more often."""
    for place in range(rows_N.shape[0]):
        row = rows_N[place]
        if used_R[row] < NOW:
            used_R[row] = NOW + (ONCE if used_R[row] == 0 else AGAIN)


@compiled
def sweep(
    hand: int, rows: int, looked_at: int, length_R: NDArray[np.int32], used_R: Bytes, chosen_N: Ints
) -> tuple[int, int]:
    """Fill `chosen_N` with idle rows, from the hand on, looking at so many rows at most; the hand then, and how many.

    Rows of a `length_R` below 0 are not in use. A row used again loses that; one that the step uses is passed over.
    """
    chosen = 0
    for _ in range(min(looked_at, rows)):
        if chosen == chosen_N.shape[0]:
            break
        row = hand if hand < rows else 0
        hand = row + 1
        if length_R[row] < 0 or used_R[row] >= NOW:
            continue
        if used_R[row] == AGAIN:
            used_R[row] = ONCE
        else:
            used_R[row] = 0
            chosen_N[chosen] = row
            chosen += 1
    return hand, chosen


@compiled
def rest(rows_N: Ints, used_R: Bytes) -> None:
    """The step of these rows is over."""
    for place in range(rows_N.shape[0]):
        if used_R[rows_N[place]] >= NOW:
            used_R[rows_N[place]] -= NOW
