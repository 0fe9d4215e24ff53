"""Predict a rating, then learn it: users, item biases and pairs event by event, item factors gathered for the batch.

Inside, ratings lie between 0 and 1 and residuals are in standard deviations of all ratings so far. Sizes besides
those of `model`: D numbers of a user's state, E the same in whole vectors,
T = D (D + 1) / 2 of its packed covariance, R remembered ratings of a
user, P slots for pairs, H items of the batch, S parts of the stack.
"""

import math

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled, compiled_loosely, inlined_loosely
from model.kernels.running import (
    COUNT,
    HIGHEST,
    LEAST_DEVIATION_OF_RANGE,
    LOG_COUNT,
    LOWEST,
    MEAN,
    RUNNING,
    deviation_of,
    observe,
)
from model.kernels.vectors import EIGHT, copy_row, fetch, load, plus_product, plus_scaled, store, total, zeros

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

RESIDUAL_VARIANCE = RUNNING
"""The place in `overall` behind the running figures of all ratings."""

BIAS, SESSION, SLOPE, POPULARITY, FACTORS = range(5)
"""Places in a user's state; the factors go on from theirs to the end."""

PARTS = 10
"""What the stack adds up: the user's bias, session, share of the item's bias, taste for the popular and factors, the
item's bias, popularity and mood, a constant, and the neighbours' vote."""

LEAST_COUNT = 0.5
"""A pair with a smaller count loses its slot."""
WEAR = 0.9
SLOT_BITS_OF_HASH = 32
AHEAD = 6
"""Rows that are on their way while one is copied."""
LARGEST_ERROR = 5.0
LARGEST_RESIDUAL = 3.0
SLOWEST_MEAN = 0.001
VOTE_SHRINKAGE = 3.0
STACK_DRIFT = 1e-5


def room_to_learn(
    size: int, remembered: int
) -> tuple[Doubles, Doubles, Doubles, Floats, Floats, Floats, Doubles, Doubles, Ints]:
    """Arrays for `predict_then_learn` to work in, the last of its arguments: new ones for each call."""
    whole = -(-size // EIGHT) * EIGHT
    reading_1E, gain_1E, covariance_DE = (np.zeros((rows, whole), dtype=np.float32) for rows in (1, 1, size))
    mean_D, keep_D, still_D = np.zeros(size), np.ones(size), np.ones(size)
    parts_S, stack_gain_S, slots_R = np.ones(PARTS), np.zeros(PARTS), np.zeros(remembered, dtype=np.int64)
    return mean_D, keep_D, still_D, reading_1E, gain_1E, covariance_DE, parts_S, stack_gain_S, slots_R


@compiled
def predict_then_learn(
    users_B: Ints,
    items_B: Ints,
    times_B: Ints,
    ratings_B: Doubles,
    items_here_B: Ints,
    rates: Doubles,
    overall: Doubles,
    start_D: Floats,
    variances_D: Doubles,
    user_mean_UD: Floats,
    user_covariance_UT: Floats,
    user_time_U: Ints,
    user_count_U: Ints,
    user_items_UR: NDArray[np.int32],
    user_residuals_UR: Floats,
    item_bias_I: Doubles,
    item_mood_I: Doubles,
    item_count_I: Ints,
    item_factors_IF: Floats,
    pair_keys_P: Ints,
    pair_sums_P: Floats,
    pair_counts_P: Floats,
    pair_shift: int,
    stack_weights_S: Doubles,
    stack_covariance_SS: Doubles,
    stack_prior_S: Doubles,
    gradient_HF: Floats,
    predictions_B: Doubles,
    journal_slots: Ints,
    journal_keys: Ints,
    journal_sums: Floats,
    journal_counts: Floats,
    forgotten_items_B: NDArray[np.int32],
    forgotten_residuals_B: Floats,
    mean_D: Doubles,
    keep_D: Doubles,
    still_D: Doubles,
    reading_1E: Floats,
    gain_1E: Floats,
    covariance_DE: Floats,
    parts_S: Doubles,
    stack_gain_S: Doubles,
    slots_R: Ints,
) -> tuple[int, int]:
    """Fill `predictions_B` (each within the range of the ratings before it) and the gradient by item factors.

    `gradient_HF` points to where half the squared error of the user's filter falls. Returned are how many events
    were learned and how many changes of pairs the journal holds: it stops before an event whose numbers are not
    finite. What each event's user had to stop remembering goes to the `forgotten` arrays. `rates` are unpacked here in
    the order of `RatingRates.live`. The arrays from `mean_D` on are room to work in, as `room_to_learn` makes it.
    """
    bias_drift, taste_drift, session_power, item_prior, item_floor, mood_rate, shrink, pair_shrinkage = rates
    size = start_D.shape[0]
    remembered = user_items_UR.shape[1]
    reading_1E[0, :SLOPE] = 1.0
    keep_D[SLOPE:] = math.sqrt(1.0 - taste_drift)
    changes = 0
    rings_items, rings_residuals = user_items_UR.reshape(-1, 1), user_residuals_UR.reshape(-1, 1)
    for event in range(users_B.shape[0]):
        if event + AHEAD < users_B.shape[0]:
            coming = users_B[event + AHEAD]
            fetch(user_mean_UD, coming)
            fetch(user_covariance_UT, coming)
            if remembered > 0:
                fetch(rings_items, coming * remembered)
                fetch(rings_residuals, coming * remembered)
        user, item, here = users_B[event], int(items_B[event]), items_here_B[event]
        rating = ratings_B[event]
        earlier = overall[COUNT]
        mean = overall[MEAN] if earlier > 0 else 0.5
        deviation = deviation_of(overall)

        # the user as of now, and what the item asks of each part of the state
        rated = user_count_U[user]
        if rated > 0:
            gap_minutes = max(float(times_B[event]) - float(user_time_U[user]), 0.0) / 60_000.0
            keep_D[SESSION] = (1.0 + gap_minutes) ** -session_power
            _recall(user, user_mean_UD, user_covariance_UT, keep_D, start_D, variances_D, mean_D, covariance_DE)
            _drift(covariance_DE, size, bias_drift, variances_D[BIAS])
        else:
            _recall(user, user_mean_UD, user_covariance_UT, still_D, start_D, variances_D, mean_D, covariance_DE)
        bias, count = item_bias_I[item], item_count_I[item]
        log_count = math.log1p(count)
        usual_log_count = overall[LOG_COUNT]
        usual_log_count += max(SLOWEST_MEAN, 1.0 / (earlier + 1.0)) * (log_count - usual_log_count)
        fame = log_count - usual_log_count
        reading_1E[0, SLOPE] = bias
        reading_1E[0, POPULARITY] = fame
        for d in range(FACTORS, size):
            reading_1E[0, d] = item_factors_IF[item, d - FACTORS]

        # prediction
        of_factors = 0.0
        for d in range(FACTORS, size):
            of_factors += mean_D[d] * reading_1E[0, d]
        expected = bias + of_factors
        for d in range(FACTORS):
            expected += mean_D[d] * reading_1E[0, d]
        spread = _spread_of_user(covariance_DE, size, reading_1E, gain_1E)
        held = min(rated, remembered)
        vote = _vote(
            item,
            user_items_UR[user],
            user_residuals_UR[user],
            held,
            pair_keys_P,
            pair_sums_P,
            pair_counts_P,
            pair_shift,
            overall[RESIDUAL_VARIANCE],
            pair_shrinkage,
            slots_R,
        )
        parts_S[0] = mean_D[BIAS]
        parts_S[1] = mean_D[SESSION]
        parts_S[2] = bias
        parts_S[3] = mean_D[SLOPE] * bias
        parts_S[4] = mean_D[POPULARITY] * fame
        parts_S[5] = of_factors
        parts_S[6] = fame
        parts_S[7] = item_mood_I[item]
        parts_S[9] = vote
        stacked = 0.0
        for s in range(PARTS):
            stacked += stack_weights_S[s] * parts_S[s]
        stack_spread = _spread(stack_covariance_SS, parts_S, stack_gain_S)
        if not math.isfinite(expected + spread + stacked + stack_spread):
            return event, changes
        predictions_B[event] = mean
        if earlier > 0:  # nobody has been known to give less than the lowest so far, or more than the highest
            predictions_B[event] = min(max(mean + deviation * stacked, overall[LOWEST]), overall[HIGHEST])

        # learning: from here on everything is finite and bounded
        observe(overall, rating, usual_log_count)
        error, stack_error = 0.0, 0.0
        if earlier > 0:
            target = (rating - mean) / max(deviation, LEAST_DEVIATION_OF_RANGE * (overall[HIGHEST] - overall[LOWEST]))
            error = min(max(target - expected, -LARGEST_ERROR), LARGEST_ERROR)
            stack_error = min(max(target - stacked, -LARGEST_ERROR), LARGEST_ERROR)
        _learn_stack(stack_weights_S, stack_covariance_SS, stack_prior_S, stack_gain_S, stack_spread, stack_error)
        if remembered > 0:
            residual = min(max(error + of_factors, -LARGEST_RESIDUAL), LARGEST_RESIDUAL)
            changes = _count_pairs(
                item,
                residual,
                user_items_UR[user],
                user_residuals_UR[user],
                held,
                slots_R,
                pair_keys_P,
                pair_sums_P,
                pair_counts_P,
                changes,
                journal_slots,
                journal_keys,
                journal_sums,
                journal_counts,
            )
            overall[RESIDUAL_VARIANCE] += SLOWEST_MEAN * (residual * residual - overall[RESIDUAL_VARIANCE])
            forgotten_items_B[event] = user_items_UR[user, rated % remembered]
            forgotten_residuals_B[event] = user_residuals_UR[user, rated % remembered]
            user_items_UR[user, rated % remembered] = item
            user_residuals_UR[user, rated % remembered] = residual
        for f in range(size - FACTORS):
            gradient_HF[here, f] += error * mean_D[FACTORS + f] - shrink * reading_1E[0, FACTORS + f]
        item_mood_I[item] += mood_rate * (error - item_mood_I[item])
        item_bias_I[item] += max(item_floor, 1.0 / (count + 1.0 + item_prior)) * error * (1.0 + mean_D[SLOPE])
        item_count_I[item] = count + 1
        _correct_and_pack(user, mean_D, covariance_DE, gain_1E, spread, error, user_mean_UD, user_covariance_UT)
        user_time_U[user] = times_B[event]
        user_count_U[user] = rated + 1
    return users_B.shape[0], changes


@compiled
def move_factors(rows_H: Ints, gradient_HF: Floats, rate: float, squares_I: Doubles, factors_IF: Floats) -> bool:
    """Adagrad by row, for distinct rows: squares += mean of gradient^2; factors += rate * gradient / sqrt(squares).

    Whether every factor is finite.
    """
    width, is_finite = factors_IF.shape[1], True
    for place in range(rows_H.shape[0]):
        row = rows_H[place]
        square = 0.0
        for f in range(width):
            square += np.float64(gradient_HF[place, f]) ** 2
        squares_I[row] += square / width
        step = np.float64(rate / math.sqrt(squares_I[row]))
        for f in range(width):
            factors_IF[row, f] += gradient_HF[place, f] * step
            is_finite = is_finite and math.isfinite(factors_IF[row, f])
    return is_finite


@compiled
def number_rows(rows_B: Ints, place_N: NDArray[np.int32], distinct_H: Ints, places_B: Ints) -> int:
    """Distinct rows by first mention, and where each event's one is among them; how many they are.

    `place_N` is room to work in: -1 everywhere, before and after.
    """
    distinct = 0
    for event in range(rows_B.shape[0]):
        row = rows_B[event]
        if place_N[row] < 0:
            place_N[row] = distinct
            distinct_H[distinct] = row
            distinct += 1
        places_B[event] = place_N[row]
    for place in range(distinct):
        place_N[distinct_H[place]] = -1
    return distinct


@compiled_loosely
def take_rows(rows_NX: Floats, rows_H: Ints, taken_HX: Floats) -> None:
    """Copy these rows; some are on their way while one is copied, since they come in no order."""
    for place in range(rows_H.shape[0]):
        if place + AHEAD < rows_H.shape[0]:
            fetch(rows_NX, rows_H[place + AHEAD])
        copy_row(rows_NX, rows_H[place], taken_HX, place)


@compiled
def pair_hash(lower: int, higher: int) -> int:
    """Knuth's Fibonacci hash of lower * 2^32 + higher: its product with 2^64 / golden ratio, bits 32 to 63.

    It spreads rows that count up from 0 more evenly than chance. The rows are below 2^31, and it is taken in pieces
    that stay within 63 bits, so that nothing wraps around, compiled or not.
    """
    return (
        ((lower * 0x7F4A7C15) & 0xFFFFFFFF) + ((higher * 0x9E3779B9) & 0xFFFFFFFF) + ((higher * 0x7F4A7C15) >> 32)
    ) & 0xFFFFFFFF


@inlined_loosely
def _recall(
    user: int,
    user_mean_UD: Floats,
    user_covariance_UT: Floats,
    keep_D: Doubles,
    start_D: Floats,
    variances_D: Doubles,
    mean_D: Doubles,
    covariance_DE: Floats,
) -> None:
    """The filter's time update, on the way out of the packed state: an Ornstein-Uhlenbeck process.

    Each part falls back to its start by 1 - keep, and regains its doubt as it does; one that keeps 1 stays as it is.
    Only the lower triangle is written: zeros stay above it.
    """
    size, place = mean_D.shape[0], 0
    for row in range(size):
        keep = keep_D[row]
        mean_D[row] = start_D[row] + keep * (float(user_mean_UD[user, row]) - float(start_D[row]))
        for column in range(row + 1):
            covariance_DE[row, column] = keep * keep_D[column] * user_covariance_UT[user, place + column]
        place += row + 1
        covariance_DE[row, row] += variances_D[row] * (1.0 - keep * keep)


@inlined_loosely
def _drift(covariance_DE: Floats, size: int, drift: float, most: float) -> None:
    """The bias walks at random; its doubt stops at a stranger's, so that no user is believed less than a new one."""
    doubt = covariance_DE[BIAS, BIAS] + drift * most
    covariance_DE[BIAS, BIAS] = min(doubt, most)
    if doubt > most:
        factor = math.sqrt(most / doubt)
        for other in range(BIAS + 1, size):
            covariance_DE[other, BIAS] *= factor


@inlined_loosely
def _spread_of_user(covariance_DE: Floats, size: int, reading_1E: Floats, gain_1E: Floats) -> float:
    """Variance of the error to come, 1 + reading . covariance . reading; `gain_1E` becomes covariance . reading.

    A row of the lower triangle stands for the column beside it too: it is read once for both. Rows are of whole
    vectors, with zeros from the triangle to their ends.
    """
    for column in range(0, gain_1E.shape[1], EIGHT):
        store(gain_1E, 0, column, zeros(gain_1E))
    for row in range(size):
        own, column, sums = reading_1E[0, row], 0, zeros(gain_1E)
        while column <= row:
            eight = load(covariance_DE, row, column)
            sums = plus_product(sums, eight, load(reading_1E, 0, column))
            store(gain_1E, 0, column, plus_scaled(load(gain_1E, 0, column), eight, own))
            column += EIGHT
        gain_1E[0, row] += total(sums) - covariance_DE[row, row] * own  # the diagonal is in both
    spread = 1.0
    for row in range(size):
        spread += float(gain_1E[0, row]) * float(reading_1E[0, row])
    return spread if not spread < 1.0 else 1.0  # rounding; NaN stays NaN


@compiled
def _spread(covariance_SS: Doubles, reading_S: Doubles, gain_S: Doubles) -> float:
    """The same for the stack, whose covariance is whole."""
    gain_S[:] = 0.0
    for row in range(reading_S.shape[0]):
        for column in range(reading_S.shape[0]):
            gain_S[column] += covariance_SS[row, column] * reading_S[row]
    spread = 1.0
    for row in range(reading_S.shape[0]):
        spread += gain_S[row] * reading_S[row]
    return spread if not spread < 1.0 else 1.0  # rounding; NaN stays NaN


@inlined_loosely
def _correct_and_pack(
    user: int,
    mean_D: Doubles,
    covariance_DE: Floats,
    gain_1E: Floats,
    spread: float,
    error: float,
    user_mean_UD: Floats,
    user_covariance_UT: Floats,
) -> None:
    """The filter's measurement update, written back to the user."""
    place = 0
    for row in range(mean_D.shape[0]):
        share = gain_1E[0, row] / spread
        user_mean_UD[user, row] = mean_D[row] + share * error
        for column in range(row + 1):
            user_covariance_UT[user, place + column] = covariance_DE[row, column] - share * gain_1E[0, column]
        place += row + 1


@compiled
def _learn_stack(
    weights_S: Doubles, covariance_SS: Doubles, prior_S: Doubles, gain_S: Doubles, spread: float, error: float
) -> None:
    """One step of recursive least squares; doubt comes back slowly, to what it was at the start at most."""
    for row in range(weights_S.shape[0]):
        share = gain_S[row] / spread
        weights_S[row] += share * error
        for column in range(weights_S.shape[0]):
            covariance_SS[row, column] -= share * gain_S[column]
    for row in range(weights_S.shape[0]):
        covariance_SS[row, row] = min(prior_S[row], covariance_SS[row, row] + STACK_DRIFT * prior_S[row])


@compiled
def _vote(
    item: int,
    items_R: NDArray[np.int32],
    residuals_R: Floats,
    held: int,
    keys_P: Ints,
    sums_P: Floats,
    counts_P: Floats,
    shift: int,
    variance: float,
    shrinkage: float,
    slots_R: Ints,
) -> float:
    """What the user's remembered residuals say of this item, weighted by similarity; fills the pairs' slots."""
    votes, weights = 0.0, VOTE_SHRINKAGE
    for r in range(held):
        other = int(items_R[r])
        if other < 0:
            continue  # it is gone: see `model.leaving`
        lower, higher = (item, other) if item < other else (other, item)
        slot = pair_hash(lower, higher) >> shift
        slots_R[r] = slot
        if keys_P[slot] == (lower << 32) + higher:
            similarity = float(sums_P[slot]) / (float(counts_P[slot]) * variance + shrinkage)
            votes += similarity * float(residuals_R[r])
            weights += abs(similarity)
    return votes / weights


@compiled
def _count_pairs(
    item: int,
    residual: float,
    items_R: NDArray[np.int32],
    residuals_R: Floats,
    held: int,
    slots_R: Ints,
    keys_P: Ints,
    sums_P: Floats,
    counts_P: Floats,
    changes: int,
    journal_slots: Ints,
    journal_keys: Ints,
    journal_sums: Floats,
    journal_counts: Floats,
) -> int:
    """Count the item's pairs with each remembered one, or wear down what holds the slot; returns the journal's end."""
    for r in range(held):
        other = int(items_R[r])
        if other < 0:
            continue
        lower, higher = (item, other) if item < other else (other, item)
        key = (lower << 32) + higher
        slot = slots_R[r]
        journal_slots[changes] = slot
        journal_keys[changes] = keys_P[slot]
        journal_sums[changes] = sums_P[slot]
        journal_counts[changes] = counts_P[slot]
        changes += 1
        if keys_P[slot] != key:
            if keys_P[slot] >= 0 and counts_P[slot] >= LEAST_COUNT:
                sums_P[slot] = WEAR * float(sums_P[slot])
                counts_P[slot] = WEAR * float(counts_P[slot])
                continue
            keys_P[slot], sums_P[slot], counts_P[slot] = key, 0.0, 0.0
        sums_P[slot] = float(sums_P[slot]) + residual * float(residuals_R[r])
        counts_P[slot] += 1
    return changes


@compiled
def take_back_pairs(
    items_NR: NDArray[np.int32],
    residuals_NR: Floats,
    keys_P: Ints,
    sums_P: Floats,
    counts_P: Floats,
    shift: int,
) -> None:
    """The inverse of `_count_pairs`, for all that users remember: a pair that is left with too little loses its slot.

    Items below 0 are none. What wear took stays taken.
    """
    for user in range(items_NR.shape[0]):
        for r in range(items_NR.shape[1]):
            item = int(items_NR[user, r])
            for s in range(r if item >= 0 else 0):
                other = int(items_NR[user, s])
                if other < 0:
                    continue
                lower, higher = (item, other) if item < other else (other, item)
                slot = pair_hash(lower, higher) >> shift
                if keys_P[slot] != (lower << 32) + higher:
                    continue
                sums_P[slot] = float(sums_P[slot]) - float(residuals_NR[user, r]) * float(residuals_NR[user, s])
                counts_P[slot] -= 1
                if counts_P[slot] < LEAST_COUNT:
                    keys_P[slot], sums_P[slot], counts_P[slot] = -1, 0.0, 0.0
