"""Which events came before: the newest `event_id`s of each partition, kept in the checkpoint as hashes.

An event without an `event_id` is never a duplicate. An id may say whose event it was, and the user be forgotten long
before it falls out of the window: so no id is kept as it came. Knows nothing of the payload's meaning and the broker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from model.packing import check_lengths

if TYPE_CHECKING:
    from consumer.decode import Events

CAPACITY: Final = 100_000
HASH_BYTES: Final = 16
"""Of BLAKE2b (RFC 7693); that two of a window's ids share a hash is less likely than that a machine errs."""


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
        repeats_E, ids = np.zeros(len(events), dtype=np.bool_), events.event_ids
        for place in with_id:
            partition = int(events.taken.partition_R[events.place_E[place]])
            repeats_E[place] = self._window(partition).repeats(_hash(ids.utf8(place)))
        if not repeats_E.any():
            return events, events[repeats_E]
        return events[~repeats_E], events[repeats_E]

    def frozen(self) -> Callable[[], dict[str, NDArray[Any]]]:
        """What gives `state` as it would be now, at any later time and in any thread: it takes 100 ns an id."""
        hashes = {partition: tuple(window.hashes) for partition, window in sorted(self._windows.items())}

        def packed() -> dict[str, NDArray[Any]]:
            return {
                f"{partition}.hashes": np.frombuffer(bytearray(b"".join(of_partition)), dtype=np.uint8)
                for partition, of_partition in hashes.items()
            }

        return packed

    def state(self) -> dict[str, NDArray[Any]]:
        """One array a partition p, `p.hashes` uint8: HASH_BYTES an id, oldest first. Empty where no event had an id."""
        return self.frozen()()

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replaces everything remembered by what `state` returned. ValueError when the arrays make no sense.

        Ids as older versions saved them, `p.bytes` and `p.lengths`, are taken too.
        """
        partitions = {name.partition(".")[0] for name in state}
        if not all(map(str.isdecimal, partitions)):
            raise ValueError(f"event ids: expected an array P.hashes for each partition P, got {sorted(state)}")
        self._windows = {
            int(partition): _Window(self._capacity, _hashes_of(partition, state))
            for partition in sorted(partitions, key=int)
        }

    def _window(self, partition: int) -> _Window:
        window = self._windows.get(partition)
        if window is None:
            window = self._windows[partition] = _Window(self._capacity)
        return window


class _Window:
    """The newest ids of one partition by their hashes, in order, and how often each stands among them."""

    __slots__ = ("_capacity", "_count", "hashes")

    def __init__(self, capacity: int, hashes: Iterable[bytes] = ()) -> None:
        self.hashes: deque[bytes] = deque()
        self._count: dict[bytes, int] = {}
        self._capacity = capacity
        for one in hashes:
            self.repeats(one)

    def repeats(self, newest: bytes) -> bool:
        """Whether the id is among the newest; it is the newest of them afterwards."""
        hashes, count = self.hashes, self._count
        times = count.get(newest, 0)
        count[newest] = times + 1
        hashes.append(newest)
        if len(hashes) > self._capacity:
            oldest = hashes.popleft()
            if count[oldest] == 1:
                del count[oldest]
            else:
                count[oldest] -= 1
        return times > 0


def _hash(event_id: bytes) -> bytes:
    return blake2b(event_id, digest_size=HASH_BYTES).digest()


def _hashes_of(partition: str, state: Mapping[str, NDArray[Any]]) -> list[bytes]:
    what, parts = f"event ids of partition {partition}", {name for name in state if name.startswith(f"{partition}.")}
    if parts == {f"{partition}.hashes"}:
        hashes = state[f"{partition}.hashes"].astype(np.uint8, copy=False).tobytes()
        if len(hashes) % HASH_BYTES:
            raise ValueError(f"{what}: expected {HASH_BYTES} bytes each, got {len(hashes)} in all")
        return [hashes[start : start + HASH_BYTES] for start in range(0, len(hashes), HASH_BYTES)]
    if parts == {f"{partition}.bytes", f"{partition}.lengths"}:
        packed, lengths = state[f"{partition}.bytes"], state[f"{partition}.lengths"]
        ends, text = check_lengths(what, packed, lengths), packed.astype(np.uint8, copy=False).tobytes()
        starts = (ends - lengths).tolist()
        return [_hash(text[start:end]) for start, end in zip(starts, ends.tolist(), strict=True)]
    raise ValueError(f"{what}: expected an array {partition}.hashes, got {', '.join(sorted(parts))}")
