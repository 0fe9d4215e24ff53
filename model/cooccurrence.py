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

from model.growth import growable, grown
from model.kernels.cooccurrence import score_then_count
from model.live import Found
from model.windows import Windows

Rows = NDArray[np.int32]

ENTRIES_AT_ONCE = 1 << 20
"""Entries of features gathered at a time, 8 bytes each."""


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
        self.items = 0
        self.neighbours_IN = np.full((0, settings.neighbours), -1, dtype=np.int32)
        self.strengths_IN = np.zeros((0, settings.neighbours), dtype=np.float32)
        self.length_I = np.zeros(0, dtype=np.int64)
        self._sums_I = np.zeros(0, dtype=np.float32)
        self._items_E, self._ratios_E = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)

    def grow(self, items: int) -> None:
        self.neighbours_IN = grown(self.neighbours_IN, items, fill=-1)
        self.strengths_IN = grown(self.strengths_IN, items)
        self.length_I = grown(self.length_I, items)
        self._sums_I = grown(self._sums_I, items)
        self.items = max(self.items, items)

    def fade(self, keep: float) -> None:
        """What was counted so far weighs `keep` of what it did against what comes."""
        self.strengths_IN *= np.float32(keep)

    def features(self, windows: Windows, count_I: NDArray[np.int64]) -> Features:
        """What these windows speak for now; counts nothing."""
        nothing, nobody = np.zeros(len(windows), dtype=np.int64), np.zeros(len(windows), dtype=np.bool_)
        total, chosen = int(count_I.sum()), int(np.count_nonzero(count_I))
        return self._pass(windows.items_BW, windows.items_BW, nothing, nobody, count_I, total, chosen, counts=False)

    def features_then_count(self, found: Found) -> Features:
        """What each event's window speaks for, with everything earlier counted."""
        count_I = found.now.count_I[: found.items]
        np.subtract.at(count_I, found.items_B[found.enters_B], 1)  # back to the batch's start; the pass follows again
        return self._pass(
            found.windows.items_BW,
            found.full_items_BW,
            found.items_B,
            found.enters_B,
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
        count_I: NDArray[np.int64],
        total: int,
        chosen: int,
        *,
        counts: bool,
    ) -> Features:
        settings, width = self.settings, windows_BW.shape[1]
        ages_W = np.arange(width, dtype=np.float32)
        age_weights_W = np.float32(settings.age_decay) ** ages_W
        pair_weights_W = np.float32(settings.distance_decay) ** ages_W
        read = min(settings.read, width)
        most = max(min(len(count_I), read * settings.neighbours), 1)
        found_I = np.empty(most + 1, dtype=np.int32)
        items_E, ratios_E = self._room(max(most, min(most * len(windows_BW), ENTRIES_AT_ONCE)))
        starts_B = np.zeros(len(windows_BW) + 1, dtype=np.int64)
        parts: list[Features] = []
        first = 0
        while first < len(windows_BW):
            here = starts_B[first:]
            done = score_then_count(
                windows_BW[first:],
                full_items_BW[first:, : settings.pairs],
                items_B[first:],
                enters_B[first:],
                read,
                self.neighbours_IN,
                self.strengths_IN,
                self.length_I,
                count_I,
                total,
                chosen,
                age_weights_W,
                pair_weights_W,
                settings.count_power,
                settings.prior,
                most,
                counts,
                self._sums_I,
                found_I,
                here,
                items_E,
                ratios_E,
            )
            if counts and first + done < len(windows_BW):
                total, chosen = int(count_I.sum()), int(np.count_nonzero(count_I))
            entries = here[done]
            parts.append(Features(here[: done + 1].copy(), items_E[:entries].copy(), np.log(1 + ratios_E[:entries])))
            first += done
        return _joined(parts, len(windows_BW))

    def _room(self, entries: int) -> tuple[Rows, NDArray[np.float32]]:
        if len(self._items_E) < entries:
            self._items_E, self._ratios_E = np.empty(entries, dtype=np.int32), np.empty(entries, dtype=np.float32)
        return self._items_E, self._ratios_E

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The pairs laid end to end, and how many each item has."""
        is_pair_IN = self._is_pair()
        return {
            "neighbours": self.neighbours_IN[: self.items][is_pair_IN],
            "strengths": self.strengths_IN[: self.items][is_pair_IN],
            "lengths": self.length_I[: self.items],
        }

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Replaces everything by what `state` returned; ValueError where more pairs were kept an item."""
        longest, neighbours = int(state["lengths"].max(initial=0)), self.settings.neighbours
        if longest > neighbours:
            raise ValueError(
                f"the saved co-occurrence keeps {longest} pairs an item, the settings ask for {neighbours}"
            )
        self.length_I = growable(state["lengths"], np.int64)
        self.items = len(self.length_I)
        self.neighbours_IN = grown(np.full((0, neighbours), -1, dtype=np.int32), self.items, fill=-1)
        self.strengths_IN = grown(np.zeros((0, neighbours), dtype=np.float32), self.items)
        is_pair_IN = self._is_pair()
        self.neighbours_IN[: self.items][is_pair_IN] = state["neighbours"]
        self.strengths_IN[: self.items][is_pair_IN] = state["strengths"]
        self._sums_I = grown(np.zeros(0, dtype=np.float32), self.items)

    def _is_pair(self) -> NDArray[np.bool_]:
        return np.arange(self.settings.neighbours) < self.length_I[: self.items, None]


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
