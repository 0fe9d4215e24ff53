"""Arrays that grow with the vocabulary, and what their new rows start with.

A large array lies in address space that was reserved for far more rows than it has; the system gives it memory as
pages are written to (`mmap` with MAP_NORESERVE). Growing is then a longer view of the same memory: no row is copied,
nothing waits, and memory is not needed twice. A view made before shares its rows with the array as it has grown. Where
the system refuses to reserve (another system than Linux, a limit on address space, strict overcommit), arrays are
copied to half as much again.

Rows that come in no order are found faster where memory lies in large pages: in a virtual machine above all, where each
page that the processor has forgotten is looked up twice. Whoever grows must not wait for those, so they take the place
of small ones later (`collapse_next`).
"""

import ctypes
import mmap
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property, lru_cache
from itertools import count
from typing import TypeVar
from weakref import ref

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 1024

LARGE_BYTES = 1 << 20
"""From here on an array lies in a reservation."""
PORTION_BYTES = 1 << 18
"""By so much it grows there at least: fresh pages take a tenth of a millisecond or so, and many arrays may grow in one
call."""
RESERVED_BYTES = 1 << 36
"""Address space of an array, 64 GiB; a process has 128 TiB of it."""
HUGE_PAGE_BYTES = 1 << 21
PAGE_BYTES = 1 << 12
LINE_BYTES = 64
_MAP_NORESERVE = 0x4000
_MADV_COLLAPSE = 25
"""Of Linux 6.1 and later; Python has no name for it."""
_MADV_POPULATE_WRITE = 23
"""Of Linux 5.14 and later; nor for this one."""
POPULATED_AT_ONCE = 1 << 21
"""Bytes: until a call comes back no other thread can map or unmap memory, as large arrays do that come and go."""

Scalar = TypeVar("Scalar", bound=np.generic)


class _Reservation(mmap.mmap):
    """Address space of one array, which begins `offset` bytes behind its beginning."""

    offset = 0
    handed_out = 0
    """Bytes of the longest array in it: a shorter one is a part of it, and does not grow here."""

    settled = 0
    """Bytes from its beginning on for which large pages were asked for."""

    @cached_property
    def address(self) -> int:
        return int(np.ndarray(1, dtype=np.uint8, buffer=self).ctypes.data)

    def settle(self) -> range:
        """What was handed out will not grow any more: the system may put large pages in the place of small ones.

        Never ahead of the rows: where memory is in pieces, each large page that is asked for takes milliseconds.
        Returned is where the large pages begin that have become possible.
        """
        if not hasattr(mmap, "MADV_HUGEPAGE"):
            return range(0)
        past = self.address + self.offset + self.handed_out
        past -= past % HUGE_PAGE_BYTES
        first = self.address + self.settled
        first += -first % HUGE_PAGE_BYTES
        if past > first:
            with suppress(OSError):  # a kernel without them
                self.madvise(mmap.MADV_HUGEPAGE, 0, past - self.address)
            self.settled = past - self.address
        return range(first, past, HUGE_PAGE_BYTES)


_small_pages: deque[tuple[ref[_Reservation], int]] = deque()
"""Stretches of settled rows, as long as a large page each, that lie in small pages still: for `collapse_next`."""


def collapse_next() -> bool:
    """Put one large page in the place of small ones under rows that were settled; False: there are none now.

    It takes a third of a millisecond, and milliseconds where memory is in pieces. Other threads run meanwhile; one that
    touches these very rows waits until they have moved. May be called in any thread. Where the system cannot do it,
    nothing happens.
    """
    try:
        found, address = _small_pages.popleft()
    except IndexError:
        return False
    reservation = found()  # kept until the system is done with it
    if reservation is not None:
        _madvise(address, HUGE_PAGE_BYTES, _MADV_COLLAPSE)
    return True


def lies_in_reservation(array: NDArray[np.generic]) -> bool:
    """Whether its rows may lie in memory that the system gives only as they are written to."""
    return isinstance(array.base, _Reservation)


def populate(array: NDArray[np.generic]) -> None:
    """Have the system give memory for such rows now; what they hold stays. May be called in any thread: others run
    meanwhile. Where the system cannot do it, nothing happens.
    """
    if lies_in_reservation(array) and array.nbytes:
        first = int(array.ctypes.data)
        past = first + array.nbytes
        for start in range(first - first % PAGE_BYTES, past, POPULATED_AT_ONCE):
            _madvise(start, min(POPULATED_AT_ONCE, past - start), _MADV_POPULATE_WRITE)


def _madvise(address: int, size: int, advice: int) -> None:
    madvise = ctypes.CDLL(None).madvise  # mmap's own lets no other thread run
    madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_int(advice))


def room_for(rows: int, capacity: int) -> int:
    """The capacity to take when `rows` must fit: unchanged while they do, otherwise half as much again."""
    return capacity if rows <= capacity else max(rows, capacity + capacity // 2, 64)


def grown(array: NDArray[Scalar], rows: int, fill: float | None = 0) -> NDArray[Scalar]:
    """The array with room for at least `rows` rows, the new ones filled; the same object while they fit.

    `fill` None: what the new ones hold is not said, and they take memory where they are written to.
    """
    if rows <= len(array):
        return array
    row_bytes = max(array.itemsize * int(np.prod(array.shape[1:])), 1)
    in_place = max(rows, len(array) + PORTION_BYTES // row_bytes)
    larger = _longer_view(array, in_place)
    if larger is None:
        capacity = room_for(rows, len(array))
        larger = _reserved(array, in_place) if capacity * row_bytes >= LARGE_BYTES else None
        if larger is None:
            larger = np.empty((capacity, *array.shape[1:]), dtype=array.dtype)
        larger[: len(array)] = array
    if fill is not None:
        larger[len(array) :] = fill
    return larger


def growable(array: NDArray[np.generic], dtype: type[Scalar]) -> NDArray[Scalar]:
    """A copy of this type, contiguous and writable; a large one lies where it can grow without being copied again."""
    copy = array.astype(dtype, order="C")
    if copy.nbytes < LARGE_BYTES or not len(copy):
        return copy
    reserved = _reserved(copy, len(copy))
    if reserved is None:
        return copy
    if isinstance(reserved.base, _Reservation):
        reserved.base.settle()
    reserved[:] = copy
    return reserved


def zeros(size: int, dtype: type[Scalar]) -> NDArray[Scalar]:
    """So many zeros, which take memory where they are written to, and time only then."""
    nothing: NDArray[Scalar] = np.zeros(0, dtype=dtype)
    reserved = _reserved(nothing, size) if size * nothing.itemsize >= LARGE_BYTES else None
    if reserved is None:
        return np.zeros(size, dtype=dtype)
    if isinstance(reserved.base, _Reservation):
        reserved.base.settle()
    return reserved


def _spread_out() -> Iterator[int]:
    """Where arrays begin in their reservations: each on another page and another line of it.

    Reservations lie a round number of bytes apart. Columns that began where those do would have their rows in the same
    places of the machine's caches, and push each other out: a pass over ten of them took twice as long.
    """
    for number in count():
        yield number * 37 % (HUGE_PAGE_BYTES // PAGE_BYTES - 1) * PAGE_BYTES + number % 61 * LINE_BYTES


_offsets = _spread_out()


def _longer_view(array: NDArray[Scalar], rows: int) -> NDArray[Scalar] | None:
    """The rows of an array that is all that lies in a reservation, and those behind it; None for any other."""
    reservation = array.base
    if not isinstance(reservation, _Reservation) or reservation.handed_out != array.nbytes:
        return None
    _small_pages.extend((ref(reservation), address) for address in reservation.settle())
    return _view(reservation, array, rows)


def _reserved(array: NDArray[Scalar], rows: int) -> NDArray[Scalar] | None:
    """Room for so many rows like the array's in a new reservation; None where the system refuses it."""
    wanted = 8 * rows * array.itemsize * int(np.prod(array.shape[1:]))
    try:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        reservation = _Reservation(-1, max(RESERVED_BYTES, wanted), flags=flags)
        reservation.offset = next(_offsets)
        return _view(reservation, array, rows)
    except (OSError, AttributeError):
        return None


def _view(reservation: _Reservation, array: NDArray[Scalar], rows: int) -> NDArray[Scalar] | None:
    shape = (rows, *array.shape[1:])
    if reservation.offset + array.itemsize * int(np.prod(shape)) > len(reservation):
        return None
    view: NDArray[Scalar] = np.ndarray(shape, dtype=array.dtype, buffer=reservation, offset=reservation.offset)
    reservation.handed_out = view.nbytes
    return view


def normal_rows(name: str, seed: int, first: int, past: int, width: int, spread: float) -> NDArray[np.float32]:
    """First values of rows first .. past - 1 of a table: normal around 0, a function of (seed, name, row) alone."""
    if spread == 0 or past <= first:
        return np.zeros((max(past - first, 0), width), dtype=np.float32)
    blocks = range(first // BLOCK_ROWS, (past - 1) // BLOCK_ROWS + 1)
    drawn = np.concatenate([_normal_block(name, seed, block, width) for block in blocks])
    offset = blocks[0] * BLOCK_ROWS
    return drawn[first - offset : past - offset] * np.float32(spread)


@lru_cache(maxsize=4)  # a stream asks for the last block of each table again and again
def _normal_block(name: str, seed: int, block: int, width: int) -> NDArray[np.float32]:
    sequence = np.random.SeedSequence([seed, *name.encode(), block])
    drawn = np.random.Generator(np.random.Philox(sequence)).standard_normal((BLOCK_ROWS, width), dtype=np.float32)
    drawn.flags.writeable = False  # it is shared
    return drawn
