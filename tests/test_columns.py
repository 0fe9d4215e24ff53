"""Columns: rows that start, grow, are cleared, put back and saved together."""

import numpy as np
import pytest

from model.columns import Columns


def made(rows=3):
    columns = Columns({"taste": np.array([1.0, 2.0], dtype=np.float32), "count": np.array(7, dtype=np.int64)})
    columns.grow(rows)
    return columns


def test_new_rows_hold_the_start_and_old_ones_what_they_held():
    columns = made()
    columns["taste"][1] = 9

    columns.grow(500)

    assert columns["taste"][:4].tolist() == [[1, 2], [9, 9], [1, 2], [1, 2]]
    assert columns["taste"][499].tolist() == [1, 2]
    assert columns["count"][499] == 7
    assert columns["taste"].dtype == np.float32


def test_to_fewer_rows_nothing_changes():
    columns = made()

    columns.grow(1)

    assert columns.rows == 3


def test_growing_row_by_row_copies_seldom():
    columns, copies, before = made(0), 0, None

    for rows in range(1, 5001):
        columns.grow(rows)
        copies += columns["taste"] is not before
        before = columns["taste"]

    assert copies < 20


def test_a_cleared_row_is_a_new_one_and_others_stay():
    columns = made()
    columns["taste"][:] = 9
    columns["count"][:] = 9

    columns.clear(1)

    assert columns["taste"].tolist()[:3] == [[9, 9], [1, 2], [9, 9]]
    assert columns["count"].tolist()[:3] == [9, 7, 9]


def test_a_widened_column_has_zeros_more_in_new_rows_and_cleared_ones_too():
    columns = made()

    columns.widen("taste", 4)
    columns.widen("taste", 2)  # it is wide enough
    columns.grow(4)
    columns.clear(0)

    assert columns["taste"][:4].tolist() == [[1, 2, 0, 0]] * 4


def test_loaded_it_holds_the_saved_rows_in_memory_of_its_own():
    columns, other = made(), made(50)
    columns["taste"][2] = 9

    other.load(columns.state())
    columns["taste"][2] = 0
    other.grow(4)

    assert other["taste"][:4].tolist() == [[1, 2], [1, 2], [9, 9], [1, 2]]


@pytest.mark.parametrize("rows", [0, 3])
def test_the_state_has_the_rows_in_use(rows):
    assert {name: len(array) for name, array in made(rows).state().items()} == {"taste": rows, "count": rows}


def test_bytes_per_row_are_those_of_all_columns():
    assert made().bytes_per_row == 16
