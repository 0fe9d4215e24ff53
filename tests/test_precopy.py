"""A copy that is made while rows move is, in the end, what the rows are then."""

import numpy as np
import pytest

from consumer.precopy import MOST_ROUNDS, Precopy, UnknownMove


def arrays_of(rows, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "wide": rng.standard_normal((rows, 5)).astype(np.float32),
        "cube": rng.integers(0, 9, (rows, 2, 3)),
        "single": rng.integers(0, 1000, rows),
    }


def move(arrays, rows):
    for array in arrays.values():
        array[rows] += 1


def assert_copied(copies, arrays):
    assert copies.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(copies[name], array, strict=True)
        assert not np.shares_memory(copies[name], array)


def copied(precopy, arrays, between=lambda: None):
    """A whole copy; `between` two pieces something happens. How many pieces it took, too."""
    precopy.begin(arrays)
    pieces = 1
    while not precopy.advance(arrays):
        between()
        pieces += 1
    return precopy.finish(arrays), pieces


ROW_BYTES = 5 * 4 + 6 * 8 + 8


@pytest.fixture
def precopy():
    """Ten rows a piece."""
    return Precopy(10 * ROW_BYTES)


@pytest.mark.parametrize("rows", [0, 1, 9, 10, 11, 95])
def test_rows_that_stand_still_are_copied_once(precopy, rows):
    arrays = arrays_of(rows)

    copies, pieces = copied(precopy, arrays)

    assert_copied(copies, arrays)
    assert pieces == max(1, -(-rows // 10))
    assert not precopy.is_under_way


@pytest.mark.parametrize("seed", range(5))
def test_rows_that_move_all_the_time_are_as_they_are_at_the_end(precopy, seed):
    rng, arrays = np.random.default_rng(seed), arrays_of(300)

    def between():
        rows = np.unique(rng.integers(0, 300, 3))
        move(arrays, rows)
        precopy.note(rows)

    copies, pieces = copied(precopy, arrays, between)

    assert_copied(copies, arrays)
    assert 30 < pieces < 60, "rounds get shorter"


def test_what_moves_after_the_end_is_not_in_the_copy(precopy):
    arrays = arrays_of(20)
    before = {name: array.copy() for name, array in arrays.items()}
    copies, _ = copied(precopy, arrays)

    move(arrays, np.arange(20))
    precopy.note(np.arange(20))

    assert_copied(copies, before)


def test_rows_that_come_meanwhile_are_copied_also_where_the_arrays_are_others_then(precopy):
    arrays = arrays_of(30)

    def between():
        rows = len(arrays["single"])
        arrays.update({name: np.concatenate([array, array[:7] + 2]) for name, array in arrays.items()})
        precopy.note(np.arange(rows, rows + 7))

    copies, _ = copied(precopy, arrays, between)

    assert len(arrays["single"]) > 30
    assert_copied(copies, arrays)


def test_a_second_copy_takes_the_place_of_the_first_and_needs_no_new_memory(precopy):
    arrays = arrays_of(50)
    first, _ = copied(precopy, arrays)
    move(arrays, np.arange(50))

    second, _ = copied(precopy, arrays)

    assert_copied(second, arrays)
    assert all(np.shares_memory(first[name], second[name]) for name in arrays)


def test_steps_that_move_more_rows_than_a_piece_has_come_to_an_end(precopy):
    rng, arrays = np.random.default_rng(0), arrays_of(1000)

    def between():
        rows = np.unique(rng.integers(0, 1000, 60))
        move(arrays, rows)
        precopy.note(rows)

    copies, pieces = copied(precopy, arrays, between)

    assert_copied(copies, arrays)
    assert pieces < 40 + MOST_ROUNDS


def test_a_row_that_moved_in_secret_is_noticed(precopy):
    arrays = arrays_of(30)
    precopy.begin(arrays)
    precopy.advance(arrays)

    move(arrays, np.array([3]))
    while not precopy.advance(arrays):
        pass

    with pytest.raises(UnknownMove, match="row 3 of single"):
        precopy.finish(arrays)


def test_a_copy_that_was_dropped_is_begun_anew(precopy):
    arrays = arrays_of(30)
    precopy.begin(arrays)
    precopy.advance(arrays)

    precopy.drop()
    move(arrays, np.arange(30))  # nobody has to say so now

    assert not precopy.is_under_way
    assert_copied(copied(precopy, arrays)[0], arrays)


@pytest.mark.parametrize("call", ["advance", "finish"])
def test_begin_comes_first(precopy, call):
    with pytest.raises(RuntimeError, match="begin comes before"):
        getattr(precopy, call)(arrays_of(3))
