"""Which events came before: the newest `event_id`s of each partition, kept in the checkpoint as hashes.

An event without an `event_id` is never a duplicate. An id may say whose event it was, and the user be forgotten long
before it falls out of the window: so no id is kept as it came. Knows nothing of the payload's meaning and the broker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.recent import note_newest
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
        with_id_N = np.flatnonzero(events.event_ids.length_B >= 0)
        if not len(with_id_N):
            return events, events[:0]
        hashes_N2 = _rows(b"".join(_hash(events.event_ids.utf8(place)) for place in with_id_N.tolist()))
        of_partition: defaultdict[int, list[int]] = defaultdict(list)
        for n, partition in enumerate(events.taken.partition_R[events.place_E[with_id_N]].tolist()):
            of_partition[partition].append(n)
        repeats_E = np.zeros(len(events), dtype=np.bool_)
        for partition, which in of_partition.items():
            repeats_E[with_id_N[which]] = self._window(partition).note(hashes_N2[which])
        if not repeats_E.any():
            return events, events[repeats_E]
        return events[~repeats_E], events[repeats_E]

    def state(self) -> dict[str, NDArray[Any]]:
        """One array a partition p, `p.hashes` uint8: HASH_BYTES an id, oldest first. Empty where no event had an id."""
        return {f"{partition}.hashes": window.hashes() for partition, window in sorted(self._windows.items())}

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
    """The newest ids of one partition by their hashes."""

    def __init__(self, capacity: int, hashes: bytes = b"") -> None:
        self._ring_C2 = np.zeros((capacity, 2), dtype=np.int64)
        self._slots = np.zeros(2 << capacity.bit_length(), dtype=np.int32)
        self._noted_1 = np.zeros(1, dtype=np.int64)
        self.note(_rows(hashes))

    def note(self, hashes_N2: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each is among the newest; it is the newest of them afterwards."""
        repeats_N = np.empty(len(hashes_N2), dtype=np.bool_)
        note_newest(hashes_N2, self._ring_C2, self._slots, self._noted_1, repeats_N)
        return repeats_N

    def hashes(self) -> NDArray[np.uint8]:
        """End to end, oldest first."""
        noted, capacity = int(self._noted_1[0]), len(self._ring_C2)
        oldest = noted % capacity
        in_order = np.concatenate((self._ring_C2[oldest:noted], self._ring_C2[:oldest]))
        return in_order.reshape(-1).view(np.uint8)


def warm_up() -> None:
    """Compile what a step needs, before the first one waits for it."""
    _Window(1)


def _hash(event_id: bytes) -> bytes:
    return blake2b(event_id, digest_size=HASH_BYTES).digest()


def _rows(hashes: bytes) -> NDArray[np.int64]:
    return np.frombuffer(bytearray(hashes), dtype=np.int64).reshape(-1, 2)  # writable: other kernels otherwise


def _hashes_of(partition: str, state: Mapping[str, NDArray[Any]]) -> bytes:
    what, parts = f"event ids of partition {partition}", {name for name in state if name.startswith(f"{partition}.")}
    if parts == {f"{partition}.hashes"}:
        hashes = state[f"{partition}.hashes"].astype(np.uint8, copy=False).tobytes()
        if len(hashes) % HASH_BYTES:
            raise ValueError(f"{what}: expected {HASH_BYTES} bytes each, got {len(hashes)} in all")
        return hashes
    if parts == {f"{partition}.bytes", f"{partition}.lengths"}:
        packed, lengths = state[f"{partition}.bytes"], state[f"{partition}.lengths"]
        ends, text = check_lengths(what, packed, lengths), packed.astype(np.uint8, copy=False).tobytes()
        starts = (ends - lengths).tolist()
        return b"".join(_hash(text[start:end]) for start, end in zip(starts, ends.tolist(), strict=True))
    raise ValueError(f"{what}: expected an array {partition}.hashes, got {', '.join(sorted(parts))}")
