"""A step of the sampled softmax on the CPU: which rows it needs, its gradients by the scores, and where they belong.

`model.sampled` has the middle one in plain torch, for GPUs; a test holds the two against each other.
"""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled, compiled_loosely, inlined_loosely
from model.kernels.exponentials import exponentials
from model.kernels.softmax import FLOOR, NO_CANDIDATE
from model.kernels.vectors import EIGHT, copy_row, fetch, larger, load, plus_product, plus_scaled, store, total, zeros

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
    for place in range(rows_T.shape[0]):
        if place + AHEAD < rows_T.shape[0]:
            fetch(values_ID, rows_T[place + AHEAD])
            fetch(biases_I1, rows_T[place + AHEAD])
        biases_T[place] = biases_I1[rows_T[place], 0]
        copy_row(values_ID, rows_T[place], values_TD, place)


@compiled_loosely
def soften_samples(
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
    by_users_BD: Floats,
    by_items_TD: Floats,
    by_biases_T: Floats,
    by_popularity_L: Floats,
    by_feature_L: Floats,
    by_repeat_W: Floats,
) -> None:
    """Losses and gradients of `model.losses.softmax_loss`, of each event over its sample.

    The drawn items, the first of the rows, fall into `samples` samples of equal size. The classes of event b are its
    own item and sample b mod `samples`. A drawn item that is the own one, or one of the newest SEEN_LOOKED_AT that the
    user has (where `hides_seen`), is no class. `count_N` are the counts of the drawn items as of the batch's start.

    Losses and gradients by users are written, those by items, biases, popularity, features and repeats are added.
    `drawn_I` is room to work in: -1 everywhere, before and after; `bits_C` and `powers_C` are the same memory.

    A sample is gone through with all of its events, so that what it needs stays in the machine's nearest cache.
    """
    events, size = items_B.shape[0], drawn_N.shape[0] // samples
    whole = max(-(-size // EIGHT), 1) * EIGHT  # of whole vectors, also where nothing was drawn
    events_each = -(-events // samples)
    items_DC = np.zeros((users_BD.shape[1], whole), users_BD.dtype)
    base_1C, log_count_1C = np.empty((1, whole), users_BD.dtype), np.zeros((1, whole), users_BD.dtype)
    rows_EC, users_ED = (
        np.empty((events_each, whole), users_BD.dtype),
        np.empty((events_each, users_BD.shape[1]), users_BD.dtype),
    )
    best_1E = np.empty((1, EIGHT), users_BD.dtype)
    first_hit_K, next_hit_B = np.full(samples, -1, np.int32), np.full(events, -1, np.int32)
    for place in range(drawn_N.shape[0]):
        drawn_I[drawn_N[place]] = place
    for back in range(events):  # the events that change the counts of a sample, in order
        event = events - 1 - back
        place = drawn_I[items_B[event]]
        if enters_B[event] and place >= 0:
            next_hit_B[event] = first_hit_K[place // size]
            first_hit_K[place // size] = event
    for sample in range(samples):
        first, hit = sample * size, first_hit_K[sample]
        for column in range(whole):
            base_1C[0, column] = NO_CANDIDATE
        for column in range(size):
            base_1C[0, column] = biases_T[first + column] - log_share_N[first + column]
            log_count_1C[0, column] = np.log(count_N[first + column] + 0.5)
            for d in range(users_BD.shape[1]):
                items_DC[d, column] = items_TD[first + column, d]
        at = 0
        for event in range(sample, events, samples):
            while 0 <= hit < event:
                log_count_1C[0, drawn_I[items_B[hit]] - first] = np.log(counts_B[hit] + 1.5)
                hit = next_hit_B[hit]
            for d in range(users_BD.shape[1]):  # beside each other: as they lie, they would push each other out
                users_ED[at, d] = users_BD[event, d]
            if weights_B[event] == 0:
                for column in range(whole):
                    rows_EC[at, column] = 0
                for d in range(users_BD.shape[1]):
                    by_users_BD[event, d] = 0
            else:
                length = lengths_B[event]
                _score_sample(users_ED, at, items_DC, base_1C, log_count_1C, popularity_L[length], rows_EC)
                own = _soften_event(
                    event,
                    rows_EC,
                    at,
                    size,
                    first,
                    users_BD,
                    items_TD,
                    biases_T,
                    log_count_1C[0],
                    items_B[event],
                    places_B[event],
                    weights_B[event],
                    counts_B[event],
                    length,
                    popularity_L[length],
                    feature_starts_B[event],
                    feature_starts_B[event + 1],
                    feature_items_E,
                    feature_values_E,
                    feature_weight_L[length],
                    repeat_items_BW,
                    repeat_bias_W,
                    hides_seen,
                    seen_pool,
                    seen_start_B[event],
                    seen_start_B[event] + seen_length_B[event],
                    drawn_I,
                    best_1E,
                    bits_C,
                    powers_C,
                    losses_B,
                    by_biases_T,
                    by_popularity_L,
                    by_feature_L,
                    by_repeat_W,
                )
                _pull_user(
                    event, rows_EC, at, size, first, own, places_B[event], users_BD, items_TD, by_users_BD, by_items_TD
                )
            at += 1
        _pull_sample(rows_EC, at, size, first, users_ED, by_items_TD)
    for place in range(drawn_N.shape[0]):
        drawn_I[drawn_N[place]] = -1


@inlined_loosely
def _score_sample(
    users_ED: Floats,
    at: int,
    items_DC: Floats,
    base_1C: Floats,
    log_count_1C: Floats,
    popularity: float,
    rows_EC: Floats,
) -> None:
    """user . item + base + popularity * log count of a sample, whose items lie in columns."""
    column, past = 0, items_DC.shape[1]
    while column + 4 * EIGHT <= past:
        one, two, three, four = zeros(items_DC), zeros(items_DC), zeros(items_DC), zeros(items_DC)
        for d in range(items_DC.shape[0]):
            number = users_ED[at, d]
            one = plus_scaled(one, load(items_DC, d, column), number)
            two = plus_scaled(two, load(items_DC, d, column + EIGHT), number)
            three = plus_scaled(three, load(items_DC, d, column + 2 * EIGHT), number)
            four = plus_scaled(four, load(items_DC, d, column + 3 * EIGHT), number)
        store(rows_EC, at, column, one)
        store(rows_EC, at, column + EIGHT, two)
        store(rows_EC, at, column + 2 * EIGHT, three)
        store(rows_EC, at, column + 3 * EIGHT, four)
        column += 4 * EIGHT
    while column < past:
        one = zeros(items_DC)
        for d in range(items_DC.shape[0]):
            one = plus_scaled(one, load(items_DC, d, column), users_ED[at, d])
        store(rows_EC, at, column, one)
        column += EIGHT
    for column in range(past):
        rows_EC[at, column] += base_1C[0, column] + popularity * log_count_1C[0, column]


@inlined_loosely
def _soften_event(
    event: int,
    rows_EC: Floats,
    at: int,
    size: int,
    first: int,
    users_BD: Floats,
    items_TD: Floats,
    biases_T: Floats,
    log_count_C: Floats,
    own_item: int,
    place: int,
    weight: float,
    count: int,
    length: int,
    popularity: float,
    feature_start: int,
    feature_end: int,
    feature_items_E: Rows,
    feature_values_E: NDArray[np.float32],
    feature_weight: float,
    repeat_items_BW: Rows,
    repeat_bias_W: Floats,
    hides_seen: bool,
    seen_pool: Rows,
    seen_start: int,
    seen_end: int,
    drawn_I: Rows,
    best_1E: Floats,
    bits_C: Rows,
    powers_C: NDArray[np.float32],
    losses_B: Doubles,
    by_biases_T: Floats,
    by_popularity_L: Floats,
    by_feature_L: Floats,
    by_repeat_W: Floats,
) -> float:
    """Turn an event's scores of its sample into their gradient, in place; returned is that by its own score."""
    row_C = rows_EC[at]
    number = row_C.dtype.type
    nothing, lowest, smallest = number(0), number(FLOOR), number(np.exp(FLOOR) * 1.001)
    own_log_count = number(np.log(count + 0.5))
    own = biases_T[place] + popularity * own_log_count
    sums, column = zeros(users_BD), 0
    while column + EIGHT <= users_BD.shape[1]:
        sums = plus_product(sums, load(users_BD, event, column), load(items_TD, place, column))
        column += EIGHT
    own += total(sums)
    while column < users_BD.shape[1]:
        own += users_BD[event, column] * items_TD[place, column]
        column += 1
    own_feature = nothing
    for entry in range(feature_start, feature_end):
        item = feature_items_E[entry]
        if item == own_item:
            own_feature = number(feature_values_E[entry])
            own += feature_weight * own_feature
        elif 0 <= drawn_I[item] - first < size:
            row_C[drawn_I[item] - first] += feature_weight * number(feature_values_E[entry])
    if hides_seen:
        for position in range(max(seen_start, seen_end - SEEN_LOOKED_AT), seen_end):
            column = drawn_I[seen_pool[position]] - first
            if 0 <= column < size:
                row_C[column] = NO_CANDIDATE
    else:
        for age in range(repeat_bias_W.shape[0]):
            item = repeat_items_BW[event, age]
            if item == own_item:
                own += repeat_bias_W[age]
            elif item >= 0 and 0 <= drawn_I[item] - first < size:
                row_C[drawn_I[item] - first] += repeat_bias_W[age]
    own_column = drawn_I[own_item] - first
    if 0 <= own_column < size:
        row_C[own_column] = NO_CANDIDATE

    best, largest, column = own, load(rows_EC, at, 0), EIGHT
    while column < row_C.shape[0]:
        largest = larger(load(rows_EC, at, column), largest)
        column += EIGHT
    store(best_1E, 0, 0, largest)
    for lane in range(EIGHT):
        best = best_1E[0, lane] if best_1E[0, lane] > best else best
    for column in range(row_C.shape[0]):
        below = row_C[column] - best
        row_C[column] = lowest if below < lowest else below  # NaN stays
    exponentials(row_C, row_C.shape[0], bits_C, powers_C)
    below = own - best
    own = np.exp(lowest if below < lowest else below)
    whole = own
    for column in range(row_C.shape[0]):
        value = nothing if row_C[column] <= smallest else row_C[column]
        row_C[column] = value
        whole += value
    p = own / whole
    if weight > 0:
        losses_B[event] = -weight * np.log(p)
        pull = weight
    else:
        p = min(p, 1 - 1e-6)
        losses_B[event] = weight * np.log1p(-p)
        pull = weight * p / (1 - p)
    scale = pull / whole  # in double precision, or what is left of a pull that cancels out would be rounding
    scale_of_sample, by_popularity = number(scale), nothing
    for column in range(size):
        value = row_C[column] * scale_of_sample
        row_C[column] = value
        by_biases_T[first + column] += value
        by_popularity += value * log_count_C[column]
    by_own = own * scale - pull
    by_biases_T[place] += by_own
    by_popularity_L[length] += by_popularity + by_own * own_log_count
    by_feature = by_own * own_feature
    for entry in range(feature_start, feature_end):
        column = drawn_I[feature_items_E[entry]] - first
        if 0 <= column < size and feature_items_E[entry] != own_item:
            by_feature += row_C[column] * number(feature_values_E[entry])
    by_feature_L[length] += by_feature
    for age in range(by_repeat_W.shape[0]):
        item = repeat_items_BW[event, age]
        if item == own_item:
            by_repeat_W[age] += by_own
        elif item >= 0 and 0 <= drawn_I[item] - first < size:
            by_repeat_W[age] += row_C[drawn_I[item] - first]
    return by_own  # type: ignore[no-any-return]  # a number of the row's own type


@inlined_loosely
def _pull_user(
    event: int,
    rows_EC: Floats,
    at: int,
    size: int,
    first: int,
    own: float,
    place: int,
    users_BD: Floats,
    items_TD: Floats,
    by_users_BD: Floats,
    by_items_TD: Floats,
) -> None:
    """The gradient by the user of an event, and by its own item."""
    width, column = users_BD.shape[1], 0
    while column + 4 * EIGHT <= width:
        one, two, three, four = zeros(items_TD), zeros(items_TD), zeros(items_TD), zeros(items_TD)
        for c in range(size):
            by = rows_EC[at, c]
            one = plus_scaled(one, load(items_TD, first + c, column), by)
            two = plus_scaled(two, load(items_TD, first + c, column + EIGHT), by)
            three = plus_scaled(three, load(items_TD, first + c, column + 2 * EIGHT), by)
            four = plus_scaled(four, load(items_TD, first + c, column + 3 * EIGHT), by)
        store(by_users_BD, event, column, one)
        store(by_users_BD, event, column + EIGHT, two)
        store(by_users_BD, event, column + 2 * EIGHT, three)
        store(by_users_BD, event, column + 3 * EIGHT, four)
        column += 4 * EIGHT
    while column + EIGHT <= width:
        one = zeros(items_TD)
        for c in range(size):
            one = plus_scaled(one, load(items_TD, first + c, column), rows_EC[at, c])
        store(by_users_BD, event, column, one)
        column += EIGHT
    while column < width:
        by_users_BD[event, column] = 0
        for c in range(size):
            by_users_BD[event, column] += rows_EC[at, c] * items_TD[first + c, column]
        column += 1
    column = 0
    while column + EIGHT <= width:
        user, item = load(users_BD, event, column), load(items_TD, place, column)
        store(by_users_BD, event, column, plus_scaled(load(by_users_BD, event, column), item, own))
        store(by_items_TD, place, column, plus_scaled(load(by_items_TD, place, column), user, own))
        column += EIGHT
    while column < width:
        by_users_BD[event, column] += own * items_TD[place, column]
        by_items_TD[place, column] += own * users_BD[event, column]
        column += 1


@inlined_loosely
def _pull_sample(
    rows_EC: Floats,
    rows: int,
    size: int,
    first: int,
    users_ED: Floats,
    by_items_TD: Floats,
) -> None:
    """Add the gradient by the items of a sample that the rows of its events mean."""
    width = users_ED.shape[1]
    for c in range(size):
        column = 0
        while column + 4 * EIGHT <= width:
            one, two = load(by_items_TD, first + c, column), load(by_items_TD, first + c, column + EIGHT)
            three = load(by_items_TD, first + c, column + 2 * EIGHT)
            four = load(by_items_TD, first + c, column + 3 * EIGHT)
            for at in range(rows):
                by = rows_EC[at, c]
                one = plus_scaled(one, load(users_ED, at, column), by)
                two = plus_scaled(two, load(users_ED, at, column + EIGHT), by)
                three = plus_scaled(three, load(users_ED, at, column + 2 * EIGHT), by)
                four = plus_scaled(four, load(users_ED, at, column + 3 * EIGHT), by)
            store(by_items_TD, first + c, column, one)
            store(by_items_TD, first + c, column + EIGHT, two)
            store(by_items_TD, first + c, column + 2 * EIGHT, three)
            store(by_items_TD, first + c, column + 3 * EIGHT, four)
            column += 4 * EIGHT
        while column + EIGHT <= width:
            one = load(by_items_TD, first + c, column)
            for at in range(rows):
                one = plus_scaled(one, load(users_ED, at, column), rows_EC[at, c])
            store(by_items_TD, first + c, column, one)
            column += EIGHT
        while column < width:
            for at in range(rows):
                by_items_TD[first + c, column] += rows_EC[at, c] * users_ED[at, column]
            column += 1


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
