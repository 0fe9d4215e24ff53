"""Which rows to give back where there are too many: those that were idle longest, more or less.

A hand goes round the rows (the clock, or second chance: Corbató, A paging experiment with the Multics system, 1968). A
row that was used in a later step than its first one since the hand came by is passed over once; any other is given
back, unless it is one of the step's own. New rows take the places behind the hand, so the hand comes to them last: who
came once and never again goes first, and nobody goes in the middle of a visit, as long as a round takes longer than
that. What is chosen follows from the steps alone.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model.growth import growable, grown
from model.kernels.idle import rest, sweep, touch
from model.vocabulary import Vocabulary

Ints = NDArray[np.int64]

LOOKED_AT = 8192
"""Rows that a step looks at, at most: some ten microseconds. Where those in it are all in use there are more than
`most` for a while."""
GIVEN_BACK = 1024
"""Rows that a step gives back at most, beyond as many as it had users."""


class IdleRows:
    """Keeps a vocabulary at `most` rows in use; one byte a row."""

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"rows in use: expected at most some number from 1 on, got {most}")
        self.most = most
        self._used_R = np.zeros(0, dtype=np.uint8)
        self._hand = 0

    def reach(self, rows: int) -> NDArray[np.uint8]:
        """How each of so many rows was used. One marked by more than the kernel's NOW is passed over until it is 0."""
        self._used_R = grown(self._used_R, rows)
        return self._used_R

    def choose(self, rows_B: Ints, vocabulary: Vocabulary, leaving: int = 0) -> Ints:
        """The rows to give back after a step that used `rows_B`, none of these; the caller gives them back.

        They are in use, distinct, in the order in which the hand came to them. `leaving`: of the rows in use so many
        are as good as given back.
        """
        rows = len(vocabulary)
        self.reach(rows)
        touch(rows_B, self._used_R)
        wanted = min(max(vocabulary.in_use - leaving - self.most, 0), GIVEN_BACK + len(rows_B))
        chosen_N = np.empty(wanted, dtype=np.int64)
        self._hand, chosen = sweep(self._hand, rows, LOOKED_AT, vocabulary.length_R, self._used_R, chosen_N)
        rest(rows_B, self._used_R)
        return chosen_N[:chosen]

    def clear(self, rows_N: Ints) -> None:
        """These rows were given back for another reason."""
        self._used_R[rows_N[rows_N < len(self._used_R)]] = 0

    def state(self, rows: int) -> dict[str, NDArray[np.generic]]:
        """Of so many rows."""
        used_R = np.zeros(rows, dtype=np.uint8)
        known = min(rows, len(self._used_R))
        used_R[:known] = self._used_R[:known]
        return {"used": used_R, "hand": np.array([self._hand])}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Replaces everything by what `state` returned; where that is nothing, nobody was ever seen."""
        self._used_R = growable(state["used"], np.uint8) if state else np.zeros(0, dtype=np.uint8)
        self._hand = int(state["hand"][0]) if state else 0
