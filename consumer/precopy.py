"""A copy of what has a row a user, or an item, made a few rows at a time while steps go on moving rows.

Of lists that lie somewhere in a pool each is copied to the same place of another pool, so that they need not be put end
to end while steps wait: that is done with the copy.

It is how the memory of a running machine is moved to another one (Clark et al., "Live Migration of Virtual Machines",
NSDI 2005): first all rows are copied, then, piece by piece, those that moved meanwhile, until they are so few that the
rest is copied between two steps. Whoever moves a row has to say so.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.growth import grown, lies_in_reservation, populate
from model.ragged import Part, Ragged
from model.state import tensors_of

PIECE_BYTES: Final = 4 << 20
"""What is copied at a time: about a millisecond."""
MOST_ROUNDS: Final = 10
"""After so many pieces it ends where what is left does not become less: more rows move than a piece has."""

MOST_TIMES: Final = 8
"""A piece grows to so many times its size where steps move many rows, and to more only where they move more."""

Parts = Mapping[str, Part]
Ints = NDArray[np.int64]


class UnknownMove(RuntimeError):
    """A row is not as it was copied, and nobody said that it moved: the copy is of no use."""


class CopyMemory:
    """Memory for copies that are made again and again: to get fresh pages takes longer than to fill them.

    A copy holds until the next of the same name.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}
        self._empty: set[str] = set()
        """Those that may have rows without memory."""

    @property
    def has_empty(self) -> bool:
        """Whether `populate` has anything to do."""
        return bool(self._empty)

    def populate(self) -> None:
        """Get memory for all there is room for: in another thread than that which copies and need not wait for it."""
        while self._empty:
            populate(self._arrays[self._empty.pop()])

    def copy(self, name: str, part: Part) -> Part:
        """The part as it is now."""
        if isinstance(part, Ragged):
            self.make_room(name, part)
            self.copy_rows(name, part, slice(0, len(part)))
            return self.rows(name, part)
        if not part.ndim:
            return part.copy()
        self.make_room(name, part)
        room = self._arrays[name][: len(part)]
        room[...] = part
        return room

    def make_room(self, name: str, part: Part) -> bool:
        """Room for a copy of all its rows; whether rows that were copied before still stand in it."""
        if not isinstance(part, Ragged):
            return self._make_room(name, part)
        stands = [self._make_room(name, part.pool, is_sparse=True)]
        stands += [self._make_room(inner, array) for inner, array in _columns(name, part)]
        return all(stands)

    def copy_rows(self, name: str, part: Part, rows: Ints | slice) -> None:
        """Copy these rows of a part for which there is room."""
        if not isinstance(part, Ragged):
            self._arrays[name][rows] = part[rows]
            return
        rows_N = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        part.copy_rows(rows_N, self._arrays[name])
        for inner, array in _columns(name, part):
            self._arrays[inner][rows] = array[rows]

    def rows(self, name: str, part: Part) -> Part:
        """The copy of as many rows as the part has."""
        if not isinstance(part, Ragged):
            return self._arrays[name][: len(part)]
        columns = {inner: self._arrays[inner][: len(array)] for inner, array in _columns(name, part)}
        start_R = part.start_R if isinstance(part.start_R, int) else columns[f"{name} starts"]
        return Ragged(self._arrays[name][: len(part.pool)], start_R, columns[f"{name} lengths"])

    def _make_room(self, name: str, array: NDArray[Any], *, is_sparse: bool = False) -> bool:
        """`is_sparse`: parts of it are never written to, so that it gets memory as it is."""
        held = self._arrays.get(name)
        fits = held is not None and held.dtype == array.dtype and held.shape[1:] == array.shape[1:]
        if held is None or not fits:
            held = np.empty((0, *array.shape[1:]), dtype=array.dtype)
        room = self._arrays[name] = grown(held, len(array), fill=None)
        if room is not held and lies_in_reservation(room) and not is_sparse:
            self._empty.add(name)
        return fits


class Precopy:
    """One copy after the other; `begin`, `advance` until it says that it is done, `finish`."""

    def __init__(self, memory: CopyMemory, piece_bytes: int = PIECE_BYTES) -> None:
        """`memory` is where the copies lie, under the names of their arrays."""
        self._memory = memory
        self._piece_bytes = piece_bytes
        self.is_under_way = False
        self._past = self._rows = 0
        """All rows below the first are copied once, in order, up to the second."""
        self._is_left_R = np.zeros(0, dtype=np.bool_)
        """Rows that moved since they were copied, or came; a row behind `_past` may be among them."""
        self._most_moved = self._least_left = self._rounds = 0

    def begin(self, parts: Parts) -> None:
        """Start a copy. What was handed out by `finish` before is overwritten."""
        self.is_under_way = True
        self._past, self._rows = 0, len(next(iter(parts.values()), ()))
        self._is_left_R = np.zeros(self._rows, dtype=np.bool_)
        self._most_moved, self._least_left, self._rounds = 0, self._rows + 1, 0
        row_bytes = sum(part.row_bytes() if isinstance(part, Ragged) else part[:1].nbytes for part in parts.values())
        self._first_piece_rows = self._piece_rows = max(1, self._piece_bytes // max(row_bytes, 1))
        self._make_room(parts)

    def note(self, rows: Ints | None) -> None:
        """These rows moved; None: any of them may have."""
        if not self.is_under_way:
            return
        if rows is None:
            self._past = 0
            self._rounds += 1
            return
        rows = _distinct(rows)
        self._reach(int(rows[-1]) + 1 if len(rows) else 0)
        self._is_left_R[rows] = True
        # A piece has to be more than a step moves, or there is no end; where that is few rows it may be more of them.
        self._most_moved = max(self._most_moved, len(rows))
        more = min(4 * len(rows), MOST_TIMES * self._first_piece_rows)
        self._piece_rows = max(self._piece_rows, 2 * self._most_moved, more)

    def advance(self, parts: Parts) -> bool:
        """Copy the next piece of the parts as they are now; whether `finish` has little to do.

        Called again where it has, it copies what moved once that is more, so that it stays little.
        """
        if not self.is_under_way:
            raise RuntimeError("begin comes before advance")
        if not self._make_room(parts):
            self.begin(parts)
        if self._past < self._rows:
            piece = min(self._piece_rows, MOST_TIMES * self._first_piece_rows)
            now = slice(self._past, min(self._past + piece, self._rows))
            self._copy(parts, now)
            self._past = now.stop
            left = int(np.count_nonzero(self._is_left_R))
            return self._rounds >= MOST_ROUNDS or (self._past == self._rows and self._is_little(left))
        left_N = np.flatnonzero(self._is_left_R)
        if self._is_little(len(left_N)):
            return True
        self._copy(parts, left_N[: self._piece_rows])
        left = len(left_N[self._piece_rows :])
        self._rounds = 0 if self._is_little(left) else self._rounds + (left >= self._least_left)
        self._least_left = min(self._least_left, left)
        return self._is_little(left) or self._rounds >= MOST_ROUNDS

    def finish(self, parts: Parts) -> dict[str, Part]:
        """The copies, of all rows that there are now, as they are now.

        UnknownMove where a row is not that of a part, among those with one number a row, which are compared: of lists
        their places and lengths.
        """
        if not self.is_under_way:
            raise RuntimeError("begin comes before finish")
        if not self._make_room(parts):
            self.begin(parts)
        self._reach(len(next(iter(parts.values()), ())))
        self._copy(parts, slice(self._past, self._rows))
        self._copy(parts, np.flatnonzero(self._is_left_R))
        self.drop()
        copies = {name: self._memory.rows(name, part) for name, part in parts.items()}
        for name, part in parts.items():
            for copy, array in zip(_numbers(copies[name]), _numbers(part), strict=True):
                if not np.array_equal(_bits(copy), _bits(array)):
                    row = int(np.flatnonzero(_bits(copy) != _bits(array))[0])
                    raise UnknownMove(
                        f"row {row} of {name} moved while it was copied, and nobody said so; nothing is saved"
                    )
        return copies

    def drop(self) -> None:
        """Leave the copy that is being made."""
        self.is_under_way = False

    def _is_little(self, rows: int) -> bool:
        """Whether so many take no longer than a piece, or than what a step moves and half as much again."""
        return rows <= max(self._first_piece_rows, self._most_moved + self._most_moved // 2)

    def _reach(self, rows: int) -> None:
        """There are so many rows by now: new ones are left to be copied."""
        new = rows - len(self._is_left_R)
        if new > 0:
            self._is_left_R = np.concatenate((self._is_left_R, np.ones(new, dtype=np.bool_)))

    def _copy(self, parts: Parts, rows: Ints | slice) -> None:
        for name, part in parts.items():
            self._memory.copy_rows(name, part, rows)
        self._is_left_R[rows] = False

    def _make_room(self, parts: Parts) -> bool:
        """Whether what was copied so far is still there: rows that were given another shape are not."""
        stands = [self._memory.make_room(name, part) for name, part in parts.items()]
        return all(stands)


class Precopies:
    """Copies of several groups of parts, each with rows of its own, that are of one moment in the end.

    A group is begun when those before it have little left, so that few of its rows are copied twice: the largest first.
    """

    def __init__(self, memory: CopyMemory, groups: Iterable[str], piece_bytes: int = PIECE_BYTES) -> None:
        self._copies = {group: Precopy(memory, piece_bytes) for group in groups}

    @property
    def is_under_way(self) -> bool:
        return any(copy.is_under_way for copy in self._copies.values())

    def note(self, moved: Mapping[str, Ints | None]) -> None:
        """These rows of these groups moved; None: any of them may have."""
        for group, rows in moved.items():
            self._copies[group].note(rows)

    def advance(self, parts: Mapping[str, Parts]) -> bool:
        """Copy the next piece, of the first at the beginning; whether `finish` has little to do."""
        for group, copy in self._copies.items():
            if not copy.is_under_way:
                copy.begin(parts[group])
            if not copy.advance(parts[group]):
                return False
        return True

    def finish(self, parts: Mapping[str, Parts]) -> dict[str, Part]:
        """The copies of all groups as they are now. Raises what `Precopy.finish` raises."""
        copied: dict[str, Part] = {}
        for group, copy in self._copies.items():
            copied.update(copy.finish(parts[group]))
        return copied

    def drop(self) -> None:
        """Leave the copies that are being made."""
        for copy in self._copies.values():
            copy.drop()


def _columns(name: str, lists: Ragged) -> list[tuple[str, NDArray[Any]]]:
    """What has a number a row of lists, and what a copy of it is called."""
    starts = [] if isinstance(lists.start_R, int) else [(f"{name} starts", lists.start_R)]
    return [*starts, (f"{name} lengths", lists.length_R)]


def _numbers(part: Part) -> list[NDArray[Any]]:
    """What has one number a row."""
    if isinstance(part, Ragged):
        return [array for _, array in _columns("", part)]
    return [part] if part.ndim == 1 else []


def _distinct(rows: Ints) -> Ints:
    """Each once, ascending: `np.unique` takes several times as long."""
    rows = np.sort(rows)
    distinct: Ints = rows[np.diff(rows, prepend=-1) != 0]
    return distinct


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    """What is compared of numbers: a NaN is itself, and integers are compared in a fraction of the time."""
    return array.view(f"u{array.itemsize}")


def warm_up() -> None:
    """Compile what copies lists and puts them end to end, before a step waits for it."""
    for dtype in (np.int32, np.float32, np.uint8):
        tensors_of(
            {"lists": CopyMemory().copy("lists", Ragged.of_table(np.zeros((1, 1), dtype), np.ones(1, np.int64)))}
        )
