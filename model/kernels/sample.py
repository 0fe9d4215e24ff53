"""A step of the sampled softmax on the CPU: which rows it needs, its gradients by the scores, and where they belong.

`model.sampled` has the middle one in plain torch, for GPUs; a test holds the two against each other.
"""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled, compiled_loosely, inlined_loosely
from model.kernels.softmax import FLOOR, NO_CANDIDATE
from model.kernels.vectors import (
    EIGHT,
    copy_row,
    fetch,
    filled,
    highest,
    larger,
    load,
    plus_product,
    plus_scaled,
    powers,
    scaled,
    store,
    total,
    turn,
    zeros,
)

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
Doubles = NDArray[np.float64]

SEEN_LOOKED_AT = 256
"""So many of the newest items of a user are no negatives; those before them are few among a large catalogue's."""
AHEAD = 4
"""Rows that are on their way while one is worked on."""
TOGETHER = 4
"""Rows of a product that are made at once: what is read for one serves the others, and no sum waits for itself."""


# --- the rows of a step ---


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


# --- losses and gradients of the samples ---


def room_to_soften(
    events: int, samples: int, size: int, width: int, dtype: np.dtype[np.floating]
) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats, Floats, Rows, Rows]:
    """Arrays for `soften_samples` to work in, the last of its arguments: new ones for each call."""
    whole = max(-(-size // EIGHT), 1) * EIGHT  # of whole vectors, also where nothing was drawn
    rows = -(-events // (samples * TOGETHER)) * TOGETHER
    items_DC, base_1C, log_count_1C, by_bias_1C, rows_EC, users_ED, by_users_ED = (
        np.zeros(shape, dtype)
        for shape in ((width, whole), (1, whole), (1, whole), (1, whole), (rows, whole), (rows, width), (rows, width))
    )
    first_hit_K, next_hit_B = np.full(samples, -1, np.int32), np.full(events, -1, np.int32)
    return items_DC, base_1C, log_count_1C, by_bias_1C, rows_EC, users_ED, by_users_ED, first_hit_K, next_hit_B


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
    losses_B: Doubles,
    by_users_BD: Floats,
    by_items_TD: Floats,
    by_biases_T: Floats,
    by_popularity_L: Floats,
    by_feature_L: Floats,
    by_repeat_W: Floats,
    items_DC: Floats,
    base_1C: Floats,
    log_count_1C: Floats,
    by_bias_1C: Floats,
    rows_EC: Floats,
    users_ED: Floats,
    by_users_ED: Floats,
    first_hit_K: Rows,
    next_hit_B: Rows,
) -> None:
    """Losses and gradients of `model.losses.softmax_loss`, of each event over its sample.

    The drawn items, the first of the rows, fall into `samples` samples of equal size. The classes of event b are its
    own item and sample b mod `samples`. A drawn item that is the own one, or one of the newest SEEN_LOOKED_AT that the
    user has (where `hides_seen`), is no class. `count_N` are the counts of the drawn items as of the batch's start.

    Losses and gradients by users are written, those by items, biases, popularity, features and repeats are added.
    `drawn_I` is room to work in: -1 everywhere, before and after. So are the arrays from `items_DC` on, which
    `room_to_soften` makes.

    A sample is gone through with all of its events, so that what it needs stays in the machine's nearest cache.
    """
    events, size, width = items_B.shape[0], drawn_N.shape[0] // samples, users_BD.shape[1]
    whole, events_each = rows_EC.shape[1], rows_EC.shape[0]
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
            by_bias_1C[0, column] = 0
        for column in range(size):
            base_1C[0, column] = biases_T[first + column] - log_share_N[first + column]
            log_count_1C[0, column] = np.log(count_N[first + column] + 0.5)
        _turn_sample(items_TD, first, size, items_DC)
        rows = 0
        for event in range(sample, events, samples):
            copy_row(users_BD, event, users_ED, rows)  # as they lie, they would push each other out
            copy_row(base_1C, 0, rows_EC, rows)
            rows += 1
        for spare in range(rows, events_each):  # whatever lay there might be slow to multiply
            for d in range(width):
                users_ED[spare, d], by_users_ED[spare, d] = 0, 0
            for column in range(whole):
                rows_EC[spare, column] = 0
        _add_product(users_ED, events_each, width, items_DC, 0, rows_EC, 0)
        for at in range(rows):
            event = sample + at * samples
            while 0 <= hit < event:
                log_count_1C[0, drawn_I[items_B[hit]] - first] = np.log(counts_B[hit] + 1.5)
                hit = next_hit_B[hit]
            if weights_B[event] == 0:
                for column in range(whole):
                    rows_EC[at, column] = 0
                for d in range(width):
                    by_users_ED[at, d] = 0
                continue
            length = lengths_B[event]
            own = _soften_event(
                event,
                rows_EC,
                at,
                size,
                first,
                users_ED,
                items_TD,
                biases_T,
                log_count_1C,
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
                losses_B,
                by_biases_T,
                by_bias_1C,
                by_popularity_L,
                by_feature_L,
                by_repeat_W,
            )
            _pull_own(at, own, places_B[event], users_ED, items_TD, by_users_ED, by_items_TD)
        _add_product(rows_EC, events_each, size, items_TD, first, by_users_ED, 0)
        for at in range(rows):
            copy_row(by_users_ED, at, by_users_BD, sample + at * samples)
        _add_product(rows_EC.T, size, rows, users_ED, 0, by_items_TD, first)
        for column in range(size):
            by_biases_T[first + column] += by_bias_1C[0, column]
    for place in range(drawn_N.shape[0]):
        drawn_I[drawn_N[place]] = -1


@inlined_loosely
def _turn_sample(items_TD: Floats, first: int, size: int, items_DC: Floats) -> None:
    """The rows of a sample as columns."""
    whole_size, whole_width = size - size % EIGHT, items_DC.shape[0] - items_DC.shape[0] % EIGHT
    for column in range(0, whole_size, EIGHT):
        for d in range(0, whole_width, EIGHT):
            turn(items_TD, first + column, d, items_DC, column)
    for column in range(size):
        for d in range(whole_width if column < whole_size else 0, items_DC.shape[0]):
            items_DC[d, column] = items_TD[first + column, d]


@inlined_loosely
def _add_product(
    left_MK: Floats, rows: int, inner: int, right_KN: Floats, right_first: int, sums_MN: Floats, sums_first: int
) -> None:
    """Add left @ right to sums: of so many rows of the left and, from a row on each, of the right and the sums."""
    width, row = sums_MN.shape[1], 0
    while row + TOGETHER <= rows:
        at, column = sums_first + row, 0
        while column + 2 * EIGHT <= width:
            next_column = column + EIGHT
            one, next_one = load(sums_MN, at, column), load(sums_MN, at, next_column)
            two, next_two = load(sums_MN, at + 1, column), load(sums_MN, at + 1, next_column)
            three, next_three = load(sums_MN, at + 2, column), load(sums_MN, at + 2, next_column)
            four, next_four = load(sums_MN, at + 3, column), load(sums_MN, at + 3, next_column)
            for k in range(inner):
                right, next_right = (
                    load(right_KN, right_first + k, column),
                    load(right_KN, right_first + k, next_column),
                )
                one = plus_scaled(one, right, left_MK[row, k])
                next_one = plus_scaled(next_one, next_right, left_MK[row, k])
                two = plus_scaled(two, right, left_MK[row + 1, k])
                next_two = plus_scaled(next_two, next_right, left_MK[row + 1, k])
                three = plus_scaled(three, right, left_MK[row + 2, k])
                next_three = plus_scaled(next_three, next_right, left_MK[row + 2, k])
                four = plus_scaled(four, right, left_MK[row + 3, k])
                next_four = plus_scaled(next_four, next_right, left_MK[row + 3, k])
            store(sums_MN, at, column, one)
            store(sums_MN, at, next_column, next_one)
            store(sums_MN, at + 1, column, two)
            store(sums_MN, at + 1, next_column, next_two)
            store(sums_MN, at + 2, column, three)
            store(sums_MN, at + 2, next_column, next_three)
            store(sums_MN, at + 3, column, four)
            store(sums_MN, at + 3, next_column, next_four)
            column += 2 * EIGHT
        while column + EIGHT <= width:
            one, two = load(sums_MN, at, column), load(sums_MN, at + 1, column)
            three, four = load(sums_MN, at + 2, column), load(sums_MN, at + 3, column)
            for k in range(inner):
                right = load(right_KN, right_first + k, column)
                one = plus_scaled(one, right, left_MK[row, k])
                two = plus_scaled(two, right, left_MK[row + 1, k])
                three = plus_scaled(three, right, left_MK[row + 2, k])
                four = plus_scaled(four, right, left_MK[row + 3, k])
            store(sums_MN, at, column, one)
            store(sums_MN, at + 1, column, two)
            store(sums_MN, at + 2, column, three)
            store(sums_MN, at + 3, column, four)
            column += EIGHT
        row += TOGETHER
    while row < rows:
        column = 0
        while column + EIGHT <= width:
            one = load(sums_MN, sums_first + row, column)
            for k in range(inner):
                one = plus_scaled(one, load(right_KN, right_first + k, column), left_MK[row, k])
            store(sums_MN, sums_first + row, column, one)
            column += EIGHT
        row += 1
    for column in range(width - width % EIGHT, width):
        for row in range(rows):
            for k in range(inner):
                sums_MN[sums_first + row, column] += left_MK[row, k] * right_KN[right_first + k, column]


@inlined_loosely
def _soften_event(
    event: int,
    rows_EC: Floats,
    at: int,
    size: int,
    first: int,
    users_ED: Floats,
    items_TD: Floats,
    biases_T: Floats,
    log_count_1C: Floats,
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
    losses_B: Doubles,
    by_biases_T: Floats,
    by_bias_1C: Floats,
    by_popularity_L: Floats,
    by_feature_L: Floats,
    by_repeat_W: Floats,
) -> float:
    """Turn an event's scores of its sample into their gradient, in place; returned is that by its own score.

    The scores lack what follows from popularity, features, repeats and what the user has.
    """
    number = rows_EC.dtype.type
    nothing, lowest = number(0), number(FLOOR)
    own_log_count = number(np.log(count + 0.5))
    own = biases_T[place] + popularity * own_log_count
    sums, column = zeros(users_ED), 0
    while column + EIGHT <= users_ED.shape[1]:
        sums = plus_product(sums, load(users_ED, at, column), load(items_TD, place, column))
        column += EIGHT
    own += total(sums)
    while column < users_ED.shape[1]:
        own += users_ED[at, column] * items_TD[place, column]
        column += 1
    for column in range(0, rows_EC.shape[1], EIGHT):
        store(rows_EC, at, column, plus_scaled(load(rows_EC, at, column), load(log_count_1C, 0, column), popularity))
    own_feature = nothing
    for entry in range(feature_start, feature_end):
        item = feature_items_E[entry]
        if item == own_item:
            own_feature = number(feature_values_E[entry])
            own += feature_weight * own_feature
        elif 0 <= drawn_I[item] - first < size:
            rows_EC[at, drawn_I[item] - first] += feature_weight * number(feature_values_E[entry])
    if hides_seen:
        for position in range(max(seen_start, seen_end - SEEN_LOOKED_AT), seen_end):
            column = drawn_I[seen_pool[position]] - first
            if 0 <= column < size:
                rows_EC[at, column] = NO_CANDIDATE
    else:
        for age in range(repeat_bias_W.shape[0]):
            item = repeat_items_BW[event, age]
            if item == own_item:
                own += repeat_bias_W[age]
            elif item >= 0 and 0 <= drawn_I[item] - first < size:
                rows_EC[at, drawn_I[item] - first] += repeat_bias_W[age]
    own_column = drawn_I[own_item] - first
    if 0 <= own_column < size:
        rows_EC[at, own_column] = NO_CANDIDATE

    largest = filled(rows_EC, number(own))
    for column in range(0, rows_EC.shape[1], EIGHT):
        largest = larger(load(rows_EC, at, column), largest)
    best, sums = highest(largest), zeros(rows_EC)
    for column in range(0, rows_EC.shape[1], EIGHT):
        eight = powers(load(rows_EC, at, column), best, lowest)
        store(rows_EC, at, column, eight)
        sums = plus_scaled(sums, eight, number(1))
    below = own - best
    own = np.exp(lowest if below < lowest else below)
    whole = own + total(sums)
    p = own / whole
    if weight > 0:
        losses_B[event] = -weight * np.log(p)
        pull = weight
    else:
        p = min(p, 1 - 1e-6)
        losses_B[event] = weight * np.log1p(-p)
        pull = weight * p / (1 - p)
    scale = pull / whole  # in double precision, or what is left of a pull that cancels out would be rounding
    sums = zeros(rows_EC)
    for column in range(0, rows_EC.shape[1], EIGHT):
        eight = scaled(load(rows_EC, at, column), number(scale))
        store(rows_EC, at, column, eight)
        store(by_bias_1C, 0, column, plus_scaled(load(by_bias_1C, 0, column), eight, number(1)))
        sums = plus_product(sums, eight, load(log_count_1C, 0, column))
    by_own = own * scale - pull
    by_biases_T[place] += by_own
    by_popularity_L[length] += total(sums) + by_own * own_log_count
    by_feature = by_own * own_feature
    for entry in range(feature_start, feature_end):
        column = drawn_I[feature_items_E[entry]] - first
        if 0 <= column < size and feature_items_E[entry] != own_item:
            by_feature += rows_EC[at, column] * number(feature_values_E[entry])
    by_feature_L[length] += by_feature
    for age in range(by_repeat_W.shape[0]):
        item = repeat_items_BW[event, age]
        if item == own_item:
            by_repeat_W[age] += by_own
        elif item >= 0 and 0 <= drawn_I[item] - first < size:
            by_repeat_W[age] += rows_EC[at, drawn_I[item] - first]
    return by_own  # type: ignore[no-any-return]  # a number of the row's own type


@inlined_loosely
def _pull_own(
    at: int,
    own: float,
    place: int,
    users_ED: Floats,
    items_TD: Floats,
    by_users_ED: Floats,
    by_items_TD: Floats,
) -> None:
    """What an event's own item and its user pull at each other: written of the user, added of the item."""
    width, column = users_ED.shape[1], 0
    while column + EIGHT <= width:
        user, item = load(users_ED, at, column), load(items_TD, place, column)
        store(by_users_ED, at, column, scaled(item, own))
        store(by_items_TD, place, column, plus_scaled(load(by_items_TD, place, column), user, own))
        column += EIGHT
    while column < width:
        by_users_ED[at, column] = own * items_TD[place, column]
        by_items_TD[place, column] += own * users_ED[at, column]
        column += 1


# --- the same facts for plain torch ---


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
