"""Reading rings into windows: compiled and interpreted alike, order, gaps, kinds, and the bounds of the buckets."""

import numpy as np
import pytest
from plain_live import gap_bucket
from plain_live import length_bucket as plain_length_bucket

from model.kernels.compiled import interpreted
from model.kernels.windows import ANY_TIME, length_bucket, read_window, read_windows

TWINS = pytest.mark.parametrize("twin", [lambda kernel: kernel, interpreted], ids=["compiled", "interpreted"])


def ring(pasts, depth):
    """A ring of (item, time, kind), oldest first, and how many were pushed."""
    items, times, kinds = np.full(depth, -1, np.int32), np.zeros(depth, np.int64), np.zeros(depth, np.int8)
    for number, (item, time, kind) in enumerate(pasts):
        items[number % depth], times[number % depth], kinds[number % depth] = item, time, kind
    return items, times, kinds, len(pasts)


def read(twin, pasts, *, depth=6, width=4, latest=ANY_TIME):
    items, gaps, kinds = np.full(width, -7, np.int32), np.full(width, -7, np.int8), np.full(width, -7, np.int8)
    left_out = twin(read_window)(*ring(pasts, depth), latest, items, gaps, kinds)
    return items.tolist(), gaps.tolist(), kinds.tolist(), left_out


@TWINS
def test_the_newest_comes_first_and_gaps_count_from_it(twin):
    pasts = [(1, 0, 2), (2, 50_000, 0), (3, 62_000, 5)]

    found = read(twin, pasts)

    assert found == ([3, 2, 1, -1], [0, 1, 2, 0], [5, 0, 2, 0], 0)


@TWINS
def test_a_ring_that_went_round_gives_its_last_ones(twin):
    pasts = [(item, item * 1000, item % 6) for item in range(20)]

    found = read(twin, pasts, depth=3)

    assert found[0] == [19, 18, 17, -1]


@TWINS
def test_what_is_later_than_the_latest_is_left_out_and_told(twin):
    pasts = [(1, 5, 0), (2, 7, 0), (3, 6, 0), (4, 7, 0)]

    found = read(twin, pasts, latest=6)

    assert found[0] == [3, 1, -1, -1]
    assert found[3] == 2


@TWINS
def test_nothing_is_later_than_the_end_of_time(twin):
    found = read(twin, [(1, 2**63 - 1, 0), (2, 0, 0)])

    assert found[0] == [2, 1, -1, -1]
    assert found[1] == [0, 0, 0, 0]  # a time out of order is no gap


@TWINS
def test_an_empty_ring_gives_an_empty_window(twin):
    assert read(twin, []) == ([-1] * 4, [0] * 4, [0] * 4, 0)


@TWINS
@pytest.mark.parametrize("power", range(1, 15))
def test_gaps_change_their_bucket_at_one_second_less_than_powers_of_four(twin, power):
    edge = (4**power - 1) * 1000

    buckets = [read(twin, [(1, 0, 0), (2, gap, 0)])[1][1] for gap in (edge - 1, edge)]

    assert buckets == [min(power - 1, 13), min(power, 13)] == [gap_bucket(edge - 1), gap_bucket(edge)]


@TWINS
def test_lengths_change_their_bucket_at_each_doubling(twin):
    buckets = [twin(length_bucket)(number) for number in range(2000)]

    assert buckets == [plain_length_bucket(number) for number in range(2000)]
    assert [buckets[number] for number in (0, 1, 2, 3, 6, 7, 510, 511, 1999)] == [0, 1, 1, 2, 2, 3, 8, 9, 9]


def test_windows_of_many_users_are_the_same_compiled_and_interpreted():
    draw = np.random.default_rng(1)
    rings = [
        draw.integers(50, size=(9, 8)).astype(np.int32),
        draw.integers(10**9, size=(9, 8)),
        draw.integers(6, size=(9, 8)).astype(np.int8),
        np.arange(9) * 2,
    ]
    users = draw.integers(9, size=40)
    found = []
    for kernel in (read_windows, interpreted(read_windows)):
        window = [np.empty((40, 5), dtype) for dtype in (np.int32, np.int8, np.int8)]
        found.append([*window, np.empty(40, np.int8)])
        kernel(users, *rings, *found[-1])

    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))
    assert (found[0][0][users == 1] >= 0).sum(1).tolist() == [2] * (users == 1).sum()


@TWINS
def test_a_window_ends_where_older_items_are_gone(twin):
    items_H, times_H = np.array([5, -1, -1, 4], dtype=np.int32), np.array([3_000, 0, 0, 2_000])
    kinds_H, filled = np.array([2, 0, 0, 1], dtype=np.int8), [np.full(4, 9, dtype=np.int8) for _ in range(2)]
    items_W = np.full(4, 9, dtype=np.int32)

    left_out = twin(read_window)(items_H, times_H, kinds_H, 9, ANY_TIME, items_W, *filled)

    assert left_out == 0
    assert items_W.tolist() == [5, 4, -1, -1]
    assert filled[0].tolist() == [0, 0, 0, 0]
    assert filled[1].tolist() == [2, 1, 0, 0]
