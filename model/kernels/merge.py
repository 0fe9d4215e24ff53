"""Lists of items with an event and of items without one become one list for each user, in the numbers of lists."""

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
def merge_lists(
    rows_UK: Rows,
    scores_UK: Floats,
    lengths_U: Rows,
    row_I: NDArray[np.int64],
    born_cold_X: NDArray[np.bool_],
    cold_UK: Rows,
    cold_scores_UK: Floats,
    cold_lengths_U: Rows,
    codes_UK: Rows,
    merged_UK: Floats,
    merged_U: Rows,
) -> None:
    """The best of two lists of each user, by score, of equal scores those of the first: codes, scores, lengths.

    The first has rows of items, `cold_UK` rows of the catalogue, x, whose code is -1 - x; an item has the code of its
    catalogue row (`row_I`, below 0: none) where that is in `born_cold_X`, and otherwise its row. 0 behind a list's end.
    """
    k = codes_UK.shape[1]
    for user in range(codes_UK.shape[0]):
        place, cold, found = 0, 0, 0
        while found < k and (place < lengths_U[user] or cold < cold_lengths_U[user]):
            is_first = place < lengths_U[user] and (
                cold >= cold_lengths_U[user] or scores_UK[user, place] >= cold_scores_UK[user, cold]
            )
            if is_first:
                row = rows_UK[user, place]
                catalogue_row = row_I[row]
                is_coded = catalogue_row >= 0 and born_cold_X[catalogue_row]
                codes_UK[user, found] = -1 - catalogue_row if is_coded else row
                merged_UK[user, found] = scores_UK[user, place]
                place += 1
            else:
                codes_UK[user, found] = -1 - cold_UK[user, cold]
                merged_UK[user, found] = cold_scores_UK[user, cold]
                cold += 1
            found += 1
        merged_U[user] = found
        codes_UK[user, found:] = 0
        merged_UK[user, found:] = 0
