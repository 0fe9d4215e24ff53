"""Who is new and who is not, and what is to a user's taste: live figures and the watch over drift ask both.

A user is cold with fewer than COLD_EVENTS earlier events (ratings and events of positive weight), else warm.
"""

import numpy as np
from numpy.typing import NDArray

from model.growth import growable, grown
from model.kernels.cohorts import find_then_count

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

COLD_EVENTS = 5


class UserMeans:
    """The mean of each user's ratings, live: the line between what is to a user's taste and what is not."""

    def __init__(self) -> None:
        self.users = 0
        self.sum_U = np.zeros(0)
        self.count_U = np.zeros(0, dtype=np.int64)

    def grow(self, users: int) -> None:
        self.sum_U = grown(self.sum_U, users)
        self.count_U = grown(self.count_U, users)
        self.users = max(self.users, users)

    def find_then_count(
        self, users_B: Ints, enters_B: NDArray[np.bool_], ratings_B: Doubles, events_U: Ints
    ) -> tuple[Ints, Doubles]:
        """Number (B,) of each user's earlier events, and mean (B,) of their earlier ratings: NaN where there were none.

        `events_U` counts the events up to the batch; `ratings_B` is NaN where no rating came. Counts the ratings.
        """
        earlier_events_B, means_B = np.empty(len(users_B), dtype=np.int64), np.empty(len(users_B))
        find_then_count(users_B, enters_B, ratings_B, events_U, self.sum_U, self.count_U, earlier_events_B, means_B)
        return earlier_events_B, means_B

    def clear_users(self, users_U: Ints) -> None:
        self.sum_U[users_U] = 0
        self.count_U[users_U] = 0

    def state(self) -> dict[str, NDArray[np.generic]]:
        return {"sum": self.sum_U[: self.users], "count": self.count_U[: self.users]}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        self.sum_U = growable(state["sum"], np.float64)
        self.count_U = growable(state["count"], np.int64)
        self.users = len(self.count_U)
