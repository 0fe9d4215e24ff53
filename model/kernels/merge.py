"""Lists of items with an event and of items without one: their numbers, and how two become one for each user."""

import math

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled
from model.kernels.scan import ROUNDING

Rows = NDArray[np.int32]
Floats = NDArray[np.float32]


@compiled
def may_enter(
    users_UD: NDArray[np.floating],
    popularity_U: Floats,
    scores_UK: Floats,
    lengths_U: Rows,
    log_count: float,
    longest: float,
    least_U: Floats,
) -> bool:
    """Whether any of the items of this log count, whose vectors are no longer than `longest`, may get into any list.

    `least_U` becomes what an item has to score at least, -inf where the list is not full.
    """
    k, width, enters = scores_UK.shape[1], users_UD.shape[1], False
    for user in range(users_UD.shape[0]):
        least_U[user] = scores_UK[user, k - 1] if lengths_U[user] == k else -np.inf
        square = 0.0
        for column in range(width):
            square += float(users_UD[user, column]) ** 2
        reach, by_count = math.sqrt(square) * longest, popularity_U[user] * log_count
        uncertain = (width + 32) * ROUNDING * (reach + abs(by_count) + abs(least_U[user]))
        enters |= not by_count + reach + uncertain < least_U[user]
    return enters


@compiled
def code_rows(
    rows_UK: Rows, lengths_U: Rows, row_I: NDArray[np.int64], born_cold_X: NDArray[np.bool_], codes_UK: Rows
) -> None:
    """The numbers of listed items: -1 - x where catalogue row x (`row_I`, below 0: none) is in `born_cold_X`.

    Otherwise an item's row; 0 behind a list's end.
    """
    for user in range(rows_UK.shape[0]):
        for place in range(rows_UK.shape[1]):
            codes_UK[user, place] = 0
            if place < lengths_U[user]:
                row = rows_UK[user, place]
                catalogue_row = row_I[row]
                is_coded = catalogue_row >= 0 and born_cold_X[catalogue_row]
                codes_UK[user, place] = -1 - catalogue_row if is_coded else row


@compiled
def merge_lists(
    codes_UK: Rows,
    scores_UK: Floats,
    lengths_U: Rows,
    other_UK: Rows,
    other_scores_UK: Floats,
    other_lengths_U: Rows,
    merged_UK: Rows,
    merged_scores_UK: Floats,
    merged_lengths_U: Rows,
) -> None:
    """The best of two lists of each user, by score, of equal scores those of the first; 0 behind a list's end."""
    k = merged_UK.shape[1]
    for user in range(merged_UK.shape[0]):
        place, other, found = 0, 0, 0
        while found < k and (place < lengths_U[user] or other < other_lengths_U[user]):
            is_first = place < lengths_U[user] and (
                other >= other_lengths_U[user] or scores_UK[user, place] >= other_scores_UK[user, other]
            )
            if is_first:
                merged_UK[user, found] = codes_UK[user, place]
                merged_scores_UK[user, found] = scores_UK[user, place]
                place += 1
            else:
                merged_UK[user, found] = other_UK[user, other]
                merged_scores_UK[user, found] = other_scores_UK[user, other]
                other += 1
            found += 1
        merged_lengths_U[user] = found
        merged_UK[user, found:] = 0
        merged_scores_UK[user, found:] = 0
