"""log(1 + x) of rows, against the library's."""

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.logarithms import logarithms

NUMBERS = np.concatenate(([0, 1e-9, 1e-3, 0.4142135, 0.4142136, 1, 2.9e38], np.logspace(-6, 30, 500))).astype(
    np.float32
)


def ours(row, kernel=logarithms, first=0, past=None):
    row = row.copy()
    kernel(row, first, len(row) if past is None else past, np.empty(len(row), dtype=np.float32))
    return row


@pytest.mark.parametrize("kernel", [logarithms, interpreted(logarithms)], ids=["compiled", "interpreted"])
def test_they_are_the_librarys(kernel):
    expected = np.log1p(NUMBERS.astype(np.float64))

    np.testing.assert_allclose(ours(NUMBERS, kernel), expected, rtol=3e-7, atol=1e-7)


def test_compiled_and_interpreted_they_are_the_same_to_the_last_bit_wherever_in_the_row():
    compiled = ours(NUMBERS)

    assert compiled.tobytes() == ours(NUMBERS, interpreted(logarithms)).tobytes()
    assert ours(np.tile(NUMBERS[5:6], 37)).tolist() == [compiled[5]] * 37


def test_of_one_nothing_is_left_and_numbers_outside_stay():
    assert ours(np.array([5, 0, 0, 5], dtype=np.float32), first=1, past=3).tolist() == [5, 0, 0, 5]
    assert ours(np.array([2, 2, 2], dtype=np.float32), first=1, past=2)[[0, 2]].tolist() == [2, 2]
    assert ours(np.zeros(0, dtype=np.float32)).tolist() == []
