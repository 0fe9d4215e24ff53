"""Whose lists are made anew, and when: at once, or, when lists cannot be made as fast as events come, together later.

A backlog that outlasts `max_staleness_seconds` is learned step by step without lists; then the users that its steps
touched get one list each, which reflects their newest event, and so on until the backlog is gone. So learning never
falls behind for the lists' sake, and no list waits longer than that. Whether a step has lists is decided before the
step is journaled, and journaled with it: made again after a crash, it has them again.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from consumer.records import Taken

if TYPE_CHECKING:
    from model.step import Step

Ints = NDArray[np.int64]


class Touches(NamedTuple):
    """Events that lists are to reflect, in stream order (E,): the user's row, and where the record stands."""

    users_E: Ints
    """Below 0 where the user was forgotten since, or was idle and is no longer kept."""
    partition_E: Ints
    offset_E: Ints
    time_E: Ints
    """The record's timestamp in ms; below 0 where it has none."""
    shown_time_E: Ints
    """The same, and where the record has none the event's own time: what lists show."""

    @classmethod
    def of(cls, users_B: Ints, taken: Taken, place_B: Ints, own_time_B: Ints) -> Self:
        """The events of a step; `place_B`: the places of their records; `own_time_B`: the times that they say."""
        time_B = taken.time_R[place_B]
        shown_time_B = np.where(time_B < 0, own_time_B, time_B)
        return cls(users_B, taken.partition_R[place_B], taken.offset_R[place_B], time_B, shown_time_B)

    def users(self) -> Ints:
        """The rows of the users, ascending."""
        users_U: Ints = np.unique(self.users_E)
        return users_U[users_U >= 0]


_NONE = Touches(*(np.zeros(0, dtype=np.int64) for _ in Touches._fields))


class Refreshes:
    """Decides for each step, and remembers the events whose lists are made later."""

    def __init__(self, max_staleness_seconds: float, clock: Callable[[], float]) -> None:
        """0: every step has its lists, however many events wait."""
        self._max = max_staleness_seconds
        self._clock = clock
        self._behind_since: float | None = None
        self._decided_at = clock()
        """When a step last was to have lists."""
        self._waiting: list[Touches] = []

    @property
    def is_waiting(self) -> bool:
        """Whether there are events whose lists are still to be made."""
        return bool(self._waiting)

    @property
    def is_late(self) -> bool:
        """Whether the oldest of them has waited for as long as any may."""
        return self.staleness_seconds() >= self._max

    def staleness_seconds(self) -> float:
        """For how long the oldest of them has been waiting; 0 where there is none."""
        return self._clock() - self._decided_at if self._waiting else 0.0

    def decide(self, *, more_wait: bool, at_once: bool) -> bool:
        """Whether the next step has lists. `more_wait`: more events are there than it takes; `at_once`: it must."""
        now = self._clock()
        if not more_wait:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        late = self._behind_since is not None and now - self._behind_since >= self._max > 0
        if late and not at_once and now - self._decided_at < self._max:
            return False
        self._decided_at = now
        return True

    def after(self, step: "Step", taken: Taken, place_B: Ints, own_time_B: Ints, *, has_lists: bool) -> Touches:
        """The events whose lists are to be made after a step: none, or the step's and all that waited."""
        gone_N = np.array([row for _, row in step.forgotten] + step.evicted_U.tolist(), dtype=np.int64)
        for touches in self._waiting if len(gone_N) else ():
            touches.users_E[np.isin(touches.users_E, gone_N)] = -1
        self._waiting.append(Touches.of(step.users_B, taken, place_B, own_time_B))
        return self.waiting() if has_lists else _NONE

    def waiting(self) -> Touches:
        """All that wait; none does any more."""
        waiting, self._waiting = self._waiting, []
        if len(waiting) == 1:
            return waiting[0]
        return Touches(*map(np.concatenate, zip(*waiting, strict=True))) if waiting else _NONE
