"""Arrays that grow, and the values that new rows start with."""

import copy
import gc
import mmap
import re
from pathlib import Path

import numpy as np
import pytest

from model import growth
from model.growth import (
    BLOCK_ROWS,
    HUGE_PAGE_BYTES,
    LARGE_BYTES,
    LINE_BYTES,
    PAGE_BYTES,
    PORTION_BYTES,
    collapse_next,
    growable,
    grown,
    lies_in_reservation,
    normal_rows,
    populate,
    room_for,
    zeros,
)


def test_an_array_that_is_large_enough_stays_the_same_object():
    array = np.zeros((5, 2))

    assert grown(array, 5) is array


def test_an_array_keeps_its_rows_and_fills_the_new_ones():
    array = np.arange(4, dtype=np.int32).reshape(2, 2)

    larger = grown(array, 3, fill=-1)

    assert larger[:2].tolist() == [[0, 1], [2, 3]]
    assert (larger[2:] == -1).all()
    assert larger.dtype == np.int32
    assert len(larger) >= 3


def large(rows=LARGE_BYTES // 8, width=2):
    return growable(np.arange(rows * width).reshape(rows, width), np.int64)


def test_a_large_array_grows_without_being_copied_and_old_views_share_its_rows():
    array = large()
    view, address = array[5:7], array.ctypes.data

    larger = grown(array, len(array) + 1, fill=-1)
    larger[5] = 99

    assert larger.ctypes.data == address
    assert view[0].tolist() == [99, 99]
    assert (larger[len(array) :] == -1).all()
    assert np.array_equal(larger[6 : len(array)], large()[6:])


def test_an_array_that_becomes_large_is_copied_once_and_then_never_again():
    array, addresses = np.zeros((0, 16), dtype=np.float32), []
    for rows in range(0, 100_000, 512):
        array = grown(array, rows + 512, fill=3)
        array[rows : rows + 512] = rows
        if array.nbytes >= LARGE_BYTES:
            addresses.append(array.ctypes.data)

    assert len(addresses) > 100
    assert len(set(addresses)) == 1
    assert (array[np.arange(100_000)] == (np.arange(100_000) // 512 * 512)[:, None]).all()
    assert (array[100_352:] == 3).all()


def test_a_large_array_grows_by_a_bounded_portion():
    array = large()

    larger = grown(array, len(array) + 1)

    assert larger.nbytes - array.nbytes <= PORTION_BYTES


def test_a_part_of_a_large_array_grows_elsewhere():
    array = large()
    whole = grown(array, len(array) + 1, fill=7)

    for part in (array, whole[:10], whole[3:]):  # the first of them was the whole, before it grew
        larger = grown(part, len(whole) + 5)
        larger[0] = larger[-1] = 99

    assert whole[0].tolist() == [0, 1]
    assert (whole[len(array) :] == 7).all()


def test_what_is_growable_is_a_copy_of_the_asked_type():
    array = np.arange(LARGE_BYTES, dtype=np.int64)

    copied = growable(array[::2], np.int32)
    copied[0] = 99

    assert array[0] == 0
    assert copied.dtype == np.int32
    assert np.array_equal(copied[1:], array[2::2])
    assert growable(np.zeros((0, 3)), np.float32).shape == (0, 3)


@pytest.mark.parametrize("size", [0, 5, LARGE_BYTES])
def test_zeros_are_zeros_that_can_be_written_to(size):
    array = zeros(size, np.int32)

    assert (array.shape, array.dtype) == ((size,), np.int32)
    assert not array.any()
    array[:] = 1
    assert not zeros(size, np.int32).any()


def test_a_copy_of_a_large_array_stands_for_itself():
    array = large()
    twin = copy.deepcopy(array)

    grown(twin, len(twin) + 1)[0] = 99

    assert array[0].tolist() == [0, 1]


def test_rows_may_have_their_memory_before_they_are_written_to_and_keep_what_they_hold():
    array = grown(np.arange(1 << 20), 1 << 21, fill=None)

    populate(array)
    populate(np.arange(3))  # not its business

    assert lies_in_reservation(array)
    assert not lies_in_reservation(np.arange(1 << 20))
    assert np.array_equal(array[: 1 << 20], np.arange(1 << 20))
    assert not array[1 << 20 :].any()


def test_memory_is_asked_for_in_pieces_since_nobody_can_map_any_meanwhile(monkeypatch):
    array = grown(np.zeros((0, 3)), 500_000, fill=None)
    asked = []
    monkeypatch.setattr(growth, "_madvise", lambda *given: asked.append(given[:2]))

    populate(array)

    first, past = array.ctypes.data, array.ctypes.data + array.nbytes
    assert all(address % PAGE_BYTES == 0 and size <= HUGE_PAGE_BYTES for address, size in asked)
    assert [address + size for address, size in asked[:-1]] == [address for address, _ in asked[1:]]
    assert first - PAGE_BYTES < asked[0][0] <= first
    assert sum(asked[-1]) == past


def test_where_no_address_space_can_be_reserved_arrays_are_copied_to_half_as_much_again(monkeypatch):
    class Refused:
        def __init__(self, *_, **__):
            raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(growth, "_Reservation", type("Refused", (Refused, mmap.mmap), {}))
    array = large()

    larger = grown(array, len(array) + 1, fill=-1)

    assert len(larger) == len(array) * 3 // 2
    assert larger.base is None
    assert np.array_equal(larger[: len(array)], array)
    assert (larger[len(array) :] == -1).all()


def test_an_array_that_fills_its_reservation_moves_to_a_larger_one(monkeypatch):
    monkeypatch.setattr(growth, "RESERVED_BYTES", 0)
    array = large()

    larger = grown(array, 9 * len(array), fill=-1)
    larger[0] = 99

    assert array[0].tolist() == [0, 1]
    assert np.array_equal(larger[1 : len(array)], array[1:])
    assert (larger[len(array) :] == -1).all()


def test_growing_row_by_row_copies_a_logarithmic_number_of_times():
    capacities, capacity = set(), 0

    for rows in range(1, 100_001):
        capacity = room_for(rows, capacity)
        assert capacity >= rows
        capacities.add(capacity)

    assert len(capacities) < 25


def test_a_row_starts_the_same_however_the_rows_were_asked_for():
    whole = normal_rows("t", 5, 0, 2 * BLOCK_ROWS + 10, 3, 0.1)

    parts = np.concatenate([normal_rows("t", 5, first, first + 97, 3, 0.1) for first in range(0, 2037, 97)])

    assert np.array_equal(whole[:2037], parts[:2037])


@pytest.mark.parametrize(("name", "seed"), [("other", 5), ("t", 6)])
def test_another_name_or_seed_starts_elsewhere(name, seed):
    assert not np.isclose(normal_rows("t", 5, 0, 50, 3, 0.1), normal_rows(name, seed, 0, 50, 3, 0.1)).any()


def test_rows_are_normal_with_the_asked_spread():
    rows = normal_rows("t", 5, 0, 20_000, 4, 0.25)

    assert abs(rows.mean()) < 0.25 * 4 / np.sqrt(rows.size)
    assert abs(rows.std() / 0.25 - 1) < 0.02
    assert abs((np.abs(rows) < 0.25).mean() - 0.6827) < 0.01
    assert rows.dtype == np.float32


def test_rows_that_were_handed_out_can_be_written_to_without_changing_the_next_ones():
    first = normal_rows("t", 5, 0, 3, 2, 1.0)
    kept = first.copy()

    first[:] = 7

    assert np.array_equal(normal_rows("t", 5, 0, 3, 2, 1.0), kept)


@pytest.mark.parametrize(("first", "past", "spread", "rows"), [(3, 3, 0.1, 0), (5, 3, 0.1, 0), (3, 7, 0.0, 4)])
def test_no_rows_and_no_spread_give_zeros(first, past, spread, rows):
    given = normal_rows("t", 5, first, past, 2, spread)

    assert given.shape == (rows, 2)
    assert not given.any()


def test_arrays_in_reservations_begin_on_pages_and_lines_of_their_own():
    """Otherwise the same row of many columns lies in the same places of the caches."""
    begins = [grown(np.zeros(0, dtype=np.float32), LARGE_BYTES // 4).ctypes.data for _ in range(12)]

    assert all(begin % LINE_BYTES == 0 for begin in begins)
    assert len({begin % PAGE_BYTES for begin in begins}) == 12
    assert len({begin // PAGE_BYTES % 512 for begin in begins}) == 12


# --- large pages ---


@pytest.fixture
def nothing_waits():
    """No array of another test waits for large pages."""
    growth._small_pages.clear()
    yield
    growth._small_pages.clear()


def grown_by_portions(pages):
    array = np.zeros((0, 16), dtype=np.int64)
    while array.nbytes < pages * HUGE_PAGE_BYTES:
        first = len(array)
        array = grown(array, first + 512)
        array[first:] = np.arange(first, len(array))[:, None]
    return array


def collapse_all():
    calls = 0
    while collapse_next():
        calls += 1
    return calls


def bytes_in_large_pages(array):
    """What the kernel says of the mappings that have a part of the array; None where it says nothing."""
    first, found, inside = array.ctypes.data, None, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if mapping := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(mapping[1], 16) < first + array.nbytes and int(mapping[2], 16) > first
        elif inside and line.startswith("AnonHugePages:"):
            found = (found or 0) + 1024 * int(line.split()[1])
    return found


@pytest.mark.usefixtures("nothing_waits")
def test_rows_that_are_settled_move_to_large_pages_and_stay_what_they_were():
    probe = mmap.mmap(-1, 2 * HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    probe.write(b"x" * len(probe))
    try:
        probe.madvise(growth._MADV_COLLAPSE)
    except OSError:
        pytest.skip("the kernel cannot do it")
    array = grown_by_portions(6)
    before = bytes_in_large_pages(array)

    pages = collapse_all()

    assert pages >= 5
    assert bytes_in_large_pages(array) >= before + 4 * HUGE_PAGE_BYTES  # the system may be short of one
    assert (array == np.arange(len(array))[:, None]).all()


@pytest.mark.usefixtures("nothing_waits")
def test_each_stretch_waits_once_for_a_large_page_and_none_ahead_of_the_rows():
    array = grown_by_portions(6)
    settled = array.nbytes - PORTION_BYTES

    waiting = sorted(address for _, address in growth._small_pages)

    assert waiting == sorted(set(waiting))
    assert all(address % HUGE_PAGE_BYTES == 0 for address in waiting)
    assert waiting[-1] + HUGE_PAGE_BYTES <= array.ctypes.data + settled
    assert waiting[-1] + 2 * HUGE_PAGE_BYTES > array.ctypes.data + settled
    collapse_all()
    assert not collapse_next()


@pytest.mark.usefixtures("nothing_waits")
def test_an_array_that_is_gone_needs_no_large_pages():
    array = grown_by_portions(3)
    assert growth._small_pages
    del array
    gc.collect()

    assert collapse_all() >= 2


@pytest.mark.usefixtures("nothing_waits")
def test_where_the_kernel_cannot_collapse_nothing_happens(monkeypatch):
    monkeypatch.setattr(growth, "_MADV_COLLAPSE", 12345)
    array = grown_by_portions(3)

    assert collapse_all() >= 2
    assert (array == np.arange(len(array))[:, None]).all()


@pytest.mark.usefixtures("nothing_waits")
def test_where_the_system_knows_no_large_pages_arrays_grow_as_ever(monkeypatch):
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)

    array = grown_by_portions(3)

    assert not collapse_next()
    assert (array == np.arange(len(array))[:, None]).all()
