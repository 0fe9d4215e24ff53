"""e^x of rows, against the library's."""

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.exponentials import LOWEST, exponentials


def ours(row, kernel=exponentials, numbers=None):
    bits, row = np.full(len(row), 7, dtype=np.int32), row.copy()
    kernel(row, len(row) if numbers is None else numbers, bits, bits.view(np.float32))
    return row


@pytest.mark.parametrize(("dtype", "near"), [(np.float32, 5e-6), (np.float64, 1e-8)])
@pytest.mark.parametrize("kernel", [exponentials, interpreted(exponentials)], ids=["compiled", "interpreted"])
def test_they_are_the_librarys(kernel, dtype, near):
    row = np.concatenate((np.linspace(LOWEST, 0, 700), [-1e-9, -0.34657, -0.34658, 0])).astype(dtype)

    np.testing.assert_allclose(ours(row, kernel), np.exp(row.astype(np.float64)), rtol=near)


def test_of_nothing_it_is_exactly_one_and_what_is_no_number_stays_none():
    found = ours(np.array([0, np.nan, -1, -0.0], dtype=np.float32))

    assert found[0] == found[3] == 1
    assert np.isnan(found[1])
    assert found[2] == pytest.approx(np.exp(-1))


def test_only_the_first_numbers_are_turned():
    assert ours(np.array([-1.0, -2.0, -3.0]), numbers=1)[1:].tolist() == [-2, -3]
