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
"""A piece grows to so many times its size at most, where steps move many rows."""

Parts = Mapping[str, Part]
Ints = NDArray[np.int64]
NO_ROWS: Final = np.zeros(0, dtype=np.int64)


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
        self._left: Ints | slice = NO_ROWS
        """Rows that are still to be copied: at first a slice, then those that moved."""
        self.is_under_way = False
        self._moved: list[Ints] = []
        self._most_moved = 0
        """Rows that a step moved, at most."""
        self._least_left = 0
        self._round = 0

    def begin(self, parts: Parts) -> None:
        """Start a copy. What was handed out by `finish` before is overwritten."""
        self._rows = len(next(iter(parts.values()), ()))
        self.is_under_way, self._left, self._moved, self._round = True, slice(0, self._rows), [], 1
        self._most_moved, self._least_left = 0, self._rows + 1
        row_bytes = sum(part.row_bytes() if isinstance(part, Ragged) else part[:1].nbytes for part in parts.values())
        self._first_piece_rows = self._piece_rows = max(1, self._piece_bytes // max(row_bytes, 1))
        self._make_room(parts)

    def note(self, rows: Ints | None) -> None:
        """These rows moved; None: any of them may have."""
        if not self.is_under_way:
            return
        if rows is None:
            self._left, self._moved = slice(0, self._rows), []
            self._round += 1
        else:
            rows = np.unique(rows)
            self._moved.append(rows)
            self._most_moved = max(self._most_moved, len(rows))
            # A round has to be shorter than the one before it, where a step moves many rows too.
            self._piece_rows = max(self._piece_rows, min(4 * len(rows), MOST_TIMES * self._first_piece_rows))

    def advance(self, parts: Parts) -> bool:
        """Copy the next piece of the parts as they are now; whether `finish` has little to do.

        Called again where it has, it copies what moved once that is more, so that it stays little.
        """
        if not self.is_under_way:
            raise RuntimeError("begin comes before advance")
        if not self._make_room(parts):
            self.begin(parts)
        if not isinstance(self._left, slice):
            self._gather()
            if self._is_little:
                return True
        now, self._left = _split(self._left, self._piece_rows)
        self._copy(parts, now)
        if isinstance(self._left, slice) and _size(self._left):
            return self._round > MOST_ROUNDS
        self._gather()
        left = _size(self._left)
        self._round = 1 if self._is_little else self._round + (left >= self._least_left)
        self._least_left = min(self._least_left, left)
        return self._is_little or self._round > MOST_ROUNDS

    @property
    def _is_little(self) -> bool:
        """Whether what is left takes no longer than a piece, or than what a step moves and half as much again."""
        return _size(self._left) <= max(self._first_piece_rows, self._most_moved + self._most_moved // 2)

    def _gather(self) -> None:
        """Leave what moved, beside what is left of it."""
        left = self._moved if isinstance(self._left, slice) else [self._left, *self._moved]
        self._left, self._moved = np.unique(np.concatenate(left)) if left else NO_ROWS, []

    def finish(self, parts: Parts) -> dict[str, Part]:
        """The copies, of all rows that there are now, as they are now.

        UnknownMove where a row is not that of a part, among those with one number a row, which are compared: of lists
        their lengths.
        """
        if not self.is_under_way:
            raise RuntimeError("begin comes before finish")
        if not self._make_room(parts):
            self.begin(parts)
        rows = len(next(iter(parts.values()), ()))
        if isinstance(self._left, slice):
            self._copy(parts, self._left)
            self._left = NO_ROWS
        self._gather()
        self._copy(parts, self._left)
        self._copy(parts, slice(self._rows, rows))
        self.drop()
        copies = {name: self._memory.rows(name, part) for name, part in parts.items()}
        for name, part in parts.items():
            copy, array = _numbers(copies[name]), _numbers(part)
            if array.ndim == 1 and not np.array_equal(_bits(copy), _bits(array)):
                row = int(np.flatnonzero(_bits(copy) != _bits(array))[0])
                raise UnknownMove(
                    f"row {row} of {name} moved while it was copied, and nobody said so; nothing is saved"
                )
        return copies

    def drop(self) -> None:
        """Leave the copy that is being made."""
        self.is_under_way, self._left, self._moved = False, NO_ROWS, []

    def _copy(self, parts: Parts, rows: Ints | slice) -> None:
        for name, part in parts.items():
            self._memory.copy_rows(name, part, rows)

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


def _numbers(part: Part) -> NDArray[Any]:
    return part.length_R if isinstance(part, Ragged) else part


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    """What is compared of numbers: a NaN is itself, and integers are compared in a fraction of the time."""
    return array.view(f"u{array.itemsize}")


def _size(rows: Ints | slice) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def _split(rows: Ints | slice, size: int) -> tuple[Ints | slice, Ints | slice]:
    """The first `size` of these rows, and the others."""
    if isinstance(rows, slice):
        middle = min(rows.start + size, rows.stop)
        return slice(rows.start, middle), slice(middle, rows.stop)
    return rows[:size], rows[size:]


def warm_up() -> None:
    """Compile what copies lists and puts them end to end, before a step waits for it."""
    for dtype in (np.int32, np.float32, np.uint8):
        tensors_of(
            {"lists": CopyMemory().copy("lists", Ragged.of_table(np.zeros((1, 1), dtype), np.ones(1, np.int64)))}
        )
