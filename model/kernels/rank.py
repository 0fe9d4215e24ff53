"""Ranking the items of a few events among all items, without what costs as much as ranking many: for larger catalogues.

`model.ranking` ranks many events by one product of matrices; a test holds the two against each other.
"""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled_loosely, inlined_loosely
from model.kernels.softmax import NO_CANDIDATE, add_extras, rank_of
from model.kernels.vectors import EIGHT, load, plus_product, total, zeros

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
Doubles = NDArray[np.float64]


@compiled_loosely
def rank_few(
    events_R: Ints,
    users_RD: Floats,
    values_ID: Floats,
    biases_I1: Floats,
    items_B: Ints,
    enters_B: Flags,
    known_B: Flags,
    lengths_B: NDArray[np.int8],
    known_I: Flags,
    count_I: Ints,
    log_count_C: Floats,
    popularity_L: Floats,
    feature_starts_B: Ints,
    feature_items_E: Rows,
    feature_values_E: NDArray[np.float32],
    feature_weight_L: Floats,
    repeat_items_BW: Rows,
    repeat_bias_W: Floats,
    hides_seen: bool,
    seen_pool: Rows,
    seen_start_B: Ints,
    seen_length_B: Ints,
    row_I: Floats,
    ranks_B: Doubles,
) -> None:
    """Fill the ranks of these events, ascending, whose items had an earlier event.

    `known_I` and `count_I` are as of the end of the batch: its events are
    taken back one by one, the last first, and put again in the end. `known_B` says which items had an earlier event,
    `log_count_C` is log(count + 1/2) of each count, `row_I` room to work in.
    """
    rest = events_R.shape[0] - 1
    first = items_B.shape[0]
    while rest >= 0:
        first -= 1
        if enters_B[first]:
            count_I[items_B[first]] -= 1
        if not known_B[first]:
            known_I[items_B[first]] = False
        if first != events_R[rest]:
            continue
        _score_all(
            users_RD,
            rest,
            values_ID,
            biases_I1,
            known_I,
            count_I,
            log_count_C,
            popularity_L,
            int(lengths_B[first]),
            row_I,
        )
        weight = feature_weight_L[int(lengths_B[first])]
        target = int(items_B[first])
        add_extras(
            row_I,
            first,
            target,
            weight,
            feature_starts_B,
            feature_items_E,
            feature_values_E,
            repeat_items_BW,
            repeat_bias_W,
            hides_seen,
            seen_pool,
            seen_start_B,
            seen_length_B,
        )
        ranks_B[first] = rank_of(row_I, count_I.shape[0], target)
        rest -= 1
    for event in range(first, items_B.shape[0]):
        if enters_B[event]:
            count_I[items_B[event]] += 1
        known_I[items_B[event]] = True


@inlined_loosely
def _score_all(
    users_RD: Floats,
    row: int,
    values_ID: Floats,
    biases_I1: Floats,
    known_I: Flags,
    count_I: Ints,
    log_count_C: Floats,
    popularity_L: Floats,
    length: int,
    scores_I: Floats,
) -> None:
    """user . item + bias + popularity * log count of the known items, NO_CANDIDATE for others."""
    width, popularity = values_ID.shape[1], popularity_L[length]
    for item in range(count_I.shape[0]):
        if not known_I[item]:
            scores_I[item] = NO_CANDIDATE
            continue
        sums, column = zeros(values_ID), 0
        while column + EIGHT <= width:
            sums = plus_product(sums, load(users_RD, row, column), load(values_ID, item, column))
            column += EIGHT
        product = total(sums)
        while column < width:
            product += users_RD[row, column] * values_ID[item, column]
            column += 1
        scores_I[item] = product + (biases_I1[item, 0] + popularity * log_count_C[count_I[item]])
