"""Reading a user's ring of interactions into a window."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled
from model.kernels.vectors import fetch

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Small = NDArray[np.int8]

AHEAD = 4
"""So many users ahead their rows are asked for: waiting for them takes longer than reading."""
LAST_GAP = 13
"""The last bucket of gaps, of 4^13 seconds and more."""
ANY_TIME = 2**63 - 1
"""A `latest` that leaves nothing out."""


@compiled
def read_window(
    ring_items_H: Rows,
    ring_times_H: Ints,
    ring_kinds_H: Small,
    pushed: int,
    latest: int | np.int64,
    items_W: Rows,
    gaps_W: Small,
    kinds_W: Small,
) -> int:
    """Fill a window with the newest interactions of a ring up to time `latest`, the newest first.

    Returns how many were left out on the way for their time.
    """
    depth = ring_items_H.shape[0]
    width = items_W.shape[0]
    filled = 0
    newest = 0
    left_out = 0
    slot = pushed % depth  # one division a window: they take longer than all the rest
    # Gaps grow with age, all but those of times that came in no order: each bucket is looked for from the one before.
    bucket, past = 0, 4
    for _ in range(min(pushed, depth)):
        if filled == width:
            break
        slot = slot - 1 if slot > 0 else depth - 1
        if ring_items_H[slot] < 0:
            break  # older items are gone: see `model.leaving`
        if ring_times_H[slot] > latest:
            left_out += 1
            continue
        if filled == 0:
            newest = ring_times_H[slot]
        seconds = max(newest - ring_times_H[slot], 0) // 1000 + 1
        while seconds >= past and bucket < LAST_GAP:
            past <<= 2
            bucket += 1
        while seconds < past >> 2:
            past >>= 2
            bucket -= 1
        items_W[filled] = ring_items_H[slot]
        gaps_W[filled] = bucket
        kinds_W[filled] = ring_kinds_H[slot]
        filled += 1
    for empty in range(filled, width):
        items_W[empty] = -1
        gaps_W[empty] = 0
        kinds_W[empty] = 0
    return left_out


@compiled
def length_bucket(pushed: int) -> int:
    """0 for nothing, then one more for each doubling."""
    rest = pushed + 1
    bucket = 0
    while rest >= 2 and bucket < 9:
        rest >>= 1
        bucket += 1
    return bucket


@compiled
def read_windows(
    users_U: Ints,
    ring_items_UH: Rows,
    ring_times_UH: Ints,
    ring_kinds_UH: Small,
    pushed_U: Ints,
    items_UW: Rows,
    gaps_UW: Small,
    kinds_UW: Small,
    lengths_U: Small,
) -> None:
    """The windows of these users as they stand now."""
    for place in range(users_U.shape[0]):
        user = users_U[place]
        if place + AHEAD < users_U.shape[0]:
            coming = users_U[place + AHEAD]
            fetch(ring_times_UH, coming)
            fetch(ring_items_UH, coming)
            fetch(ring_kinds_UH, coming)
        read_window(
            ring_items_UH[user],
            ring_times_UH[user],
            ring_kinds_UH[user],
            pushed_U[user],
            ANY_TIME,
            items_UW[place],
            gaps_UW[place],
            kinds_UW[place],
        )
        lengths_U[place] = length_bucket(pushed_U[user])
