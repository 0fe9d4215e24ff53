"""The hand of the clock: compiled and interpreted alike."""

import numpy as np
import pytest

from model.kernels import idle
from model.kernels.compiled import interpreted

BOTH = pytest.mark.parametrize("twin", [lambda kernel: kernel, interpreted])


def swept(twin, used_R, hand, wanted, *, looked_at=99, gone=()):
    used_R, chosen_N = np.array(used_R, dtype=np.uint8), np.full(wanted, -1)
    length_R = np.ones(len(used_R), dtype=np.int32)
    length_R[list(gone)] = -1
    hand, chosen = twin(idle.sweep)(hand, len(used_R), looked_at, length_R, used_R, chosen_N)
    return hand, chosen_N[:chosen].tolist(), used_R.tolist()


@BOTH
def test_rows_used_again_get_a_second_chance_and_those_used_now_are_passed_over(twin):
    assert swept(twin, [2, 1, 5, 6, 1, 1], 0, 2) == (5, [1, 4], [1, 0, 5, 6, 0, 1])


@BOTH
def test_the_hand_goes_round_once_at_most_and_begins_again_at_the_first_row(twin):
    assert swept(twin, [1, 2, 2, 1], 3, 9) == (3, [3, 0], [0, 1, 1, 0])


@BOTH
def test_rows_that_are_not_in_use_are_passed_over(twin):
    assert swept(twin, [0, 1, 0, 1], 0, 9, gone=[0, 2]) == (4, [1, 3], [0, 0, 0, 0])


@BOTH
def test_no_more_rows_are_looked_at_than_asked_for(twin):
    assert swept(twin, [2, 2, 1, 1], 1, 9, looked_at=2) == (3, [2], [2, 1, 0, 1])
    assert swept(twin, [1, 1], 1, 0) == (1, [], [1, 1])


@BOTH
def test_a_row_is_used_once_then_again_and_only_in_a_later_step(twin):
    used_R, rows_N, found = np.zeros(3, dtype=np.uint8), np.array([1, 1, 2]), []
    for rows_N in (np.array([1, 1, 2]), np.array([1])):
        twin(idle.touch)(rows_N, used_R)
        found.append(used_R.tolist())
        twin(idle.rest)(rows_N, used_R)
        found.append(used_R.tolist())

    assert found == [[0, 5, 5], [0, 1, 1], [0, 6, 1], [0, 2, 1]]
