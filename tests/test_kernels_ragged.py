"""Lists end to end are the lists, one after the other."""

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.ragged import end_to_end


@pytest.mark.parametrize("kernel", [end_to_end, interpreted(end_to_end)], ids=["compiled", "plain"])
@pytest.mark.parametrize("users", [0, 1, 50])
def test_lists_are_put_end_to_end(kernel, users):
    rng = np.random.default_rng(users)
    pool = rng.integers(-9, 9, 100).astype(np.int32)
    length_U = rng.integers(0, 6, users)
    start_U = rng.integers(0, 101 - length_U)
    packed = np.full(length_U.sum(), -99, dtype=np.int32)

    kernel(pool, start_U, length_U, packed)

    lists = [pool[start : start + length] for start, length in zip(start_U, length_U, strict=True)]
    assert packed.tolist() == [number for one in lists for number in one.tolist()]
