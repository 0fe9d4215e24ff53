"""Which records made up each step, on disk before the step's lists are published.

Gradient steps depend on where batches are cut, and batches are cut by timing. The journal remembers the cuts, so
that after a crash the steps since the checkpoint are made again from exactly the same records: the same state to
the last bit, the same lists under the same numbers. What the catalogue said before a step stands in its line. One
line a step; a new file (segment) with each start and
each checkpoint.
"""

import base64
import json
import os
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np
import structlog

from consumer import durable
from consumer.records import Taken
from consumer.source import Record

MOST_TAKEN_AT_ONCE: Final = 10_000
"""Records asked for at a time while steps are repeated: the cuts are known, so it only has to be enough."""

log = structlog.get_logger()


class JournalMismatch(RuntimeError):
    """The journaled records are not those of the topic."""


class Run(NamedTuple):
    """Neighbouring records of one partition: offsets from `first` up to, not including, `next`."""

    partition: int
    first: int
    next: int


ITEMS: Final = "items"
USERS: Final = "users"


class Change(NamedTuple):
    """A new value of a row of the catalogue, an item or a user; None: it was removed."""

    name: str
    """The id of the item or of the user."""
    value: bytes | None
    kind: str = ITEMS


class Entry(NamedTuple):
    step: int
    runs: list[Run]
    changes: Sequence[Change] = ()
    """What was taken in of the catalogue before the step."""
    has_lists: bool = True
    """Whether lists are made after it; if not, they are made after a later one."""


class Journal:
    """The cuts of the steps since the oldest checkpoint that is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptor: int | None = None
        self._next: tuple[Path, int] | None = None
        """A segment that is there and not written to yet, and its descriptor."""
        self._highest: dict[Path, int] = {}
        """Last step of each segment of this folder, 0 where it has none."""

    def steps_after(self, step: int) -> list[Entry]:
        """The steps after `step`, as long as they follow on each other.

        Of a step written twice the last writing counts, and with it what was written after it. A torn line is the
        last of its run, and the lists of its step were not published. Steps behind an altered line are lost, which
        is said loudly, since they will be cut anew.
        """
        written: dict[int, Entry] = {}
        newest = step
        for segment in self._segments():
            for entry in _entries(segment):
                if entry.step <= newest:  # a run that went back wrote its own future
                    written = {number: kept for number, kept in written.items() if number < entry.step}
                written[entry.step] = entry
                newest = entry.step
        following: list[Entry] = []
        while (step := step + 1) in written:
            following.append(written[step])
        if newest > step:
            log.error(
                "the journal is damaged: later steps are cut anew, their lists may differ", step=step, last=newest
            )
        return following

    def start_segment(self, oldest_step: int) -> None:
        """Write to a new segment from now on; drop the oldest ones, as long as no step after `oldest_step` is there."""
        self.prepare_segment(oldest_step)
        self.switch_segment()

    def prepare_segment(self, oldest_step: int) -> None:
        """Have a new segment ready for `switch_segment`, and drop old ones as `start_segment` does.

        It takes as long as the disk does. Another thread may append to the present segment meanwhile.
        """
        durable.make_folder(self.folder)
        segments = list(self._segments())
        for segment in segments:
            if segment not in self._highest:
                self._highest[segment] = max((entry.step for entry in _entries(segment)), default=0)
        path = self.folder / f"{max(map(_number, segments), default=0) + 1:09d}.log"
        self._close_next()
        self._next = path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        durable.sync_folder(self.folder)
        self._highest[path] = 0
        # In order: a segment may say that what an older one says of the same steps does not count any more.
        needed = False
        for segment in segments:
            is_written_to = self._descriptor is not None and segment == self._path
            needed = needed or is_written_to or self._highest[segment] > oldest_step
            if not needed or not (is_written_to or self._highest[segment]):
                segment.unlink()
                del self._highest[segment]

    def switch_segment(self) -> None:
        """Write to the segment that is ready from now on. Waits for nothing."""
        if self._next is None:
            raise RuntimeError("prepare_segment comes before switch_segment")
        self._close_written()
        (self._path, self._descriptor), self._next = self._next, None

    def append(self, step: int, runs: Sequence[Run], changes: Sequence[Change] = (), *, has_lists: bool = True) -> None:
        """Remember a step; on disk when this returns."""
        if self._descriptor is None:
            raise RuntimeError("start_segment comes before append")
        entry = [step, runs, _packed(changes) if changes else "", has_lists]
        if has_lists:
            entry = entry[: 3 if changes else 2]
        body = json.dumps(entry, separators=(",", ":")).encode()
        with durable.naming(self._path):
            durable.write_all(self._descriptor, b"%08x %s\n" % (zlib.crc32(body), body))
            os.fdatasync(self._descriptor)
        self._highest[self._path] = step

    def close(self) -> None:
        """Let go of the files. Closing twice does nothing."""
        self._close_written()
        self._close_next()

    def _close_written(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _close_next(self) -> None:
        if self._next is not None:
            os.close(self._next[1])
            self._next = None

    def clear(self) -> None:
        """Forget every step: for a start that leaves what was learned behind."""
        self.close()
        for segment in list(self._segments()):
            segment.unlink()
        self._highest.clear()

    def _segments(self) -> Iterator[Path]:
        yield from sorted((path for path in self.folder.glob("*.log") if path.stem.isdigit()), key=_number)


class Takes(Protocol):
    """What `consumer.source.Source` does."""

    def take(self, max_records: int, wait_seconds: float) -> list[Record]: ...

    def next_offsets(self) -> dict[int, int]: ...

    def end_offsets(self) -> dict[int, int]: ...

    def is_behind(self) -> bool: ...


class Changes(Protocol):
    """What `consumer.catalogue.Catalogue` does for a source."""

    @property
    def has_more(self) -> bool: ...

    def take(self) -> list[Change]: ...


class JournaledSource:
    """Hands out the journaled steps again, exactly as they were cut, then what is new, journaled meanwhile."""

    def __init__(
        self,
        source: Takes,
        journal: Journal,
        step: int,
        offsets: Mapping[int, int],
        catalogue: Changes | None = None,
        writer: Executor | None = None,
        decide: Callable[[bool], bool] | None = None,
    ) -> None:
        """`step` and `offsets` are the checkpoint's: the journal is followed from there.

        `writer` writes the journal while the step is learned; without one `take` waits for the disk. `decide` says
        whether a new step has lists, given whether more records are there than it took; without it every step has.

        What `catalogue` has to say goes into new steps, and from the journal into those that are made again.

        JournalMismatch where the topic cannot hold the journaled records: waiting for them would have no end.
        """
        self._source = source
        self._journal = journal
        self.step = step
        """The step handed out last."""
        self.changes: Sequence[Change] = ()
        """What that step takes in of the catalogue, before its events."""
        self.has_lists = True
        """Whether lists are made after it."""
        self._decide = decide
        self._catalogue = catalogue
        self._writer = writer
        self._writing: Future[None] | None = None
        self._again = deque(journal.steps_after(step))
        self._ahead: dict[int, deque[Record]] = defaultdict(deque)
        self._next = dict(offsets)
        self.steps_to_repeat = len(self._again)
        if self._again:
            self._check_extent(source.end_offsets())

    @property
    def is_repeating(self) -> bool:
        """Whether journaled steps are still to be handed out again."""
        return bool(self._again)

    def next_offsets(self) -> dict[int, int]:
        """Next offset to hand out, per partition: everything below it has been handed out."""
        return dict(self._next)

    def has_reached(self, ends: Mapping[int, int]) -> bool:
        """Whether everything below these offsets has been handed out."""
        if self._again or any(self._ahead.values()):
            return False
        taken = self._source.next_offsets()
        return all(taken.get(partition, 0) >= end for partition, end in ends.items())

    def take(self, max_records: int, wait_seconds: float) -> Taken | None:
        """The records of the next step; None where nothing came within `wait_seconds`.

        Where no record came but the catalogue has changed it is a step of no records: who loads a catalogue before the
        first event, or in a quiet hour, is not to find that most of it still waits when the events come.
        """
        taken = self._repeat(wait_seconds) if self._again else self._fresh(max_records, wait_seconds)
        if taken is not None:
            self._next.update(zip(taken.partition_R.tolist(), (taken.offset_R + 1).tolist(), strict=True))
        if not self._again:
            self._pass_over_gaps()
        return taken

    def step_without_records(self, *, more_wait: bool) -> Taken:
        """A new step of no records, for what waits while nothing comes; not while steps are repeated."""
        if self._again:
            raise RuntimeError("a new step comes after those that are repeated")
        self._begin_step([], self._news(), more_wait=more_wait)
        return Taken([])

    def _pass_over_gaps(self) -> None:
        """What is no record behind the last one (aborted ones, a transaction's marker) counts once it was read over.

        Otherwise retention that comes up to there would look like a loss at the next start.
        """
        for partition, offset in self._source.next_offsets().items():
            if partition in self._next and not self._ahead[partition]:
                self._next[partition] = max(offset, self._next[partition])

    def _repeat(self, wait_seconds: float) -> Taken | None:
        step, runs, changes, has_lists = self._again[0]
        if not self._holds(runs):
            for record in self._source.take(MOST_TAKEN_AT_ONCE, wait_seconds):
                self._ahead[record.partition()].append(record)
            if not self._holds(runs):
                return None
        self._again.popleft()
        self.step, self.changes, self.has_lists = step, changes, has_lists
        return Taken([record for run in runs for record in self._taken(run)])

    def _fresh(self, max_records: int, wait_seconds: float) -> Taken | None:
        taken = Taken([]) if self._has_more_news else Taken(self._new_records(max_records, wait_seconds))
        changes = self._news()
        if not len(taken) and not changes:
            return None
        had_all = 0 < len(taken) < max_records
        self._begin_step(runs_of(taken), changes, more_wait=not had_all and self.is_behind())
        return taken

    def _new_records(self, max_records: int, wait_seconds: float) -> list[Record]:
        """The next ones that no step has; those that came while steps were repeated first."""
        records: list[Record] = []
        for waiting in self._ahead.values():
            while waiting and len(records) < max_records:
                records.append(waiting.popleft())
        return records or self._source.take(max_records, wait_seconds)

    @property
    def _has_more_news(self) -> bool:
        return self._catalogue is not None and self._catalogue.has_more

    def _news(self) -> Sequence[Change]:
        """What the catalogue has to say; not to be asked for without a step that takes it in."""
        return [] if self._catalogue is None else self._catalogue.take()

    def _begin_step(self, runs: Sequence[Run], changes: Sequence[Change], *, more_wait: bool) -> None:
        self.changes = changes
        self.has_lists = self._decide is None or self._decide(more_wait)
        self._append(self.step + 1, runs)
        self.step += 1

    def is_behind(self) -> bool:
        """Whether there are records that no step took: a step that is full may have had the last ones, and a take that
        brought nothing may have come too soon.
        """
        return any(self._ahead.values()) or self._source.is_behind()

    def wait_until_journaled(self) -> None:
        """Return when the step is on disk, so that its lists may go out; raises what the disk refused with."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _append(self, step: int, runs: Sequence[Run]) -> None:
        append = partial(self._journal.append, step, runs, self.changes, has_lists=self.has_lists)
        if self._writer is None:
            append()
        else:
            self._writing = self._writer.submit(append)

    def _holds(self, runs: Sequence[Run]) -> bool:
        """Whether the topic was read to the ends of these runs: then all of their records have come, or never will."""
        read = self._source.next_offsets()
        return all(read.get(run.partition, 0) >= run.next for run in runs)

    def _taken(self, run: Run) -> list[Record]:
        waiting = self._ahead[run.partition]
        records = []
        while waiting and waiting[0].offset() < run.next:
            records.append(waiting.popleft())
        found = [record.offset() for record in records]
        if not found or (found[0], found[-1]) != (run.first, run.next - 1):
            there = f"{found[0]} to {found[-1]}" if found else "none of them"
            raise self._mismatch(self.step, run, f"the topic has {there} there")
        return records

    def _check_extent(self, ends: Mapping[int, int]) -> None:
        place = dict(self._next)
        for step, runs, *_ in self._again:
            for run in runs:
                if run.first < place.get(run.partition, 0):
                    raise self._mismatch(step, run, f"the step before it went up to {place[run.partition]}")
                if run.next > ends.get(run.partition, 0):
                    raise self._mismatch(step, run, f"the topic ends at {ends.get(run.partition, 0)} there")
                place[run.partition] = run.next

    def _mismatch(self, step: int, run: Run, found: str) -> JournalMismatch:
        return JournalMismatch(
            f"step {step} was made from the records {run.first} to {run.next - 1} of partition {run.partition}, but "
            f"{found}: the journal in {self._journal.folder} was written for another topic, or the topic lost records. "
            "For another topic give the worker a HEADRACE_CHECKPOINT_DIR of its own; to go on from the newest "
            "checkpoint with what the topic has, remove the journal's folder: the lists since then are made anew"
        )


def runs_of(taken: Taken) -> list[Run]:
    """The records as runs of one partition, in their order. Gaps, such as transactions leave, lie inside a run."""
    partition_R, offset_R = taken.partition_R, taken.offset_R
    first = np.flatnonzero(np.diff(partition_R, prepend=-1))
    last = np.append(first[1:], len(taken))[: len(first)] - 1
    return [
        Run(*run)
        for run in zip(
            partition_R[first].tolist(), offset_R[first].tolist(), (offset_R[last] + 1).tolist(), strict=True
        )
    ]


def _entries(segment: Path) -> Iterator[Entry]:
    """The steps of a segment, torn and altered lines left out."""
    lines = segment.read_bytes().splitlines(keepends=True)
    yield from (entry for line in lines if (entry := _read(line)) is not None)


def _read(line: bytes) -> Entry | None:
    checksum, _, body = line.partition(b" ")
    body = body.removesuffix(b"\n")
    try:
        if not line.endswith(b"\n") or int(checksum, 16) != zlib.crc32(body):
            return None
        step, runs, *rest = json.loads(body)
        packed, has_lists = rest[0] if rest else "", rest[1] if len(rest) > 1 else True
        return Entry(step, [Run(*run) for run in runs], _unpacked(packed) if packed else (), has_lists)
    except (ValueError, TypeError, zlib.error):
        return None


def _packed(changes: Sequence[Change]) -> str:
    """Values are JSON in UTF-8, often hundreds of them alike, so they are compressed."""
    rows = [(name, None if value is None else value.decode(), *_named(kind)) for name, value, kind in changes]
    text = json.dumps(rows)
    return base64.b64encode(zlib.compress(text.encode(), 1)).decode()


def _unpacked(packed: str) -> list[Change]:
    rows = json.loads(zlib.decompress(base64.b64decode(packed)))
    return [Change(name, None if value is None else value.encode(), *kind) for name, value, *kind in rows]


def _named(kind: str) -> tuple[str, ...]:
    """Items go without: so did all rows before there were others."""
    return () if kind == ITEMS else (kind,)


def _number(path: Path) -> int:
    return int(path.stem)
