"""Rows of a sparse matrix that are replaced one by one, in order, and the running scale of numbers."""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


@compiled
def write_rows(
    rows_W: Ints,
    lengths_W: Ints,
    first: int,
    feature_E: NDArray[np.int32],
    start_X: Ints,
    length_X: Ints,
    items_F: Ints,
    shared_F: NDArray[np.bool_],
) -> None:
    """Let row `rows_W[w]` be the next `lengths_W[w]` entries from `first` on, one write after the other.

    `feature_E` has them already. `items_F` counts the rows that have each feature; `shared_F` marks those that two rows
    had at some time.
    """
    start = first
    for write in range(rows_W.shape[0]):
        row, length = rows_W[write], lengths_W[write]
        for entry in range(start_X[row], start_X[row] + length_X[row]):
            items_F[feature_E[entry]] -= 1
        for entry in range(start, start + length):
            feature = feature_E[entry]
            items_F[feature] += 1
            if items_F[feature] > 1:
                shared_F[feature] = True
        start_X[row], length_X[row] = start, length
        start += length


@compiled
def let_later_find(
    places_W: Ints,
    slots_W: Ints,
    starts_W: Ints,
    lengths_W: Ints,
    at_W: Ints,
    events_N: Ints,
    rows_N: Ints,
    row_W: Ints,
    start_NS: Ints,
    length_NS: Ints,
    at_NS: Ints,
) -> None:
    """Fill in, for each event n (place `events_N[n]` in the batch, ascending), what was written before it.

    Write w is by the event at `places_W[w]`, into slot `slots_W[w]` of user row `row_W[w]`; writes are in order.
    """
    for write in range(places_W.shape[0]):
        slot = slots_W[write]
        for event in range(np.searchsorted(events_N, places_W[write] + 1), events_N.shape[0]):
            if rows_N[event] == row_W[write]:
                start_NS[event, slot] = starts_W[write]
                length_NS[event, slot] = lengths_W[write]
                at_NS[event, slot] = at_W[write]


@compiled
def learn_scale(features_N: Ints, values_N: Doubles, count_F: Doubles, mean_F: Doubles, squares_F: Doubles) -> None:
    """Take values into the count, the mean and the sum of squared differences of each feature, in order (Welford)."""
    for n in range(features_N.shape[0]):
        feature = features_N[n]
        count_F[feature] += 1
        difference = values_N[n] - mean_F[feature]
        mean_F[feature] += difference / count_F[feature]
        squares_F[feature] += difference * (values_N[n] - mean_F[feature])
