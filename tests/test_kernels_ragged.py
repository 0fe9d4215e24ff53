"""Lists end to end are the lists, one after the other; copied, each is where it was."""

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.ragged import copy_spans, end_to_end


def spans(users):
    rng = np.random.default_rng(users)
    pool = rng.integers(-9, 9, 100).astype(np.int32)
    length_R = rng.integers(0, 6, users)
    return pool, rng.integers(0, 101 - length_R), length_R


@pytest.mark.parametrize("kernel", [end_to_end, interpreted(end_to_end)], ids=["compiled", "plain"])
@pytest.mark.parametrize("users", [0, 1, 50])
def test_lists_are_put_end_to_end(kernel, users):
    pool, start_R, length_R = spans(users)
    packed = np.full(length_R.sum(), -99, dtype=np.int32)

    kernel(pool, start_R, length_R, packed)

    lists = [pool[start : start + length] for start, length in zip(start_R, length_R, strict=True)]
    assert packed.tolist() == [number for one in lists for number in one.tolist()]


@pytest.mark.parametrize("kernel", [end_to_end, interpreted(end_to_end)], ids=["compiled", "plain"])
def test_lists_that_lie_in_order_may_be_put_end_to_end_where_they_lie(kernel):
    rng = np.random.default_rng(0)
    pool, length_R = rng.integers(-9, 9, 100 * 40).astype(np.int32), rng.integers(0, 41, 100)
    start_R = np.arange(100) * 40
    spans = zip(start_R, length_R, strict=True)
    expected = [number for start, length in spans for number in pool[start : start + length].tolist()]

    kernel(pool, start_R, length_R, pool[: length_R.sum()])

    assert pool[: length_R.sum()].tolist() == expected


@pytest.mark.parametrize("kernel", [copy_spans, interpreted(copy_spans)], ids=["compiled", "plain"])
@pytest.mark.parametrize("users", [0, 1, 50])
def test_lists_are_copied_to_where_they_were_and_nothing_else_is(kernel, users):
    pool, start_N, length_N = spans(users)
    other = np.full_like(pool, -99)

    kernel(pool, start_N, length_N, other)

    is_copied_P = np.zeros(100, dtype=np.bool_)
    for start, length in zip(start_N, length_N, strict=True):
        is_copied_P[start : start + length] = True
    assert other.tolist() == np.where(is_copied_P, pool, -99).tolist()
