"""A copy of arrays with a row a user, or an item, made a few rows at a time while steps go on moving rows.

It is how the memory of a running machine is moved to another one (Clark et al., "Live Migration of Virtual Machines",
NSDI 2005): first all rows are copied, then, round after round, those that moved meanwhile, until they are so few that
the rest is copied between two steps. A step moves a few hundred rows and a piece has some thousands, so a few rounds
do. Whoever moves a row has to say so.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.growth import grown, lies_in_reservation, populate

PIECE_BYTES: Final = 4 << 20
"""What is copied at a time: about a millisecond."""
MOST_ROUNDS: Final = 10
"""So many rounds at most, should more rows move than a piece has."""

MOST_TIMES: Final = 8
"""A piece grows to so many times its size at most, where steps move many rows."""

Arrays = Mapping[str, NDArray[Any]]
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

    def copy(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """The array as it is now."""
        if not array.ndim:
            return array.copy()
        self.make_room(name, array)
        room = self._arrays[name][: len(array)]
        room[...] = array
        return room

    def make_room(self, name: str, array: NDArray[Any]) -> bool:
        """Room for a copy of all its rows; whether rows that were copied before still stand in it."""
        held = self._arrays.get(name)
        fits = held is not None and held.dtype == array.dtype and held.shape[1:] == array.shape[1:]
        if held is None or not fits:
            held = np.empty((0, *array.shape[1:]), dtype=array.dtype)
        room = self._arrays[name] = grown(held, len(array), fill=None)
        if room is not held and lies_in_reservation(room):
            self._empty.add(name)
        return fits

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Rows for which there is room, at least."""
        return self._arrays[name]


class Precopy:
    """One copy after the other; `begin`, `advance` until it says that it is done, `finish`."""

    def __init__(self, memory: CopyMemory, piece_bytes: int = PIECE_BYTES) -> None:
        """`memory` is where the copies lie, under the names of their arrays."""
        self._memory = memory
        self._piece_bytes = piece_bytes
        self._left: Ints | slice | None = None
        """Rows that this round has still to copy; None: no copy is being made."""
        self._moved: list[Ints] = []
        self._round = 0

    @property
    def is_under_way(self) -> bool:
        return self._left is not None

    def begin(self, arrays: Arrays) -> None:
        """Start a copy. What was handed out by `finish` before is overwritten."""
        self._rows = len(next(iter(arrays.values()), ()))
        self._left, self._moved, self._round = slice(0, self._rows), [], 1
        row_bytes = sum(array[:1].nbytes for array in arrays.values())
        self._first_piece_rows = self._piece_rows = max(1, self._piece_bytes // max(row_bytes, 1))
        self._make_room(arrays)

    def note(self, rows: Ints | None) -> None:
        """These rows moved; None: any of them may have."""
        if self._left is None:
            return
        if rows is None:
            self._left, self._moved = slice(0, self._rows), []
            self._round += 1
        else:
            self._moved.append(rows)
            # A round has to be shorter than the one before it, where a step moves many rows too.
            self._piece_rows = max(self._piece_rows, min(4 * len(rows), MOST_TIMES * self._first_piece_rows))

    def advance(self, arrays: Arrays) -> bool:
        """Copy the next piece of the arrays as they are now; whether `finish` has little to do.

        Called again where it has, it goes on copying what moved, so that it stays little.
        """
        if self._left is None:
            raise RuntimeError("begin comes before advance")
        if not self._make_room(arrays):
            self.begin(arrays)
        now, self._left = _split(self._left, self._piece_rows)
        self._copy(arrays, now)
        if _size(self._left):
            return self._round > MOST_ROUNDS
        moved = self._take_moved()
        if len(moved) <= self._piece_rows:
            self._round = 1
        if len(moved) <= self._piece_rows or self._round >= MOST_ROUNDS:
            self._moved.append(moved)
            return True
        self._left = moved
        self._round += 1
        return False

    def finish(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The copies, of all rows that there are now, as they are now.

        UnknownMove where a row is not that of an array, among those with one number a row, which are compared.
        """
        if self._left is None:
            raise RuntimeError("begin comes before finish")
        if not self._make_room(arrays):
            self.begin(arrays)
        rows = len(next(iter(arrays.values()), ()))
        self._copy(arrays, self._left)
        self._copy(arrays, slice(self._rows, rows))
        self._copy(arrays, self._take_moved())
        self._left = None
        copies = {name: self._memory[name][:rows] for name in arrays}
        for name, array in arrays.items():
            if array.ndim == 1 and not np.array_equal(_bits(copies[name]), _bits(array)):
                row = int(np.flatnonzero(_bits(copies[name]) != _bits(array))[0])
                raise UnknownMove(
                    f"row {row} of {name} moved while it was copied, and nobody said so; nothing is saved"
                )
        return copies

    def drop(self) -> None:
        """Leave the copy that is being made."""
        self._left, self._moved = None, []

    def _take_moved(self) -> Ints:
        moved, self._moved = self._moved, []
        return np.unique(np.concatenate(moved)) if moved else np.zeros(0, dtype=np.int64)

    def _copy(self, arrays: Arrays, rows: Ints | slice) -> None:
        for name, array in arrays.items():
            self._memory[name][rows] = array[rows]

    def _make_room(self, arrays: Arrays) -> bool:
        """Whether what was copied so far is still there: rows that were given another shape are not."""
        stands = [self._memory.make_room(name, array) for name, array in arrays.items()]
        return all(stands)


class Precopies:
    """Copies of several groups of arrays, each with rows of its own, that are of one moment in the end.

    A group is begun when those before it have little left, so that few of its rows are copied twice: the largest first.
    """

    def __init__(self, memory: CopyMemory, groups: Iterable[str], piece_bytes: int = PIECE_BYTES) -> None:
        self._copies = {group: Precopy(memory, piece_bytes) for group in groups}

    @property
    def is_under_way(self) -> bool:
        return any(copy.is_under_way for copy in self._copies.values())

    def note(self, moved: Mapping[str, Ints | None]) -> None:
        """These rows of each group moved; None: any of them may have."""
        for group, copy in self._copies.items():
            copy.note(moved[group])

    def advance(self, arrays: Mapping[str, Arrays]) -> bool:
        """Copy the next piece, of the first at the beginning; whether `finish` has little to do."""
        for group, copy in self._copies.items():
            if not copy.is_under_way:
                copy.begin(arrays[group])
            if not copy.advance(arrays[group]):
                return False
        return True

    def finish(self, arrays: Mapping[str, Arrays]) -> dict[str, NDArray[Any]]:
        """The copies of all groups as they are now. Raises what `Precopy.finish` raises."""
        copied: dict[str, NDArray[Any]] = {}
        for group, copy in self._copies.items():
            copied.update(copy.finish(arrays[group]))
        return copied

    def drop(self) -> None:
        """Leave the copies that are being made."""
        for copy in self._copies.values():
            copy.drop()


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
