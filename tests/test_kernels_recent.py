"""The newest hashes, found again by a table that is never built anew: always what a plain list of them says."""

from collections import deque

import numpy as np
import pytest

from consumer.kernels import recent
from model.kernels.compiled import interpreted


def noted(kernel, hashes, ring_C2, slots, noted_1):
    repeats_N = np.empty(len(hashes), dtype=np.bool_)
    kernel(np.array(hashes, dtype=np.int64).reshape(-1, 2), ring_C2, slots, noted_1, repeats_N)
    return repeats_N.tolist()


def empty(capacity, slots):
    return np.zeros((capacity, 2), dtype=np.int64), np.zeros(slots, dtype=np.int32), np.zeros(1, dtype=np.int64)


@pytest.fixture(params=["compiled", "interpreted"])
def kernel(request):
    return recent.note_newest if request.param == "compiled" else interpreted(recent.note_newest)


@pytest.mark.parametrize(("capacity", "slots"), [(1, 2), (1, 4), (3, 4), (7, 8), (8, 16), (50, 64)])
@pytest.mark.parametrize("homes", [1, 3, 64])
def test_a_hash_repeats_one_of_the_newest_whatever_else_has_its_slot(kernel, capacity, slots, homes):
    rng = np.random.default_rng([capacity, slots, homes])
    held, newest = empty(capacity, slots), deque(maxlen=capacity)
    for _ in range(20):
        hashes = [(int(rng.integers(homes)) - 1, int(rng.integers(2 * capacity))) for _ in range(3 * capacity)]
        expected = []
        for one in hashes:
            expected.append(one in newest)
            newest.append(one)

        assert noted(kernel, hashes, *held) == expected

        ring_C2, table, _ = held
        there = table[table > 0] - 1
        assert len(set(there.tolist())) == len(there) == len(set(newest)), "one slot for each hash that is there"
        assert {tuple(row) for row in ring_C2[there].tolist()} == set(newest)


def test_hashes_that_differ_in_either_half_are_two(kernel):
    held = empty(4, 8)

    assert noted(kernel, [(1, 1), (1, 2), (2, 1), (1, 1), (2**63 - 1, -(2**63))], *held) == [
        *[False, False, False, True, False]
    ]
    assert noted(kernel, [(2**63 - 1, -(2**63)), (2**63 - 1, 0)], *held) == [True, False]


def test_nothing_noted_changes_nothing(kernel):
    held = empty(4, 8)

    assert noted(kernel, [], *held) == []
    assert not any(array.any() for array in held)
