"""Items leave in rounds: what was idle is hidden, taken out of everything that names it, and then lets its row go.

Rows of items are named in many places: histories, seen sets, remembered ratings, pairs. So a row cannot go to another
item at once. Items that are too many and idle (`model.idle`) wait for the next round. In a round they are in no list
any more, while a hand goes over all that names items, some of it after each step, and takes them out; when it has been
everywhere nothing names them, and they go: their ids are strangers' then, their rows free. An item that has an event
before that stays, with what is left of it. Pairs are gone over after what they are made of, so none comes back.

All of it follows from the steps alone.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.idle import IdleRows
from model.kernels.leaving import CHOSEN, LEAVING
from model.step import NOBODY, Swept
from model.vocabulary import Vocabulary

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

ENTRIES = 1 << 17
"""Of what names items, so much is looked at after a step."""
MOST_TIMES = 16
"""As much again for each quarter of the bound that is on its way out or waits, up to so many times."""
LET_GO = 256
"""Items that a step lets go at most, beyond as many as it had events."""


class TakenOut(NamedTuple):
    past: int
    """The row to go on with."""
    is_done: bool
    changed_U: Ints = NOBODY
    """Users of whose rows in `Learner.growing_parts` some moved."""
    changed_I: Ints = NOBODY
    """And items."""


class NamesItems(Protocol):
    """What holds rows of items, in rows of its own."""

    def take_out(self, first: int, entries: int, marks_I: Bytes) -> TakenOut:
        """Name no item marked LEAVING any more, in the rows from `first` on, until so many entries were looked at."""


class Departures(NamedTuple):
    """What happened after a step."""

    hidden_I: Ints
    """Items that are in no list from now on."""
    gone_I: Ints
    """Items that nothing names any more: the caller resets their rows and gives them back."""
    changed_U: Ints
    changed_I: Ints
    """Both as in `TakenOut`."""
    swept: Swept | None
    """The users whose histories were gone over."""


class LeavingItems:
    """Keeps a vocabulary of items at `most` rows, beside those that are on their way out; one byte a row."""

    def __init__(self, most: int) -> None:
        self._idle = IdleRows(most)
        self._begin()

    def _begin(self) -> None:
        self._round_N = self._next_N = NOBODY
        self._turn, self._row = 0, 0
        """Which of the places that name items the hand is at, and where there; behind them it lets rows go."""
        self._marked = 0

    def after(self, used_B: Ints, items: Vocabulary, places: Sequence[NamesItems]) -> Departures:
        """Some more of the round, after a step whose events named `used_B`; none of these leaves."""
        marks_I = self._idle.reach(len(items))
        if self._marked:
            stay_N = np.unique(used_B[marks_I[used_B] >= CHOSEN])
            marks_I[stay_N] = 0
            self._marked -= len(stay_N)
        chosen_N = self._idle.choose(used_B, items, leaving=self._marked)
        marks_I[chosen_N] = CHOSEN
        self._marked += len(chosen_N)
        if len(chosen_N):
            self._next_N = np.concatenate((self._next_N, chosen_N))
        hidden_I = NOBODY
        if not len(self._round_N) and len(self._next_N):
            hidden_I = np.unique(self._next_N)  # one may have stayed and been chosen again
            hidden_I = hidden_I[marks_I[hidden_I] == CHOSEN]
            marks_I[hidden_I] = LEAVING
            self._round_N, self._next_N, self._turn, self._row = hidden_I, NOBODY, 0, 0
        if not len(self._round_N):
            return Departures(hidden_I, NOBODY, NOBODY, NOBODY, None)
        if self._turn == len(places):
            return Departures(hidden_I, self._let_go(LET_GO + len(used_B), marks_I), NOBODY, NOBODY, None)
        first, is_first = self._row, self._turn == 0
        entries = ENTRIES * min(1 + 4 * self._marked // self._idle.most, MOST_TIMES)
        taken_out = places[self._turn].take_out(first, entries, marks_I)
        self._turn, self._row = (self._turn + 1, 0) if taken_out.is_done else (self._turn, taken_out.past)
        swept = Swept(first, taken_out.past, marks_I == LEAVING) if is_first else None
        return Departures(hidden_I, NOBODY, taken_out.changed_U, taken_out.changed_I, swept)

    def _let_go(self, most: int, marks_I: Bytes) -> Ints:
        rows_N = self._round_N[self._row : self._row + most]
        gone_I: Ints = rows_N[marks_I[rows_N] == LEAVING]
        marks_I[gone_I] = 0
        self._marked -= len(gone_I)
        self._row += len(rows_N)
        if self._row == len(self._round_N):
            self._round_N = NOBODY
        return gone_I

    def hidden_I(self, items: int) -> NDArray[np.bool_]:
        """Which of so many items are to be in no list; empty: none is to be left out."""
        if not len(self._round_N):
            return np.zeros(0, dtype=np.bool_)
        hidden_I: NDArray[np.bool_] = self._idle.reach(items)[:items] == LEAVING
        return hidden_I

    def state(self, rows: int) -> dict[str, NDArray[np.generic]]:
        """Of so many rows."""
        return {
            **self._idle.state(rows),
            "round": self._round_N.copy(),
            "next": self._next_N.copy(),
            "place": np.array([self._turn, self._row]),
        }

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Replaces everything by what `state` returned; where that is nothing, no item was ever seen."""
        self._idle.load(state)
        self._begin()
        if state:
            self._round_N, self._next_N = state["round"].astype(np.int64), state["next"].astype(np.int64)
            self._turn, self._row = state["place"].tolist()
            self._marked = int((state["used"].astype(np.uint8) >= CHOSEN).sum())
