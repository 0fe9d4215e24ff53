"""What the compacted topics of items and of users say, read to their ends at the start and followed after that.

Only the newest value of an id counts, so what is taken in is the difference to what is known. In a partition the
newest is the last; where rows of an id lie in several (partitions were added, or a producer deals them out in its own
way) it is the one that was sent last, since the order in which partitions are read is nobody's. The step that it is
taken before has it in its line of the journal, values and all: compaction may have removed them from the topic by the
time that the step is made again. A start reads the whole topic anew and takes what is no longer there for removed.

A record that is not a row is counted, now and then one is logged, and what was known of its id stays. There is no
dead-letter topic for the catalogue: it is compacted, so the bad row stays in the topic until its producer mends it.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from consumer.journal import ITEMS, USERS, Change
from consumer.source import Record
from model.entries import ItemContent
from model.packing import pack, unpack
from producer.events import MAX_ID_CHARACTERS, Item, User

UNREADABLE: Final = b""
REMOVED: Final = bytes(8)
_PARTITION_BITS: Final = 24
MOST_TAKEN_AT_ONCE: Final = 1000
"""Records that one step takes in at most, once the topic was read to its end."""
MOST_TAKEN_AT_START: Final = 10_000
"""Rows that one step takes in at most of the topic as it was read at the start: a second's work."""
FORGETS_KEPT_MS: Final = 600_000
"""How long a forget is remembered at least, for rows that were sent before it and are taken after it."""

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

    def is_behind(self) -> bool: ...


@dataclass(frozen=True)
class Rows:
    """What the rows of a topic are."""

    kind: str
    """As the journal and the metrics name them."""
    id_field: str
    decode: Callable[[bytes], Any]
    """A value into a message of the wire; ValueError for what is none."""
    content_of: Callable[[Any], ItemContent]
    """What the message says, as the model takes it."""


def content_of(item: Item) -> ItemContent:
    """An item of the wire as the model takes it."""
    return ItemContent(item.title, item.text, item.categories, item.features, item.vector, item.available)


def user_content_of(user: User) -> ItemContent:
    """A user of the wire as the model takes it."""
    return ItemContent(categories=user.categories, features=user.features)


ROWS: Final[Mapping[str, Rows]] = {
    ITEMS: Rows(ITEMS, "item_id", msgspec.json.Decoder(Item).decode, content_of),
    USERS: Rows(USERS, "user_id", msgspec.json.Decoder(User).decode, user_content_of),
}


class Catalogue:
    """Which rows of one topic are taken in; tells a learner's `describe` of them."""

    def __init__(
        self,
        describe: Callable[[Mapping[str, Any]], None],
        *,
        rows: Rows = ROWS[ITEMS],
        count: Callable[[str, RowOutcome, int], None] | None = None,
    ) -> None:
        """`describe` takes id -> content, None where there is none any more; `count` kind, outcome and how many."""
        self._describe = describe
        self._rows = rows
        self._tell_count = count
        self._source: Reads | None = None
        self._digests: dict[str, bytes] = {}
        """Id -> digest of the value that the learner was told; REMOVED where it was told of a null value."""
        self._withheld: dict[bytes, bytes] = {}
        """Mark of an id -> mark of it and the value that was told of and then forgotten: as long as the topic has that
        value, and nothing else of the id came after it, not again."""
        self._forgotten: dict[bytes, int] = {}
        """Mark of an id -> when its last forget was sent, the oldest of these first: what was sent before that and is
        taken later is withheld too. Let go of once the topic is read to its end and FORGETS_KEPT_MS have passed."""
        self._is_read = False
        """Whether the newest take left nothing behind, as far as it is known."""
        self._rejected = 0
        self._taken_back: set[str] = set()
        """Ids of which something is withheld and a null value came: what comes next is news, also in the same take."""
        self._stamps: dict[str, int] = {}
        """Id -> when its newest row was sent and, in the lowest bits, its partition: one number, as there are many.
        What the topic has, whoever was forgotten; it is not saved."""
        self._whole: dict[str, bytes | None] | None = None
        """The topic as it was read at the start, until a step takes it in: id -> value, UNREADABLE for a bad one."""
        self._rest: list[Change] = []
        """What steps are still to take in of it, the next ones last."""

    def read(self, source: Reads, wait_seconds: float = 0.1, look_up: Callable[[], None] = lambda: None) -> None:
        """Read everything below the topic's end as it is now, from where the source stands: its beginning.

        A broker that is away is waited for. `look_up` is called all along: what it raises ends the wait.
        Nothing is taken in yet: steps of the journal may have to be made again first.
        """
        self._source = source
        self._whole = {}
        self._stamps.clear()
        ends = source.end_offsets()
        while any(source.next_offsets().get(partition, 0) < end for partition, end in ends.items()):
            look_up()
            for record in source.take(10 * MOST_TAKEN_AT_ONCE, wait_seconds):
                self._add(record, self._whole)
        log.info("catalogue read", of=self._rows.kind, rows=len(self._whole), offsets=source.next_offsets())

    @property
    def has_more(self) -> bool:
        """Whether what was read at the start is more than a step takes in: the first event comes after all of it."""
        return bool(self._rest) or (self._whole is not None and len(self._whole) > MOST_TAKEN_AT_START)

    def take(self) -> list[Change]:
        """What changed since the last call: for a new step, to be kept in the journal and then applied."""
        if self._source is None:
            return []
        if not self._rest:
            self._rest = self._news(self._source)[::-1]
        changes = self._rest[: -MOST_TAKEN_AT_START - 1 : -1]
        del self._rest[-MOST_TAKEN_AT_START:]
        return changes

    def _news(self, source: Reads) -> list[Change]:
        rows: dict[str, bytes | None] = {}
        if self._whole is not None:
            rows, self._whole = self._whole, None
            self._let_go_of_what_vanished(rows)
        for record in source.take(MOST_TAKEN_AT_ONCE, 0):
            self._add(record, rows)
        self._is_read = not source.is_behind()
        readable = [Change(name, value, self._rows.kind) for name, value in rows.items() if value != UNREADABLE]
        changes = [change for change in readable if self._is_news(change)]
        self._taken_back.clear()
        self._count(RowOutcome.UNCHANGED, len(readable) - len(changes))
        return changes

    def apply(self, changes: Sequence[Change]) -> None:
        """Tell the learner. The same changes on the same state give the same state: the journal repeats them."""
        if not changes:
            return
        contents: dict[str, ItemContent | None] = {}
        for name, value, _ in changes:
            contents[name] = None if value is None else self._rows.content_of(self._rows.decode(value))
            if value is None and self._rows.kind == USERS:
                self._digests.pop(name, None)  # nothing hangs on it, and the user may have been forgotten
            else:
                self._digests[name] = _digest(value)
            if self._withheld:
                self._withheld.pop(_mark(name), None)  # what comes after this is a new wish
        self._describe(contents)
        self._count(RowOutcome.TAKEN, len(changes))

    def forget(self, ids: Sequence[str], times_ms: Sequence[int] = (), now_ms: int = 0) -> None:
        """These ids were erased in the learner: no state names them here either, and their rows are not told again.

        `times_ms`: when each forget was sent, by its record, below 0 where that is not known. Rows that were sent
        before it are not told either, if they are taken later. `now_ms` is the newest time of the step, 0 where it
        has none.
        """
        if self._whole is None and self._is_read and now_ms:
            kept_long = takewhile(lambda one: abs(now_ms - one[1]) > FORGETS_KEPT_MS, self._forgotten.items())
            for mark, _ in list(kept_long):  # a time far ahead is no reason to keep it
                del self._forgotten[mark]
        for name in ids:
            told = self._digests.pop(name, REMOVED)
            if told != REMOVED:
                self._withheld[_mark(name)] = _mark(name, told)
        for name, time_ms in zip(ids, times_ms, strict=False):
            if time_ms >= 0 and self._source is not None:  # without a topic nothing is on its way
                self._forgotten[_mark(name)] = max(time_ms, self._forgotten.pop(_mark(name), 0))

    def _predates_forget(self, change: Change) -> bool:
        """Whether the row was sent before its user was forgotten; by its record, and if it has a time."""
        time_ms = self._stamps[change.name] >> _PARTITION_BITS
        return 0 <= time_ms < self._forgotten.get(_mark(change.name), 0)

    def _is_news(self, change: Change) -> bool:
        if self._forgotten and change.value is not None and self._predates_forget(change):
            self._withheld[_mark(change.name)] = _mark(change.name, _digest(change.value))
            return False
        if change.name in self._taken_back:
            return True
        digest = _digest(change.value)
        if self._digests.get(change.name) == digest:
            return False
        if change.value is None and self._rows.kind == USERS and change.name not in self._digests:
            return _mark(change.name) in self._withheld  # of a stranger there is nothing to take back
        return not (self._withheld and self._is_withheld(change.name, digest))

    def _is_withheld(self, name: str, digest: bytes) -> bool:
        mark = _mark(name, digest)
        return self._withheld.get(_mark(name)) == mark or mark in self._withheld

    def _let_go_of_what_vanished(self, rows: dict[str, bytes | None]) -> None:
        """Take ids that the whole topic has not got for removed; drop what is only remembered for the topic's sake."""
        for name in [name for name in self._digests if name not in rows]:
            if self._digests[name] == REMOVED:
                del self._digests[name]
            else:
                rows[name] = None
        if self._withheld:
            there = {_mark(name, _digest(value)) for name, value in rows.items()}
            self._withheld = {name: mark for name, mark in self._withheld.items() if mark in there}

    def _add(self, record: Record, rows: dict[str, bytes | None]) -> None:
        """Put the record's value in its id's place; a bad one leaves what is there, and so does an outdated one."""
        key, value = record.key(), record.value()
        try:
            name = (key or b"").decode()
            refusal = self._refusal(name, value)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors, a wrong encoding's too
            refusal = str(error)
        if refusal is None:
            if self._is_outdated(name, record):
                self._count(RowOutcome.UNCHANGED, 1)
            else:
                if value is None and rows is not self._whole and _mark(name) in self._withheld:
                    self._taken_back.add(name)
                rows[name] = value
                self._stamps[name] = record.timestamp()[1] << _PARTITION_BITS | record.partition()
            return
        self._reject(record, refusal)
        if key is not None:
            rows.setdefault(key.decode(errors="replace"), UNREADABLE)

    def _reject(self, record: Record, why: str) -> None:
        self._count(RowOutcome.REJECTED, 1)
        self._rejected += 1
        # The 1st, 2nd, 4th, 8th, ...: bad rows stay in the topic, and come again at every start.
        if self._rejected & (self._rejected - 1) == 0:
            log.warning(
                "a row of the catalogue is bad and was passed over",
                of=self._rows.kind,
                topic=record.topic(),
                partition=record.partition(),
                offset=record.offset(),
                why=why[:200],
                passed_over=self._rejected,
            )

    def _is_outdated(self, name: str, record: Record) -> bool:
        """Whether another partition had a row of this id that was sent later."""
        stamp = self._stamps.get(name)
        if stamp is None or stamp & ((1 << _PARTITION_BITS) - 1) == record.partition():
            return False
        return record.timestamp()[1] < stamp >> _PARTITION_BITS

    def _count(self, outcome: RowOutcome, rows: int) -> None:
        if self._tell_count is not None:
            self._tell_count(self._rows.kind, outcome, rows)

    def _refusal(self, key: str, value: bytes | None) -> str | None:
        """What is wrong with a row, None where nothing is."""
        if value is None:
            is_id = 1 <= len(key) <= MAX_ID_CHARACTERS
            return None if is_id else f"key: expected {self._rows.id_field} of 1 to {MAX_ID_CHARACTERS} characters"
        value.decode()  # msgspec skips over the fields it ignores without looking at their UTF-8
        message = self._rows.decode(value)
        field = self._rows.id_field
        name = getattr(message, field)
        if name != key:
            return f"$.{field}: expected the record's key {key[:60]!r}, got {name[:60]!r}"
        return self._rows.content_of(message).refusal()

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Which values were told, by their digests; nothing where there never was a catalogue."""
        state: dict[str, NDArray[np.generic]] = {}
        if self._digests:
            ids = pack(self._digests)
            digests = np.frombuffer(b"".join(self._digests.values()), dtype=np.uint64)
            state = {"bytes": ids.bytes, "lengths": ids.lengths, "digests": digests.view(np.int64)}
        if self._withheld:
            withheld = sorted(self._withheld.items())
            for name, marks in zip(("withheld ids", "withheld"), zip(*withheld, strict=True), strict=True):
                state[name] = np.frombuffer(b"".join(marks), dtype=np.int64)
        if self._forgotten:
            state["forgotten"] = np.frombuffer(b"".join(self._forgotten), dtype=np.int64)
            state["forgotten at"] = np.array(list(self._forgotten.values()), dtype=np.int64)
        return state

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Replaces what was told by what `state` returned."""
        self._digests, self._withheld, self._forgotten = {}, {}, {}
        if "digests" in state:
            ids = unpack(f"{self._rows.kind} of the catalogue", state["bytes"], state["lengths"])
            self._digests = dict(zip(ids, _eights(state["digests"]), strict=True))
        if "withheld" in state:
            marks = _eights(state["withheld"])
            of_ids = _eights(state["withheld ids"]) if "withheld ids" in state else marks  # older states lack them
            self._withheld = dict(zip(of_ids, marks, strict=True))
        if "forgotten" in state:
            self._forgotten = dict(zip(_eights(state["forgotten"]), state["forgotten at"].tolist(), strict=True))


class Catalogues:
    """What is said of items and what is said of users, as one: their changes stand in the same line of the journal."""

    def __init__(self, items: Catalogue, users: Catalogue) -> None:
        self.items = items
        self.users = users

    @property
    def has_more(self) -> bool:
        return self.items.has_more or self.users.has_more

    def take(self) -> list[Change]:
        return self.items.take() + self.users.take()

    def apply(self, changes: Sequence[Change]) -> None:
        self.items.apply([change for change in changes if change.kind == ITEMS])
        self.users.apply([change for change in changes if change.kind == USERS])

    def forget(self, user_ids: Sequence[str], times_ms: Sequence[int] = (), now_ms: int = 0) -> None:
        """These users were erased in the learner; `times_ms` and `now_ms` are those of `Catalogue.forget`."""
        self.users.forget(user_ids, times_ms, now_ms)

    def state(self) -> dict[str, NDArray[np.generic]]:
        return {**self.items.state(), **{f"{USERS}.{name}": array for name, array in self.users.state().items()}}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        prefix = f"{USERS}."
        of_users = {name: array for name, array in state.items() if name.startswith(prefix)}
        self.items.load({name: array for name, array in state.items() if name not in of_users})
        self.users.load({name.removeprefix(prefix): array for name, array in of_users.items()})


def _eights(array: NDArray[np.generic]) -> list[bytes]:
    whole = array.astype(np.int64).tobytes()
    return [whole[start : start + 8] for start in range(0, len(whole), 8)]


def _mark(name: str, digest: bytes = b"") -> bytes:
    """What is remembered of an id (and its value) where neither may be."""
    return hashlib.blake2b(name.encode() + digest, digest_size=8).digest()


def _digest(value: bytes | None) -> bytes:
    return REMOVED if value is None else hashlib.blake2b(value, digest_size=8).digest()
