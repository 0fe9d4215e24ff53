"""Draws: compiled and interpreted are the same, and each count has its share of the numbers."""

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.negatives import FAN, count_up, draw_distinct, item_at, log_probability


def sums_of(counts):
    blocks = np.add.reduceat(counts, np.arange(0, len(counts), FAN))
    return blocks, np.add.reduceat(blocks, np.arange(0, len(blocks), FAN))


@pytest.mark.parametrize("kernel", [item_at, interpreted(item_at)], ids=["compiled", "interpreted"])
def test_every_number_below_the_sum_has_its_item(kernel):
    counts = np.random.default_rng(1).integers(0, 3, 9000) * (np.arange(9000) % 7 < 2)

    found = [kernel(target, counts, *sums_of(counts)) for target in range(counts.sum())]

    np.testing.assert_array_equal(found, np.repeat(np.arange(9000), counts))


@pytest.mark.parametrize("kernel", [count_up, interpreted(count_up)], ids=["compiled", "interpreted"])
def test_sums_follow_what_enters(kernel):
    counts = np.zeros(9000, dtype=np.int64)
    blocks, outer = (np.zeros(size, dtype=np.int64) for size in (141, 3))
    items, enters = np.array([3, 8999, 64, 3]), np.array([True, True, False, True])
    np.add.at(counts, items[enters], 1)

    entered = kernel(items, enters, blocks, outer)

    assert entered == 3
    np.testing.assert_array_equal(blocks, sums_of(counts)[0])
    np.testing.assert_array_equal(outer, sums_of(counts)[1])


def test_compiled_and_interpreted_draw_alike_and_leave_their_room_as_it_was():
    draw = np.random.default_rng(2)
    counts, known = draw.integers(0, 50, 300), draw.random(300) < 0.8
    uniform, found = draw.random((3, 80)), []
    for kernel in (draw_distinct, interpreted(draw_distinct)):
        drawn, shares, room = np.zeros(160, dtype=np.int64), np.zeros(160), np.full(300, -1, dtype=np.int32)
        new = np.array([5, 6])
        size = kernel(*uniform[:2], draw.random(160) * 0, 300, int(counts.sum()), known, counts, *sums_of(counts), new,
                      room, drawn, shares)  # fmt: skip
        found.append((drawn[:size], shares[:size]))
        assert (room == -1).all()

    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-12)


@pytest.mark.parametrize("log_missed", [-1e-12, -1e-6, -0.1, -0.2499, -0.2501, -3.0, -60.0])
def test_the_log_of_a_probability_is_precise_where_it_is_small(log_missed):
    assert log_probability(log_missed) == pytest.approx(np.log(-np.expm1(log_missed)), abs=1e-8)
