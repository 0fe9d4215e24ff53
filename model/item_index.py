"""All items in an order in which the best of them come soon, with bounds on what the rest can score: see `TopK`.

The order is by falling count. An item that is chosen changes places with the first one of its count, one that is let
go with the last ones: the order stays whole at a few writes an event, and nothing is ever sorted while events come in.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.growth import grown
from model.kernels.cooccurrence import NOT_TOGETHER, Room, Together, room_beside
from model.kernels.item_order import BLOCK, GROUP, HIGHEST_COUNT, Bounds, ItemOrder, follow, take_bounds
from model.kernels.scan import DENSE_USER, FEW, SHARE, Askers, Scratch, scan, sift
from model.side_by_side import SideBySide

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

PRODUCTS_AT_ONCE = 1 << 20
"""Products of users and items held at a time, in numbers: they should fit a core's cache."""


ENTRIES_AT_ONCE = 1 << 18
"""Of what a product leaves to be scored one by one."""

WORTH = 512
"""Plain lists out of few items that are work for a thread, a millisecond of it: for less, where processors are busy,
one more costs more than it gives.
"""
MANY_ITEMS = 1 << 17
"""A list takes about as much again for each so many items."""
TOGETHER = 3
"""And for what co-occurrence adds."""


class Items(NamedTuple):
    """The items as they stand now; all arrays are as long as there are items."""

    vectors_ID: Tensor
    """On the CPU, as `biases_I`."""
    biases_I: Tensor
    count_I: Ints
    known_I: Flags
    """Only known items are candidates."""
    hidden_I: Flags
    """Known items that are no candidates; empty: there are none."""


class Best(NamedTuple):
    """The best items of each user, by falling score, ties to the lower row; unspecified from `lengths_U` on."""

    rows_UK: Rows
    scores_UK: Floats
    lengths_U: Rows
    needed_UK: Floats
    """The slack that would have kept each listed item; no rows where it was not asked for."""


class _Workplace:
    """What one thread works in."""

    def __init__(self) -> None:
        self._mark = 0
        self._room: Room | None = None
        self.make_room(0)

    def make_room(self, items: int) -> None:
        """Forget all items, and have room for so many."""
        self._mark_I, self._extra_I = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        self._with_extra_I = np.zeros(0, dtype=np.int32)
        self.grow(items)

    def grow(self, items: int) -> None:
        self._mark_I, self._extra_I = grown(self._mark_I, items), grown(self._extra_I, items)
        self._with_extra_I = grown(self._with_extra_I, items)

    def scratch(self, k: int) -> Scratch:
        return Scratch(self._mark_I, self._extra_I, self._with_extra_I, np.empty(k, dtype=np.int64))

    def marks(self, askers: Askers) -> int:
        """Behind it marks are free for these users."""
        mark = self._mark
        self._mark += 3 * len(askers.users_UD)
        return mark

    def beside(self, together: Together) -> Together:
        """The same, to be read while another thread works in its room."""
        if not len(together.windows_UW):
            return together
        if self._room is None or len(self._room.ones_I) != len(together.room.ones_I):
            self._room = room_beside(together.room)
        return together._replace(room=self._room)


class ItemIndex:
    """Finds the best items of users by `model.kernels.scan`; has to be told which items moved."""

    def __init__(self, side_by_side: SideBySide | None = None) -> None:
        """`side_by_side`: the threads that make lists; None: this one alone."""
        self.size = 0
        """Items that have a place: the known ones."""
        self._side_by_side = side_by_side or SideBySide()
        self._workplaces = [_Workplace() for _ in range(self._side_by_side.threads)]
        self._make_room(0)

    def update(self, items: Items, moved_R: Ints | None) -> None:
        """Bring the items that moved up to date (None: all); about 50 ns an item of width 64."""
        self._items = items
        count_I = items.count_I
        if len(count_I) > len(self._order.row_P):
            self._grow(len(count_I))
        if moved_R is None:
            moved_R = np.arange(len(count_I))
            placed_R = moved_R[self._order.position_I[: len(count_I)] >= 0]
            places = self._order.position_I[placed_R]
            has_fallen = np.minimum(count_I[placed_R], HIGHEST_COUNT) < self._order.count_P[places]
            if len(placed_R) != self.size or has_fallen.any():  # not the items that it knew
                self._make_room(len(count_I))
            if self.size == 0:
                moved_R = np.argsort(-count_I, kind="stable")  # nothing has to change places then
        self.size = follow(
            moved_R,
            self._order,
            self.size,
            items.vectors_ID.numpy(),
            items.biases_I.numpy(),
            count_I,
            items.known_I,
            items.hidden_I,
            self._stale_Q,
        )
        take_bounds(self._order, self.size, self._blocks, self._groups, self._stale_Q)

    def best(
        self,
        askers: Askers,
        k: int,
        *,
        slack: float = 1.0,
        tells_needed: bool = False,
        least_U: Floats | None = None,
    ) -> Best:
        """The k best items of each user, those that score less than `least_U` left out.

        Exact with `slack` 1; below it see `model.kernels.scan.scan`.
        """
        users = len(askers.users_UD)
        found = Best(
            np.empty((users, k), dtype=np.int32),
            np.empty((users, k), dtype=np.float32),
            np.empty(users, dtype=np.int32),
            np.empty((users if tells_needed else 0, k), dtype=np.float32),
        )
        if self.size == 0 or k == 0:
            found.lengths_U[:] = 0
            return found
        bars_U = np.full(users, -np.inf, dtype=np.float32) if least_U is None else least_U.copy()
        taken_1 = np.zeros(1, dtype=np.int64)
        self._side_by_side(
            lambda thread: self._scan(thread, askers, slack, True, found, bars_U, taken_1), self._shares(askers)
        )
        dense_U = np.flatnonzero(found.lengths_U == DENSE_USER)
        if len(dense_U):
            self._by_products(askers, dense_U, found, bars_U)
        return found

    def _shares(self, askers: Askers) -> int:
        """For how many threads these lists are work enough; each has some users then."""
        users = len(askers.users_UD)
        each = 1 + self.size // MANY_ITEMS + (TOGETHER if len(askers.together.windows_UW) else 0)
        return min(users * each // WORTH, users // SHARE)

    def longest(self) -> float:
        """The length of the longest vector of a candidate, as float32 rounds it."""
        return float(self._groups.norm_Q[: -(-self.size // (BLOCK * GROUP))].max(initial=0.0))

    def order(self) -> Rows:
        """The items in their order."""
        return self._order.row_P[: self.size].copy()

    def set_order(self, rows_P: NDArray[np.integer], items: Items) -> None:
        """Take up an order that `order` gave; ValueError where it is not one of these items."""
        known = np.flatnonzero(items.known_I)
        counts_P = items.count_I[rows_P] if len(rows_P) == len(known) and (np.sort(rows_P) == known).all() else None
        if counts_P is None or (np.diff(np.minimum(counts_P, HIGHEST_COUNT)) > 0).any():
            raise ValueError(f"the saved order of {len(rows_P)} items is not one of the {len(known)} known ones")
        self._make_room(len(items.count_I))
        self.update(items, rows_P.astype(np.int64))

    def _scan(
        self,
        thread: int,
        askers: Askers,
        slack: float,
        looks_further: bool,
        found: Best,
        bars_U: Floats,
        taken_1: Ints,
    ) -> None:
        workplace = self._workplaces[thread]
        if thread:
            askers = askers._replace(together=workplace.beside(askers.together))
        scan(
            askers,
            self._items.vectors_ID.numpy(),
            self._order,
            self.size,
            self._blocks,
            self._groups,
            workplace.scratch(found.rows_UK.shape[1]),
            workplace.marks(askers),
            slack,
            looks_further,
            found.rows_UK,
            found.scores_UK,
            found.lengths_U,
            bars_U,
            found.needed_UK,
            taken_1,
        )

    def _by_products(self, askers: Askers, dense_U: Ints, found: Best, bars_U: Floats) -> None:
        """The lists of users for whom bounds say little."""
        size = max(16, PRODUCTS_AT_ONCE // len(self._items.vectors_ID))
        firsts = range(0, len(dense_U), size)
        left = iter(firsts)  # of which each thread takes the next, until there are none

        def work(thread: int) -> None:
            for first in left:
                self._by_product(thread, askers, dense_U[first : first + size], found, bars_U)

        self._side_by_side(work, len(firsts))

    def _by_product(self, thread: int, askers: Askers, users_U: Ints, found: Best, bars_U: Floats) -> None:
        items, workplace, k = self._items.vectors_ID, self._workplaces[thread], found.rows_UK.shape[1]
        if thread:
            askers = askers._replace(together=workplace.beside(askers.together))
        largest, room = self.longest(), len(items) + ENTRIES_AT_ONCE
        while len(users_U):
            some = of_users(askers, users_U)
            products_UI = (torch.from_numpy(some.users_UD) @ items.T).numpy()
            starts_U, rows_E = np.zeros(len(users_U) + 1, dtype=np.int64), np.empty(room, dtype=np.int32)
            extras_E = np.empty(room, dtype=np.float32)
            done = sift(
                products_UI,
                some,
                self._order,
                largest,
                workplace.scratch(k),
                workplace.marks(some),
                k,
                bars_U[users_U],
                starts_U,
                rows_E,
                extras_E,
            )
            here = users_U[:done]
            lists = Best(
                found.rows_UK[here],
                found.scores_UK[here],
                found.lengths_U[here],
                found.needed_UK[here] if len(found.needed_UK) else found.needed_UK,
            )
            some = of_users(askers, here)._replace(
                starts_U=starts_U[: done + 1],
                items_E=rows_E,
                values_E=extras_E,
                weights_U=np.ones(done, dtype=np.float32),
                together=NOT_TOGETHER,
            )
            self._scan(thread, some, 1.0, False, lists, bars_U[here], np.zeros(1, dtype=np.int64))
            found.rows_UK[here], found.scores_UK[here], found.lengths_U[here] = lists[:3]
            if len(found.needed_UK):
                found.needed_UK[here] = lists.needed_UK
            users_U = users_U[done:]

    def _make_room(self, items: int) -> None:
        """Forget all items, and have room for so many."""
        self.size = 0
        nothing, low = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)
        self._order = ItemOrder(
            nothing,
            nothing,
            np.zeros(0, dtype=np.int64),
            np.zeros(HIGHEST_COUNT + 1, dtype=np.int64),
            *(low for _ in range(6)),
        )
        self._blocks = self._groups = Bounds(low, low, low, low)
        self._stale_Q = np.zeros(0, dtype=np.bool_)
        for workplace in self._workplaces:
            workplace.make_room(0)
        self._grow(items)

    def _grow(self, items: int) -> None:
        old = self._order
        row_P = grown(old.row_P, items)
        room = len(row_P)  # of all of them, at least
        self._order = ItemOrder(
            row_P,
            grown(old.position_I, room, fill=-1),
            grown(old.count_P, room),
            old.above_C,
            grown(old.bias_I, room, fill=-np.inf),
            *(grown(part, room) for part in old[5:]),
        )
        self._blocks = Bounds(*(grown(part, -(-room // BLOCK)) for part in self._blocks))
        self._groups = Bounds(*(grown(part, -(-room // (BLOCK * GROUP))) for part in self._groups))
        self._stale_Q = grown(self._stale_Q, -(-room // BLOCK))
        for workplace in self._workplaces:
            workplace.grow(room)


def of_users(askers: Askers, users_U: Ints) -> Askers:
    """Some of the users, by their places."""
    lengths_U = askers.starts_U[users_U + 1] - askers.starts_U[users_U]
    starts_U, together = np.concatenate(([0], np.cumsum(lengths_U))), askers.together
    at_E = np.arange(starts_U[-1]) + np.repeat(askers.starts_U[users_U] - starts_U[:-1], lengths_U)
    return Askers(
        askers.users_UD[users_U],
        askers.popularity_U[users_U],
        starts_U,
        askers.items_E[at_E],
        askers.values_E[at_E],
        askers.weights_U[users_U],
        askers.hides_seen,
        askers.seen_pool,
        askers.seen_start_U[users_U],
        askers.seen_length_U[users_U],
        together
        if not len(together.windows_UW)
        else together._replace(windows_UW=together.windows_UW[users_U], weights_U=together.weights_U[users_U]),
    )


def warm_up_products(like: Tensor) -> None:
    """Compile what users need for whom bounds say little, for tables of this width and type."""
    items = Items(
        torch.ones((256, like.shape[1]), dtype=like.dtype),
        torch.zeros(256, dtype=like.dtype),
        np.zeros(256, dtype=np.int64),
        np.ones(256, dtype=np.bool_),
        np.zeros(0, dtype=np.bool_),
    )
    index = ItemIndex()
    index.update(items, None)
    users = FEW // len(items.count_I) + 1
    nothing, zeros_U, ones_U = np.zeros(0, dtype=np.int32), np.zeros(users, np.int64), np.ones(users, np.float32)
    askers = Askers(
        np.ones((users, like.shape[1]), dtype=items.vectors_ID.numpy().dtype),
        ones_U,
        np.zeros(users + 1, dtype=np.int64),
        nothing,
        nothing.astype(np.float32),
        ones_U,
        True,
        nothing,
        zeros_U,
        zeros_U,
    )
    index.best(askers, 1)  # equal items: bounds tell none of them from another
