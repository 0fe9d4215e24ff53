"""What moves event by event inside a batch: history, seen sets and counts, and what each event found before it did."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model.counts import ItemCounts
from model.history import History, SeenItems
from model.kernels.live import live_pass
from model.ragged import Part, packed
from model.windows import Windows

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """What the events of a batch found, each with everything earlier in the stream already counted."""

    windows: Windows
    """The user's last interactions: what the event is ranked from."""
    full_items_BW: NDArray[np.int32]
    """The user's last items: the same, but for `strictly_before`."""
    known_B: NDArray[np.bool_]
    """Whether the event's item had an earlier event."""
    counts_B: Ints
    """How often the event's item had been chosen."""
    popularity_rank_B: Ints
    """Rank of the event's item by count among the candidates, from 0; -1 where it was not known, or is not wanted."""
    seen_start_B: Ints
    seen_length_B: Ints
    """Where the user's seen items lie in the pool, and how many there were."""
    items_B: Ints
    enters_B: NDArray[np.bool_]
    now: ItemCounts
    """The live counts: behind the batch, until the next one moves them."""
    items: int
    """Item rows, known or not."""
    total: int
    """Sum of all counts as of the batch's start."""
    chosen: int
    """How many of them were above 0."""

    @cached_property
    def count_I(self) -> Ints:
        """Counts as of the batch's start, made at the first use: ask before the next batch, or never."""
        count_I = self.now.count_I[: self.items].copy()
        np.subtract.at(count_I, self.items_B[self.enters_B], 1)
        return count_I

    @cached_property
    def known_I(self) -> NDArray[np.bool_]:
        """Known items as of the batch's start; as `count_I`."""
        known_I = self.now.known_I[: self.items].copy()
        known_I[self.items_B[~self.known_B]] = False
        return known_I


class LiveState:
    """History, seen sets and counts of all users and items, moved together."""

    def __init__(self, *, depth: int, most_seen: int) -> None:
        self.history = History(depth)
        self.seen = SeenItems(most_seen)
        self.counts = ItemCounts()

    def grow(self, users: int, items: int) -> None:
        self.history.grow(users)
        self.seen.grow(users)
        self.counts.grow(items)

    def pass_over(
        self,
        users_B: Ints,
        items_B: Ints,
        times_B: Ints,
        enters_B: NDArray[np.bool_],
        kinds_B: NDArray[np.int8],
        *,
        window: int,
        strictly_before: bool,
        allow_repeats: bool,
        ranked_B: NDArray[np.bool_] | None = None,
    ) -> Found:
        """Let the events of a batch move the state in order; what each one found is returned.

        `ranked_B`: whose popularity rank is wanted, by default everybody's.
        """
        size = len(users_B)
        self.seen.reserve(users_B)
        self.counts.reserve(items_B)
        total, chosen = self.counts.total, int(self.counts.items_above_count[0])
        windows = Windows(
            np.empty((size, window), dtype=np.int32),
            np.empty((size, window), dtype=np.int8),
            np.empty((size, window), dtype=np.int8),
            np.empty(size, dtype=np.int8),
        )
        full_items_BW = np.empty_like(windows.items_BW) if strictly_before else windows.items_BW
        known_B = np.empty(size, dtype=np.bool_)
        counts_B = np.empty(size, dtype=np.int64)
        seen_length_B = np.empty(size, dtype=np.int64)
        popularity_rank_B = np.empty(size, dtype=np.int64)
        live_pass(
            users_B,
            items_B,
            times_B,
            enters_B,
            kinds_B,
            np.ones(size, dtype=np.bool_) if ranked_B is None else ranked_B,
            self.history.items_UH,
            self.history.times_UH,
            self.history.kinds_UH,
            self.history.pushed_U,
            self.seen.pool,
            self.seen.start_U,
            self.seen.length_U,
            self.counts.known_I,
            self.counts.count_I,
            self.counts.items_with_count,
            self.counts.items_above_count,
            strictly_before,
            allow_repeats,
            windows.items_BW,
            windows.gaps_BW,
            windows.kinds_BW,
            windows.lengths_B,
            full_items_BW,
            known_B,
            counts_B,
            seen_length_B,
            popularity_rank_B,
        )
        self.counts.total += int(enters_B.sum())
        return Found(
            windows,
            full_items_BW,
            known_B,
            counts_B,
            popularity_rank_B,
            self.seen.start_U[users_B],
            seen_length_B,
            items_B,
            enters_B,
            self.counts,
            self.counts.items,
            total,
            chosen,
        )

    def clear_users(self, users_U: Ints) -> None:
        """Nothing is left of these users, each named once."""
        self.history.clear(users_U)
        self.seen.clear_users(users_U)

    def parts(self) -> dict[str, Part]:
        """Views of everything."""
        held: dict[str, Mapping[str, Part]] = {
            "history": self.history.state(),
            "seen": self.seen.parts(),
            "counts": self.counts.state(),
        }
        return {f"{part}.{name}": value for part, parts in held.items() for name, value in parts.items()}

    def state(self) -> dict[str, NDArray[np.generic]]:
        """`parts`, packed."""
        return {name: packed(part) for name, part in self.parts().items()}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        for part, holder in (("history", self.history), ("seen", self.seen), ("counts", self.counts)):
            prefix = f"{part}."
            holder.load({name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)})
