"""Each user's last interactions, and the set of items the user has: the live user state that encoders read.

Plain numpy on the CPU: the pass that moves it is sequential by nature (see `model.kernels.live`).
"""

import numpy as np
from numpy.typing import NDArray

from model.growth import growable, grown
from model.kernels.leaving import A_ROW, take_out_of_lists, take_out_of_rings
from model.kernels.spans import give_lists, lay_out_lists, reserve_lists, words_for
from model.kernels.windows import length_bucket, read_windows
from model.leaving import TakenOut
from model.ragged import Part, Ragged, packed
from model.windows import Windows, empty_windows

State = dict[str, NDArray[np.generic]]

WORDS_S = np.array([words << bits for bits in range(1, 32) for words in (2, 3)], dtype=np.int64) // 2
"""Words of two items that a list of each size takes: room for 4, 6, 8, 12, 16, 24, ... items."""


class History:
    """A ring of the last `depth` interactions of each user, with their times."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.users = 0
        self.items_UH = np.full((0, depth), -1, dtype=np.int32)
        self.times_UH = np.zeros((0, depth), dtype=np.int64)
        self.kinds_UH = np.zeros((0, depth), dtype=np.int8)
        self.pushed_U = np.zeros(0, dtype=np.int64)

    def grow(self, users: int) -> None:
        """Make room for rows 0 .. users - 1; new rows are empty."""
        self.kinds_UH = grown(self.kinds_UH, users)
        self.items_UH = grown(self.items_UH, users, fill=-1)
        self.times_UH = grown(self.times_UH, users)
        self.pushed_U = grown(self.pushed_U, users)
        self.users = max(self.users, users)

    def windows(self, users_U: NDArray[np.int64], width: int) -> Windows:
        """The last `width` interactions of each user as they stand now."""
        windows = empty_windows(len(users_U), width)
        read_windows(
            users_U,
            self.items_UH,
            self.times_UH,
            self.kinds_UH,
            self.pushed_U,
            windows.items_BW,
            windows.gaps_BW,
            windows.kinds_BW,
            windows.lengths_B,
        )
        return windows

    def windows_without(self, user: int, width: int) -> tuple[NDArray[np.int64], Windows]:
        """The window of a user as it stands, and behind it as it would be without each of its M items in turn.

        Those items (M,), newest first, and windows (1 + M). Without an item older interactions move up; the bucket of
        the history's length stays as it is.
        """
        ages = np.arange(min(int(self.pushed_U[user]), self.depth))
        newest_first = (self.pushed_U[user] - 1 - ages) % self.depth
        items_A = self.items_UH[user, newest_first]
        window_W = self.windows(np.array([user]), width).items_BW[0]
        items_M = np.array(list(dict.fromkeys(window_W[window_W >= 0].tolist())), dtype=np.int64)
        left = History(self.depth)
        left.grow(1 + len(items_M))
        for place, item in enumerate((-1, *items_M.tolist())):
            kept = newest_first[(items_A != item) | (items_A < 0)][::-1]
            left.items_UH[place, : len(kept)] = self.items_UH[user, kept]
            left.times_UH[place, : len(kept)] = self.times_UH[user, kept]
            left.kinds_UH[place, : len(kept)] = self.kinds_UH[user, kept]
            left.pushed_U[place] = len(kept)
        windows = left.windows(np.arange(1 + len(items_M)), width)
        windows.lengths_B[:] = length_bucket(int(self.pushed_U[user]))
        return items_M, windows

    def clear(self, user: int | NDArray[np.int64]) -> None:
        self.items_UH[user] = -1
        self.times_UH[user] = 0
        self.kinds_UH[user] = 0
        self.pushed_U[user] = 0

    def take_out(self, first: int, entries: int, marks_I: NDArray[np.uint8]) -> TakenOut:
        """See `model.leaving.NamesItems`."""
        changed_N = np.empty(entries // A_ROW + 1, dtype=np.int64)
        rings = self.items_UH, self.times_UH, self.kinds_UH, self.pushed_U
        past, changed = take_out_of_rings(first, self.users, entries, marks_I, *rings, changed_N)
        return TakenOut(past, past >= self.users, changed_N[:changed].copy())

    def state(self) -> State:
        return {
            "items": self.items_UH[: self.users],
            "times": self.times_UH[: self.users],
            "kinds": self.kinds_UH[: self.users],
            "pushed": self.pushed_U[: self.users],
        }

    def load(self, state: State) -> None:
        if state["items"].shape[1] != self.depth:
            raise ValueError(
                f"the saved history holds {state['items'].shape[1]} interactions a user, "
                f"the settings ask for {self.depth}"
            )
        self.items_UH = growable(state["items"], np.int32)
        self.times_UH = growable(state["times"], np.int64)
        self.kinds_UH = growable(state["kinds"], np.int8)
        self.pushed_U = growable(state["pushed"], np.int64)
        self.users = len(self.pushed_U)


class SeenItems:
    """The items each user has, in order of first interaction: all users' lists in spans of one pool of int32.

    A list that outgrows its span takes one of the next size that fits and gives its own back (`model.kernels.spans`).
    At a batch's end lists are cut to the newest `most` items (`trim`), so inside a batch they may be longer.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.users = 0
        self.start_U = np.zeros(0, dtype=np.int64)
        self.length_U = np.zeros(0, dtype=np.int64)
        self._size_U = np.zeros(0, dtype=np.int8)
        self._mentions_U = np.zeros(0, dtype=np.int32)
        self._words: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._free_S = np.zeros(len(WORDS_S), dtype=np.int64)
        self._used_1 = np.zeros(1, dtype=np.int64)
        self._empty_pool(0)

    def grow(self, users: int) -> None:
        self.start_U = grown(self.start_U, users)
        self.length_U = grown(self.length_U, users)
        self._size_U = grown(self._size_U, users, fill=-1)
        self._mentions_U = grown(self._mentions_U, users)
        self.users = max(self.users, users)

    def items(self, user: int) -> NDArray[np.int32]:
        start = self.start_U[user]
        return self.pool[start : start + self.length_U[user]]

    def reserve(self, users_B: NDArray[np.int64]) -> None:
        """Make room for one more item for each mention of a user, so that no list moves during the pass."""
        while missing := self._reserve(users_B):
            self._words = grown(self._words, int(self._used_1[0]) + missing)
            self.pool = self._words.view(np.int32)

    def _reserve(self, users_B: NDArray[np.int64]) -> int:
        return reserve_lists(
            users_B,
            self._mentions_U,
            WORDS_S,
            self._free_S,
            self._used_1,
            self._words,
            self.pool,
            self.start_U,
            self.length_U,
            self._size_U,
        )

    def trim(self, users_B: NDArray[np.int64]) -> None:
        """Drop the oldest items of users that have more than `most`."""
        for user in set(users_B[self.length_U[users_B] > self.most].tolist()):
            kept = self.items(user)[-self.most :].copy()
            start = self.start_U[user]
            self.pool[start : start + self.most] = kept
            self.length_U[user] = self.most

    def clear_users(self, users_U: NDArray[np.int64]) -> None:
        """Nothing of these lists is left, not even what a cut left behind them."""
        give_lists(users_U, WORDS_S, self._free_S, self._words, self.start_U, self.length_U, self._size_U)

    def take_out(self, first: int, entries: int, marks_I: NDArray[np.uint8]) -> TakenOut:
        """See `model.leaving.NamesItems`."""
        changed_N = np.empty(entries // A_ROW + 1, dtype=np.int64)
        lists = self.pool, self.start_U, self.length_U
        past, changed = take_out_of_lists(first, self.users, entries, marks_I, *lists, changed_N)
        return TakenOut(past, past >= self.users, changed_N[:changed].copy())

    def pairs(
        self, starts_B: NDArray[np.int64], lengths_B: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Flat (row of the batch, item) pairs of the lists that begin at `starts_B`, as they were at `lengths_B`."""
        total = int(lengths_B.sum())
        rows = np.repeat(np.arange(len(lengths_B)), lengths_B)
        ends_B = np.cumsum(lengths_B)
        positions = np.arange(total) + np.repeat(starts_B - (ends_B - lengths_B), lengths_B)
        return rows, self.pool[positions]

    def _empty_pool(self, words: int) -> None:
        self._words = grown(self._words[:0], words)
        self.pool = self._words.view(np.int32)
        self._free_S[:], self._used_1[:] = 0, 0

    def parts(self) -> dict[str, Part]:
        lengths_U = self.length_U[: self.users]
        return {"items": Ragged(self.pool, self.start_U[: self.users], lengths_U), "lengths": lengths_U}

    def state(self) -> State:
        """`parts`, of which the items are those of all users end to end."""
        return {name: packed(part) for name, part in self.parts().items()}

    def load(self, state: State) -> None:
        self.length_U = growable(state["lengths"], np.int64)
        self.users = len(self.length_U)
        self.start_U = grown(np.zeros(0, dtype=np.int64), self.users)
        self._size_U = grown(np.zeros(0, dtype=np.int8), self.users, fill=-1)
        self._mentions_U = grown(np.zeros(0, dtype=np.int32), self.users)
        self._empty_pool(words_for(self.length_U, WORDS_S))
        items = state["items"].astype(np.int32)
        lay_out_lists(items, self.length_U, WORDS_S, self._used_1, self.pool, self.start_U, self._size_U)
