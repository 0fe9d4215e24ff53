"""What each event of a batch finds of its user: how many earlier events, and the mean of the ratings so far."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled
from model.kernels.vectors import fetch

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

AHEAD = 8
"""Users whose numbers are on their way while those of one are read."""


@compiled
def find_then_count(
    users_B: Ints,
    enters_B: NDArray[np.bool_],
    ratings_B: Doubles,
    events_U: Ints,
    sum_U: Doubles,
    count_U: Ints,
    earlier_events_B: Ints,
    means_B: Doubles,
) -> None:
    """Fill the last two arrays in stream order; count ratings (not NaN) in `sum_U` and `count_U`.

    `events_U` is what it was when this returns: somebody else counts the events.
    """
    events_U1, sums_U1, counts_U1 = events_U.reshape(-1, 1), sum_U.reshape(-1, 1), count_U.reshape(-1, 1)
    for event in range(users_B.shape[0]):
        if event + AHEAD < users_B.shape[0]:
            coming = users_B[event + AHEAD]
            fetch(events_U1, coming)
            fetch(sums_U1, coming)
            fetch(counts_U1, coming)
        user = users_B[event]
        earlier_events_B[event] = events_U[user]
        events_U[user] += enters_B[event]
        means_B[event] = sum_U[user] / count_U[user] if count_U[user] > 0 else np.nan
        if not np.isnan(ratings_B[event]):
            sum_U[user] += ratings_B[event]
            count_U[user] += 1
    for event in range(users_B.shape[0]):
        events_U[users_B[event]] -= enters_B[event]
