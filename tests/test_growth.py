"""Arrays that grow, and the values that new rows start with."""

import numpy as np
import pytest

from model.growth import BLOCK_ROWS, grown, normal_rows, room_for


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
