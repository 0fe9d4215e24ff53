"""A step of the sampled softmax on the CPU: which rows it needs, its gradients by the scores, and where they belong.

`model.sampled` has the middle one in plain torch, for GPUs; a test holds the two against each other.
"""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled, compiled_loosely
from model.kernels.exponentials import exponentials
from model.kernels.softmax import FLOOR, NO_CANDIDATE
from model.kernels.vectors import EIGHT, fetch, larger, load, plus_product, plus_scaled, store, total, zeros

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
Doubles = NDArray[np.float64]

SEEN_LOOKED_AT = 256
"""So many of the newest items of a user are no negatives; those before them are few among a large catalogue's."""
AHEAD = 4
"""Rows that are on their way while one is worked on."""


@compiled
def collect_rows(
    drawn_N: Ints,
    items_B: Ints,
    items_BW: Rows,
    place_I: Rows,
    rows_T: Ints,
    places_B: Ints,
    places_BW: Rows,
) -> int:
    """Number the item rows that a step needs: the drawn ones, then events and windows as they come; how many they are.

    `rows_T` gets the rows, the `places` arrays the numbers, -1 for empty places of a window. `place_I` is room to work
    in: -1 everywhere, before and after.
    """
    rows = int(drawn_N.shape[0])
    for place in range(rows):
        place_I[drawn_N[place]] = place
        rows_T[place] = drawn_N[place]
    for event in range(items_B.shape[0]):
        item = items_B[event]
        if place_I[item] < 0:
            place_I[item] = rows
            rows_T[rows] = item
            rows += 1
        places_B[event] = place_I[item]
        for age in range(items_BW.shape[1]):
            earlier = items_BW[event, age]
            if earlier < 0:
                places_BW[event, age:] = -1
                break
            if place_I[earlier] < 0:
                place_I[earlier] = rows
                rows_T[rows] = earlier
                rows += 1
            places_BW[event, age] = place_I[earlier]
    for place in range(rows):
        place_I[rows_T[place]] = -1
    return rows


@compiled_loosely
def gather_rows(values_ID: Floats, biases_I1: Floats, rows_T: Ints, values_TD: Floats, biases_T: Floats) -> None:
    """Copy rows out of two tables."""
    width = values_ID.shape[1]
    for place in range(rows_T.shape[0]):
        if place + AHEAD < rows_T.shape[0]:
            fetch(values_ID, rows_T[place + AHEAD])
            fetch(biases_I1, rows_T[place + AHEAD])
        row, column = rows_T[place], 0
        biases_T[place] = biases_I1[row, 0]
        while column + EIGHT <= width:
            store(values_TD, place, column, load(values_ID, row, column))
            column += EIGHT
        while column < width:
            values_TD[place, column] = values_ID[row, column]
            column += 1


@compiled_loosely
def soften_samples(
    products_RC: Floats,
    users_BD: Floats,
    items_TD: Floats,
    biases_T: Floats,
    samples: int,
    drawn_N: Ints,
    log_share_N: Doubles,
    items_B: Ints,
    places_B: Ints,
    weights_B: Floats,
    enters_B: Flags,
    counts_B: Ints,
    lengths_B: NDArray[np.int8],
    count_N: Ints,
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
    drawn_I: Rows,
    bits_C: Rows,
    powers_C: NDArray[np.float32],
    losses_B: Doubles,
    own_B: Floats,
    by_biases_T: Floats,
    by_popularity_L: Floats,
    by_feature_L: Floats,
    by_repeat_W: Floats,
) -> None:
    """Turn user . item products into the gradient of `model.losses.softmax_loss`, in place.

    The drawn items, the first of the rows, fall into `samples` samples of C items. The classes of event b are its own
    item and sample b mod `samples`; the events of a sample are rows next to each other, R = samples * events of each,
    and rows that no event has become zero. A drawn item that is the own one, or one of the newest
    SEEN_LOOKED_AT that the user has (where `hides_seen`), is no class. `count_N` are the counts of the drawn items as
    of the batch's start. The gradient by the own score goes to `own_B`, those by biases, popularity, features and
    repeats are added. `drawn_I` is room to work in: -1 everywhere, before and after.
    """
    smallest = np.exp(FLOOR) * 1.001
    nothing, lowest = products_RC.dtype.type(0), products_RC.dtype.type(FLOOR)
    size = products_RC.shape[1]
    best_1E = np.empty((1, EIGHT), products_RC.dtype)
    events_each = products_RC.shape[0] // samples
    for event in range(items_B.shape[0], products_RC.shape[0]):
        products_RC[(event % samples) * events_each + event // samples] = 0
    base_N = np.empty(drawn_N.shape[0], products_RC.dtype)
    log_count_N = np.empty(drawn_N.shape[0], products_RC.dtype)
    for place in range(drawn_N.shape[0]):
        drawn_I[drawn_N[place]] = place
        base_N[place] = biases_T[place] - log_share_N[place]
        log_count_N[place] = np.log(count_N[place] + 0.5)
    for event in range(items_B.shape[0]):
        first = (event % samples) * size
        at = (event % samples) * events_each + event // samples
        row = products_RC[at]
        place = places_B[event]
        weight = weights_B[event]
        own_B[event] = 0
        if weight == 0:
            for column in range(size):
                row[column] = 0
        else:
            length = lengths_B[event]
            popularity = popularity_L[length]
            own_log_count = products_RC.dtype.type(np.log(counts_B[event] + 0.5))
            own = biases_T[place] + popularity * own_log_count
            sums, column = zeros(users_BD), 0
            while column + EIGHT <= users_BD.shape[1]:
                sums = plus_product(sums, load(users_BD, event, column), load(items_TD, place, column))
                column += EIGHT
            own += total(sums)
            while column < users_BD.shape[1]:
                own += users_BD[event, column] * items_TD[place, column]
                column += 1
            for column in range(size):
                row[column] += base_N[first + column] + popularity * log_count_N[first + column]
            feature_weight, own_feature = feature_weight_L[length], nothing
            for entry in range(feature_starts_B[event], feature_starts_B[event + 1]):
                item = feature_items_E[entry]
                if item == items_B[event]:
                    own_feature = products_RC.dtype.type(feature_values_E[entry])
                    own += feature_weight * own_feature
                elif 0 <= drawn_I[item] - first < size:
                    row[drawn_I[item] - first] += feature_weight * products_RC.dtype.type(feature_values_E[entry])
            if hides_seen:
                past = seen_start_B[event] + seen_length_B[event]
                for position in range(max(seen_start_B[event], past - SEEN_LOOKED_AT), past):
                    column = drawn_I[seen_pool[position]] - first
                    if 0 <= column < size:
                        row[column] = NO_CANDIDATE
            else:
                for age in range(repeat_bias_W.shape[0]):
                    item = repeat_items_BW[event, age]
                    if item == items_B[event]:
                        own += repeat_bias_W[age]
                    elif item >= 0 and 0 <= drawn_I[item] - first < size:
                        row[drawn_I[item] - first] += repeat_bias_W[age]
            own_column = drawn_I[items_B[event]] - first
            if 0 <= own_column < size:
                row[own_column] = NO_CANDIDATE

            best, column = own, 0
            if size >= EIGHT:
                largest = load(products_RC, at, 0)
                while column + EIGHT <= size:
                    largest = larger(load(products_RC, at, column), largest)
                    column += EIGHT
                store(best_1E, 0, 0, largest)
                for lane in range(EIGHT):
                    best = best_1E[0, lane] if best_1E[0, lane] > best else best
            while column < size:
                best = row[column] if row[column] > best else best
                column += 1
            for column in range(size):
                below = row[column] - best
                row[column] = lowest if below < lowest else below  # NaN stays
            exponentials(row, size, bits_C, powers_C)
            below = own - best
            own = np.exp(lowest if below < lowest else below)
            whole = own
            for column in range(size):
                value = nothing if row[column] <= smallest else row[column]
                row[column] = value
                whole += value
            p = own / whole
            if weight > 0:
                losses_B[event] = -weight * np.log(p)
                pull = weight
            else:
                p = min(p, 1 - 1e-6)
                losses_B[event] = weight * np.log1p(-p)
                pull = weight * p / (1 - p)
            scale = pull / whole
            by_popularity = nothing
            for column in range(size):
                value = row[column] * scale
                row[column] = value
                by_biases_T[first + column] += value
                by_popularity += value * log_count_N[first + column]
            by_own = own * scale - pull
            own_B[event] = by_own
            by_biases_T[place] += by_own
            by_popularity_L[length] += by_popularity + by_own * own_log_count
            by_feature = by_own * own_feature
            for entry in range(feature_starts_B[event], feature_starts_B[event + 1]):
                column = drawn_I[feature_items_E[entry]] - first
                if 0 <= column < size and feature_items_E[entry] != items_B[event]:
                    by_feature += row[column] * products_RC.dtype.type(feature_values_E[entry])
            by_feature_L[length] += by_feature
            for age in range(by_repeat_W.shape[0]):
                item = repeat_items_BW[event, age]
                if item == items_B[event]:
                    by_repeat_W[age] += by_own
                elif item >= 0 and 0 <= drawn_I[item] - first < size:
                    by_repeat_W[age] += row[drawn_I[item] - first]
        if enters_B[event] and drawn_I[items_B[event]] >= 0:
            log_count_N[drawn_I[items_B[event]]] = np.log(counts_B[event] + 1.5)
    for place in range(drawn_N.shape[0]):
        drawn_I[drawn_N[place]] = -1


@compiled
def describe_samples(
    samples: int,
    drawn_N: Ints,
    items_B: Ints,
    places_B: Ints,
    enters_B: Flags,
    count_N: Ints,
    feature_starts_B: Ints,
    feature_items_E: Rows,
    feature_values_E: NDArray[np.float32],
    hides_seen: bool,
    seen_pool: Rows,
    seen_start_B: Ints,
    seen_length_B: Ints,
    drawn_I: Rows,
    count_BC: Ints,
    own_feature_B: Floats,
    feature_BC: Floats,
    hidden_BC: Flags,
) -> None:
    """What `soften_samples` finds of each event's sample, written down: for the plain twin.

    Counts as the event finds them, the features of its own item and of the sample, and which drawn items are no class.
    The last three arrays must be zero on entry.
    """
    size = count_BC.shape[1]
    for place in range(drawn_N.shape[0]):
        drawn_I[drawn_N[place]] = place
    for event in range(items_B.shape[0]):
        first = (event % samples) * size
        for column in range(size):
            count_BC[event, column] = count_N[first + column]
            hidden_BC[event, column] = drawn_N[first + column] == items_B[event]
        for entry in range(feature_starts_B[event], feature_starts_B[event + 1]):
            column = drawn_I[feature_items_E[entry]] - first
            if feature_items_E[entry] == items_B[event]:
                own_feature_B[event] = feature_values_E[entry]
            if 0 <= column < size:
                feature_BC[event, column] = feature_values_E[entry]
        if hides_seen:
            past = seen_start_B[event] + seen_length_B[event]
            for position in range(max(seen_start_B[event], past - SEEN_LOOKED_AT), past):
                column = drawn_I[seen_pool[position]] - first
                if 0 <= column < size:
                    hidden_BC[event, column] = True
        if enters_B[event] and places_B[event] < drawn_N.shape[0]:
            count_N[places_B[event]] += 1
    for place in range(drawn_N.shape[0]):
        drawn_I[drawn_N[place]] = -1


@compiled_loosely
def hand_out(
    own_B: Floats,
    samples: int,
    places_B: Ints,
    users_BD: Floats,
    items_TD: Floats,
    by_users_RD: Floats,
    by_users_BD: Floats,
    by_items_TD: Floats,
) -> None:
    """Add what the gradients by the own scores mean: for users to the rows of `soften_samples`, for items in place."""
    width = users_BD.shape[1]
    events_each = by_users_RD.shape[0] // samples
    for event in range(places_B.shape[0]):
        place, own, column = places_B[event], own_B[event], 0
        row = (event % samples) * events_each + event // samples
        while column + EIGHT <= width:
            user, item = load(users_BD, event, column), load(items_TD, place, column)
            store(by_items_TD, place, column, plus_scaled(load(by_items_TD, place, column), user, own))
            store(by_users_BD, event, column, plus_scaled(load(by_users_RD, row, column), item, own))
            column += EIGHT
        while column < width:
            by_items_TD[place, column] += own * users_BD[event, column]
            by_users_BD[event, column] = by_users_RD[row, column] + own * items_TD[place, column]
            column += 1
