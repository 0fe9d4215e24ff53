"""Moved rows: each reader gets what moved since it last looked, or is told that it may be everything."""

import numpy as np

from model.moved import MovedRows


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


def test_a_reader_gets_what_moved_since_its_place_in_order():
    moved = MovedRows(room=8)
    moved.add(rows(3, 1))
    place = moved.end
    moved.add(rows(4))
    moved.add(rows(1, 4))

    assert moved.since(place).tolist() == [4, 1, 4]
    assert moved.since(0).tolist() == [3, 1, 4, 1, 4]
    assert moved.since(moved.end).tolist() == []


def test_the_ring_turns():
    moved = MovedRows(room=4)
    for number in range(10):
        moved.add(rows(number, 100 + number))

    assert moved.since(moved.end - 4).tolist() == [8, 108, 9, 109]


def test_who_comes_too_late_is_told_that_all_may_have_moved():
    moved = MovedRows(room=4)
    moved.add(rows(1, 2, 3))
    moved.add(rows(4, 5))

    assert moved.since(0) is None
    assert moved.since(1).tolist() == [2, 3, 4, 5]
    assert moved.since(-1) is None


def test_all_moved_until_the_next_look():
    moved = MovedRows(room=4)
    place = moved.end
    moved.add(None)

    assert moved.since(place) is None
    assert moved.since(moved.end).tolist() == []
    place = moved.end
    moved.add(rows(*range(9)))  # more than there is room for
    assert moved.since(place) is None
