"""The merging kernel and its plain twin against sorting."""

import numpy as np
import pytest

from model.kernels.compiled import interpreted
from model.kernels.merge import code_rows, may_enter, merge_lists

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


def merged(kernel, first, second, k):
    users = len(first[2])
    codes_UK, scores_UK = np.full((users, k), 99, np.int32), np.full((users, k), np.nan, np.float32)
    lengths_U = np.full(users, 99, np.int32)
    kernel(*first, *second, codes_UK, scores_UK, lengths_U)
    return codes_UK, scores_UK, lengths_U


@both(code_rows)
def test_an_item_that_was_cold_has_the_number_of_its_catalogue_row_and_others_have_their_own(kernel):
    draw = np.random.default_rng(4)
    row_I, born_cold_X = draw.permutation(CATALOGUE)[:ITEMS], draw.random(CATALOGUE) < 0.5
    row_I[::3] = -1
    rows_UK, _, lengths_U = lists(draw, 30, 6, ITEMS)
    codes_UK = np.full((30, 6), 99, np.int32)

    kernel(rows_UK, lengths_U, row_I, born_cold_X, codes_UK)

    for rows, codes, length in zip(rows_UK, codes_UK, lengths_U, strict=True):
        right = [-1 - row_I[row] if row_I[row] >= 0 and born_cold_X[row_I[row]] else row for row in rows[:length]]
        assert codes[:length].tolist() == right
        assert not codes[length:].any()
    assert (codes_UK < 0).any()


@both(merge_lists)
@pytest.mark.parametrize("k", [1, 6])
def test_the_best_of_both_come_by_score_and_of_equal_ones_those_of_the_first_list(kernel, k):
    draw = np.random.default_rng(k)
    first, second = lists(draw, 50, k, ITEMS), lists(draw, 50, k, CATALOGUE)

    codes_UK, scores_UK, lengths_U = merged(kernel, first, second, k)

    for user in range(50):
        both_lists = [
            pair
            for codes, scores, lengths in (first, second)
            for pair in zip(scores[user, : lengths[user]], codes[user, : lengths[user]], strict=True)
        ]
        right = sorted(both_lists, key=lambda pair: -pair[0])[:k]  # stable: the first list's come first
        assert lengths_U[user] == len(right)
        assert scores_UK[user, : len(right)].tolist() == [score for score, _ in right]
        assert codes_UK[user, : len(right)].tolist() == [code for _, code in right]
        assert not codes_UK[user, len(right) :].any()
        assert not scores_UK[user, len(right) :].any()


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
