"""The merging kernel and its plain twin against sorting."""

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.merge import may_enter, merge_lists

ITEMS, CATALOGUE = 40, 60


def both(kernel):
    return pytest.mark.parametrize("kernel", [kernel, interpreted(kernel)], ids=["compiled", "plain"])


def lists(draw, users, k, rows):
    """Lists of any length, best first, with many equal scores; what is behind their ends is no row."""
    lengths_U = draw.integers(0, k + 1, users).astype(np.int32)
    rows_UK = np.full((users, k), 10**9, dtype=np.int32)
    scores_UK = np.full((users, k), np.nan, dtype=np.float32)
    for user, length in enumerate(lengths_U):
        rows_UK[user, :length] = draw.choice(rows, length, replace=False)
        scores_UK[user, :length] = np.sort(draw.integers(-3, 4, length))[::-1]
    return rows_UK, scores_UK, lengths_U


def merged(kernel, found, cold, row_I, born_cold_X, k):
    users = len(found[2])
    codes_UK, scores_UK = np.full((users, k), 99, np.int32), np.full((users, k), np.nan, np.float32)
    lengths_U = np.full(users, 99, np.int32)
    kernel(*found, row_I, born_cold_X, *cold, codes_UK, scores_UK, lengths_U)
    return codes_UK, scores_UK, lengths_U


@both(merge_lists)
@pytest.mark.parametrize("k", [1, 6])
def test_the_best_of_both_come_by_score_and_of_equal_ones_those_of_the_first_list(kernel, k):
    draw = np.random.default_rng(k)
    row_I, born_cold_X = draw.permutation(CATALOGUE)[:ITEMS], draw.random(CATALOGUE) < 0.5
    row_I[::3] = -1
    found, cold = lists(draw, 50, k, ITEMS), lists(draw, 50, k, CATALOGUE)

    codes_UK, scores_UK, lengths_U = merged(kernel, found, cold, row_I, born_cold_X, k)

    for user in range(50):
        of_items = [
            (score, -1 - row_I[row] if row_I[row] >= 0 and born_cold_X[row_I[row]] else row)
            for row, score in zip(*(part[user, : found[2][user]] for part in found[:2]), strict=True)
        ]
        of_cold = [
            (score, -1 - row) for row, score in zip(*(part[user, : cold[2][user]] for part in cold[:2]), strict=True)
        ]
        right = sorted(of_items + of_cold, key=lambda pair: -pair[0])[:k]  # stable: the first list's come first
        assert lengths_U[user] == len(right)
        assert scores_UK[user, : len(right)].tolist() == [score for score, _ in right]
        assert codes_UK[user, : len(right)].tolist() == [code for _, code in right]
        assert not codes_UK[user, len(right) :].any()
        assert not scores_UK[user, len(right) :].any()


@both(merge_lists)
def test_without_a_second_list_the_first_one_stays(kernel):
    draw = np.random.default_rng(9)
    found = lists(draw, 10, 4, ITEMS)
    nothing = np.zeros((10, 0), np.int32), np.zeros((10, 0), np.float32), np.zeros(10, np.int32)

    codes_UK, _, lengths_U = merged(kernel, found, nothing, np.full(ITEMS, -1), np.zeros(0, dtype=np.bool_), 4)

    assert lengths_U.tolist() == found[2].tolist()
    for ours, theirs, length in zip(codes_UK, found[0], lengths_U, strict=True):
        assert ours[:length].tolist() == theirs[:length].tolist()


@both(may_enter)
def test_no_item_may_enter_where_all_lists_are_full_and_score_more_than_any_item_can(kernel):
    users_UD = np.array([[3, 4], [0, 0]], dtype=np.float32)
    popularity_U, lengths_U = np.array([1, 2], dtype=np.float32), np.full(2, 2, dtype=np.int32)
    most_U = 5 * 2.0 + np.log(0.5), 2 * np.log(0.5)  # |user| * longest + popularity * log count

    def asked(first, second, lengths_U=lengths_U):
        scores_UK, least_U = np.array([[9e9, first], [9e9, second]], dtype=np.float32), np.empty(2, np.float32)
        found = kernel(users_UD, popularity_U, scores_UK, lengths_U, np.log(0.5), 2.0, least_U)
        return bool(found), least_U.tolist()

    one, other = np.float32(most_U[0]), np.float32(most_U[1])
    assert asked(one + 0.01, other + 0.01) == (False, [np.float32(one + 0.01), np.float32(other + 0.01)])
    assert asked(one, other + 0.01)[0], "an item may score just as much"
    assert asked(one + 0.01, other)[0]
    assert asked(one + 0.01, 9e9, np.array([2, 1], dtype=np.int32)) == (True, [np.float32(one + 0.01), -np.inf])


@both(may_enter)
def test_of_a_user_whose_vector_is_no_number_nothing_is_said(kernel):
    users_UD, ones_U = np.full((1, 2), np.nan, dtype=np.float32), np.ones(1, dtype=np.float32)

    assert kernel(users_UD, ones_U, ones_U[:, None], ones_U.astype(np.int32), 0.0, 1.0, ones_U.copy())
