"""Which hashes are among the newest: a ring of them, and a table of where in it the newest of each lies.

The table has open addressing with linear probing; what leaves it is filled up from behind (Knuth, The Art of Computer
Programming, volume 3, 6.4, algorithm R), so that it needs no marks and never has to be built anew. A slot holds a place
in the ring + 1, 0 where it is empty. Its first guess is the lowest bits of the hash, which has to be a good one.
"""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled

Hashes = NDArray[np.int64]
"""128 bits a row, in two columns."""
Slots = NDArray[np.int32]


@compiled
def note_newest(
    newest_N2: Hashes, ring_C2: Hashes, slots: Slots, noted_1: NDArray[np.int64], repeats_N: NDArray[np.bool_]
) -> None:
    """Put these into the ring, one after the other, each in the oldest's place where it is full.

    `repeats_N`: whether each was among the newest C before. `noted_1` counts all that were ever put there; there is a
    power of two of `slots`, and more than C of them.
    """
    for n in range(newest_N2.shape[0]):
        first, second = newest_N2[n, 0], newest_N2[n, 1]
        place = noted_1[0] % ring_C2.shape[0]
        slot = _slot_of(first, second, ring_C2, slots)
        repeats_N[n] = slots[slot] > 0
        if noted_1[0] >= ring_C2.shape[0] and (ring_C2[place, 0] != first or ring_C2[place, 1] != second):
            oldest = _slot_of(ring_C2[place, 0], ring_C2[place, 1], ring_C2, slots)
            if slots[oldest] == place + 1:  # otherwise it came again, and that stays
                _take_out(oldest, ring_C2, slots)
                slot = _slot_of(first, second, ring_C2, slots)
        slots[slot] = place + 1
        ring_C2[place, 0], ring_C2[place, 1] = first, second
        noted_1[0] += 1


@compiled
def _slot_of(first: int, second: int, ring_C2: Hashes, slots: Slots) -> int:
    """Where this hash is in the table, or belongs."""
    last = slots.shape[0] - 1
    slot = first & last
    while slots[slot] > 0 and (ring_C2[slots[slot] - 1, 0] != first or ring_C2[slots[slot] - 1, 1] != second):
        slot = (slot + 1) & last
    return int(slot)


@compiled
def _take_out(slot: int, ring_C2: Hashes, slots: Slots) -> None:
    """Empty this slot; those behind it that would not be found any more move up."""
    last = slots.shape[0] - 1
    slots[slot] = 0
    behind = (slot + 1) & last
    while slots[behind] > 0:
        home = ring_C2[slots[behind] - 1, 0] & last
        if ((behind - home) & last) >= ((behind - slot) & last):
            slots[slot] = slots[behind]
            slots[behind] = 0
            slot = behind
        behind = (behind + 1) & last
