"""The catalogue: what the compacted items topic says of items, read to its end at the start and followed after that.

Only the newest value of an item counts, so what is taken in is the difference to what is known. The step that it is
taken before has it in its line of the journal, values and all: compaction may have removed them from the topic by the
time that the step is made again. A start reads the whole topic anew and takes what is no longer there for removed.

A record that is not an item is counted and logged, and what was known of the item stays. There is no dead-letter topic
for the catalogue: it is compacted, so the bad row stays in the topic until its producer mends it.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final, Protocol

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from consumer.journal import Change
from consumer.source import Record
from model.entries import ItemContent
from model.packing import pack, unpack
from producer.events import MAX_ID_CHARACTERS, Item

UNREADABLE: Final = b""
REMOVED: Final = bytes(8)
MOST_TAKEN_AT_ONCE: Final = 1000
"""Records that one step takes in at most, once the topic was read to its end."""

log = structlog.get_logger()


class RowOutcome(StrEnum):
    """What became of a record of the catalogue."""

    TAKEN = "taken"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"


class Reads(Protocol):
    """What `consumer.source.Source` does, behind its `seek`."""

    def take(self, max_records: int, wait_seconds: float) -> list[Record]: ...

    def next_offsets(self) -> dict[int, int]: ...

    def end_offsets(self) -> dict[int, int]: ...


class Catalogue:
    """Which rows are taken in; tells a learner's `describe` of them."""

    def __init__(
        self,
        describe: Callable[[Mapping[str, ItemContent | None]], None],
        *,
        count: Callable[[RowOutcome, int], None] | None = None,
    ) -> None:
        self._describe = describe
        self._tell_count = count
        self._decode: Final = msgspec.json.Decoder(Item).decode
        self._source: Reads | None = None
        self._digests: dict[str, bytes] = {}
        """Item -> digest of the value that the learner was told; REMOVED where it was told of a null value."""
        self._whole: dict[str, bytes | None] | None = None
        """The topic as it was read at the start, until a step takes it in: item -> value, UNREADABLE for a bad one."""

    def read(self, source: Reads, wait_seconds: float = 0.1) -> None:
        """Read everything below the topic's end as it is now, from where the source stands: its beginning.

        Nothing is taken in yet: steps of the journal may have to be made again first.
        """
        self._source = source
        self._whole = {}
        ends = source.end_offsets()
        while any(source.next_offsets().get(partition, 0) < end for partition, end in ends.items()):
            for record in source.take(10 * MOST_TAKEN_AT_ONCE, wait_seconds):
                self._add(record, self._whole)
        log.info("catalogue read", items=len(self._whole), offsets=source.next_offsets())

    def take(self) -> list[Change]:
        """What changed since the last call: for a new step, to be kept in the journal and then applied."""
        if self._source is None:
            return []
        rows: dict[str, bytes | None] = {}
        if self._whole is not None:
            rows, self._whole = self._whole, None
            rows.update({item_id: None for item_id in self._digests if item_id not in rows})
        for record in self._source.take(MOST_TAKEN_AT_ONCE, 0):
            self._add(record, rows)
        readable = [Change(item_id, value) for item_id, value in rows.items() if value != UNREADABLE]
        changes = [change for change in readable if self._digests.get(change.item_id) != _digest(change.value)]
        self._count(RowOutcome.UNCHANGED, len(readable) - len(changes))
        return changes

    def apply(self, changes: Sequence[Change]) -> None:
        """Tell the learner. The same changes on the same state give the same state: the journal repeats them."""
        if not changes:
            return
        contents: dict[str, ItemContent | None] = {}
        for item_id, value in changes:
            contents[item_id] = None if value is None else content_of(self._decode(value))
            self._digests[item_id] = _digest(value)
        self._describe(contents)
        self._count(RowOutcome.TAKEN, len(changes))

    def _add(self, record: Record, rows: dict[str, bytes | None]) -> None:
        """Put the record's value in its item's place; a bad one leaves what is there."""
        key, value = record.key(), record.value()
        try:
            item_id = (key or b"").decode()
            if value is None:
                if not 1 <= len(item_id) <= MAX_ID_CHARACTERS:
                    raise ValueError(f"key: expected an item_id of 1 to {MAX_ID_CHARACTERS} characters")
                rows[item_id] = None
                return
            refusal = self._refusal(item_id, value)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors, a wrong encoding's too
            refusal = str(error)
        if refusal is None:
            rows[item_id] = value
            return
        self._count(RowOutcome.REJECTED, 1)
        log.warning(
            "a row of the catalogue is bad and was passed over",
            topic=record.topic(),
            partition=record.partition(),
            offset=record.offset(),
            why=refusal[:200],
        )
        if key is not None:
            rows.setdefault(key.decode(errors="replace"), UNREADABLE)

    def _count(self, outcome: RowOutcome, rows: int) -> None:
        if self._tell_count is not None:
            self._tell_count(outcome, rows)

    def _refusal(self, key: str, value: bytes) -> str | None:
        """What is wrong with a row, None where nothing is."""
        value.decode()  # msgspec skips over the fields it ignores without looking at their UTF-8
        item = self._decode(value)
        if item.item_id != key:
            return f"$.item_id: expected the record's key {key[:60]!r}, got {item.item_id[:60]!r}"
        return content_of(item).refusal()

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Which values were told, by their digests; nothing where there never was a catalogue."""
        if not self._digests:
            return {}
        ids = pack(self._digests)
        digests = np.frombuffer(b"".join(self._digests.values()), dtype=np.uint64)
        return {"bytes": ids.bytes, "lengths": ids.lengths, "digests": digests.view(np.int64)}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Replaces what was told by what `state` returned."""
        self._digests = {}
        if state:
            ids = unpack("items of the catalogue", state["bytes"], state["lengths"])
            digests = state["digests"].astype(np.int64).tobytes()
            self._digests = {item_id: digests[8 * n : 8 * n + 8] for n, item_id in enumerate(ids)}


def content_of(item: Item) -> ItemContent:
    """An item of the wire as the model takes it."""
    return ItemContent(item.title, item.text, item.categories, item.features, item.vector, item.available)


def _digest(value: bytes | None) -> bytes:
    return REMOVED if value is None else hashlib.blake2b(value, digest_size=8).digest()
