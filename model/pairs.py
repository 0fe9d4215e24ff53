"""How the ratings of two items go together: a bounded table of sums over users' residuals.

For users who rated both items i and j, `sums` holds the sum of the products of their residuals and `counts` how many
there are, so that the similarity of the pair is its shrunk regression coefficient (Bell and Koren 2007)

    c_ij = sum_ij / (count_ij * variance of residuals + shrinkage)

The table has a fixed number of slots, one pair each. A pair whose slot is held by another one wears that other down
and takes the slot once too little is left: frequent pairs stay, and no stream can make the table grow.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import interpreted
from model.kernels.leaving import take_out_of_slots
from model.kernels.ratings import SLOT_BITS_OF_HASH, pair_hash, take_back_pairs
from model.leaving import TakenOut

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

_hashes = cast("Callable[[Ints, Ints], Ints]", interpreted(pair_hash))  # plain arithmetic: arrays will do


class Journal:
    """What the slots held before a batch changed them, in the order of the changes."""

    def __init__(self) -> None:
        self.make_room(0)

    def make_room(self, changes: int) -> None:
        self.slots = np.empty(changes, dtype=np.int64)
        self.keys = np.empty(changes, dtype=np.int64)
        self.sums = np.empty(changes, dtype=np.float32)
        self.counts = np.empty(changes, dtype=np.float32)


class PairTable:
    """2 ** bits slots of 16 bytes. A slot without a pair has key -1."""

    def __init__(self, bits: int) -> None:
        self.shift = SLOT_BITS_OF_HASH - bits
        slots = np.zeros(1 << bits, dtype=[("key", np.int64), ("sum", np.float32), ("count", np.float32)])
        self.keys, self.sums, self.counts = slots["key"], slots["sum"], slots["count"]  # views: one cache line a slot
        self.keys[:] = -1
        self._journal = Journal()

    def journal(self, changes: int) -> Journal:
        """Room to note that many changes; kept, since fresh memory costs more than what is written there."""
        if len(self._journal.slots) < changes:
            self._journal.make_room(changes)
        return self._journal

    def forget(self, items_NR: NDArray[np.int32], residuals_NR: Floats) -> None:
        """Take out what each user's remembered ratings gave to their pairs; pairs of one user alone become empty.

        Sums are of many users and name none. What stays is what can't be told apart in them: rounding, the wear of
        contested slots, and pairs with ratings that the user's window no longer held.
        """
        take_back_pairs(items_NR, residuals_NR, self.keys, self.sums, self.counts, self.shift)

    def take_out(self, first: int, entries: int, marks_I: NDArray[np.uint8]) -> TakenOut:
        """See `model.leaving.NamesItems`."""
        past = take_out_of_slots(first, entries, marks_I, self.keys, self.sums, self.counts)
        return TakenOut(past, past >= len(self.keys))

    def undo(self, journal: Journal, changes: int) -> None:
        """Put the slots back to what they held before the journal's first change."""
        for change in range(changes - 1, -1, -1):
            slot = journal.slots[change]
            self.keys[slot] = journal.keys[change]
            self.sums[slot] = journal.sums[change]
            self.counts[slot] = journal.counts[change]

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The pairs that are held, in the order of their slots."""
        used = np.flatnonzero(self.keys >= 0)
        return {"keys": self.keys[used], "sums": self.sums[used], "counts": self.counts[used]}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        self._empty(np.arange(len(self.keys)))
        keys = state["keys"].astype(np.int64)
        slots, _ = self._places(keys >> 32, keys & 0xFFFFFFFF)
        self.keys[slots], self.sums[slots], self.counts[slots] = keys, state["sums"], state["counts"]

    def _places(self, lower: Ints, higher: Ints) -> tuple[Ints, Ints]:
        return _hashes(lower, higher) >> self.shift, (lower << 32) + higher

    def _empty(self, slots: Ints) -> None:
        self.keys[slots], self.sums[slots], self.counts[slots] = -1, 0, 0
