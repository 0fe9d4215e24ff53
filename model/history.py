"""Each user's last interactions, and the set of items the user has: the live user state that encoders read.

Plain numpy on the CPU: the pass that moves it is sequential by nature (see `model.kernels.live`).
"""

import numpy as np
from numpy.typing import NDArray

from model.growth import grown
from model.kernels.ragged import end_to_end
from model.kernels.windows import read_windows
from model.windows import Windows, empty_windows

State = dict[str, NDArray[np.generic]]


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

    def clear(self, user: int) -> None:
        self.items_UH[user] = -1
        self.times_UH[user] = 0
        self.kinds_UH[user] = 0
        self.pushed_U[user] = 0

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
        self.items_UH = state["items"].astype(np.int32)
        self.times_UH = state["times"].astype(np.int64)
        self.kinds_UH = state["kinds"].astype(np.int8)
        self.pushed_U = state["pushed"].astype(np.int64)
        self.users = len(self.pushed_U)


class SeenItems:
    """The items each user has, in order of first interaction: all users' lists in one pool of int32.

    A list that outgrows its place moves to the end of the pool; a full pool is packed into one with as much room
    again. At a batch's end lists are cut to the newest `most` items (`trim`), so inside a batch they may be longer.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.users = 0
        self.pool = np.zeros(0, dtype=np.int32)
        self.start_U = np.zeros(0, dtype=np.int64)
        self.length_U = np.zeros(0, dtype=np.int64)
        self._room_U = np.zeros(0, dtype=np.int64)
        self._used = 0

    def grow(self, users: int) -> None:
        self.start_U = grown(self.start_U, users)
        self.length_U = grown(self.length_U, users)
        self._room_U = grown(self._room_U, users)
        self.users = max(self.users, users)

    def items(self, user: int) -> NDArray[np.int32]:
        start = self.start_U[user]
        return self.pool[start : start + self.length_U[user]]

    def reserve(self, users_B: NDArray[np.int64]) -> None:
        """Make room for one more item for each mention of a user, so that no list moves during the pass."""
        users, mentions = np.unique(users_B, return_counts=True)
        needed = self.length_U[users] + mentions
        for user, room in zip(users[needed > self._room_U[users]], needed[needed > self._room_U[users]], strict=True):
            self._move(int(user), int(room + room // 2 + 4))

    def trim(self, users_B: NDArray[np.int64]) -> None:
        """Drop the oldest items of users that have more than `most`."""
        for user in np.unique(users_B[self.length_U[users_B] > self.most]):
            kept = self.items(user)[-self.most :].copy()
            start = self.start_U[user]
            self.pool[start : start + self.most] = kept
            self.length_U[user] = self.most

    def clear(self, user: int) -> None:
        start = self.start_U[user]
        self.pool[start : start + self._room_U[user]] = 0  # what a cut left behind the list goes too
        self.length_U[user] = 0

    def pairs(
        self, starts_B: NDArray[np.int64], lengths_B: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Flat (row of the batch, item) pairs of the lists that begin at `starts_B`, as they were at `lengths_B`."""
        total = int(lengths_B.sum())
        rows = np.repeat(np.arange(len(lengths_B)), lengths_B)
        ends_B = np.cumsum(lengths_B)
        positions = np.arange(total) + np.repeat(starts_B - (ends_B - lengths_B), lengths_B)
        return rows, self.pool[positions]

    def _move(self, user: int, room: int) -> None:
        if self._used + room > len(self.pool):
            self._pack(room)
        old, start = self.items(user), self._used
        self.pool[start : start + len(old)] = old
        old[:] = 0  # what is left behind says nothing of the user
        self.start_U[user] = start
        self._room_U[user] = room
        self._used += room

    def _pack(self, extra: int) -> None:
        rooms, lengths = self._room_U[: self.users], self.length_U[: self.users]
        starts = np.cumsum(rooms) - rooms
        pool = np.zeros(2 * (int(rooms.sum()) + extra), dtype=np.int32)
        owners, items = self.pairs(self.start_U[: self.users], lengths)
        first = np.cumsum(lengths) - lengths
        pool[starts[owners] + np.arange(len(items)) - first[owners]] = items
        self.start_U[: self.users] = starts
        self.pool, self._used = pool, int(rooms.sum())

    def state(self) -> State:
        lengths_U = self.length_U[: self.users]
        items = np.empty(int(lengths_U.sum()), dtype=np.int32)
        end_to_end(self.pool, self.start_U[: self.users], lengths_U, items)
        return {"items": items, "lengths": lengths_U}

    def load(self, state: State) -> None:
        self.pool = state["items"].astype(np.int32)
        self.length_U = state["lengths"].astype(np.int64)
        self._room_U = self.length_U.copy()
        self.start_U = np.cumsum(self.length_U) - self.length_U
        self.users = len(self.length_U)
        self._used = len(self.pool)
