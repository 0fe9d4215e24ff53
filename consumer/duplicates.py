"""Which events came before: the newest `event_id`s of each partition, kept in the checkpoint.

An event without an `event_id` is never a duplicate. Knows nothing of the payload's meaning and of the broker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from model.packing import pack, unpack

if TYPE_CHECKING:
    from consumer.decode import Events

CAPACITY: Final = 100_000


class RecentEventIds:
    """Recognises an `event_id` that is among the last `capacity` of its partition; a repeat counts as one of them."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: expected at least 1 event_id a partition, got {capacity}")
        self._capacity = capacity
        self._windows: dict[int, _Window] = {}

    def split(self, events: Events) -> tuple[Events, Events]:
        """The fresh events and the duplicates, each in order; remembers the ids of both, also within this batch."""
        with_id = np.flatnonzero(events.event_ids.length_B >= 0).tolist()
        if not with_id:
            return events, events[:0]
        repeats_E = np.zeros(len(events), dtype=np.bool_)
        for place in with_id:
            partition = int(events.taken.partition_R[events.place_E[place]])
            repeats_E[place] = self._window(partition).repeats(events.event_ids.name(place))
        if not repeats_E.any():
            return events, events[repeats_E]
        return events[~repeats_E], events[repeats_E]

    def frozen(self) -> Callable[[], dict[str, NDArray[Any]]]:
        """What gives `state` as it would be now, at any later time and in any thread: it takes 100 ns an id."""
        ids = {partition: tuple(window.ids) for partition, window in sorted(self._windows.items())}

        def packed() -> dict[str, NDArray[Any]]:
            arrays: dict[str, NDArray[Any]] = {}
            for partition, of_partition in ids.items():
                arrays[f"{partition}.bytes"], arrays[f"{partition}.lengths"] = pack(of_partition)
            return arrays

        return packed

    def state(self) -> dict[str, NDArray[Any]]:
        """Two arrays a partition p, oldest id first: `p.bytes` uint8, the ids' UTF-8 end to end; `p.lengths` int64.

        `p.lengths` counts bytes. Empty where no event had an id yet.
        """
        return self.frozen()()

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replaces everything remembered by what `state` returned. ValueError when the arrays do not fit together."""
        partitions = {name.removesuffix(".lengths") for name in state if name.endswith(".lengths")}
        if set(state) != {f"{partition}.{part}" for partition in partitions for part in ("bytes", "lengths")}:
            raise ValueError(
                f"event ids: expected arrays P.bytes and P.lengths for each partition P, got {sorted(state)}"
            )
        self._windows = {}
        for partition in sorted(partitions, key=int):
            packed, lengths = state[f"{partition}.bytes"], state[f"{partition}.lengths"]
            ids = unpack(f"event ids of partition {partition}", packed, lengths)
            self._windows[int(partition)] = _Window(self._capacity, ids)

    def _window(self, partition: int) -> _Window:
        window = self._windows.get(partition)
        if window is None:
            window = self._windows[partition] = _Window(self._capacity)
        return window


class _Window:
    """The newest ids of one partition, in order, and how often each stands among them."""

    __slots__ = ("_capacity", "_count", "ids")

    def __init__(self, capacity: int, ids: Iterable[str] = ()) -> None:
        self.ids: deque[str] = deque()
        self._count: dict[str, int] = {}
        self._capacity = capacity
        for event_id in ids:
            self.repeats(event_id)

    def repeats(self, event_id: str) -> bool:
        """Whether the id is among the newest; it is the newest of them afterwards."""
        ids, count = self.ids, self._count
        times = count.get(event_id, 0)
        count[event_id] = times + 1
        ids.append(event_id)
        if len(ids) > self._capacity:
            oldest = ids.popleft()
            if count[oldest] == 1:
                del count[oldest]
            else:
                count[oldest] -= 1
        return times > 0
