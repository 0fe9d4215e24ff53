"""Numbers found in rows of whole numbers, wherever they stand, compiled and interpreted."""

import numpy as np
import pytest

from model.kernels.compiled import compiled, interpreted
from model.kernels.matches import AT_ONCE, first_match, place_of

TWINS = pytest.mark.parametrize("find", [place_of, interpreted(place_of)], ids=["compiled", "interpreted"])


@compiled
def first_match_compiled(array, row, column, value):
    return first_match(array, row, column, value)


@TWINS
@pytest.mark.parametrize("width", [1, AT_ONCE - 1, AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE + 5])
def test_it_is_found_at_each_place_and_only_there(find, width):
    rows = np.arange(2 * width, dtype=np.int32).reshape(2, width)

    found = [find(rows, 1, width, value) for value in range(2 * width)]

    assert found == [-1] * width + list(range(width))


@TWINS
def test_of_several_it_is_the_first_and_what_lies_behind_the_length_does_not_count(find):
    row = np.full((1, 2 * AT_ONCE), -1, dtype=np.int32)
    row[0, [3, 5, AT_ONCE + 2]] = 7
    row[0, AT_ONCE + 9] = 8

    assert find(row, 0, 2 * AT_ONCE, 7) == 3
    assert find(row, 0, 3, 7) == -1
    assert find(row, 0, AT_ONCE + 9, 8) == -1
    assert find(row, 0, AT_ONCE + 10, 8) == AT_ONCE + 9
    assert find(row, 0, 0, 7) == -1


@pytest.mark.parametrize("find", [first_match_compiled, first_match], ids=["compiled", "interpreted"])
def test_32_numbers_are_compared_at_once(find):
    rows = np.array([[9] * 40, [*range(40)]], dtype=np.int32)

    assert [find(rows, 1, 4, value) for value in (3, 4, 20, 35, 36)] == [AT_ONCE, 0, 16, 31, AT_ONCE]
