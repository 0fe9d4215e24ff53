"""How much of the exact lists the fast ones hold, measured all the time, and how loose their bounds may be for that.

Some users' lists are made both ways. The exact one tells of each of its items the slack that would have kept it
(`model.item_index.Best.needed_UK`): the slack in force is the smallest that loses half of what may be lost. All of it
follows from the lists made, so it is part of the state that a crash goes back to.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

LEAST_LISTS = 64
"""Lists to have measured before the first loose bound."""
KEEP = 1 - 1 / 1024
"""What is left of a list's weight with each next one."""
STEPS = 64
"""Slacks told apart, evenly from 0 to 1."""


class Recall:
    """Rolling recall, and the slack that keeps it at least at `least`; ValueError where that is not in 0 to 1."""

    def __init__(self, least: float) -> None:
        if not 0 <= least <= 1:
            raise ValueError(f"least recall: expected 0 to 1, got {least}")
        self.least = least
        self._needed_S = np.zeros(STEPS, dtype=np.float64)
        self._lists = self._listed = self._kept = 0.0

    @property
    def value(self) -> float:
        """Share of the exact lists' items in the fast ones, over the last thousand or so measured; 1 before."""
        return self._kept / self._listed if self._listed else 1.0

    @property
    def is_measured(self) -> bool:
        """Whether enough lists were measured for `slack` to mean something."""
        return self._lists >= LEAST_LISTS

    @property
    def slack(self) -> float:
        """The slack for fast lists; 1, which is exact, before anything was measured."""
        if not self.is_measured:
            return 1.0
        # Summed from the end: the last is 0 also where a sum less a part of it would be off by a rounding.
        lost_S = np.append(np.cumsum(self._needed_S[:0:-1])[::-1], 0.0)
        most_lost = (1 - self.least) / 2 * self._needed_S.sum()
        return float(np.argmax(lost_S <= most_lost) + 1) / STEPS

    @property
    def is_low(self) -> bool:
        """Whether only exact lists keep the promise now."""
        return self.value < self.least

    def learn(self, needed_UK: NDArray[np.float32], lengths_U: NDArray[np.int32]) -> None:
        """Take in the slack that each item of some exact lists needed."""
        users, k = needed_UK.shape
        listed_UK = np.arange(k) < lengths_U[:, None]
        steps_UK = (np.where(listed_UK, needed_UK, 0.0).clip(0, 1) * STEPS).astype(np.int64).clip(0, STEPS - 1)
        weights_U = KEEP ** np.arange(users - 1, -1, -1.0)
        weights_UK = np.where(listed_UK, weights_U[:, None], 0.0)
        self._needed_S *= KEEP**users
        self._needed_S += np.bincount(steps_UK.ravel(), weights_UK.ravel(), minlength=STEPS)
        self._lists += users

    def measure(
        self,
        exact_UK: NDArray[np.int32],
        exact_lengths_U: NDArray[np.int32],
        fast_UK: NDArray[np.int32],
        fast_lengths_U: NDArray[np.int32],
    ) -> None:
        """Compare some fast lists with the exact ones of the same users."""
        lists = zip(exact_UK, exact_lengths_U, fast_UK, fast_lengths_U, strict=True)
        for exact_K, length, fast_K, fast_length in lists:
            kept = len(set(exact_K[:length].tolist()) & set(fast_K[:fast_length].tolist()))
            self._kept = self._kept * KEEP + kept
            self._listed = self._listed * KEEP + int(length)

    def state(self) -> dict[str, NDArray[np.float64]]:
        return {
            "needed slacks": self._needed_S.copy(),
            "recall": np.array([self._lists, self._listed, self._kept], dtype=np.float64),
        }

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Replaces everything by what `state` returned; ValueError where it does not fit."""
        needed_S, sums = state["needed slacks"], state["recall"]
        if needed_S.shape != (STEPS,) or sums.shape != (3,):
            raise ValueError(
                f"recall of fast lists: expected {STEPS} and 3 numbers, got arrays of {needed_S.shape} and {sums.shape}"
            )
        self._needed_S = needed_S.astype(np.float64)
        self._lists, self._listed, self._kept = (float(value) for value in sums.astype(np.float64))
