"""Which items go together: live counts of pairs in users' histories, sparse and bounded, as a feature of the score.

Two items of one history add decay^distance to their pair. A window speaks for item j by the sum over its items h,
newest first, of age decay^age * count_h^-power * strength(h, j); the feature is the log of how much larger j's share
of these sums is than its share of all events:

    feature_j = log(1 + share_j / (prior * popularity_j)), 0 for items that the window says nothing of

so that items without a pair need no entry. Each item keeps at most `neighbours` pairs, the strongest.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.growth import grown
from model.kernels.cooccurrence import SLOT, Reading, Together, Wanted, pairs_of, room_for, score_then_count
from model.kernels.leaving import A_ROW, take_out_of_pairs
from model.leaving import TakenOut
from model.live import Found
from model.ragged import Part, Ragged, packed
from model.windows import Windows

Rows = NDArray[np.int32]

ENTRIES_AT_ONCE = 1 << 20
"""Entries of features gathered at a time, 8 bytes each."""
ALL_ITEMS = Wanted(0, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_))


@dataclass(frozen=True)
class CooccurrenceSettings:
    neighbours: int = 256
    """Pairs kept an item, 8 bytes each."""
    distance_decay: float = 0.95
    age_decay: float = 0.9
    read: int = 20
    """Newest items of a window that are read."""
    pairs: int = 20
    """Newest items of a history that an event makes pairs with."""
    count_power: float = -0.6
    prior: float = 0.1


@dataclass(frozen=True)
class Features:
    """Sparse features of B events: items and values from `starts_B[b]` to `starts_B[b + 1]` are of event b."""

    starts_B: NDArray[np.int64]
    items_E: Rows
    values_E: NDArray[np.float32]

    def of_events(self, events_R: NDArray[np.int64]) -> "Features":
        """Those of some events, in their order."""
        lengths_R = np.diff(self.starts_B)[events_R]
        starts_R = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths_R)))
        at_E = np.arange(starts_R[-1]) + np.repeat(self.starts_B[events_R] - starts_R[:-1], lengths_R)
        return Features(starts_R, self.items_E[at_E], self.values_E[at_E])

    @property
    def events_E(self) -> NDArray[np.int64]:
        """The event of each entry."""
        return np.repeat(np.arange(len(self.starts_B) - 1), np.diff(self.starts_B))


def no_features(events: int) -> Features:
    return Features(np.zeros(events + 1, dtype=np.int64), np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))


class Cooccurrence:
    """The pairs of all items."""

    def __init__(self, settings: CooccurrenceSettings) -> None:
        self.settings = settings
        self._begin()

    def _begin(self) -> None:
        """With no items."""
        self.items = 0
        self._slots_I = np.zeros(0, dtype=SLOT)
        nothing_IN = np.zeros((0, self.settings.neighbours), dtype=np.int32)
        self.pairs = pairs_of(nothing_IN, nothing_IN.astype(np.float32), self._slots_I)
        self._make_room(0)

    def _make_room(self, items: int) -> None:
        self._room = room_for(items, self.settings.neighbours)
        self._items_E, self._values_E = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)

    def grow(self, items: int) -> None:
        self._slots_I = grown(self._slots_I, items)
        self.pairs = pairs_of(
            grown(self.pairs.neighbours_IN, items, fill=-1), grown(self.pairs.strengths_IN, items), self._slots_I
        )
        self.items = max(self.items, items)
        if self.items >= len(self._room.ones_I):
            self._make_room(len(self.pairs.length_I))

    def fade(self, keep: float) -> None:
        """What was counted so far weighs `keep` of what it did against what comes."""
        strengths_IN = self.pairs.strengths_IN
        strengths_IN *= np.float32(keep)
        self._work_out_anew()

    def take_out(self, first: int, entries: int, marks_I: NDArray[np.uint8]) -> TakenOut:
        """See `model.leaving.NamesItems`."""
        lists = self.pairs.neighbours_IN, self.pairs.strengths_IN, self.pairs.length_I
        known, changed_N = (self.pairs.whole_I, self.pairs.weakest_I), np.empty(entries // A_ROW + 1, dtype=np.int64)
        past, changed = take_out_of_pairs(first, self.items, entries, marks_I, *lists, *known, changed_N)
        return TakenOut(past, past >= self.items, changed_I=changed_N[:changed].copy())

    def let_go(self, rows_N: NDArray[np.int64]) -> None:
        """These items have no pairs any more."""
        self.pairs.length_I[rows_N] = 0
        self.pairs.whole_I[rows_N] = -1
        self.pairs.weakest_I[rows_N] = 0

    def features(self, windows: Windows, count_I: NDArray[np.int64]) -> Features:
        """What these windows speak for now; counts nothing."""
        nothing, nobody = np.zeros(len(windows), dtype=np.int64), np.zeros(len(windows), dtype=np.bool_)
        total, chosen = int(count_I.sum()), int(np.count_nonzero(count_I))
        return self._pass(
            windows.items_BW, windows.items_BW, nothing, nobody, ALL_ITEMS, count_I, total, chosen, counts=False
        )

    def together(self, windows: Windows, count_I: NDArray[np.int64], weights_U: NDArray[np.float32]) -> Together:
        """The same, times these weights, for who works it out user by user; holds until anything is counted."""
        return Together(
            windows.items_BW,
            weights_U,
            self.pairs,
            self._reading(windows.items_BW.shape[1]),
            count_I,
            float(count_I.sum() + 0.5 * np.count_nonzero(count_I)),
            self._room,
        )

    def moved_by(self, found: Found) -> NDArray[np.int64]:
        """Whose pairs counting these events moves, some repeatedly."""
        items_BW = found.full_items_BW[found.enters_B, : self.settings.pairs]
        return np.concatenate((found.items_B[found.enters_B], items_BW[items_BW >= 0]))

    def features_then_count(self, found: Found, wanted: Wanted = ALL_ITEMS) -> Features:
        """What each event's window speaks for, with everything earlier counted; of all items, or those `wanted`."""
        count_I = found.now.count_I[: found.items]
        np.subtract.at(count_I, found.items_B[found.enters_B], 1)  # back to the batch's start; the pass follows again
        return self._pass(
            found.windows.items_BW,
            found.full_items_BW,
            found.items_B,
            found.enters_B,
            wanted,
            count_I,
            found.total,
            found.chosen,
            counts=True,
        )

    def _pass(
        self,
        windows_BW: Rows,
        full_items_BW: Rows,
        items_B: NDArray[np.int64],
        enters_B: NDArray[np.bool_],
        wanted: Wanted,
        count_I: NDArray[np.int64],
        total: int,
        chosen: int,
        *,
        counts: bool,
    ) -> Features:
        settings, events, width = self.settings, *windows_BW.shape
        reading = self._reading(width)
        pair_weights_W = _powers(settings.distance_decay, width)
        room = len(count_I) + 1
        # An event may have an entry for every item: room for one such stays free, or each would be a pass of its own.
        items_E, values_E = self._entries(room + min(room * events, ENTRIES_AT_ONCE))
        starts_B = np.zeros(events + 1, dtype=np.int64)
        parts: list[Features] = []
        first = 0
        while first < events:
            starts_B[first] = 0
            past = score_then_count(
                windows_BW,
                full_items_BW[:, : settings.pairs],
                items_B,
                enters_B,
                wanted,
                first,
                self.pairs,
                reading,
                pair_weights_W,
                count_I,
                total,
                chosen,
                counts,
                self._room,
                starts_B,
                items_E,
                values_E,
            )
            if counts and past < events:
                total, chosen = int(count_I.sum()), int(np.count_nonzero(count_I))
            entries = starts_B[past]
            parts.append(
                Features(starts_B[first : past + 1].copy(), items_E[:entries].copy(), values_E[:entries].copy())
            )
            first = past
        return _joined(parts, events)

    def _reading(self, width: int) -> Reading:
        settings = self.settings
        return Reading(
            most=min(settings.read, width),
            age_weights_W=_powers(settings.age_decay, width),
            count_power=float(settings.count_power),
            prior=float(settings.prior),
        )

    def _entries(self, entries: int) -> tuple[Rows, NDArray[np.float32]]:
        if len(self._items_E) < entries:
            self._items_E, self._values_E = np.empty(entries, dtype=np.int32), np.empty(entries, dtype=np.float32)
        return self._items_E, self._values_E

    def _work_out_anew(self) -> None:
        self.pairs.whole_I[:] = -1
        self.pairs.weakest_I[:] = 0

    def parts(self) -> dict[str, Part]:
        """The pairs of each item, and how many they are: views."""
        lengths_I = self.pairs.length_I[: self.items]
        return {
            "neighbours": Ragged.of_table(self.pairs.neighbours_IN, lengths_I),
            "strengths": Ragged.of_table(self.pairs.strengths_IN, lengths_I),
            "lengths": lengths_I,
        }

    def state(self) -> dict[str, NDArray[np.generic]]:
        """`parts`, of which the pairs are those of all items end to end."""
        return {name: packed(part) for name, part in self.parts().items()}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Replaces everything by what `state` returned; ValueError where more pairs were kept an item."""
        longest, neighbours = int(state["lengths"].max(initial=0)), self.settings.neighbours
        if longest > neighbours:
            raise ValueError(
                f"the saved co-occurrence keeps {longest} pairs an item, the settings ask for {neighbours}"
            )
        self._begin()
        self.grow(len(state["lengths"]))
        self.pairs.length_I[: self.items] = state["lengths"]
        is_pair_IN = self._is_pair()
        self.pairs.neighbours_IN[: self.items][is_pair_IN] = state["neighbours"]
        self.pairs.strengths_IN[: self.items][is_pair_IN] = state["strengths"]
        self._work_out_anew()

    def _is_pair(self) -> NDArray[np.bool_]:
        return np.arange(self.settings.neighbours) < self.pairs.length_I[: self.items, None]


def _joined(parts: list[Features], events: int) -> Features:
    if not parts:
        return no_features(events)
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([0, *(part.starts_B[-1] for part in parts)])
    starts_B = np.concatenate([part.starts_B[:-1] + end for part, end in zip(parts, ends, strict=False)] + [ends[-1:]])
    return Features(
        starts_B, np.concatenate([part.items_E for part in parts]), np.concatenate([part.values_E for part in parts])
    )


def _powers(decay: float, width: int) -> NDArray[np.float32]:
    """decay^0, decay^1, ...; taken in float64, of which float32 keeps what all machines agree on."""
    return np.power(decay, np.arange(width, dtype=np.float64)).astype(np.float32)
