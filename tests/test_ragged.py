"""Lists where they lie: packed they are end to end, and a copy has them at the same places."""

from dataclasses import replace

import numpy as np
import pytest

from model.ragged import Ragged, copied, packed

LISTS = [[3, 1, 4], [], [1, 5], None, [9, 2, 6, 5], [3]]
"""None: no list."""


def spans():
    """In a pool of numbers that are nobody's, in no order."""
    pool = np.full(20, -7, dtype=np.int32)
    start_R = np.array([12, 3, 0, 99, 4, 19])
    for start, one in zip(start_R, LISTS, strict=True):
        pool[start : start + len(one or ())] = one or []
    return Ragged(pool, start_R, np.array([-1 if one is None else len(one) for one in LISTS]))


def table():
    rows_RK = np.full((len(LISTS), 4), -7, dtype=np.int32)
    for row, one in zip(rows_RK, LISTS, strict=True):
        row[: len(one or ())] = one or []
    return Ragged.of_table(rows_RK, np.array([-1 if one is None else len(one) for one in LISTS], dtype=np.int32))


BOTH = pytest.mark.parametrize("make", [spans, table])
END_TO_END = [number for one in LISTS for number in one or ()]


@BOTH
@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.uint8])
def test_packed_are_the_lists_end_to_end_in_the_order_of_the_rows(make, dtype):
    lists = make()
    lists = replace(lists, pool=lists.pool.astype(dtype))
    pool = lists.pool.copy()

    for found in (lists.packed(), packed(lists), copied(lists)):
        assert found.tolist() == END_TO_END
        assert found.dtype == dtype
        assert not np.shares_memory(found, lists.pool)
    assert len(lists) == len(LISTS)
    assert lists.pool.tolist() == pool.tolist()


@BOTH
def test_in_place_lists_of_a_table_need_no_more_memory(make):
    lists = make()

    found = lists.packed(in_place=True)

    assert found.tolist() == END_TO_END
    assert np.shares_memory(found, lists.pool) == (make is table)


@BOTH
def test_rows_are_copied_to_their_places_in_another_pool_and_nothing_else_is(make):
    lists = make()
    pool = np.full_like(lists.pool, -9)

    lists.copy_rows(np.array([4, 0, 3]), pool)

    kept = replace(lists, pool=pool, length_R=np.array([3, 0, 0, 0, 4, 0]))
    assert kept.packed().tolist() == [*LISTS[0], *LISTS[4]]
    assert (pool != -9).sum() == 7


@pytest.mark.parametrize("rows", [0, 5])
def test_without_a_list_there_is_nothing_to_pack(rows):
    lists = Ragged.of_table(np.zeros((rows, 0), dtype=np.int32), np.full(rows, -1, dtype=np.int32))

    assert lists.packed().tolist() == []
    assert lists.packed(in_place=True).tolist() == []
    assert lists.row_bytes() > 0


def test_of_an_array_packed_is_itself_and_copied_is_not():
    array = np.arange(3)

    assert packed(array) is array
    assert copied(array).tolist() == [0, 1, 2]
    assert not np.shares_memory(copied(array), array)


def test_the_bytes_of_a_row_are_those_of_its_numbers_at_the_mean():
    assert spans().row_bytes() == 4 * 10 // 6 + 16
