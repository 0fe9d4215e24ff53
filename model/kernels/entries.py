"""Rows of a sparse matrix that are replaced one by one, in order, and the running scale of numbers."""

import math

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]
Shares = NDArray[np.float32]


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
def find_slots(
    row_B: Ints,
    start_X: Ints,
    length_X: Ints,
    at_XS: Ints,
    events_N: Ints,
    rows_N: Ints,
    start_NS: Ints,
    length_NS: Ints,
    at_NS: Ints,
) -> int:
    """What the users of a batch have in their slots, for those that have a row (0 or above); how many events these are.

    Slot s of user row x is row x * slots + s of `start_X` and `length_X`.
    """
    slots, found = at_XS.shape[1], 0
    for event in range(row_B.shape[0]):
        row = row_B[event]
        if row < 0:
            continue
        events_N[found], rows_N[found] = event, row
        for slot in range(slots):
            start_NS[found, slot] = start_X[row * slots + slot]
            length_NS[found, slot] = length_X[row * slots + slot]
            at_NS[found, slot] = at_XS[row, slot]
        found += 1
    return found


@compiled
def weigh_slots(starts_M: Ints, weights_E: Shares, at_NS: Ints, had_N: Ints, half: float, text_half: float) -> None:
    """Weigh what is said in each slot by the events that the user has had, `had_N`: see `model.user_content`.

    Slot s of event n is bag n * slots + s, whose entries begin at `starts_M`.
    """
    slots = at_NS.shape[1]
    for n in range(at_NS.shape[0]):
        for slot in range(slots):
            since = had_N[n] - at_NS[n, slot]
            weight = text_half / (text_half + since)
            if slot == 0:
                weight = half / (half + had_N[n])
            elif slot == slots - 1:
                weight = 1.0 if since == 0 else 0.0
            bag = n * slots + slot
            past = starts_M[bag + 1] if bag + 1 < starts_M.shape[0] else weights_E.shape[0]
            for entry in range(starts_M[bag], past):
                weights_E[entry] *= np.float32(weight)


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


@compiled
def read_bags(
    start_N: Ints,
    length_N: Ints,
    feature_E: NDArray[np.int32],
    value_E: Doubles,
    share_E: Shares,
    shared_F: NDArray[np.bool_],
    starts_N: Ints,
    features_M: Ints,
    values_M: Doubles,
    shares_M: Shares,
) -> int:
    """Put the entries of some spans end to end, those whose feature is in `shared_F`; how many these are."""
    found = 0
    for n in range(start_N.shape[0]):
        starts_N[n] = found
        for entry in range(start_N[n], start_N[n] + length_N[n]):
            if shared_F[feature_E[entry]]:
                features_M[found] = feature_E[entry]
                values_M[found] = value_E[entry]
                shares_M[found] = share_E[entry]
                found += 1
    return found


@compiled
def scale_values(
    features_M: Ints,
    values_M: Doubles,
    shares_M: Shares,
    count_F: Doubles,
    mean_F: Doubles,
    squares_F: Doubles,
    met: int,
    largest: float,
    far: float,
    scaled_M: Doubles,
) -> None:
    """Values whose share is above 0 in deviations from the mean of their feature, cut at `far`, times the share.

    0 for features that never varied, or are not among the first `met`. Values beyond `largest` count as that one.
    """
    for place in range(features_M.shape[0]):
        feature, value, deviation = features_M[place], values_M[place], 0.0
        if shares_M[place] <= 0:
            scaled_M[place] = value
            continue
        if feature < met:
            deviation = math.sqrt(squares_F[feature] / max(count_F[feature], 1.0))
        scaled_M[place] = 0.0
        if deviation > 0:
            scaled = (min(max(value, -largest), largest) - mean_F[feature]) / deviation
            scaled_M[place] = min(max(scaled, -far), far) * shares_M[place]
