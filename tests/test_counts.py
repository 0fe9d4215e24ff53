"""Counts of items, and how they come back from a saved state. The pass that moves them: test_live.py."""

import numpy as np

from model.counts import ItemCounts


def counts(known, count):
    made = ItemCounts()
    made.load({"known": np.array(known, dtype=np.bool_), "count": np.array(count)})
    return made


def test_new_items_are_unknown_and_uncounted():
    made = ItemCounts()

    made.grow(3)

    assert made.state()["known"].tolist() == [False, False, False]
    assert made.state()["count"].tolist() == [0, 0, 0]


def test_the_tables_by_count_are_made_again_from_what_was_saved_and_leave_unknown_items_out():
    made = counts([True, True, False, True, True], [2, 0, 0, 2, 70])

    assert made.items_with_count[[0, 1, 2, 70]].tolist() == [1, 0, 2, 1]
    assert made.items_above_count[[0, 1, 2, 69, 70]].tolist() == [3, 3, 1, 1, 0]


def test_there_is_room_for_a_batch_that_is_about_one_item():
    made = counts([True], [100])

    made.reserve(np.zeros(500, dtype=np.int64))

    assert len(made.items_with_count) > 601
    assert len(made.items_above_count) > 601
    assert made.items_with_count.sum() == 1


def test_an_empty_batch_reserves_nothing_much():
    made = ItemCounts()

    made.reserve(np.zeros(0, dtype=np.int64))

    assert len(made.items_with_count) == 64


def test_items_that_are_let_go_are_as_if_they_had_never_been_there():
    made, expected = counts([True] * 5, [2, 0, 7, 2, 70]), counts([True, False, False, True, False], [2, 0, 0, 2, 0])

    had = made.let_go(np.array([4, 2, 1]))

    assert had.tolist() == [70, 7, 0]
    assert made.total == expected.total == 4
    for name in ("known", "count"):
        assert made.state()[name].tolist() == expected.state()[name].tolist()
    assert np.trim_zeros(made.items_with_count, "b").tolist() == [0, 0, 2]
    assert np.trim_zeros(made.items_above_count, "b").tolist() == [2, 2]
