"""The events of a batch as the ranking head sees them: what each found, who is a candidate, what was known when."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model.history import SeenItems
from model.live import Found
from model.user_content import Said


@dataclass(frozen=True)
class Mentions:
    """The items that the events of a batch are about, and what their counts were before each event."""

    items_M: NDArray[np.int64]
    counts_BM: NDArray[np.int64]


@dataclass(frozen=True)
class RankedBatch:
    """The events of a batch that are ranked or learned, with what they found."""

    items_B: NDArray[np.int64]
    enters_B: NDArray[np.bool_]
    found: Found
    seen: SeenItems
    allow_repeats: bool
    said: Said | None = None
    """What is said of the events' users besides their history."""

    @cached_property
    def mentions(self) -> Mentions:
        items_M = np.unique(self.items_B)
        return Mentions(items_M, self.live_counts(items_M))

    def live_counts(self, items_M: NDArray[np.int64]) -> NDArray[np.int64]:
        """Counts (B, M) of these items of the batch, distinct and ascending, as each event found them."""
        events = np.flatnonzero(self.enters_B & np.isin(self.items_B, items_M))
        counts_BM = np.zeros((len(self.items_B) + 1, len(items_M)), dtype=np.int64)
        counts_BM[0] = self.found.count_I[items_M]
        counts_BM[events + 1, np.searchsorted(items_M, self.items_B[events])] += 1
        return np.cumsum(counts_BM, axis=0)[:-1]

    def never_known(self) -> NDArray[np.bool_]:
        """Items without an event up to the batch's end (I,)."""
        unknown_I = ~self.found.known_I
        unknown_I[self.items_B] = False
        return unknown_I

    def not_candidates(
        self, place_I: NDArray[np.integer], rows: slice | NDArray[np.int64] = slice(None)
    ) -> tuple[NDArray[np.int64], NDArray[np.integer]]:
        """(event, place) pairs of the items each user had seen, where the item has a place; never the event's own."""
        if self.allow_repeats:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        events, items = self.seen.pairs(self.found.seen_start_B[rows], self.found.seen_length_B[rows])
        places = place_I[items]
        counted = (places >= 0) & (items != self.items_B[rows][events])
        return events[counted], places[counted]

    def not_yet_known(self, rows: slice | NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(event, item) pairs of the items that the batch makes known only at a later event, or at this one."""
        new_events = np.flatnonzero(~self.found.known_B)
        new_items, first = np.unique(self.items_B[new_events], return_index=True)
        first_events = new_events[first]
        events_B1 = np.arange(len(self.items_B))[rows][:, None]
        own_BM = self.items_B[rows][:, None] == new_items
        events, columns = np.nonzero((events_B1 <= first_events) & ~own_BM)
        return events, new_items[columns]
