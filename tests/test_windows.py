"""Windows: slices of them, and the buckets that their names promise."""

import numpy as np
import pytest
from encoder_cases import HISTORIES, WINDOW, make_windows

from model.kernels.windows import ANY_TIME, length_bucket, read_window
from model.windows import GAP_BUCKETS, KINDS, LENGTH_BUCKETS, empty_windows

PARTS = ("items_BW", "gaps_BW", "kinds_BW", "lengths_B")


def test_a_slice_holds_the_rows_of_every_part():
    windows = make_windows()

    part = windows[1:4]

    assert len(part) == 3
    for name in PARTS:
        assert np.array_equal(getattr(part, name), getattr(windows, name)[1:4])


def test_empty_windows_are_those_of_users_without_history():
    windows, strangers = empty_windows(2, WINDOW), make_windows([[], []])

    assert len(windows) == 2
    for name in PARTS:
        assert np.array_equal(getattr(windows, name), getattr(strangers, name))
        assert getattr(windows, name).dtype == getattr(strangers, name).dtype


def test_as_many_windows_as_histories():
    assert len(make_windows()) == len(HISTORIES)
    assert len(empty_windows(0, WINDOW)) == 0


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0, 0), (2, 0), (3, 1), (14, 1), (15, 2), (62, 2), (63, 3), (10**9, GAP_BUCKETS - 1)]
)
def test_the_gap_is_bucketed_by_powers_of_four_seconds(seconds, bucket):
    items, gaps, kinds = np.zeros(2, np.int32), np.zeros(2, np.int8), np.zeros(2, np.int8)
    times = np.array([0, 1000 * seconds + 999])

    read_window(np.array([5, 6], np.int32), times, np.zeros(2, np.int8), 2, ANY_TIME, items, gaps, kinds)

    assert items.tolist() == [6, 5]
    assert gaps.tolist() == [0, bucket]


@pytest.mark.parametrize(
    ("pushed", "bucket"), [(0, 0), (1, 1), (2, 1), (3, 2), (6, 2), (7, 3), (14, 3), (510, 8), (511, 9), (10**6, 9)]
)
def test_the_length_of_a_history_is_bucketed_by_powers_of_two(pushed, bucket):
    assert length_bucket(pushed) == bucket
    assert bucket < LENGTH_BUCKETS


def test_kinds_are_an_action_and_five_ratings():
    assert KINDS == 1 + 5
