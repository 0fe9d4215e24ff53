"""Shares of work: no place is taken twice and none is left out, however many threads take them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from model.kernels.compiled import IS_COMPILED, compiled, interpreted
from model.kernels.shares import take_share

PLACES, SHARE = 200_000, 3


@compiled
def mark_by_shares(taken_1, takers_P, taker):
    """Write the taker to each place of its shares, and count them."""
    shares = 0
    while True:
        first = take_share(taken_1, SHARE)
        if first >= takers_P.shape[0]:
            return shares
        for place in range(first, min(first + SHARE, takers_P.shape[0])):
            takers_P[place] += taker
        shares += 1


@pytest.mark.parametrize("kernel", [mark_by_shares, interpreted(mark_by_shares)], ids=["compiled", "interpreted"])
def test_one_thread_takes_all_places_in_order(kernel):
    taken_1, takers_P = np.zeros(1, dtype=np.int64), np.zeros(10, dtype=np.int64)

    assert kernel(taken_1, takers_P, 1) == 4
    assert takers_P.tolist() == [1] * 10
    assert taken_1.tolist() == [5 * SHARE]


@pytest.mark.skipif(not IS_COMPILED, reason="numba is not installed")
def test_threads_take_each_place_once():
    for _ in range(20):
        taken_1, takers_P = np.zeros(1, dtype=np.int64), np.zeros(PLACES, dtype=np.int64)

        with ThreadPoolExecutor(4) as pool:
            shares = list(pool.map(lambda taker: mark_by_shares(taken_1, takers_P, taker), [1, 10, 100, 1000]))  # noqa: B023

        assert sum(shares) == -(-PLACES // SHARE)
        assert set(takers_P.tolist()) <= {1, 10, 100, 1000}
