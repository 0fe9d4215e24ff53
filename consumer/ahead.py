"""Take and decode ahead: while a step is learned, the next one is taken and decoded beside it, if it is there already.

Only where a backlog waits, that is after a take that got all it asked for: a step that was taken before the loop is
ready for it lacks what comes meanwhile, which would cost events that come one by one the length of a step.
What was taken ahead is not handed out yet: it is not journaled, and in no checkpoint.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, NamedTuple, Protocol

from consumer.records import Taken

if TYPE_CHECKING:
    from consumer.decode import Events, Reject
    from consumer.source import Record

    Decode = Callable[[Taken], tuple[Events, list[Reject]]]


class Takes(Protocol):
    """What `consumer.source.Source` does."""

    def take(self, max_records: int, wait_seconds: float) -> "list[Record]": ...

    def next_offsets(self) -> dict[int, int]: ...

    def end_offsets(self) -> dict[int, int]: ...


class _Decoded(NamedTuple):
    taken: Taken
    events: "tuple[Events, list[Reject]]"


class _Ahead(NamedTuple):
    """A take under way, or done."""

    max_records: int
    offsets: dict[int, int]
    """The next ones, as they stood before it."""
    decoded: Future[_Decoded]


class ReadAhead:
    """A source, and the decoder behind it. Not for several threads at once."""

    def __init__(self, source: Takes, decode: "Decode", reader: Executor | None = None) -> None:
        """`reader`, of one thread and this object's from now on, takes and decodes ahead; without it nothing is."""
        self._source = source
        self._decode = decode
        self._reader = reader
        self._ahead: _Ahead | None = None
        self._left: Sequence[Record] = ()
        """Taken ahead, but more than was asked for then."""
        self._decoded: _Decoded | None = None
        """What was handed out last, if it was taken ahead."""

    def take(self, max_records: int, wait_seconds: float) -> Taken:
        """As `Source.take`, which is to be called by nobody else; raises what that raises."""
        taken = self._taken_ahead(max_records)
        if not len(taken):
            taken = Taken(self._source.take(max_records, wait_seconds))
        if self._reader is not None and len(taken) == max_records and not self._left:
            offsets = self._source.next_offsets()
            self._ahead = _Ahead(max_records, offsets, self._reader.submit(self._take_ahead, max_records))
        return taken

    def decode(self, taken: Taken) -> "tuple[Events, list[Reject]]":
        """The events and rejects of the records that were handed out last, or of any others."""
        decoded, self._decoded = self._decoded, None
        return decoded.events if decoded is not None and decoded.taken is taken else self._decode(taken)

    def next_offsets(self) -> dict[int, int]:
        """Next offset to hand out, per partition."""
        offsets = self._source.next_offsets() if self._ahead is None else dict(self._ahead.offsets)
        for record in reversed(self._left):
            offsets[record.partition()] = record.offset()
        return offsets

    def end_offsets(self) -> dict[int, int]:
        return self._source.end_offsets()

    def close(self) -> None:
        """Wait for a take under way; what it takes is dropped. Closing twice does nothing."""
        if self._reader is not None:
            self._reader.shutdown()

    def _take_ahead(self, max_records: int) -> _Decoded:
        taken = Taken(self._source.take(max_records, 0))
        return _Decoded(taken, self._decode(taken))

    def _taken_ahead(self, max_records: int) -> Taken:
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            decoded = ahead.decoded.result()
            if len(decoded.taken) <= max_records:
                self._decoded = decoded
                return decoded.taken
            self._left = decoded.taken.records
        handed_out, self._left = self._left[:max_records], self._left[max_records:]
        return Taken(handed_out)
