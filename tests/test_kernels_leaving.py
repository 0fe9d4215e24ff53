"""Rows of items are taken out of what names them: compiled and interpreted alike."""

import numpy as np
import pytest

from model.kernels import leaving
from model.kernels.compiled import interpreted
from model.kernels.leaving import A_ROW, CHOSEN, LEAVING

BOTH = pytest.mark.parametrize("twin", [lambda kernel: kernel, interpreted], ids=["compiled", "interpreted"])
MARKS = np.array([0, LEAVING, CHOSEN, 2, LEAVING, 0], dtype=np.uint8)
"""Items 1 and 4 leave."""
ALL = 10_000


def rings(pushed, *items):
    items_UH = np.array(items, dtype=np.int32)
    times_UH = np.where(items_UH >= 0, 100 * items_UH.astype(np.int64) + 7, 0)
    kinds_UH = np.where(items_UH >= 0, items_UH + 1, 0).astype(np.int8)
    return items_UH, times_UH, kinds_UH, np.array(pushed)


def taken_out_of_rings(twin, made, first=0, entries=ALL):
    changed_N = np.full(9, -5)
    past, changed = twin(leaving.take_out_of_rings)(first, len(made[3]), entries, MARKS, *made, changed_N)
    return past, changed_N[:changed].tolist()


@BOTH
def test_what_is_left_of_a_history_moves_up_to_its_newest_place(twin):
    made = rings([4, 6, 5, 2, 9], [0, 1, 2, 4], [4, 5, 0, 1], [4, 1, 4, 1], [3, 5, -1, -1], [0, 1, 4, 5])

    past, changed = taken_out_of_rings(twin, made)

    assert (past, changed) == (5, [0, 1, 2, 4])
    items_UH, pushed_U = made[0], made[3]
    assert items_UH.tolist() == [[-1, -1, 0, 2], [0, 5, -1, -1], [-1, -1, -1, -1], [3, 5, -1, -1], [0, -1, -1, 5]]
    assert pushed_U.tolist() == [4, 6, 5, 2, 9]
    for expected, found in zip(rings(pushed_U, *items_UH.tolist()), made, strict=True):
        np.testing.assert_array_equal(found, expected)


@BOTH
def test_a_history_that_was_closed_up_before_is_closed_up_again(twin):
    made = rings([4], [-1, -1, 1, 2])

    assert taken_out_of_rings(twin, made) == (1, [0])
    assert made[0].tolist() == [[-1, -1, -1, 2]]
    assert taken_out_of_rings(twin, made) == (1, [])


@BOTH
def test_no_more_histories_are_gone_over_than_the_entries_allow_for(twin):
    made = rings([4, 4, 4], *[[1, 1, 1, 0]] * 3)

    assert taken_out_of_rings(twin, made, 1, A_ROW + 4) == (2, [1])
    assert taken_out_of_rings(twin, made, 2, 1) == (3, [2])
    assert made[0][0].tolist() == [1, 1, 1, 0]


@BOTH
def test_whatever_names_items_is_gone_over_only_as_far_as_the_entries_allow_for(twin):
    entries, changed_N = A_ROW + 3, np.zeros(9, dtype=np.int64)
    rows, lengths = np.full((4, 3), 5, dtype=np.int32), np.full(4, 3)
    numbers = np.ones((4, 3), dtype=np.float32)

    for more, past in ((0, 2), (1, 3)):
        args = 1, 4, entries + more, MARKS
        pairs = rows, numbers, lengths.astype(np.int32), np.ones(4), np.zeros(4, dtype=np.int32)
        assert twin(leaving.take_out_of_lists)(*args, rows.reshape(-1), 3 * np.arange(4), lengths, changed_N)[0] == past
        assert twin(leaving.take_out_of_remembered)(*args, rows, numbers, changed_N)[0] == past
        assert twin(leaving.take_out_of_pairs)(*args, *pairs, changed_N)[0] == past


@BOTH
def test_the_first_item_of_all_is_taken_out_like_any_other(twin):
    marks_I, changed_N = np.array([LEAVING, 0], dtype=np.uint8), np.zeros(1, dtype=np.int64)
    made, remembered = rings([2], [0, 1]), np.array([[0, 1]], dtype=np.int32)
    residuals, keys_P = np.ones((1, 2), dtype=np.float32), np.array([(0 << 32) + 1])
    sums_P, counts_P = np.ones((2, 1), dtype=np.float32)

    twin(leaving.take_out_of_rings)(0, 1, ALL, marks_I, *made, changed_N)
    twin(leaving.take_out_of_remembered)(0, 1, ALL, marks_I, remembered, residuals, changed_N)
    twin(leaving.take_out_of_slots)(0, ALL, marks_I, keys_P, sums_P, counts_P)

    assert made[0].tolist() == [[-1, 1]]
    assert remembered.tolist() == [[-1, 1]]
    assert keys_P.tolist() == [-1]


@BOTH
def test_the_others_of_a_list_close_up_in_their_order_and_nothing_stays_behind_them(twin):
    pool = np.array([1, 5, 4, 0, 9, 1, 1, 8, 2, 3], dtype=np.int32)
    start_U, length_U = np.array([0, 5, 0, 8]), np.array([4, 2, 0, 2])

    lists, changed_N = (pool, start_U, length_U), np.zeros(4, dtype=np.int64)

    assert twin(leaving.take_out_of_lists)(0, 4, ALL, MARKS, *lists, changed_N) == (4, 2)

    assert changed_N[:2].tolist() == [0, 1]
    assert length_U.tolist() == [2, 0, 0, 2]
    assert pool.tolist() == [5, 0, 0, 0, 9, 0, 0, 8, 2, 3]
    assert twin(leaving.take_out_of_lists)(1, 4, 1, MARKS, *lists, changed_N) == (2, 0)


@BOTH
def test_what_a_user_remembers_of_an_item_is_empty_in_its_place(twin):
    items_UR = np.array([[1, 5, 4], [0, 2, -1], [-1, -1, 1]], dtype=np.int32)
    residuals_UR, changed_N = np.full((3, 3), 2.0, dtype=np.float32), np.zeros(3, dtype=np.int64)
    take_out = twin(leaving.take_out_of_remembered)

    assert take_out(0, 3, ALL, MARKS, items_UR, residuals_UR, changed_N) == (3, 2)

    assert changed_N[:2].tolist() == [0, 2]
    assert items_UR.tolist() == [[-1, 5, -1], [0, 2, -1], [-1, -1, -1]]
    assert residuals_UR.tolist() == [[0, 2, 0], [2, 2, 2], [2, 2, 0]]
    assert take_out(1, 3, 1, MARKS, items_UR, residuals_UR, changed_N) == (2, 0)


@BOTH
def test_the_other_pairs_of_an_item_close_up_and_are_summed_up_anew(twin):
    neighbours_IN = np.array([[1, 5, 4], [0, 2, 3], [4, 9, 9]], dtype=np.int32)
    strengths_IN = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=np.float32)
    length_I, weakest_I = np.array([3, 3, 1], dtype=np.int32), np.array([1, 2, 0], dtype=np.int32)
    whole_I = np.array([6, 15, 7], dtype=np.float32)
    changed_N = np.zeros(3, dtype=np.int64)
    rest = neighbours_IN, strengths_IN, length_I, whole_I, weakest_I, changed_N

    assert twin(leaving.take_out_of_pairs)(0, 3, ALL, MARKS, *rest) == (3, 2)

    assert changed_N[:2].tolist() == [0, 2]
    assert length_I.tolist() == [1, 3, 0]
    assert (neighbours_IN[0, 0], strengths_IN[0, 0]) == (5, 2)
    assert whole_I.tolist() == [-1, 15, -1]
    assert weakest_I.tolist() == [0, 2, 0]
    assert twin(leaving.take_out_of_pairs)(1, 3, 1, MARKS, *rest) == (2, 0)


@BOTH
def test_slots_of_pairs_with_such_an_item_are_empty(twin):
    keys_P = np.array([(1 << 32) + 2, (0 << 32) + 5, -1, (3 << 32) + 4, (2 << 32) + 3], dtype=np.int64)
    sums_P, counts_P = np.full(5, 1.5, dtype=np.float32), np.full(5, 2.0, dtype=np.float32)

    assert twin(leaving.take_out_of_slots)(0, ALL, MARKS, keys_P, sums_P, counts_P) == 5

    assert keys_P.tolist() == [-1, 5, -1, -1, (2 << 32) + 3]
    assert sums_P.tolist() == [0, 1.5, 1.5, 0, 1.5]
    assert counts_P.tolist() == [0, 2, 2, 0, 2]
    assert twin(leaving.take_out_of_slots)(1, 3, MARKS, keys_P, sums_P, counts_P) == 3
