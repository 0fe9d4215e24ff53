"""Weighted sums over windows: compiled and interpreted are the same, and the way back is the gradient."""

import numpy as np
import pytest
from encoder_cases import make_windows, many_histories

from model.kernels.bags import pull_bags_back, sum_bags
from model.kernels.compiled import interpreted
from model.windows import GAP_BUCKETS, KINDS

ITEMS, WIDTH, WINDOW = 9, 29, 6
STARTS, WIDTHS = np.array([0, 2, 29]), np.array([3, 6])
"""Two groups: two columns over three interactions, 27 columns (as a kernel takes them: 16, 8 and 3) over six."""


def arguments(seed, dtype):
    draw = np.random.default_rng(seed)
    windows = make_windows(many_histories(40, ITEMS, WINDOW, seed), width=WINDOW)
    small = [draw.normal(size=(2, size)).astype(dtype) for size in (WINDOW, GAP_BUCKETS, KINDS)]
    return windows, small, draw.normal(size=(ITEMS, WIDTH)).astype(dtype), draw.normal(size=(40, WIDTH)).astype(dtype)


def summed(kernel, windows, small, items, dtype):
    users, weights = np.full((40, WIDTH), 7, dtype), np.full((40, 2, WINDOW), np.nan, dtype)
    kernel(windows.items_BW, windows.gaps_BW, windows.kinds_BW, STARTS, WIDTHS, *small, items, weights, users)
    return users, weights


def pulled_back(kernel, windows, small, items, weights, by_users):
    by = [np.ones_like(array) for array in (items, *small)]
    kernel(windows.items_BW, windows.gaps_BW, windows.kinds_BW, STARTS, WIDTHS, items, weights, by_users, *by)
    return [array - 1 for array in by]


@pytest.mark.parametrize(("dtype", "near"), [(np.float32, 1e-4), (np.float64, 1e-12)])
def test_compiled_and_interpreted_agree(dtype, near):
    windows, small, items, by_users = arguments(1, dtype)

    users, weights = summed(sum_bags, windows, small, items, dtype)
    plain_users, plain_weights = summed(interpreted(sum_bags), windows, small, items, dtype)
    by = pulled_back(pull_bags_back, windows, small, items, weights, by_users)
    plain_by = pulled_back(interpreted(pull_bags_back), windows, small, items, weights, by_users)

    np.testing.assert_allclose(users, plain_users, near, near)
    np.testing.assert_allclose(weights, plain_weights, near, near)
    for fast, plain in zip(by, plain_by, strict=True):
        np.testing.assert_allclose(fast, plain, near, 10 * near)
        assert fast.dtype == dtype


def test_the_way_back_is_the_gradient_of_the_sums_by_everything():
    windows, small, items, by_users = arguments(2, np.float64)
    _, weights = summed(sum_bags, windows, small, items, np.float64)

    by = pulled_back(pull_bags_back, windows, small, items, weights, by_users)

    for array, gradient in zip((items, *small), by, strict=True):
        for place in np.ndindex(array.shape):
            start = array[place]
            array[place] = start + 1e-6
            above = (summed(sum_bags, windows, small, items, np.float64)[0] * by_users).sum()
            array[place] = start - 1e-6
            below = (summed(sum_bags, windows, small, items, np.float64)[0] * by_users).sum()
            array[place] = start
            assert gradient[place] == pytest.approx((above - below) / 2e-6, rel=1e-5, abs=1e-7)


def test_users_without_history_sum_to_zero_and_pull_nothing_back():
    _, small, items, by_users = arguments(3, np.float64)
    nobody = make_windows([[]] * 40, width=WINDOW)

    users, weights = summed(sum_bags, nobody, small, items, np.float64)

    assert not users.any()
    assert not any(gradient.any() for gradient in pulled_back(pull_bags_back, nobody, small, items, weights, by_users))


def test_what_is_beyond_a_groups_width_does_not_count():
    windows, small, items, _ = arguments(4, np.float64)
    users, _ = summed(sum_bags, windows, small, items, np.float64)
    windows.items_BW[:, 3:][windows.items_BW[:, 3:] >= 0] = 0

    changed, _ = summed(sum_bags, windows, small, items, np.float64)

    np.testing.assert_array_equal(changed[:, :2], users[:, :2])
    assert (changed[:, 2:] != users[:, 2:]).any()
